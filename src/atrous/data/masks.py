"""Masks on the disk: class ids as grey values or palette indices, or classes as colours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.data.dataset import MaskError
from atrous.labels import Colour
from atrous.pictures.opening import decoded

COLOURED = "colours instead of ids"
NO_CLASS = "ids outside the classes"
NO_COLOUR = "colours of no class"

_ID_MODES = {"P", "L", "1", "I", "I;16", "I;16L", "I;16B", "I;16N"}


def read_ids(path: Path) -> NDArray[np.uint8]:
    """The pixel values of a palette or grey image.

    Returns:
        `(H, W)` uint8.

    Raises:
        InputError: it cannot be read; `MaskError` if its pixels are colours or exceed 255.
    """
    return _read(path, _to_ids)


def read_palette(path: Path) -> NDArray[np.uint8]:
    """As `read_ids`, of palette images alone."""
    return _read(path, lambda mask: _to_ids(mask, {"P"}))


@dataclass(frozen=True, slots=True)
class ColourTable:
    """Reads masks whose colours are the classes.

    Attributes:
        ids: class id, or the ignore index, of each colour.
    """

    ids: tuple[tuple[Colour, int], ...]

    @classmethod
    def of(cls, ids: Mapping[Colour, int]) -> ColourTable:
        """The table of a mapping from colour to id."""
        return cls(tuple(ids.items()))

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """The class ids of an RGB image, or of a palette image by the colours of its palette.

        Returns:
            `(H, W)` uint8.

        Raises:
            InputError: it cannot be read; `MaskError` if a colour is not in the table.
        """
        pixels = _read(path, lambda mask: np.asarray(mask.convert("RGB"), np.uint8))
        packed = _pack(pixels)
        found = _lookup(self.ids)[packed]
        if (strange := found < 0).any():
            values, pixels_of = np.unique(packed[strange], return_counts=True)
            most = np.argsort(-pixels_of, kind="stable")[:4]
            few = (f"{_unpack(int(values[i]))} on {int(pixels_of[i])} pixels" for i in most)
            raise MaskError(
                NO_COLOUR,
                f"{path}: {len(values)} colours that are no class: {', '.join(few)}; add them to "
                "classes or ignore_colours",
            )
        return found.astype(np.uint8)


def _read(path: Path, convert: Callable[[Image.Image], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    try:
        return decoded(path, str(path), convert)
    except MaskError as error:
        raise MaskError(error.kind, f"{path}: {error}") from None


def _to_ids(mask: Image.Image, modes: set[str] = _ID_MODES) -> NDArray[np.uint8]:
    if mask.mode not in modes:
        wanted = "palette indices" if modes == {"P"} else "class ids in a grey or palette image"
        raise MaskError(COLOURED, f"its pixels are {mask.mode}, expected {wanted}")
    values = np.asarray(mask)
    if values.dtype.itemsize > 1 and (values.min() < 0 or values.max() > 255):
        raise MaskError(
            NO_CLASS, f"holds the values {values.min()}..{values.max()}, expected ids up to 255"
        )
    return values.astype(np.uint8, copy=False)


def _pack(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """One number per pixel, red lowest, without arithmetic on the channels."""
    wide = np.ascontiguousarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA))
    return wide.view("<u4")[:, :, 0] & np.uint32(0xFFFFFF)


def _unpack(value: int) -> Colour:
    return value & 255, value >> 8 & 255, value >> 16


@lru_cache(maxsize=4)  # 32 MB each
def _lookup(ids: tuple[tuple[Colour, int], ...]) -> NDArray[np.int16]:
    """The id of each of the 2**24 packed colours, -1 where there is none."""
    table = np.full(2**24, -1, np.int16)
    for (red, green, blue), class_id in ids:
        table[red | green << 8 | blue << 16] = class_id
    return table
