"""Classes painted over the frames of a video."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.labels import LabelSet

Pixels = NDArray[np.uint8]


class Paint:
    """Paints classes over frames: as `image.overlay`, without outlines, legend and shrinking.

    Args:
        labels: colours; a background (class 0) and ignored pixels stay unpainted.
        opacity: of the paint, 0–1.
    """

    def __init__(self, labels: LabelSet, opacity: float) -> None:
        self._opacity = opacity
        self._alone, self._over = (
            np.frombuffer(colours, np.uint8).reshape(256, 1, 3)
            for colours in (labels.palette(), labels.paint())
        )
        self._bare = np.zeros(256, np.uint8)
        self._bare[list(labels.unpainted)] = 255

    def __call__(self, pixels: Pixels | None, class_map: Pixels) -> Pixels:
        """Paint one frame.

        Args:
            pixels: `(H, W, 3)` uint8, RGB; `None` for the palette's colours alone.
            class_map: `(H, W)` uint8, class ids.

        Returns:
            `(H, W, 3)` uint8, RGB.
        """
        table = self._alone if pixels is None else self._over
        paint = cv2.applyColorMap(class_map, table)
        if pixels is not None:
            bare = cv2.LUT(class_map, self._bare)
            paint = cv2.addWeighted(pixels, 1 - self._opacity, paint, self._opacity, 0)
            paint = cv2.copyTo(pixels, bare, paint)
        return np.asarray(paint, np.uint8)
