"""Stored samples as 8 bits of red, green and blue, over white."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.pictures import bands, profiles
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
    height, width = stored.shape[1:]
    places = list(bands.places(height, width))

    def coloured(place: bands.Place) -> Image.Image:
        part = stored[:, *place]
        return _coloured(part[:-1] if meaning.alpha else part, meaning, taking, notes, name)

    is_grey = cache(lambda: all(profiles.is_grey(coloured(place)) for place in places))
    pixels = np.empty((height, width, 3), np.uint8)
    valid: NDArray[np.bool_] | None = None
    for place in places:
        shown = coloured(place)
        if meaning.profile:
            say = partial(notes.say, "profile")
            shown = profiles.to_srgb(shown, meaning.profile, is_grey, say, name)
        part = stored[:, *place]
        shown, missing = _over_white(shown.convert("RGB"), part, meaning)
        pixels[place] = np.asarray(shown)
        if mask is not None:
            missing = mask[place] == 0 if missing is None else missing | (mask[place] == 0)
        if missing is not None and missing.any():
            valid = np.ones((height, width), np.bool_) if valid is None else valid
            np.logical_not(missing, out=valid[place])
    return Picture(pixels, valid)


def _coloured(
    colours: Stored, meaning: Meaning, taking: Taking, notes: Notes, name: object
) -> Image.Image:
    """Grey, or red, green and blue, as the colour profile has them."""
    if meaning.palette is not None:
        rgb = meaning.palette[np.minimum(colours[0], len(meaning.palette) - 1)]
        return Image.fromarray(np.ascontiguousarray(rgb))
    eight = _eight(colours, meaning, taking, notes, name)
    grey = len(eight) == 1
    return Image.fromarray(np.ascontiguousarray(eight[0] if grey else np.moveaxis(eight, 0, 2)))


def _over_white(
    shown: Image.Image, stored: Stored, meaning: Meaning
) -> tuple[Image.Image, NDArray[np.bool_] | None]:
    """Colours over white as far as they are transparent, and where samples are no data."""
    if not meaning.alpha:
        return shown, without_data(stored, meaning.nodata)
    missing = without_data(stored[:-1], meaning.nodata)
    declared = str(stored.dtype) in AGREED
    alpha = (_declared if declared else _from_zero)(stored[-1], meaning.opaque)
    if meaning.marks:
        through = alpha == 0
        missing = through if missing is None else missing | through
    return on_white(shown, Image.fromarray(alpha), meaning.premultiplied), missing


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
