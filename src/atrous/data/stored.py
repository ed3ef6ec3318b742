"""What the file of a mask stores, before any of it stands for a class.

Pillow gives pictures as they are shown. Of masks the stored numbers count, and what could be read
in two ways is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from atrous.data.dataset import MaskError
from atrous.files import open_file
from atrous.pictures import tiff
from atrous.pictures.decode import FEW_BITS, deep
from atrous.pictures.metadata import orientation
from atrous.pictures.opening import UnknownFormat

NO_CLASS = "ids outside the classes"
NOT_PLAIN = "masks that are more than plain pictures"

_GREY = re.compile(r"L;([24]?)(I?)R?")
"""How greys are packed that Pillow changes: of how many bits they are, and whether 0 is white."""

_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_FILMS = ("GIF", "WEBP", "PNG", "AVIF")
_PORTABLE = ("PPM", "PAM")
_NODATA, _SAMPLES = 42113, 277
_ONE_BAND = "store one band of class ids, as gdal_translate -b 1 -ot Byte does"

Numbers = NDArray[Any]


def check(mask: Image.Image) -> None:
    """Raise `MaskError` where a mask holds more than one picture of numbers or of colours.

    Args:
        mask: not decoded yet.
    """
    _check_pictures(mask)
    raw = _raw(mask)
    if ";16" in raw and len(mask.getbands()) > 1:
        raise MaskError(
            NOT_PLAIN,
            "its colours have 16 bits a channel, of which only the upper 8 would be read; store "
            "class ids in one channel, as a grey PNG, or colours of 8 bits",
        )
    if mask.mode in _WITH_ALPHA:
        _check_alpha(mask)


def check_upright(mask: Image.Image) -> None:
    """Raise `MaskError` where a mask is stored in another way than it is shown.

    Args:
        mask: decoded, as a PNG may say it behind its pixels. Pillow has turned a TIFF.
    """
    turned = orientation(mask)
    if turned != 1 and mask.format != "TIFF":
        raise MaskError(
            NOT_PLAIN,
            f"its EXIF says that it is shown turned (orientation {turned}), but masks are read as "
            "they are stored; save it as it has to lie on its image, without EXIF (exiftool -all= "
            "takes it out of a mask that lies right)",
        )


def numbers(mask: Image.Image, meant: Collection[int]) -> tuple[Numbers, NDArray[np.bool_] | None]:
    """The stored whole numbers, also those that Pillow would spread over 8 bits.

    Args:
        mask: of one channel, not decoded yet.
        meant: numbers that stand for something, also where the file says that one is no data.

    Returns:
        `(H, W)`, and where in it there is no data, `None` for nowhere; the number there is the
        first of `meant`.

    Raises:
        MaskError: there are fractions.
    """
    value = nodata(mask)
    values = _unpacked(mask)
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros((), np.bool_)
    if value is not None and value not in meant:
        with np.errstate(over="ignore"):  # floats of 32 bits compare to those of 64
            missing = missing | (values == value)
    if missing.any():
        filling = np.array(next(iter(meant)))
        kind = np.promote_types(values.dtype, np.min_scalar_type(filling))
        values = np.where(missing, filling.astype(kind), values.astype(kind))
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.rint(values)).any():
            raise MaskError(NO_CLASS, "holds fractions or infinity, expected whole class ids")
        values = values.astype(np.int64)
    return values, missing if missing.any() else None


def nodata(mask: Image.Image) -> float | None:
    """The number that a TIFF says to stand for no data."""
    value = tiff.number(getattr(mask, "tag_v2", {}).get(_NODATA))
    return None if value is None or math.isnan(value) else value


def explained(path: Path, error: UnknownFormat) -> MaskError | UnknownFormat:
    """The error of a TIFF that no reader opens: what is wrong with its samples, if they are it."""
    try:
        with open_file(path) as file:
            tags = tiff.read_tags(file) if tiff.is_tiff(file) else None
    except (OSError, ValueError):
        return error
    if tags is None or (tags.samples == 1 and tags.bits in (1, 2, 4, 8, 16, 32)):
        return error
    return MaskError(
        NOT_PLAIN,
        f"{path}: {tags.samples} {'bands' if tags.samples > 1 else 'band'} of {tags.bits} bits, "
        f"expected one of 8, 16 or 32; {_ONE_BAND}",
    )


def _check_pictures(mask: Image.Image) -> None:
    """Raise `MaskError` where there is a second picture, or a second band of greys."""
    if mask.format == "TIFF" and isinstance(mask, ImageFile) and mask.fp is not None:
        count, what = tiff.page_count(mask.fp), "pages"
        samples = getattr(mask, "tag_v2", {}).get(_SAMPLES, 1)
        if mask.mode == "L" and samples != 1:
            raise MaskError(NOT_PLAIN, f"holds {samples} bands, expected one; {_ONE_BAND}")
    elif mask.format in _FILMS:
        count, what = getattr(mask, "n_frames", 1), "frames"
    else:
        return
    if count > 1:
        raise MaskError(
            NOT_PLAIN,
            f"holds {count} {what}, expected one; store one picture whose numbers are the classes "
            f"(where each of the {what} shows one class: 1 where the first is not black, 2 where "
            "the second is not, and so on)",
        )


def _check_alpha(mask: Image.Image) -> None:
    *colours, (least, most) = _extrema(mask)
    if least == 255:
        return
    if least < most and all(low == high for low, high in colours):
        raise MaskError(
            NOT_PLAIN,
            "its pixels are all of one colour, and differ in their transparency alone; store that "
            "channel as a grey mask: with Pillow, Image.open(path).getchannel('A').save(path)",
        )
    if _is_told_apart(mask):
        return
    raise MaskError(
        NOT_PLAIN,
        f"its pixels are {mask.mode}, some of them transparent; store masks without transparency, "
        "in which what is transparent has a colour or an id of its own",
    )


def _is_told_apart(mask: Image.Image) -> bool:
    """Whether what is transparent has colours of its own, which then say all that there is."""
    pixels = np.ascontiguousarray(mask.convert("RGBA"))
    alpha, packed = pixels[..., 3], pixels.view("<u4")[..., 0] & np.uint32(0xFFFFFF)
    through, solid = alpha == 0, alpha == 255
    apart = not np.intersect1d(packed[through], packed[solid]).size
    return apart and bool((through | solid).all())


def _extrema(mask: Image.Image) -> list[tuple[int, int]]:
    """The least and the largest value in each channel, the last of which is transparency."""
    found = (channel.getextrema() for channel in mask.split())
    return [(int(low), int(high)) for low, high in found]  # type: ignore[arg-type]


def _unpacked(mask: Image.Image) -> Numbers:
    found = _GREY.fullmatch(_raw(mask))
    if mask.format in _PORTABLE and isinstance(mask, ImageFile) and (counted := deep(mask)):
        return np.asarray(counted[0][0])
    values = np.asarray(mask)
    if values.dtype == bool:
        return values.astype(np.uint8)
    if found and mask.format in ("PNG", "TIFF"):
        values = 255 - values if found[2] else values
        values = values // FEW_BITS[f"L;{found[1]}"] if found[1] else values
    return values


def _raw(mask: Image.Image) -> str:
    """How the samples are packed, in the words of Pillow; empty once they are decoded."""
    if not isinstance(mask, ImageFile) or not mask.tile:
        return ""
    arguments = mask.tile[0].args
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)
