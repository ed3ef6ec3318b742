"""Picture files: opened as one of the known formats, whatever else is wrong with them.

One odd file never costs a run. Readers of pictures raise whatever damaged bytes lead them to, and
trip over metadata that nobody needs here; each failure becomes one `InputError` that names the
file, after a second try without the metadata.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from atrous.errors import InputError
from atrous.files import open_file
from atrous.pictures import formats
from atrous.pictures.metadata import ORIENTATION, Plain, orientation, without_metadata

T = TypeVar("T")

MAX_PIXELS = 2**28
"""Larger images are refused before they are decoded, unless told otherwise (268 megapixels)."""

_PIXEL_BYTES = 8
"""At most, as decoders get them."""

_TILE_SIDES = 322, 323
_CONTAINERS = ("AVIF", "HEIF")  # one may be called like the other
_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
_ON_ITS_SIDE = 5

_open_lock = threading.Lock()
_current = threading.local()


class UnknownFormat(InputError):
    """A file is none of the pictures that are read."""


class TooManyPixels(InputError):
    """A picture is larger than the limit."""


def decoded(
    source: Path | IO[bytes],
    name: str,
    convert: Callable[[Image.Image], T],
    max_pixels: int | None = MAX_PIXELS,
) -> T:
    """Open a picture and convert it, or say in one line why not.

    Args:
        source: the file.
        name: what messages call it.
        convert: makes of the opened picture what is wanted; decoding happens there.
        max_pixels: refuse an image of more pixels than this, before decoding it; `None` takes any.

    Raises:
        InputError: the file is missing, empty, damaged, too large or not a picture; or what
            `convert` raises as one.
    """
    with named(name):
        try:
            with opened_file(source) as file:
                try:
                    with _opened(file, name, max_pixels) as picture:
                        return convert(picture)
                except Exception as error:
                    plain = _again(file, error)
                    if plain is None:
                        raise
            with _opened(plain.file, name, max_pixels) as picture:
                picture.info.update(plain.info)
                return convert(picture)
        except InputError:
            raise
        except Exception as error:
            raise unreadable(name, error) from None


@contextmanager
def opened(path: Path, max_pixels: int | None = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open a picture file and read its header.

    Raises:
        InputError: it has more pixels, or is none of the known pictures.
        OSError: it cannot be read, or whatever else its reader raises.
    """
    with open_file(path) as file, _opened(file, str(path), max_pixels) as picture:
        yield picture


def unreadable(name: str, error: BaseException) -> InputError:
    """What is said of a file whose reader raised an error."""
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    elif isinstance(error, MemoryError):
        reason = "not enough memory for it"
    else:
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        if not isinstance(error, (OSError, SyntaxError, ValueError, RuntimeError)):
            reason = f"damaged ({type(error).__name__}: {reason})"
    return InputError(f"{name}: cannot be read: {reason}")


def current() -> str:
    """What the picture is called that this thread reads now, for warnings; empty if none."""
    return getattr(_current, "name", "")


def turn(pixels: NDArray[np.uint8], stored: int) -> NDArray[np.uint8]:
    """`(H, W, …)` as it is shown that is stored as an EXIF orientation, 1 to 8, says."""
    if stored >= _ON_ITS_SIDE:
        pixels = np.asarray(cv2.transpose(pixels), np.uint8)
    code = _FLIPS.get(stored)
    return pixels if code is None else np.asarray(cv2.flip(pixels, code), np.uint8)


@contextmanager
def named(name: str) -> Iterator[None]:
    """What is said in this block, in this thread, is said of a picture."""
    before, _current.name = current(), name
    try:
        yield
    finally:
        _current.name = before


@contextmanager
def opened_file(source: Path | IO[bytes]) -> Iterator[IO[bytes]]:
    """A file to read, whether it is named or open."""
    if isinstance(source, Path):
        with open_file(source) as file:
            yield file
    else:
        yield source


