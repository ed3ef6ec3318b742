"""What a run learns from and is scored on, opened and looked over before the first step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous.data import Dataset, open_dataset
from atrous.data.augment import Augment
from atrous.data.balance import class_weights, image_weights
from atrous.errors import ConfigError
from atrous.preprocess import Preprocess
from atrous.training.class_counts import count_pixels
from atrous.training.config import Recipe
from atrous.training.loader import Crops


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


def open_training_data(recipe: Recipe, counts: Path) -> TrainingData:
    """Open the data of a recipe, and count what its labels hold.

    Args:
        recipe: see `atrous.training.config`.
        counts: file that keeps the counts for the next time.

    Raises:
        ConfigError: the two splits share images or differ in classes, or the class weights do not
            fit the classes.
        InputError: a label is broken.
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
    pixels = count_pixels(train, counts)
    absent = [
        name
        for name, total in zip(train.labels.names, pixels.sum(axis=0), strict=True)
        if not total
    ]
    notes = []
    if absent:
        notes.append(
            f"{train.name} never shows {', '.join(absent)}: the network cannot learn what it never "
            "sees"
        )
    empty = int((pixels.sum(axis=1) == 0).sum())
    if empty:
        notes.append(f"{empty} labels of {train.name} are ignored altogether: they teach nothing")
    strength = recipe.data.balance
    own, preprocess = recipe.augment, Preprocess(size=(recipe.augment.crop,) * 2)
    augment = Augment(
        **own.model_dump(),
        padding=preprocess.padding_value,
        ignore_index=train.labels.ignore_index,
    )
    weights = image_weights(pixels > 0, strength) if strength else None
    crops = Crops(train, augment, preprocess, recipe.train.seed, weights)
    return TrainingData(train, val, _class_weights(recipe, train, pixels), crops, tuple(notes))


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
