"""Where the pixels of one raster lie on another: the affine maps between image, input and logits.

Positions are pixel indices with centres at whole numbers: pixel 0 lies at 0.0. Rows and columns
never mix, so a map between two rasters is one `Axis` for the rows and one for the columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from atrous.errors import InputError

CoordinateRule = Literal["half_pixel", "pytorch_half_pixel", "align_corners"]
"""How an ONNX `Resize` pairs positions (`coordinate_transformation_mode`)."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of an output raster: its pixel `i` reads the source at `scale * i + offset`.

    Attributes:
        size: number of output pixels.
        scale: source pixels per output pixel.
        offset: source position of output pixel 0; may lie outside the source.
        nearest: it reads the source pixel that is nearest, and nothing between two.
    """

    size: int
    scale: float = 1.0
    offset: float = 0.0
    nearest: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"an axis has {self.size} pixels, expected at least 1")
        if not (math.isfinite(self.scale) and math.isfinite(self.offset)):
            raise InputError(f"an axis reads at {self.scale} * i + {self.offset}, expected numbers")

    @classmethod
    def resized(cls, source: int, size: int) -> Axis:
        """The axis of an image of `source` pixels resized to `size`, as OpenCV and Pillow do it."""
        scale = source / size
        return cls(size, scale, (scale - 1) / 2)

    def on_grid(self, grid: int, extent: int, rule: CoordinateRule) -> Axis:
        """Carry on from the network input to the logit grid that a `Resize` would enlarge to it.

        Args:
            grid: pixels of the logit grid on this axis.
            extent: pixels of the network input on this axis, the size the `Resize` would make.
            rule: the coordinate rule of that `Resize`.

        Returns:
            The same output pixels, reading the logit grid instead of the network input.
        """
        if rule == "align_corners":
            step = (grid - 1) / (extent - 1) if extent > 1 else 0.0
            shift = 0.0
        elif rule == "pytorch_half_pixel" and extent == 1:
            step = shift = 0.0
        else:
            step = grid / extent
            shift = (step - 1) / 2
        return Axis(self.size, self.scale * step, self.offset * step + shift, self.nearest)

    def positions(self, source: int) -> NDArray[np.float64]:
        """Source position of every output pixel, clamped to the source's pixels.

        Returns:
            `(size,)` positions in `0 .. source - 1`.
        """
        exact = self.scale * np.arange(self.size) + self.offset
        return np.clip(np.floor(exact + 0.5) if self.nearest else exact, 0.0, source - 1.0)

    def part(self, start: int, stop: int) -> Axis:
        """The output pixels `start .. stop - 1` alone, at the same positions up to rounding."""
        offset = self.scale * start + self.offset
        return Axis(stop - start, self.scale, offset, self.nearest)
