"""Regions of a class map: its connected pieces, with outlines along the edges of their pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.errors import InputError
from atrous.image import class_name
from atrous.labels import LabelSet

Ring = tuple[tuple[float, float], ...]
"""A closed outline, `(x, y)` each, the first point not repeated at the end."""

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up: clockwise on the screen


@dataclass(frozen=True, slots=True)
class Region:
    """One connected piece of a class.

    Coordinates are those of the edges between pixels: the first pixel of a picture reaches from
    (0, 0) to (1, 1), and the outline of a region encloses exactly its pixels.

    Attributes:
        class_id: value of its pixels in the class map.
        name: of the class.
        area: number of pixels, without its holes.
        box: `(left, top, right, bottom)` in pixels.
        polygon: its outline, clockwise as one sees it.
        holes: outlines of what it encloses and is not part of it.
        score: mean probability of its class over its pixels, 0–1; `None` where nobody computed it.
    """

    class_id: int
    name: str
    area: int
    box: tuple[int, int, int, int]
    polygon: Ring
    holes: tuple[Ring, ...] = ()
    score: float | None = None

    def __repr__(self) -> str:
        score = "" if self.score is None else f", score {self.score:.2f}"
        return f"Region({self.name}, {self.area} pixels, box {self.box}{score})"


@dataclass(frozen=True, slots=True)
class Piece:
    """A region as pixels.

    Attributes:
        class_id: value of its pixels.
        area: how many they are.
        top: first row.
        left: first column.
        pixels: `(h, w)` bool: which pixels of its box are its own.
    """

    class_id: int
    area: int
    top: int
    left: int
    pixels: NDArray[np.bool_]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """`(left, top, right, bottom)`."""
        height, width = self.pixels.shape
        return self.left, self.top, self.left + width, self.top + height


def regions(
    class_map: NDArray[np.uint8],
    labels: LabelSet,
    *,
    min_area: int = 1,
    tolerance: float = 0,
    certainty: NDArray[np.float32] | None = None,
) -> list[Region]:
    """Regions of a class map, the largest first; none of the background or of ignored pixels.

    Args:
        class_map: `(H, W)` uint8, class ids.
        labels: names of the classes, and which of them are no things.
        min_area: leave out regions of fewer pixels.
        tolerance: pixels by which outlines may be simplified; 0 keeps every step.
        certainty: `(H, W)` float32, probability of the class of each pixel, 0–1.

    Raises:
        InputError: `min_area` or `tolerance` is negative.
    """
    if min_area < 0 or not tolerance >= 0:
        raise InputError(
            f"`min_area` {min_area}, `tolerance` {tolerance}: expected 0 pixels or more"
        )
    found = []
    for piece in pieces(class_map, labels, min_area):
        outer, *holes = [simplified(ring, tolerance) for ring in outlines(piece)]
        score = None
        if certainty is not None:
            left, top, right, bottom = piece.box
            score = float(certainty[top:bottom, left:right][piece.pixels].mean(dtype=np.float64))
        name = class_name(labels, piece.class_id)
        found.append(
            Region(piece.class_id, name, piece.area, piece.box, outer, tuple(holes), score)
        )
    return sorted(found, key=lambda region: -region.area)


def pieces(class_map: NDArray[np.uint8], labels: LabelSet, min_area: int = 1) -> Iterator[Piece]:
    """Connected pieces of each class, class by class; pixels that touch at a corner do not connect.

    Args:
        class_map: `(H, W)` uint8, class ids.
        labels: say what is background or ignored, which has no pieces.
        min_area: leave out those of fewer pixels.
    """
    counts = np.bincount(np.unique(class_map), minlength=256)
    counts[list(labels.unpainted)] = 0
    for class_id in np.flatnonzero(counts):
        mask = (class_map == class_id).view(np.uint8)
        _, numbers, found, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        for number in range(1, len(found)):
            left, top, width, height, area = map(int, found[number])
            if area >= min_area:
                part = numbers[top : top + height, left : left + width]
                yield Piece(int(class_id), area, top, left, part == number)


def outlines(piece: Piece) -> list[Ring]:
    """The outline of a piece along the edges of its pixels, and those of its holes after it."""
    after = _runs(np.pad(piece.pixels, 1))
    rings: list[Ring] = []
    while after:
        start = next(iter(after))
        ring, key = [], start
        while True:
            point, direction = after.pop(key)
            ring.append((point[0] - 1 + piece.left, point[1] - 1 + piece.top))
            # Where two pixels touch at a corner alone, the way on is along the same pixel.
            right, left = (point, (direction + 1) % 4), (point, (direction + 3) % 4)
            if start in (right, left) and not (start == left and right in after):
                break
            key = right if right in after else left
        rings.append(tuple(ring))
    # The outline is the one that goes around clockwise; it encloses a positive area.
    return sorted(rings, key=lambda ring: -_area(ring))


def simplified(ring: Ring, tolerance: float) -> Ring:
    """An outline of fewer points that is nowhere further than `tolerance` pixels from the ring."""
    if not tolerance:
        return ring
    points = np.array(ring, np.float32)[:, None]
    fewer = cv2.approxPolyDP(points, tolerance, closed=True)[:, 0]
    return tuple((float(x), float(y)) for x, y in fewer) if len(fewer) >= 3 else ring


Vertex = tuple[int, int]
_Key = tuple[Vertex, int]


def _runs(padded: NDArray[np.bool_]) -> dict[_Key, _Key]:
    """Straight pieces of all outlines: where one starts and its direction → its end, and that.

    The region lies to the right of each.
    """
    above = padded[1:] & ~padded[:-1], ~padded[1:] & padded[:-1]
    beside = padded[:, 1:] & ~padded[:, :-1], ~padded[:, 1:] & padded[:, :-1]
    found: dict[_Key, _Key] = {}
    for direction, edges in enumerate((above[0], beside[1].T, above[1], beside[0].T)):
        change = np.diff(np.pad(edges, ((0, 0), (1, 1))).view(np.int8), axis=1)
        lines, starts = np.nonzero(change == 1)
        _, ends = np.nonzero(change == -1)
        backwards, down = direction >= 2, direction % 2 == 1
        for line, start, end in zip(lines.tolist(), starts.tolist(), ends.tolist(), strict=True):
            first, last = (end, start) if backwards else (start, end)
            here, there = (first, line + 1), (last, line + 1)
            if down:
                here, there = here[::-1], there[::-1]
            found[here, direction] = there, direction
    return found


def _area(ring: Ring) -> float:
    """Twice what it encloses, positive where it goes clockwise on the screen."""
    x, y = np.array(ring, np.float64).T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())
