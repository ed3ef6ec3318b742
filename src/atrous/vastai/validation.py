"""Accuracy as VastModelZOO's scripts measure and print it: protocol `squash-N`.

Class map and true mask are compared at the size of the network input, to which the mask is resized
by Pillow's nearest neighbour.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.data.masks import read_ids
from atrous.errors import InputError
from atrous.metrics import ConfusionMatrix

Ids = NDArray[np.uint8]


def protocol_name(shape: tuple[int, int]) -> str:
    """The protocol's name, as `squash-513`.

    Args:
        shape: height and width of the network input.
    """
    height, width = shape
    return f"squash-{height}" if height == width else f"squash-{height}x{width}"


def rules(shape: tuple[int, int], matrix: ConfusionMatrix) -> str:
    """Which pixels are compared, and how absent classes count, in one line."""
    absent = "left out" if matrix.absent == "skip" else "counted as 0"
    return (
        f"truth resized (nearest) to {shape[0]}×{shape[1]}, {matrix.ignore_index} ignored, classes "
        f"that occur nowhere {absent}"
    )


def accuracy_line(matrix: ConfusionMatrix) -> str:
    """The last line of VastModelZOO's scripts, in percent."""
    accuracy, mean_iou = 100 * matrix.pixel_accuracy, 100 * matrix.mean_iou
    return f"validation pixAcc: {accuracy:.3f}, mIoU: {mean_iou:.3f}"


def nearest(ids: Ids, shape: tuple[int, int]) -> Ids:
    """Class ids `(H, W)` resized to another height and width; OpenCV's nearest picks others."""
    return np.asarray(Image.fromarray(ids).resize(shape[::-1], Image.Resampling.NEAREST))


def count(
    matrix: ConfusionMatrix, mask: Path, class_map: Ids, photograph: tuple[int, int] | None = None
) -> None:
    """Count the pixels of a class map by those of its true mask.

    Args:
        matrix: counts them.
        mask: palette or grey image of class ids.
        class_map: `(h, w)` uint8, to which the mask is resized.
        photograph: height and width that the mask must have; by default any.

    Raises:
        InputError: the mask cannot be read or does not fit; names it.
    """
    ids = read_ids(mask)
    if photograph not in (None, ids.shape):
        raise InputError(f"{mask}: mask is {ids.shape}, its image {photograph}")
    height, width = class_map.shape
    try:
        matrix.update(nearest(ids, (height, width)), class_map)
    except InputError as error:
        raise InputError(f"{mask}: {error}") from None