def _opened(file: IO[bytes], name: str, max_pixels: int | None) -> Image.Image:
    """Open one of the known formats, without Pillow's own limit on pixels.

    That limit is one for the whole process, so it is taken away for this moment, by one thread at
    a time, and ours takes its place.
    """
    file.seek(0)
    head = file.read(formats.HEAD)
    if not head:
        raise InputError(f"{name}: the file is empty")
    check_size(_webp_size(head), name, max_pixels)
    wanted = _formats(file, name, head)
    with _open_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            picture = Image.open(file, formats=wanted)
        except UnidentifiedImageError:
            raise _unknown(name, head) from None
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    # Pillow appends block after block until a row is whole: quadratic where a row is long.
    picture.decodermaxblock = max(picture.decodermaxblock, _PIXEL_BYTES * picture.width)
    try:
        check_size(picture.size, name, max_pixels)
        tags = getattr(picture, "tag_v2", None)
        if tags is not None:
            check_size([int(tags.get(side, 1)) for side in _TILE_SIDES], name, max_pixels)
            # Pillow reads all of EXIF at the end of a TIFF, and turns it by what it finds.
            exif = Image.Exif()
            exif[ORIENTATION] = orientation(picture)
            picture.getexif = lambda: exif  # type: ignore[method-assign]
            picture.load_prepare = partial(_unlimited, picture.load_prepare)  # type: ignore
    except BaseException:
        picture.close()
        raise
    return picture


def _unlimited(prepare: Callable[[], None]) -> None:
    """Make room for the pixels of a TIFF, which Pillow does within its own limit."""
    with _open_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            prepare()
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _again(file: IO[bytes], error: Exception) -> Plain | None:
    """The file without its metadata, if they may be what its reader tripped over."""
    told = isinstance(error, InputError) and not isinstance(error, UnknownFormat)
    if told or isinstance(error, MemoryError):
        return None
    try:
        return without_metadata(file)
    except Exception:  # it is damaged otherwise, of which the first error tells
        return None


def _formats(file: IO[bytes], name: str, head: bytes) -> list[str]:
    """The formats to try."""
    known = formats.of_head(head)
    if known is not None and known.name not in _CONTAINERS:
        return [known.name] if known.name in formats.readable() else []
    file.seek(0, os.SEEK_END)
    file.seek(-min(file.tell(), 32), os.SEEK_END)
    # A TGA has no first bytes of its own: it is one where something else says so.
    named = formats.of_suffix(Path(name).suffix)
    tga = formats.ends_as_tga(file.read()) or (named is not None and named.name == "TGA")
    every = (one.name for one in formats.FORMATS if one.name in formats.readable())
    return [one for one in every if one != "TGA" or tga]


def _unknown(name: str, head: bytes) -> UnknownFormat:
    known = formats.of_head(head)
    if known is not None and known.name not in formats.readable():
        return UnknownFormat(f"{name}: {known.name} needs a reader: {known.missing}")
    if known is not None:
        return UnknownFormat(f"{name}: cannot be read: a damaged {known.name}")
    what = formats.what_else(head)
    if what:
        return UnknownFormat(f"{name}: {what}")
    return UnknownFormat(f"{name}: not a picture of a known kind")


def check_size(size: tuple[int, int] | list[int], name: str, most: int | None) -> None:
    """Raise `TooManyPixels` if width times height is more; `None` takes any."""
    width, height = size
    if most is not None and width * height > most:
        raise TooManyPixels(
            f"{name}: {width}×{height} is {width * height} pixels, the limit is {most}; make it "
            "smaller, or raise `max_pixels` if you trust the file"
        )


def _webp_size(head: bytes) -> tuple[int, int]:
    """The size of a WebP, whose reader makes room for it when it is opened; else nothing."""
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return 0, 0
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", head[26:30])
    return width & 0x3FFF, height & 0x3FFF
