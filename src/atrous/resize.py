"""Pictures in another size: whole, or the part that is wanted of a size too large to make whole.

Thin strips, as panoramas and scans of lines are, grow without bounds where their short side is
brought to that of a crop: 40000×4 pixels become 2,560,000×256, of which the crop sees 256×256.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Interpolation = Literal["opencv-bilinear", "opencv-bicubic", "pillow-bilinear", "pillow-bicubic"]
Pixels = NDArray[np.uint8]

_OPENCV = {"opencv-bilinear": cv2.INTER_LINEAR, "opencv-bicubic": cv2.INTER_CUBIC}
_PILLOW = {
    "pillow-bilinear": Image.Resampling.BILINEAR,
    "pillow-bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}
# How far each reaches to either side of a pixel, in pixels, and the parameter of bicubic ones.
_REACH = {"bilinear": 1, "bicubic": 2}
_SHARPNESS = {"opencv": -0.75, "pillow": -0.5}

_MOST = 16
"""A size is made whole up to so many times the pixels of the part."""


def resized(
    image: Pixels,
    size: tuple[int, int],
    interpolation: Interpolation | Literal["nearest"],
    rows: tuple[int, int] | None = None,
    columns: tuple[int, int] | None = None,
) -> Pixels:
    """Resize, as the library does it that an interpolation is called by; Pillow does the nearest.

    A part of a size that is much larger than both the part and the image is computed by itself,
    the same up to rounding.

    Args:
        image: `(H, W, C)` or `(H, W)`, uint8.
        size: height and width to resize to.
        interpolation: library and kind.
        rows: first and last but one of the rows that are wanted; `None` for all.
        columns: the same.

    Returns:
        uint8, the part.
    """
    (top, bottom), (left, right) = rows or (0, size[0]), columns or (0, size[1])
    part = (bottom - top) * (right - left)
    if size[0] * size[1] > max(_MOST * part, image.shape[0] * image.shape[1]):
        return _part(image, size, interpolation, (top, bottom), (left, right))
    if image.shape[:2] == size:
        whole = image
    elif interpolation in _OPENCV:
        whole = np.asarray(cv2.resize(image, size[::-1], interpolation=_OPENCV[interpolation]))
    else:
        pillow = Image.fromarray(image).resize(size[::-1], _PILLOW[interpolation])
        whole = np.asarray(pillow)
    return whole[top:bottom, left:right].astype(np.uint8, copy=False)


def _part(
    image: Pixels,
    size: tuple[int, int],
    interpolation: str,
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> Pixels:
    """Each axis by itself: pixels that lie under a filter, with its weights."""
    taps = [
        _taps(image.shape[axis], size[axis], wanted, interpolation)
        for axis, wanted in enumerate((rows, columns))
    ]
    (top, bottom), (left, right) = ((places.min(), places.max() + 1) for places, _ in taps)
    result: NDArray[np.float32] | Pixels = image[top:bottom, left:right]
    for axis, first in ((1, left), (0, top)):
        places, weights = taps[axis][0] - first, taps[axis][1]
        shape = [1] * image.ndim
        shape[axis] = len(weights)
        total = np.zeros(1, np.float32)
        for place, weight in zip(places.T, weights.T, strict=True):
            total = total + result.take(place, axis) * weight.astype(np.float32).reshape(shape)
        # Pillow makes 8 bits of it between the axes.
        result = total if interpolation in _OPENCV else np.clip(np.rint(total), 0, 255)
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def _taps(
    image: int, size: int, wanted: tuple[int, int], interpolation: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """`(n, k)` pixels of an axis, and their weights, that make each pixel wanted of its resize."""
    scale = image / size
    centres = (np.arange(*wanted) + 0.5) * scale
    if interpolation == "nearest":
        steps = np.full(wanted[1], scale)
        steps[:1] /= 2
        centres = np.cumsum(steps)[wanted[0] :]  # as Pillow adds them up, with its errors
        places = np.minimum(np.floor(centres).astype(np.int64), image - 1)
        return places[:, None], np.ones((len(places), 1))
    library, _, kind = interpolation.partition("-")
    # Pillow's filters grow where a picture shrinks, OpenCV's do not.
    grown = max(scale, 1.0) if library == "pillow" else 1.0
    reach = _REACH[kind] * grown
    first = np.floor(centres - 0.5 - reach).astype(np.int64)
    places = first[:, None] + np.arange(int(np.ceil(2 * reach)) + 2)
    distance = np.abs(places + 0.5 - centres[:, None]) / grown
    weights = np.maximum(1 - distance, 0)
    if kind == "bicubic":
        weights = _cubic(distance, _SHARPNESS[library])
    inside = (places >= 0) & (places < image)
    if library == "pillow":  # OpenCV repeats the pixels of the edge
        weights = np.where(inside, weights, 0)
    weights = weights / weights.sum(1, keepdims=True)
    return np.clip(places, 0, image - 1), weights


def _cubic(distance: NDArray[np.float64], sharpness: float) -> NDArray[np.float64]:
    """The filter of Keys, "Cubic convolution interpolation for digital image processing" (1981)."""
    a, x = sharpness, distance
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
