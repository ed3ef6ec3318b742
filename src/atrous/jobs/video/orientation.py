"""How the pictures of a clip are to be turned and mirrored before a person sees them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_EXACT = math.cos(math.radians(2))


@dataclass(frozen=True, slots=True)
class Orientation:
    """What makes a stored picture upright: these three, in this order.

    Attributes:
        transposed: rows become columns.
        left_right: columns change their order.
        upside_down: rows change their order.
        oblique: degrees of a turn that is none of the eight ways to put a picture, and is left
            undone; 0 if there is none.
    """

    transposed: bool = False
    left_right: bool = False
    upside_down: bool = False
    oblique: float = 0.0

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """That of a decoded frame: its container's, or what came with the frame itself."""
        sides: Iterable[Any] = frame.side_data
        for side in sides:
            if side.type.name == "DISPLAYMATRIX":
                return cls.from_matrix(np.frombuffer(bytes(side), np.int32)[:9])
        return cls()

    @classmethod
    def from_matrix(cls, matrix: NDArray[np.int32]) -> Orientation:
        """That of a display matrix.

        Args:
            matrix: `(9,)`, `a b u c d v x y w`: a point `(p, q)` of the picture is shown at
                `(a p + c q + x, b p + d q + y)`.
        """
        a, b, _, c, d = (float(value) for value in matrix[:5])
        across, down = math.hypot(a, b), math.hypot(c, d)
        if not across or not down:  # a matrix that says nothing
            return cls()
        a, b, c, d = a / across, b / across, c / down, d / down
        if min(abs(a), abs(d)) > _EXACT:
            return cls(False, a < 0, d < 0)
        if min(abs(b), abs(c)) > _EXACT:
            return cls(True, c < 0, b < 0)
        return cls(oblique=math.degrees(math.atan2(b, a)))

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of an upright picture from those of a stored one, and the reverse."""
        return (height, width) if self.transposed else (width, height)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pixels `(H, W, 3)` as they are stored → as they are to be seen."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        if self.left_right:
            pixels = pixels[:, ::-1]
        if self.upside_down:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)
