"""A 3×3 convolution over a map whose pixels were repeated, computed on the map itself.

Where every pixel is repeated `f` times, the three taps of a row fall on two distinct pixels at the
first and the last of the repeats, and on one pixel between: the weights of taps that fall on the
same pixel are added. Each of the `f × f` places is a convolution of its own on the small map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Taps = tuple[tuple[int, tuple[int, ...]], ...]
"""Offset on the small map → the taps of the large one that fall there."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One place among the repeats of a pixel.

    Attributes:
        rows: what its taps see of the small map, above and below.
        columns: likewise to the left and right.
    """

    rows: Taps
    columns: Taps


def phases(factors: tuple[int, int]) -> Iterator[Phase]:
    """All places, row by row.

    Args:
        factors: how often rows and columns are repeated.
    """
    for row in range(factors[0]):
        for column in range(factors[1]):
            yield Phase(_taps(row, factors[0]), _taps(column, factors[1]))


def _taps(place: int, factor: int) -> Taps:
    offsets = [(place + tap - 1) // factor for tap in range(3)]
    distinct = sorted(set(offsets))
    return tuple(
        (offset, tuple(tap for tap in range(3) if offsets[tap] == offset)) for offset in distinct
    )
