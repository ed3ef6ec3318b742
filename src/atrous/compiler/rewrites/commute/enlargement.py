"""Enlargements: what a `Resize` does to a map, as interpolation matrices of rows and columns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from atrous.compiler.graph.graph import Graph, attributes

Matrix = NDArray[np.float64]

_LINEAR = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
_NEAREST = ("half_pixel", "pytorch_half_pixel", "asymmetric")


@dataclass(frozen=True, slots=True)
class Enlargement:
    """A `Resize` of `(N, C, h, w)` to `(N, C, H, W)`.

    Attributes:
        node: the `Resize`.
        source: the small map.
        small: `(h, w)`.
        large: `(H, W)`.
        rule: its coordinate rule.
        factors: of rows and columns where each pixel is repeated so many times, else `None`: then
            it is bilinear.
    """

    node: NodeProto
    source: str
    small: tuple[int, int]
    large: tuple[int, int]
    rule: str
    factors: tuple[int, int] | None = None

    @property
    def grid(self) -> str:
        """The size of the small map, for people."""
        return f"{self.small[0]}×{self.small[1]}"

    def matrices(self, taps: int) -> tuple[Matrix, Matrix]:
        """`(H, taps, h)` and `(W, taps, w)`: the interpolation matrices as each tap sees them.

        Args:
            taps: of a convolution padded with zeros, 1 or 3.
        """
        rows, columns = (
            interpolation(size, target, self.rule)
            for size, target in zip(self.small, self.large, strict=True)
        )
        return _shifted(rows, taps), _shifted(columns, taps)


def enlargement(graph: Graph, resize: NodeProto) -> Enlargement | str:
    """What a `Resize` does, or why that is not known here."""
    settings = attributes(resize)
    source, target = graph.shape(resize.input[0]), graph.shape(resize.output[0])
    if source is None or target is None or len(source) != 4:
        return "the sizes of the resize are not fixed"
    rule, mode = (
        settings.get("coordinate_transformation_mode", "half_pixel"),
        settings.get("mode", "nearest"),
    )
    if mode not in ("linear", "nearest") or settings.get("antialias", 0):
        return "the resize is neither plainly linear nor nearest"
    if rule not in (_LINEAR if mode == "linear" else _NEAREST):
        return f"resizes by the rule {rule}"
    if settings.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return "the resize keeps the aspect ratio"
    if source[:2] != target[:2]:
        return "the resize changes more than height and width"
    if len(resize.input) > 2 and resize.input[2]:
        scales = graph.constant(resize.input[2])
        if scales is None:
            return "the scales of the resize are not constant"
        exact = np.array(target[2:]) / np.array(source[2:])
        # With scales given, these and not the ratio of the sizes place the pixels.
        if scales.size and not np.allclose(scales[-2:], exact, rtol=1e-7, atol=0):
            return "the scales of the resize are not the ratio of its sizes"
    small, large = (source[2], source[3]), (target[2], target[3])
    if mode == "linear":
        return Enlargement(resize, resize.input[0], small, large, rule)
    rounding = settings.get("nearest_mode", "round_prefer_floor")
    factors = [_factor(*sizes, rule, rounding) for sizes in zip(small, large, strict=True)]
    if None in factors:
        return "the resize does not repeat every pixel the same number of times"
    return Enlargement(
        resize, resize.input[0], small, large, rule, (factors[0] or 1, factors[1] or 1)
    )


def interpolation(size: int, target: int, rule: str) -> Matrix:
    """The `(target, size)` matrix that enlarges a line linearly, as ONNX `Resize` does.

    Args:
        size: length of the line.
        target: length it is enlarged to.
        rule: `half_pixel`, `pytorch_half_pixel`, `align_corners` or `asymmetric`.
    """
    at = np.clip(_positions(size, target, rule), 0, size - 1)
    index = np.arange(target)
    below = np.floor(at).astype(int)
    above = np.minimum(below + 1, size - 1)
    matrix = np.zeros((target, size))
    np.add.at(matrix, (index, below), 1 - (at - below))
    np.add.at(matrix, (index, above), at - below)
    return matrix


def _positions(size: int, target: int, rule: str) -> Matrix:
    """Where the pixels of an enlarged line lie on the line itself."""
    index = np.arange(target, dtype=np.float64)
    match rule:
        case "align_corners":
            return index * ((size - 1) / (target - 1)) if target > 1 else index * 0.0
        case "asymmetric":
            return index * (size / target)
        case "pytorch_half_pixel" if target == 1:
            return index * 0.0
        case _:
            return (index + 0.5) * (size / target) - 0.5


def _factor(size: int, target: int, rule: str, rounding: str) -> int | None:
    """How often a nearest enlargement repeats each pixel of a line, if all equally often."""
    factor = target // size
    if factor * size != target:
        return None
    at = _positions(size, target, rule)
    match rounding:
        case "floor":
            nearest = np.floor(at)
        case "ceil":
            nearest = np.ceil(at)
        case "round_prefer_ceil":
            nearest = np.floor(at + 0.5)
        case _:
            nearest = np.ceil(at - 0.5)
    repeats = np.arange(target) // factor
    return factor if np.array_equal(np.clip(nearest, 0, size - 1), repeats) else None


def _shifted(matrix: Matrix, taps: int) -> Matrix:
    """`(target, taps, size)`: the matrix as the taps of a zero-padded convolution see it."""
    padded = np.pad(matrix, ((taps // 2, taps // 2), (0, 0)))
    return np.stack([padded[tap : tap + len(matrix)] for tap in range(taps)], axis=1)


def area(size: tuple[int, int]) -> int:
    """Pixels of a map."""
    return math.prod(size)
