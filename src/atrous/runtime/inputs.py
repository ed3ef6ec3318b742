"""What people have in their hands when they want a picture segmented."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from atrous.errors import InputError
from atrous.image import Reading, turned
from atrous.pictures.metadata import orientation
from atrous.pictures.opening import unreadable
from atrous.pictures.samples import Picture

Colour = Literal["rgb", "bgr"]

Input: TypeAlias = "str | PathLike[str] | bytes | Image.Image | NDArray[np.uint8]"
"""A picture: its file, the content of its file, an image of Pillow's, or its pixels."""

_FILES = (str, PathLike, bytes, bytearray, memoryview, Image.Image)
_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_TIFF = ("CMYK", "LAB", "F", "I")
_SIXTEEN_BIT = ("I;16B", "I;16L", "I;16N")
_PLAINER = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}
"""Modes with transparency that no file keeps, and what keeps the same."""


def picture_of(source: Input, reading: Reading, colour: Colour = "rgb") -> Picture:
    """The pixels of a picture as a person would see it, whatever it comes in.

    A file, its content and an image of Pillow's give the same pixels.

    Args:
        source: the picture.
        reading: how files are read.
        colour: order of the channels of an array.

    Raises:
        InputError: it cannot be read, or is of another kind; the message says what to do.
    """
    if colour not in ("rgb", "bgr"):
        raise InputError(f"`colour`: expected rgb or bgr, got {colour!r}")
    if isinstance(source, np.ndarray):
        return Picture(_array(source, colour))
    if not isinstance(source, _FILES):
        raise InputError(f"image: {_kind(source)}; {_way_out(source)}")
    if colour != "rgb":
        raise InputError(
            f"`colour` {colour} is for arrays; {_kind(source)} says itself what its channels are"
        )
    if isinstance(source, (bytes, bytearray, memoryview)):
        return reading.picture(BytesIO(bytes(source)), f"an image of {len(source)} bytes")
    if isinstance(source, Image.Image):
        return _of_pillow(source, reading)
    return reading.picture(_path(fspath(source)))


def _path(name: Any) -> Path:
    if not isinstance(name, str):
        raise InputError(f"image: {name!r} is a path of bytes; `os.fsdecode` makes one of text")
    if "://" in name:
        raise InputError(
            f"{name}: is a URL; hand over what it gives: `urllib.request.urlopen(url).read()`"
        )
    path = Path(name)
    if path.is_dir():
        raise InputError(
            f"{name}: is a folder; hand over a list of its pictures, as "
            f'`sorted(Path("{name}").glob("*.jpg"))`'
        )
    return path


def _array(image: NDArray[Any], colour: Colour) -> NDArray[np.uint8]:
    """RGB pixels of an array that is a picture.

    Raises:
        InputError: it is something else.
    """
    found = f"image: expected uint8 (height, width, 3), got {image.dtype} {image.shape}"
    if isinstance(image, np.ma.MaskedArray):
        raise InputError("image: a masked array; `image.filled(255)` makes masked pixels white")
    if image.dtype != np.uint8:
        raise InputError(f"{found}; {_to_bytes(image)}")
    if image.ndim == 3 and image.shape[2] == 3 and image.size:
        return np.ascontiguousarray(image if colour == "rgb" else image[:, :, ::-1])
    raise InputError(f"{found}{_reshaped(image)}")


def _to_bytes(image: NDArray[Any]) -> str:
    if image.dtype == bool:
        return "`image.astype(numpy.uint8) * 255` makes black and white"
    if image.dtype.kind == "f":
        return (
            "of values from 0 to 1 `(image * 255).round().astype(numpy.uint8)` makes bytes; others "
            "need the range that is black to white"
        )
    if image.dtype == np.uint16:
        return "of the full range `(image >> 8).astype(numpy.uint8)` makes bytes"
    return "`image.astype(numpy.uint8)` makes bytes of values from 0 to 255"


