"""The tags of a TIFF file: what its samples mean, whoever reads them."""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass, replace
from typing import IO, Any

from PIL.TiffImagePlugin import ImageFileDirectory_v2

# What has more bands than Pillow knows is read by GDAL, or refused in our words.
logging.getLogger("PIL.TiffImagePlugin").addFilter(
    lambda record: "More samples per pixel" not in record.getMessage()
)

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""What a TIFF file begins with."""

_KIND, _WIDTH, _HEIGHT = 254, 256, 257
_BITS, _COMPRESSION, _PHOTOMETRIC, _INSIDE = 258, 259, 262, 330
_ORIENTATION, _SAMPLES, _HIGHEST, _EXTRA, _NODATA = 274, 277, 281, 338, 42113
_COLOURS, _GDAL = 320, 42112
_JPEG = (6, 7)
_PALETTE, _YCBCR = 3, 6
_PLAIN = (0, 1, 2, 3)  # white is zero, black is zero, RGB, palette
_ASSOCIATED = 1
_SMALLER, _MASK = 1, 4


@dataclass(frozen=True, slots=True)
class Tags:
    """Some tags of the first picture of a file.

    Attributes:
        bits: of a sample.
        samples: of a pixel.
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 inks, 6 YCbCr, 8 Lab.
        compression: 7 is JPEG.
        highest: the largest value that the file says to have, if that is a number of bits.
        premultiplied: its transparency is associated with the colours.
        nodata: the value of pixels without data.
        orientation: how the picture is turned, 1 to 8 as in EXIF.
        masked: the second picture is a mask of the first.
        pages: the second picture is another page, of the same size.
        indexed: samples are indices of a palette, though `photometric` may call them grey: GDAL
            leaves that as it is where the palette is written after the pixels.
    """

    bits: int = 1
    samples: int = 1
    photometric: int = 1
    compression: int = 1
    highest: int | None = None
    premultiplied: bool = False
    nodata: float | None = None
    orientation: int = 1
    masked: bool = False
    pages: bool = False
    indexed: bool = False

    @property
    def plain(self) -> bool:
        """Whether samples are grey, indices or RGB, or become RGB where they are unpacked."""
        jpeg = self.photometric == _YCBCR and self.compression in _JPEG
        return self.photometric in _PLAIN or jpeg

    @property
    def needs_gdal(self) -> bool:
        """Whether there is more to it than Pillow tells."""
        odd = self.bits not in (8, 16) or self.photometric not in (1, 2)
        late = self.indexed and self.photometric != _PALETTE
        return self.masked or late or (odd and self.nodata is not None)

    @property
    def high(self) -> int:
        """The stored value that is white, or black where 0 is white."""
        return self.highest or 2**self.bits - 1


def is_tiff(file: IO[bytes]) -> bool:
    """Whether a file begins as a TIFF; it is left where it was."""
    at = file.tell()
    file.seek(0)
    begins = file.read(4)
    file.seek(at)
    return begins in MAGIC


def read_tags(file: IO[bytes]) -> Tags:
    """Read the tags of the first picture.

    Raises:
        ValueError: there are none, or that picture is a preview of another one.
    """
    try:
        header = _header(file)
        tags = _empty(header)
        file.seek(tags.next)
        tags.load(file)
        if _kind(tags) & _SMALLER and (tags.next or tags.get(_INSIDE)):
            raise ValueError(
                "its first picture is a preview of another one in it, as in the raw files of "
                "cameras (DNG, NEF); develop it, or save the other one alone, as PNG"
            )
        second = _directory(file, header, tags.next)
        kind = 0 if second is None else _kind(second)
        alike = second is not None and _size(second) == _size(tags)
        return replace(
            _tags(tags),
            masked=bool(kind & _MASK),
            pages=alike and not kind & (_SMALLER | _MASK),
        )
    except (struct.error, SyntaxError, LookupError, TypeError, ArithmeticError) as error:
        raise ValueError(f"its tags are damaged: {error}") from None


def page_count(file: IO[bytes]) -> int:
    """How many pictures of the size of the first there are, previews and masks left out.

    The file is left where it was. What comes behind damaged tags is not counted.
    """
    at, seen = file.tell(), set[int]()
    sizes: list[tuple[object, object]] = []
    header = _header(file)
    tags: ImageFileDirectory_v2 | None = _empty(header)
    while tags is not None and tags.next not in seen:
        seen.add(tags.next)
        tags = _directory(file, header, tags.next)
        if tags is not None and not _kind(tags) & (_SMALLER | _MASK):
            sizes.append(_size(tags))
    file.seek(at)
    return sizes.count(sizes[0]) if sizes else 1


def _tags(tags: ImageFileDirectory_v2) -> Tags:
    bits = max(_numbers(tags.get(_BITS), (1,)))
    highest = max(_numbers(tags.get(_HIGHEST), (0,)))
    turned = _numbers(tags.get(_ORIENTATION), (1,))[0]
    photometric = _numbers(tags.get(_PHOTOMETRIC), (1,))[0]
    said = _COLOURS in tags and 'role="colorinterp">Palette<' in str(tags.get(_GDAL))
    power = 8 < highest.bit_length() < bits and highest & (highest + 1) == 0
    return Tags(
        bits=bits,
        samples=_numbers(tags.get(_SAMPLES), (1,))[0],
        photometric=photometric,
        compression=_numbers(tags.get(_COMPRESSION), (1,))[0],
        highest=highest if power else None,
        premultiplied=_ASSOCIATED in _numbers(tags.get(_EXTRA), ()),
        nodata=number(tags.get(_NODATA)),
        orientation=turned if 1 <= turned <= 8 else 1,
        indexed=photometric == _PALETTE or said,
    )


def _header(file: IO[bytes]) -> bytes:
    file.seek(0)
    header = file.read(8)
    return header + file.read(8) if b"+" in header[2:4] else header


def _empty(header: bytes) -> ImageFileDirectory_v2:
    """Tags yet to be loaded; Pillow takes a BigTIFF of the other byte order for a small one."""
    if header[:4] == b"MM\0+":
        return ImageFileDirectory_v2(b"II+\0" + header[4:], prefix=b"MM")
    return ImageFileDirectory_v2(header)


def _directory(file: IO[bytes], header: bytes, at: int) -> ImageFileDirectory_v2 | None:
    """The tags at `at`, `None` where there are none that can be read."""
    if not at:
        return None
    found = _empty(header)
    file.seek(at)
    try:
        found.load(file)
    except (OSError, ValueError, struct.error, SyntaxError, LookupError, TypeError):
        return None
    return found


def _size(tags: ImageFileDirectory_v2) -> tuple[object, object]:
    return tags.get(_WIDTH), tags.get(_HEIGHT)


def _kind(tags: ImageFileDirectory_v2) -> int:
    """What the picture is to others of its file, as bits; 0 where no number says it."""
    try:
        return _numbers(tags.get(_KIND), (0,))[0]
    except (ValueError, TypeError, ArithmeticError):
        return 0


def _numbers(value: Any, default: tuple[int, ...]) -> tuple[int, ...]:
    if value is None or value == ():
        return default
    return tuple(int(one) for one in value) if isinstance(value, tuple) else (int(value),)


def number(text: Any) -> float | None:
    """The number in a tag that is text, `None` if it is none."""
    try:
        return None if text is None else float(str(text).strip("\0 "))
    except ValueError:
        return None
