"""What a page shows beside text: pictures as data URIs, and charts as places in an SVG."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.image import overlay
from atrous.labels import LabelSet

Pixels = NDArray[np.uint8]


def embedded(picture: Pixels) -> str:
    """A data URI of `(H, W, 3)` uint8 RGB."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def scaled(picture: Pixels, width: int, interpolation: int = cv2.INTER_AREA) -> Pixels:
    """A picture or class map at another width, its sides in proportion."""
    size = (width, max(1, round(picture.shape[0] * width / picture.shape[1])))
    return np.asarray(cv2.resize(picture, size, interpolation=interpolation), picture.dtype)


def painted(picture: Pixels, class_map: Pixels, labels: LabelSet, width: int) -> Pixels:
    """`picture` under the colours of its classes, with their names below; both scaled."""
    nearest = scaled(class_map, width, cv2.INTER_NEAREST)
    return overlay(scaled(picture, width), nearest, labels)


def levels(low: float, high: float) -> dict[float, str]:
    """Two to seven round numbers, evenly spaced, the outer ones around the span; and as text."""
    rough = (high - low) / 5 or abs(high) / 5 or 1.0
    power = math.floor(math.log10(rough))
    factor = next(factor for factor in (1, 2, 2.5, 5, 10) if factor * 10.0**power >= rough * 0.999)
    step = factor * 10.0**power
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, -power + (factor == 2.5) - (factor == 10))
    values = (number * step for number in range(first, max(last, first + 1) + 1))
    return {value: f"{value:.{digits}f}" for value in values}


class Chart:
    """Curves over lines of equal height, for the macro `chart`.

    Args:
        label: what it shows, for those who cannot see it.
        across: values at the left and the right edge.
        up: values at the lower and the upper edge; what lies beyond is drawn at the edge.
        foot: text below its right end.
    """

    width, height = 1000, 280
    _left, _edge = 60, 8

    def __init__(
        self, label: str, across: tuple[float, float], up: tuple[float, float], foot: str = ""
    ) -> None:
        self.label, self.foot = label, foot
        self._across, self._up = across, up
        self.levels: list[tuple[float, str]] = []
        self.lines: list[tuple[str, str]] = []
        self.dots: list[tuple[float, float, str, str]] = []

    @property
    def left(self) -> int:
        """Where its lines begin."""
        return self._left

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Pixels from the left and from the top."""
        (first, last), (low, high) = self._across, self._up
        part = (x - first) / ((last - first) or 1)
        share = (min(max(y, low), high) - low) / (high - low)
        across = self._left + (self.width - self._left - self._edge) * part
        down = self._edge + (self.height - 2 * self._edge) * (1 - share)
        return round(across, 1), round(down, 1)

    def level(self, value: float, text: str) -> None:
        """Draw a line across, its value at its left."""
        self.levels.append((self.place(0, value)[1], text))

    def line(self, points: Iterable[tuple[float, float]], kind: str = "mean") -> None:
        """Draw a curve; `kind` is its class in the stylesheet."""
        places = (self.place(x, y) for x, y in points)
        self.lines.append((kind, " ".join(f"{across},{down}" for across, down in places)))

    def dot(self, x: float, y: float, kind: str = "", title: str = "") -> None:
        """Mark a point, which says `title` when it is pointed at."""
        self.dots.append((*self.place(x, y), kind, title))
