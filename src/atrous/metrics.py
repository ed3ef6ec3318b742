"""Segmentation accuracy from one confusion matrix."""

from __future__ import annotations

from copy import copy
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.errors import InputError

Absent = Literal["skip", "zero"]
"""What a class that occurs in neither truth nor prediction does to a mean: nothing, or counts 0."""


class ConfusionMatrix:
    """Count pixels by true class (rows) and predicted class (columns).

    Args:
        num_classes: number of classes.
        ignore_index: pixels whose truth is this are left out.
        absent: `skip` leaves classes that occur nowhere out of the means; `zero` counts them as 0,
            which is VastModelZOO's rule and makes small sets look worse than they are.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, absent: Absent = "skip") -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.absent = absent
        self.counts = np.zeros((num_classes, num_classes), dtype=np.int64)

    def update(self, truth: NDArray[Any], prediction: NDArray[Any]) -> None:
        """Add the pixels of one mask or one batch of masks.

        Args:
            truth: class ids, any shape; pixels equal to `ignore_index` are left out.
            prediction: class ids, the shape of `truth`.

        Raises:
            InputError: the shapes differ, or an id lies outside `0..num_classes - 1`.
        """
        if truth.shape != prediction.shape:
            raise InputError(f"truth is {truth.shape} but prediction is {prediction.shape}")
        kept = truth != self.ignore_index
        rows, columns = truth[kept].astype(np.int64), prediction[kept].astype(np.int64)
        for name, ids in (("truth", rows), ("prediction", columns)):
            if ids.size and not 0 <= ids.min() <= ids.max() < self.num_classes:
                raise InputError(
                    f"{name} holds class id {ids.min()}..{ids.max()}, "
                    f"expected 0..{self.num_classes - 1} (or {self.ignore_index} to ignore)"
                )
        cells = np.bincount(rows * self.num_classes + columns, minlength=self.num_classes**2)
        self.counts += cells.reshape(self.counts.shape)

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """What both have counted, as a new one."""
        total = copy(self)
        total.counts = self.counts + other.counts
        return total

    @property
    def iou(self) -> NDArray[np.float64]:
        """Per-class intersection over union, 0–1; `nan` where the class occurs nowhere."""
        union = self.counts.sum(axis=0) + self.counts.sum(axis=1) - self.counts.diagonal()
        return _share(self.counts.diagonal(), union)

    @property
    def mean_iou(self) -> float:
        """Mean of `iou` over the classes, 0–1; `nan` if none occurs."""
        return self._mean(self.iou)

    @property
    def pixel_accuracy(self) -> float:
        """Share of the pixels that are right, 0–1; `nan` without pixels."""
        total = self.counts.sum()
        return float(self.counts.diagonal().sum() / total) if total else float("nan")

    @property
    def class_accuracy(self) -> NDArray[np.float64]:
        """Per-class share of the true pixels that are right, 0–1; `nan` without true pixels."""
        return _share(self.counts.diagonal(), self.counts.sum(axis=1))

    @property
    def mean_accuracy(self) -> float:
        """Mean of `class_accuracy` over the classes, 0–1; `nan` if none occurs in the truth."""
        return self._mean(self.class_accuracy)

    @property
    def frequency_weighted_iou(self) -> float:
        """Mean of `iou` weighted by each class's share of the true pixels, 0–1."""
        frequency = self.counts.sum(axis=1)
        total = frequency.sum()
        if not total:
            return float("nan")
        return float(np.nansum(self.iou * frequency) / total)

    def _mean(self, values: NDArray[np.float64]) -> float:
        present = values[~np.isnan(values)]
        if not present.size:
            return float("nan")
        return float(present.sum() / (present.size if self.absent == "skip" else self.num_classes))


def near_borders(label: NDArray[np.uint8], pixels: int, ignore_index: int) -> NDArray[np.uint8]:
    """The label close to its borders alone, ignored elsewhere: a trimap.

    A border runs between two neighbours of different value, of which one may be ignored, as along
    the outlines of PASCAL VOC.

    Args:
        label: `(H, W)` uint8 class ids.
        pixels: how far from a border a pixel may be to be kept; 1 keeps those beside it.
        ignore_index: of the label.
    """
    inside = np.ones(label.shape, np.uint8)
    down, across = label[1:] != label[:-1], label[:, 1:] != label[:, :-1]
    for changes, (first, second) in (
        (down, (inside[:-1], inside[1:])),
        (across, (inside[:, :-1], inside[:, 1:])),
    ):
        first[changes] = second[changes] = 0
    if inside.all():
        return np.full_like(label, ignore_index)
    far = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.where(far <= pixels - 1, label, ignore_index).astype(np.uint8)


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    share: NDArray[np.float64] = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=share, where=whole > 0)
    return share
