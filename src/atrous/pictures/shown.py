"""Stored samples as 8 bits of red, green and blue, over white."""

from __future__ import annotations

from functools import partial

import numpy as np
from PIL import Image

from atrous.pictures import profiles
from atrous.pictures.samples import (
    AGREED,
    Meaning,
    Notes,
    Picture,
    Pixels,
    Stored,
    Taking,
    look,
    without_data,
)


def to_picture(
    stored: Stored,
    meaning: Meaning,
    taking: Taking,
    notes: Notes,
    name: object,
    mask: Stored | None = None,
) -> Picture:
    """Turn stored samples into RGB.

    Args:
        stored: `(C, H, W)`: grey, an index or red, green and blue; and transparency where `meaning`
            says so.
        meaning: of the samples.
        taking: what overrides it.
        notes: where decisions are said.
        name: of the picture.
        mask: `(H, W)`, 0 where there is no data.

    Raises:
        InputError: the samples have no agreed range, and `taking` does not say one.
    """
    colours = stored[:-1] if meaning.alpha else stored
    invalid = without_data(colours, meaning.nodata)
    if mask is not None:
        invalid = mask == 0 if invalid is None else invalid | (mask == 0)
    if meaning.palette is not None:
        rgb = meaning.palette[np.minimum(colours[0], len(meaning.palette) - 1)]
        shown = Image.fromarray(np.ascontiguousarray(rgb))
    else:
        eight = _eight(colours, meaning, taking, notes, name)
        grey = len(eight) == 1
        shown = Image.fromarray(
            np.ascontiguousarray(eight[0] if grey else np.moveaxis(eight, 0, 2))
        )
    if meaning.profile:
        say = partial(notes.say, "profile")
        shown = profiles.to_srgb(shown, meaning.profile, say, name)
    shown = shown.convert("RGB")
    if meaning.alpha:
        declared = str(stored.dtype) in AGREED
        alpha = (_declared if declared else _from_zero)(stored[-1], meaning.opaque)
        if meaning.marks:
            through = alpha == 0
            invalid = through if invalid is None else invalid | through
        shown = on_white(shown, Image.fromarray(alpha), meaning.premultiplied)
    valid = None if invalid is None or not invalid.any() else ~invalid
    return Picture(np.asarray(shown), valid)


def on_white(colours: Image.Image, alpha: Image.Image, premultiplied: bool = False) -> Image.Image:
    """An RGB picture over white, as far as its transparency lets white through."""
    if alpha.getextrema() == (255, 255):
        return colours
    picture = colours.copy()
    picture.putalpha(alpha)
    if premultiplied:
        picture = Image.frombytes("RGBA", picture.size, picture.tobytes(), "raw", "RGBa")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def _eight(colours: Stored, meaning: Meaning, taking: Taking, notes: Notes, name: object) -> Pixels:
    """Samples as 8 bits, 0 black."""
    if colours.dtype != np.uint8 and taking.value_range is not None:
        eight = _stretched(colours, *taking.value_range)
    elif str(colours.dtype) in AGREED:
        eight = _declared(colours, meaning.high)
    else:
        look(colours, Meaning(), taking, notes, name)
        raise AssertionError("look refuses these")
    return 255 - eight if meaning.inverted else eight


def _declared(values: Stored, high: int) -> Pixels:
    """Of more than 8 bits the upper ones, of fewer the range spread to 0..255."""
    if high == 255 and values.dtype == np.uint8:
        return np.asarray(values)
    if high == 65535:
        return (values >> 8).astype(np.uint8)
    table = np.arange(65536 if values.dtype.itemsize > 1 else 256, dtype=np.int64)
    table = np.minimum(table, high)
    table = table * 256 // (high + 1) if high > 255 else (2 * 255 * table + high) // (2 * high)
    return np.asarray(table.astype(np.uint8)[values])


def _from_zero(values: Stored, high: int) -> Pixels:
    return _stretched(values, 0, high)


def _stretched(values: Stored, low: float, high: float) -> Pixels:
    """`low` becomes 0, `high` 255, what lies outside the nearer of them, no number 0."""
    if values.dtype == np.uint16:
        return _stretched(np.arange(65536, dtype=np.float64), low, high)[values]
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (values.astype(np.float64) - low) * (255 / (high - low))
        return np.rint(np.clip(np.nan_to_num(scaled, posinf=255, neginf=0), 0, 255)).astype(
            np.uint8
        )
