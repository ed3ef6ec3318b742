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


def painted(
    picture: Pixels, class_map: Pixels, labels: LabelSet, width: int, *, legend: bool = True
) -> Pixels:
    """`picture` under the colours of its classes, both scaled; with `legend` their names below."""
    nearest, small = scaled(class_map, width, cv2.INTER_NEAREST), scaled(picture, width)
    whole = overlay(small, nearest, labels)
    return whole if legend else np.ascontiguousarray(whole[: small.shape[0]])


def swatches(labels: LabelSet, class_ids: Iterable[int]) -> list[tuple[str, str]]:
    """Name and colour (`#rrggbb`) of the classes that pictures show, for the macro `legend`.

    Args:
        labels: names and colours.
        class_ids: those that occur; what is ignored has its name too, a background that is left
            unpainted has none.
    """
    paint, shown = labels.paint(), sorted(set(class_ids))
    bare = set(labels.unpainted)
    return [
        (labels.names[i], f"#{paint[3 * i : 3 * i + 3].hex()}")
        for i in shown
        if i not in bare and i < labels.num_classes
    ]


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
        size: width and height of its plane, in units of which a page shows 1000 at most in a line.
        right: room for the numbers of a second scale, see `second`.
    """

    _left, _edge = 60, 8

    def __init__(
        self,
        label: str,
        across: tuple[float, float],
        up: tuple[float, float],
        foot: str = "",
        *,
        size: tuple[int, int] = (1000, 280),
        right: int = 0,
    ) -> None:
        self.label, self.foot = label, foot
        self.width, self.height = size[0] - right, size[1]
        self.whole = size[0]
        self._across, self._up = across, up
        self._second = up
        self.ticks: list[tuple[float, str]] = []
        self.others: list[tuple[float, str]] = []
        self.levels: list[tuple[float, str]] = []
        self.lines: list[tuple[str, str]] = []
        self.dots: list[tuple[float, float, str, str]] = []

    @property
    def left(self) -> int:
        """Where its lines begin."""
        return self._left

    def place(self, x: float, y: float, *, second: bool = False) -> tuple[float, float]:
        """Pixels from the left and from the top; by the `second` scale, if so asked."""
        (first, last), (low, high) = self._across, self._second if second else self._up
        part = (x - first) / ((last - first) or 1)
        share = (min(max(y, low), high) - low) / (high - low)
        across = self._left + (self.width - self._left - self._edge) * part
        down = self._edge + (self.height - 2 * self._edge) * (1 - share)
        return round(across, 1), round(down, 1)

    def level(self, value: float, text: str) -> None:
        """Draw a line across, its value at its left."""
        self.levels.append((self.place(0, value)[1], text))

    def second(self, levels: dict[float, str]) -> None:
        """Have a scale of its own at the right, from its lowest to its highest level."""
        self._second = (min(levels), max(levels))
        for value, text in levels.items():
            self.others.append((self.place(0, value, second=True)[1], text))

    def tick(self, value: float, text: str) -> None:
        """Write a value of the axis across below the plane."""
        self.ticks.append((self.place(value, 0)[0], text))

    def line(
        self, points: Iterable[tuple[float, float]], kind: str = "mean", *, second: bool = False
    ) -> None:
        """Draw a curve; `kind` is its class in the stylesheet."""
        places = (self.place(x, y, second=second) for x, y in points)
        self.lines.append((kind, " ".join(f"{across},{down}" for across, down in places)))

    def dot(
        self, x: float, y: float, kind: str = "", title: str = "", *, second: bool = False
    ) -> None:
        """Mark a point, which says `title` when it is pointed at."""
        self.dots.append((*self.place(x, y, second=second), kind, title))
