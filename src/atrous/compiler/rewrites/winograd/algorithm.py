"""Winograd's minimal filtering in one dimension: `outputs + 2` products for `3 · outputs`.

For three taps and `m` outputs, `F(m, 3)`, inputs of a tile and taps are read as polynomials,
evaluated at `m + 1` points and at infinity, multiplied there, and interpolated (S. Winograd,
Arithmetic Complexity of Computations, 1980; for convolutional networks: arXiv:1509.09308).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

TAPS = 3
LARGEST = 4
"""Outputs of a tile: more would save a little more arithmetic, and lose digits."""

_POINTS = tuple(map(Fraction, ("0", "1", "-1", "-1/2", "2")))
"""For four outputs those that round least (arXiv:1803.10986); fewer outputs take the first."""

Matrix = NDArray[np.float64]
Places = NDArray[np.int64]
Polynomial = list[Fraction]
"""Coefficients, the constant one first."""


@dataclass(frozen=True)
class Minimal:
    """The matrices of `F(outputs, 3)`: `outputs = results · ((weights · taps) * (inputs · tile))`.

    Args:
        outputs: of a tile, 1 to 4.
    """

    outputs: int

    @property
    def products(self) -> int:
        """Multiplications of a tile, which is as many inputs as it reads."""
        return self.outputs + TAPS - 1

    @cached_property
    def inputs(self) -> Matrix:
        """`(products, products)`: what is made of the inputs."""
        points = self._points
        rows = [_product([p for p in points if p != point]) for point in points]
        return _array([[*row, Fraction(0)] for row in rows] + [_product(points)])

    @cached_property
    def weights(self) -> Matrix:
        """`(products, 3)`: what is made of the taps."""
        rows = []
        for point in self._points:
            scale = Fraction(1)
            for other in self._points:
                scale *= point - other if other != point else 1
            rows.append([point**power / scale for power in range(TAPS)])
        return _array([*rows, [Fraction(0)] * (TAPS - 1) + [Fraction(1)]])

    @cached_property
    def results(self) -> Matrix:
        """`(outputs, products)`: what the outputs are made of."""
        last = self.outputs - 1
        rows = [
            [*(point**power for point in self._points), Fraction(power == last)]
            for power in range(self.outputs)
        ]
        return _array(rows)

    @property
    def _points(self) -> tuple[Fraction, ...]:
        return _POINTS[: self.products - 1]


@dataclass(frozen=True)
class TiledAxis:
    """How one axis of a map is cut into tiles.

    Taps that are `dilation` apart meet every `dilation`-th pixel alone, so that such an axis is
    so many shorter ones.

    Args:
        size: of the convolution's result, pixels.
        source: of what it reads, pixels.
        before: zeros in front of that.
        dilation: distance of the taps, pixels.
    """

    size: int
    source: int
    before: int
    dilation: int

    @cached_property
    def minimal(self) -> Minimal:
        """The tile that needs the fewest products."""
        length = -(-self.size // self.dilation)
        return min(
            (Minimal(outputs) for outputs in range(LARGEST, 0, -1)),
            key=lambda one: -(-length // one.outputs) * one.products,
        )

    @property
    def tiles(self) -> int:
        """How many there are, on all of the shorter axes."""
        return -(-self.size // (self.dilation * self.minimal.outputs)) * self.dilation

    @property
    def results(self) -> int:
        """Outputs of all tiles, those beyond `size` too."""
        return self.tiles * self.minimal.outputs

    @property
    def padded(self) -> int:
        """Inputs of all tiles, each once."""
        return self.results + (TAPS - 1) * self.dilation

    @property
    def after(self) -> int:
        """Zeros behind what is read."""
        return self.padded - self.source - self.before

    @property
    def direct(self) -> int:
        """Multiplications of the convolution along the axis: taps that do not fall on padding."""
        starts = (tap * self.dilation - self.before for tap in range(TAPS))
        return sum(max(min(start + self.size, self.source) - max(start, 0), 0) for start in starts)

    @property
    def inputs(self) -> Places:
        """`(products of a tile, tiles)`: which of the `padded` inputs each place of a tile is."""
        return self._places(self.minimal.products)

    @property
    def outputs(self) -> Places:
        """`(outputs of a tile, tiles)`: which of the `results` each output of a tile is."""
        return self._places(self.minimal.outputs)

    def _places(self, count: int) -> Places:
        step = self.minimal.outputs * self.dilation
        first = np.arange(0, self.results, step)[:, None] + np.arange(self.dilation)
        return np.arange(count)[:, None] * self.dilation + first.reshape(-1)


def _product(roots: tuple[Fraction, ...] | list[Fraction]) -> Polynomial:
    """The polynomial with these roots."""
    product = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *product]
        lower = [*product, Fraction(0)]
        product = [high - root * low for high, low in zip(shifted, lower, strict=True)]
    return product


def _array(rows: list[Polynomial]) -> Matrix:
    return np.array([[float(value) for value in row] for row in rows])
