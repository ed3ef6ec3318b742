"""What pictures carry beside their pixels, as far as it says how to show them."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO, Any

from PIL import Image

ORIENTATION = 0x112
"""The tag of EXIF and TIFF."""

_LAYOUTS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
_XMP = re.compile(rb"tiff:Orientation(?:=\"|>)([1-8])")

# Of a PNG: what decodes the pixels and what says how they are shown.
_KEPT_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"eXIf")
_CODES = re.compile(rb"cICP(..)|colrnclx(....)", re.S)
_MOST_HEAD = 2**16  # bytes in which a file names its colours
_MOST_PROFILE = 2**26  # bytes of a colour profile; large ones have a few million
_MOST_TEXT = 2**22  # bytes of a text that may say how a picture is turned
_MOST_BOXES = 2**24  # bytes that are searched for the table of contents of an AVIF


@dataclass(frozen=True, slots=True)
class Plain:
    """A picture file without metadata.

    Attributes:
        file: its bytes.
        info: what belongs into Pillow's `info` all the same.
    """

    file: IO[bytes]
    info: dict[str, Any] = field(default_factory=dict)


def orientation(picture: Image.Image) -> int:
    """How a picture is stored, 1–8 as EXIF has it; 1, upright, where nothing sensible is said.

    The one tag is read and no other, as cameras and editors leave odd ones around it.
    """
    tags = getattr(picture, "tag_v2", None)
    try:
        if tags is not None:
            found = int(tags.get(ORIENTATION, 1))
        else:
            found = _orientation_in(_exif(picture)) or _in_xmp(picture)
    except Exception:  # metadata that cannot be read say nothing
        found = 1
    return found if 1 <= found <= 8 else 1


def without_metadata(file: IO[bytes]) -> Plain | None:
    """A copy of a JPEG, PNG, AVIF or HEIC with nothing for its reader to trip over.

    Left out are comments, previews, resolutions and texts of any size; orientation and colour
    profile stay. `None` where there is nothing to leave out.

    Raises:
        Exception: the file is damaged otherwise.
    """
    file.seek(0)
    head = file.read(12)
    file.seek(0)
    if head.startswith(b"\xff\xd8\xff"):
        return _plain_jpeg(file)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _plain_png(file)
    if head[4:8] == b"ftyp":
        return _plain_boxes(file)
    return None


def jpeg2000_profile(file: IO[bytes]) -> bytes:
    """The colour profile of a JPEG 2000 file, empty if it has none; no reader of ours gives it."""
    file.seek(4)
    if file.read(4) != b"jP  ":  # pixels without boxes
        return b""
    header = next((box for kind, box in _boxes(file) if kind == b"jp2h"), b"")
    for kind, box in _boxes(BytesIO(header)):
        if kind == b"colr" and box[:1] in (b"\2", b"\3"):  # else a number stands for the colours
            return box[3:]
    return b""


def tagged_colours(file: IO[bytes]) -> tuple[int, int] | None:
    """Primaries and transfer (ITU-T H.273) that a PNG, AVIF or HEIC names instead of a profile."""
    at = file.tell()
    file.seek(0)
    found = _CODES.search(file.read(_MOST_HEAD))
    file.seek(at)
    if found is None:
        return None
    if found[1]:
        return found[1][0], found[1][1]
    return int.from_bytes(found[2][:2], "big"), int.from_bytes(found[2][2:], "big")


def _boxes(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes of a file, up to where its pixels are."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(8)
        size, kind = int.from_bytes(head[:4], "big"), head[4:]
        if size < 8 or kind == b"jp2c" or len(head) < 8:
            return
        yield kind, file.read(min(size - 8, _MOST_PROFILE))
        at += size


def _exif(picture: Image.Image) -> bytes:
    data = picture.info.get("exif") or b""
    if not data and "Raw profile type exif" in picture.info:  # as ImageMagick writes it to a PNG
        with suppress(ValueError):
            data = bytes.fromhex("".join(picture.info["Raw profile type exif"].split("\n")[3:]))
    return bytes(data)


def _in_exif(data: bytes) -> int:
    """The value of the one tag in the first directory, 0 if it is not there."""
    data = data[data.startswith(b"Exif\0\0") * 6 :]
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return 0
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", data, at)
        if tag == ORIENTATION:
            return int(struct.unpack_from(f"{order}{_LAYOUTS[kind]}", data, at + 8)[0])
    return 0


def _in_xmp(picture: Image.Image) -> int:
    xmp = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or b""
    found = _XMP.search(xmp.encode(errors="replace") if isinstance(xmp, str) else xmp)
    return int(found[1]) if found else 0


def _plain_jpeg(file: IO[bytes]) -> Plain:
    """Of the application segments, the colours' alone stay: Adobe's mark and the profile."""
    in_exif = in_xmp = 0
    kept = [file.read(2)]
    while True:
        mark = file.read(2)
        if mark == b"\xff\xff":  # a byte of padding
            file.seek(-1, 1)
            continue
        if len(mark) < 2 or mark[0] != 0xFF or mark[1] == 0xDA:  # the scan, or nothing known
            kept += [mark, file.read()]
            break
        length = file.read(2)
        body = file.read(max(0, int.from_bytes(length, "big") - 2))
        if mark[1] == 0xE1 and body.startswith(b"Exif\0\0"):
            in_exif = _orientation_in(body)
        elif mark[1] == 0xE1 and (found := _XMP.search(body)):
            in_xmp = int(found[1])
        profile = mark[1] == 0xE2 and body.startswith(b"ICC_PROFILE\0")
        application = 0xE0 <= mark[1] <= 0xEF or mark[1] == 0xFE
        colours = mark[1] == 0xEE and body.startswith(b"Adobe") and len(body) >= 12
        if not application or profile or colours:
            kept += [mark, length, body]
    exif = Image.Exif()
    exif[ORIENTATION] = in_exif or in_xmp or 1
    return Plain(BytesIO(b"".join(kept)), {"exif": exif.tobytes()})


def _orientation_in(exif: bytes) -> int:
    """As `_in_exif`, 0 too where nobody can read it."""
    try:
        return _in_exif(exif)
    except (struct.error, KeyError):
        return 0


def _plain_png(file: IO[bytes]) -> Plain:
    kept = [file.read(8)]
    info: dict[str, Any] = {}
    while len(start := file.read(8)) == 8:
        length, kind = int.from_bytes(start[:4], "big"), start[4:]
        if kind in _KEPT_CHUNKS:
            kept += [start, file.read(length + 4)]
        elif kind in (b"iCCP", b"tEXt", b"zTXt", b"iTXt"):
            info |= _said(kind, file.read(length))
            file.seek(4, 1)
        else:
            file.seek(length + 4, 1)
        if kind == b"IEND":
            break
    return Plain(BytesIO(b"".join(kept)), info)


def _said(kind: bytes, chunk: bytes) -> dict[str, Any]:
    """The colour profile or the orientation in a chunk of a PNG, as Pillow's `info` has them."""
    name, _, rest = chunk.partition(b"\0")
    try:
        if kind == b"iCCP":
            return {"icc_profile": _inflated(rest[1:], _MOST_PROFILE)}
        if kind == b"tEXt":
            text = rest
        elif kind == b"zTXt":
            text = _inflated(rest[1:], _MOST_TEXT)
        else:
            text = rest[2:].split(b"\0", 2)[2]
            text = _inflated(text, _MOST_TEXT) if rest[0] else text
    except (zlib.error, IndexError, ValueError):
        return {}
    if name == b"Raw profile type exif":
        return {name.decode(): text.decode("latin-1")}
    return {"xmp": text} if name == b"XML:com.adobe.xmp" else {}


def _inflated(data: bytes, most: int) -> bytes:
    """Decompress, up to a limit.

    Raises:
        ValueError: it is longer.
    """
    stream = zlib.decompressobj()
    result = stream.decompress(data, most)
    if stream.unconsumed_tail:
        raise ValueError(f"more than {most} bytes")
    return result


def _plain_boxes(file: IO[bytes]) -> Plain | None:
    """Give EXIF another type in the table of contents: readers leave out what they do not know."""
    data = file.read()
    found = re.search(rb"infe(?:\x02.{7}|\x03.{9})(Exif)", data[:_MOST_BOXES], re.S)
    if found is None:
        return None
    at = found.start(1)
    return Plain(BytesIO(data[:at] + b"exi_" + data[at + 4 :]))