def _reshaped(image: NDArray[Any]) -> str:
    if image.ndim == 3 and image.shape[0] == 3:
        return "; `image.transpose(1, 2, 0)` puts the channels last"
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 2, 4)):
        squeezed = ".squeeze(2)" * (image.ndim == 3 and image.shape[2] == 1)
        what = "a grey picture" if image.ndim == 2 or squeezed else "one with transparency"
        return f"; hand {what} over as `PIL.Image.fromarray(image{squeezed})`"
    if image.ndim == 4:
        return "; hand several pictures over as a list: `list(images)`"
    return ""


def _of_pillow(image: Image.Image, reading: Reading) -> Picture:
    """What the file of the image would give, from the file if the image is untouched."""
    name = getattr(image, "filename", "") or f"an image of mode {image.mode}"
    if not image.width or not image.height:
        raise InputError(f"{name}: expected pixels, got {image.width}×{image.height}")
    untouched = isinstance(image, ImageFile) and bool(image.tile) and not image.tell()
    data = _file_of(image) if untouched else None
    if data is not None:
        return reading.picture(BytesIO(data), name)
    try:
        image.load()
    except Exception as error:  # of any reader
        if not untouched:
            raise unreadable(name, error) from None
        raise InputError(
            f"{name}: its file was closed before its pixels were read; hand the image over "
            "inside of the `with` that opens it, or call `image.load()` there"
        ) from None
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        # Pillow takes all inks as Adobe stores them, negative.
        image = Image.eval(image, lambda ink: 255 - ink)
    stored = _kept_by_a_file(image)
    if stored.mode == "RGB" and not {"icc_profile", "transparency"} & stored.info.keys():
        found = Picture(np.asarray(stored))
    else:
        content = BytesIO()
        plain = stored.copy()
        plain.info = {
            key: value
            for key, value in stored.info.items()
            if key in ("icc_profile", "transparency")
        }
        save: Callable[..., None] = plain.save
        if stored.mode in _TIFF:
            save(content, format="TIFF")
        else:
            save(content, format="PNG", compress_level=1)
        content.seek(0)
        found = reading.picture(content, name)
    return turned(found, orientation(image))


def _kept_by_a_file(image: Image.Image) -> Image.Image:
    """The image in a mode that PNG or TIFF keeps."""
    if image.mode in _SIXTEEN_BIT or (image.mode == "I" and image.format == "PPM"):
        # Portable maps of more than 8 bits are spread over 16, in the mode for 32.
        kept = Image.fromarray(np.asarray(image).astype(np.uint16))
        kept.info = image.info
        return kept
    if image.mode in (*_PNG, *_TIFF):
        return image
    return image.convert(_PLAINER.get(image.mode, "RGB"))


def _file_of(image: Image.Image) -> bytes | None:
    """The file of an image, `None` if it is closed."""
    file = getattr(image, "fp", None)
    if file is None or getattr(file, "closed", False):
        return None
    at = file.tell()
    file.seek(0)
    data: bytes = file.read()
    file.seek(at)
    return data


def _kind(source: object) -> str:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "the content of a file"
    if isinstance(source, (str, PathLike)):
        return "a file"
    if isinstance(source, Image.Image):
        return "an image of Pillow's"
    kind = type(source)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}."
    return f"{module}{kind.__qualname__} is not a picture"


def _way_out(source: object) -> str:
    if source is None:
        return "`cv2.imread` gives None for a file that it cannot read: hand over its path"
    if hasattr(source, "__array__"):
        return "`numpy.asarray(image)` makes an array, expected uint8 (height, width, 3)"
    if hasattr(source, "read"):
        return "hand over what it holds: `file.read()` of a file opened as `rb`"
    if hasattr(source, "__next__") or isinstance(source, (set, dict)):
        return "hand several pictures over as a list, or one by one to `atrous.Stream`"
    return "expected a path, bytes, an image of Pillow's, an array, or a list of them"
