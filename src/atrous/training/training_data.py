"""What a run learns from and is scored on, opened and looked over before the first step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous.data import Dataset, open_dataset
from atrous.data.augment import Augment
from atrous.data.balance import class_weights, image_weights
from atrous.data.soft_labels import SoftLabel
from atrous.errors import ConfigError
from atrous.preprocess import Preprocess
from atrous.training.config import Recipe
from atrous.training.loader import Crops
from atrous.training.survey import Progress, Survey, survey


@dataclass(frozen=True)
class TrainingData:
    """The data of a run.

    Attributes:
        train: learnt from.
        val: scored on.
        class_weights: of the loss, one per class; `None` for 1.
        crops: the endless sequence of training crops.
        notes: what a person should know, one sentence each.
    """

    train: Dataset
    val: Dataset | None
    class_weights: list[float] | None
    crops: Crops
    notes: tuple[str, ...]


def open_training_data(recipe: Recipe, progress: Progress | None = None) -> TrainingData:
    """Open the data of a recipe, and look at every image and label once.

    Args:
        recipe: see `atrous.training.config`.
        progress: called with the pairs of a split that were looked at, and all of them.

    Raises:
        ConfigError: the two splits share images or differ in classes, or the class weights do not
            fit the classes; or there is nothing to learn, and the recipe does not say that there
            need not be.
        InputError: an image or a label is broken.
    """
    train = open_dataset(recipe.data.train)
    val = open_dataset(recipe.data.val) if recipe.data.val else None
    if val is not None:
        _check_apart(train, val)
        if val.labels.names != train.labels.names:
            raise ConfigError(
                f"{val.name} has the classes {', '.join(val.labels.names)}, {train.name} has "
                f"{', '.join(train.labels.names)}; they must be the same"
            )
    skip = recipe.data.skip_unreadable
    surveys = [
        survey(one, skip_unreadable=skip, progress=progress)
        for one in (train, val)
        if one is not None
    ]
    train, pixels = surveys[0].dataset, surveys[0].pixels
    val = surveys[1].dataset if val is not None else None
    notes = [*_left_out(surveys), *_nothing_to_learn(recipe, train, pixels)]
    strength = recipe.data.balance
    own, preprocess = recipe.augment, Preprocess(size=(recipe.augment.crop,) * 2)
    augment = Augment(
        **own.model_dump(),
        padding=preprocess.padding_value,
        ignore_index=train.labels.ignore_index,
    )
    weights = image_weights(pixels > 0, strength) if strength else None
    soft = _soft_labels(recipe, train)
    crops = Crops(train, augment, preprocess, recipe.train.seed, weights, soft)
    return TrainingData(train, val, _class_weights(recipe, train, pixels), crops, tuple(notes))


def _left_out(surveys: list[Survey]) -> list[str]:
    return [
        f"{len(one.left_out)} images of {one.dataset.name} cannot be read and are left out: "
        f"{', '.join(one.left_out[:8])}{', …' * (len(one.left_out) > 8)}"
        for one in surveys
        if one.left_out
    ]


def _nothing_to_learn(recipe: Recipe, train: Dataset, pixels: NDArray[np.int64]) -> list[str]:
    """What labels do not teach, as notes if the recipe says that it may be so."""
    totals = pixels.sum(axis=0)
    names = [name for name, total in zip(train.labels.names, totals, strict=True) if not total]
    empty = [s.id for s, counts in zip(train.samples, pixels, strict=True) if not counts.any()]
    notes = []
    if len(empty) == len(train.samples):
        raise ConfigError(
            f"{train.name}: all pixels of all its {len(empty)} labels are ignored, so there is "
            f"nothing to learn; is the ignore index the right one? atrous doctor --data "
            f"{train.spec} shows what they hold"
        )
    if names:
        said = f"{train.name} never shows {', '.join(names)}"
        if not recipe.data.allow_absent_classes:
            raise ConfigError(
                f"{said}, so the network cannot learn it; do the masks hold other values (atrous "
                f"doctor --data {train.spec} shows what they hold)? Take it out of the classes, or "
                "write data: {allow_absent_classes: true} in the recipe"
            )
        notes.append(f"{said}: the network cannot learn it")
    if empty:
        said = f"{len(empty)} labels of {train.name} are ignored everywhere"
        if not recipe.data.allow_ignored_labels:
            raise ConfigError(
                f"{said}, such as {empty[0]}: they teach nothing; take them out, or write data: "
                "{allow_ignored_labels: true} in the recipe"
            )
        notes.append(f"{said}: they teach nothing")
    return notes


def _soft_labels(recipe: Recipe, train: Dataset) -> Path | None:
    """The folder of the soft labels, if there are any; raises `ConfigError` if some are missing."""
    if recipe.teacher is None or recipe.teacher.labels is None:
        return None
    folder = Path(recipe.teacher.labels)
    ids = [sample.id for sample in train.samples]
    missing = [name for name in ids if not SoftLabel.path(folder, name).is_file()]
    if missing:
        raise ConfigError(
            f"teacher.labels: {folder} has no soft labels for {len(missing)} of the {len(ids)} "
            f"images of {train.name}, such as {SoftLabel.path(folder, missing[0]).name}; make them "
            "(recipes/soft_labels.py), or take another folder or teacher.model"
        )
    return folder


def _class_weights(recipe: Recipe, train: Dataset, pixels: NDArray[np.int64]) -> list[float] | None:
    wanted = recipe.loss.class_weights
    if wanted is None:
        return None
    if wanted == "balanced":
        return [float(weight) for weight in class_weights(pixels)]
    if len(wanted) != train.labels.num_classes:
        raise ConfigError(
            f"loss.class_weights: expected {train.labels.num_classes} numbers, one for each class "
            f"of {train.name}, found {len(wanted)}"
        )
    return list(wanted)


def _check_apart(train: Dataset, val: Dataset) -> None:
    """Raise `ConfigError` if an image that is scored on is learnt from."""
    learnt = {sample.image for sample in train.samples}
    # Synthetic images are no files, and share names without being the same.
    shared = [s.id for s in val.samples if s.image in learnt and s.image.is_file()]
    if shared:
        raise ConfigError(
            f"{len(shared)} images of {val.name}, such as {shared[0]!r}, are in {train.name} too: "
            "a score on them says nothing; take them out of one of the two"
        )
