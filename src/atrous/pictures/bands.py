"""Large pictures a part at a time.

Pillow holds Python's lock while it converts, and copies what it hands over twice: of a whole
picture that is seconds in which a server answers nobody, and gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PIXELS = 2**20
"""Of a part, at most."""

Place = tuple[slice, slice]
"""Rows and columns."""


def places(height: int, width: int) -> Iterator[Place]:
    """The parts of a picture of that size, from the top left."""
    columns = max(1, min(width, PIXELS))
    rows = PIXELS // columns
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield (
                slice(top, min(height, top + rows)),
                slice(left, min(width, left + columns)),
            )


def parts(picture: Image.Image) -> Iterator[tuple[Place, Image.Image]]:
    """The parts of a picture; a small one is its own."""
    width, height = picture.size
    for place in places(height, width):
        if width * height <= PIXELS:
            yield place, picture
        else:
            rows, columns = place
            yield place, picture.crop((columns.start, rows.start, columns.stop, rows.stop))


def array(
    picture: Image.Image, make: Callable[[Image.Image], NDArray[Any]] = np.asarray
) -> NDArray[Any]:
    """`(H, W, …)`, what `make` makes of each part."""
    width, height = picture.size
    whole: NDArray[Any] | None = None
    for place, part in parts(picture):
        made = make(part)
        if width * height <= PIXELS:
            return made
        if whole is None:
            whole = np.empty((height, width, *made.shape[2:]), made.dtype)
        whole[place] = made
    assert whole is not None
    return whole
