"""A measured accuracy with everything needed to repeat it, and comparisons that stay honest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from atrous import artifact, texts
from atrous.errors import ConfigError
from atrous.files import write_whole
from atrous.record import Record


class Stamp(Record):
    """What two results must share to be compared, and what may differ between them.

    Attributes:
        protocol: see `atrous.evaluation.protocols`.
        resize: library and kind of the resize of the images.
        data: the data set and split.
        images: how many.
        ids: hash of the list of their ids.
        labels: name of the label set.
        ignore_index: label value that is not scored.
        absent: what classes that occur nowhere do to a mean.
        model: name of the model.
        identity: hash of its graph and weights.
        precision: of its weights.
        engine: what ran it, with its version and device.
        calibrated_on: how many of the images it was calibrated on.
    """

    protocol: str
    resize: str
    data: str
    images: int
    ids: str
    labels: str
    ignore_index: int
    absent: str
    model: str
    identity: str
    precision: str
    engine: str
    calibrated_on: int = 0


# Where these differ, the numbers measure different things.
SHARED = ("protocol", "resize", "data", "images", "ids", "labels", "ignore_index", "absent")


class Evaluation(Record):
    """What an evaluation found.

    Attributes:
        stamp: how it was measured.
        pixel_accuracy: percent, like all that follow.
        mean_accuracy: mean over the classes.
        frequency_weighted_iou: mean weighted by the classes' share of the pixels.
        mean_iou: mean over the classes.
        iou: per class name, `None` where the class occurs nowhere.
        confusion: pixels by true class (rows) and predicted class (columns).
        health: what is wrong with the model or the measurement, empty if nothing.
        failed: files that could not be read and were not scored.
    """

    stamp: Stamp
    pixel_accuracy: float
    mean_accuracy: float
    frequency_weighted_iou: float
    mean_iou: float
    iou: dict[str, float | None]
    confusion: list[list[int]]
    health: list[str] = Field(default_factory=list)
    failed: list[str] = Field(default_factory=list)

    def truth(self) -> list[int]:
        """Scored pixels of each class in the masks, which no model changes."""
        return [sum(row) for row in self.confusion]


def accuracy(result: Evaluation) -> artifact.Accuracy:
    """What an artefact remembers of a result: its mean IoU and how it was measured."""
    stamp = result.stamp
    return artifact.Accuracy(
        metric="mIoU",
        value=round(result.mean_iou, 3),
        protocol=stamp.protocol,
        data=stamp.data,
        images=stamp.images,
        note=f"{stamp.engine}; absent classes {stamp.absent}; ids {stamp.ids}",
    )


def save(result: Evaluation, path: Path) -> None:
    """Write a result as JSON, whole or not at all."""
    write_whole(path, result.model_dump_json(indent=2))


def load(path: Path) -> Evaluation:
    """Read what `save` wrote.

    Raises:
        ConfigError: the file is missing, or holds something else.
    """
    try:
        return Evaluation.model_validate(texts.read_json(path))
    except (OSError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise ConfigError(f"{path}: not a result of atrous eval --json-file: {reason}") from None


def check_comparable(results: Sequence[tuple[str, Evaluation]]) -> None:
    """Refuse to compare results that measure different things.

    Args:
        results: names and results, at least one.

    Raises:
        ConfigError: a result is incomplete or unhealthy, or two stamps or the masks
            differ; says where.
    """
    for name, one in results:
        if one.failed or one.health:
            raise ConfigError(
                f"{name} is not a whole measurement of a healthy model: "
                f"{[*one.failed, *one.health][0]}; measure it again"
            )
    first_name, first = results[0]
    for name, other in results[1:]:
        for field in SHARED:
            ours, theirs = getattr(first.stamp, field), getattr(other.stamp, field)
            if ours != theirs:
                raise ConfigError(
                    f"{first_name} and {name} cannot stand in one table: {field} is {ours!r} in "
                    f"the one and {theirs!r} in the other; measure both the same way"
                )
        ours, theirs = first.truth(), other.truth()
        if ours != theirs:  # whatever the models said, the masks were not the same
            pairs = zip(ours, theirs, strict=False)
            differing = [i for i, (one, two) in enumerate(pairs) if one != two]
            raise ConfigError(
                f"{first_name} and {name} cannot stand in one table: they were scored against "
                f"other masks, {_pixels(first, differing)} in the one and "
                f"{_pixels(other, differing)} in the other; measure both on the same masks"
            )


def _pixels(result: Evaluation, differing: Sequence[int]) -> str:
    """How much of the first class that differs the masks hold, or of how many classes."""
    truth = result.truth()
    if not differing:
        return f"of {len(truth)} classes"
    return f"with {truth[differing[0]]} pixels of {list(result.iou)[differing[0]]!r}"


def hash_ids(ids: Sequence[str]) -> str:
    """Short hash of a list of ids, their order included."""
    return hashlib.sha256("\n".join(ids).encode(errors="surrogateescape")).hexdigest()[:16]
