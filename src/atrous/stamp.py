"""What a result was made from, written into it: so we know our own results.

A stamp is two hashes: of all that a result was made from, and of what the file holds. A file
without a valid stamp, or of other content, is not ours: somebody made it, or worked on it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

KEY = "atrous"
"""What a stamp is called where a file format has names for such things."""

_STAMP = re.compile(r"([0-9a-f]{64}) ([0-9a-f]{64})")
# Versions before hashes of the content wrote one hash and a setting of tiles.
_EARLIER = re.compile(r"(?:[0-9a-f]{64}|unreadable)(?: [0-9.e+-]+)?")
_HEAD = 4096  # behind the palette, if there is one
_WRITTEN = re.compile(
    rb'(\xff\xfe..atrous |tEXtatrous\0|<Item name="atrous">)[0-9a-f]{64}', re.DOTALL
)
_JPEG_START, _APP0, _COMMENT = b"\xff\xd8", b"\xff\xe0", b"\xff\xfe"


@dataclass(frozen=True, slots=True)
class FileStamp:
    """Where a result comes from.

    Attributes:
        made_from: hash of all that it depends on, 64 hexadecimal digits; empty if an earlier
            version of Atrous made it, which hashed something else.
        content: hash of what the file holds; empty likewise.
    """

    made_from: str
    content: str

    def __str__(self) -> str:
        return f"{self.made_from} {self.content}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The stamp that a text is, `None` if it is none."""
        if found := _STAMP.fullmatch(text):
            return cls(found[1], found[2])
        return cls("", "") if _EARLIER.fullmatch(text) else None

    def of(self, content: str) -> Self | None:
        """The stamp itself if it belongs to a file of this content, else `None`.

        Args:
            content: hash of what the file holds now.
        """
        return self if self.content in ("", content) else None


def hashed(*parts: str) -> str:
    """One hash of several texts, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode(errors="surrogatepass")
        digest.update(b"%d " % len(data) + data)
    return digest.hexdigest()


class PixelHash:
    """Hash of pixels that come in bands of rows, the same however they are cut.

    Args:
        height: of the whole.
        width: of the whole.
    """

    def __init__(self, height: int, width: int) -> None:
        self._digest = hashlib.sha256(b"%d %d " % (height, width))

    def add(self, band: NDArray[np.uint8]) -> None:
        """The next rows, `(h, width)`."""
        self._digest.update(np.ascontiguousarray(band).data)

    def hexdigest(self) -> str:
        """The hash of all that was added."""
        return self._digest.hexdigest()


def of_pixels(class_map: NDArray[np.uint8]) -> str:
    """Hash of the pixels `(H, W)` of a mask."""
    digest = PixelHash(*class_map.shape)
    digest.add(class_map)
    return digest.hexdigest()


def of_file(path: Path, skipped: int = 0) -> str:
    """Hash of a file's bytes but the last `skipped`, read in pieces."""
    left = path.stat().st_size - skipped
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while left > 0 and (piece := file.read(min(left, 2**20))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()


def stamp_jpeg(data: bytes, made_from: str) -> bytes:
    """A JPEG file with a stamp in a comment.

    Args:
        data: content of a file that begins as JFIF does.
        made_from: see `FileStamp`.
    """
    at = _end_of_header(data)
    text = f"{KEY} {FileStamp(made_from, hashlib.sha256(data).hexdigest())}".encode()
    return data[:at] + _COMMENT + (len(text) + 2).to_bytes(2) + text + data[at:]


def of_jpeg(path: Path) -> FileStamp | None:
    """The stamp of a JPEG file that has not been changed since, else `None`."""
    try:
        if not path.is_file():  # of a device there may be no end
            return None
        data = path.read_bytes()
    except OSError:
        return None
    at = _end_of_header(data)
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
    key, _, text = data[at + 4 : end].decode(errors="replace").partition(" ")
    stamp = FileStamp.parse(text) if data[at : at + 2] == _COMMENT and key == KEY else None
    return stamp and stamp.of(hashlib.sha256(data[:at] + data[end:]).hexdigest())


def is_stamped(path: Path) -> bool:
    """Whether the first bytes of a picture hold a stamp, valid or not: nothing is decoded."""
    try:
        with path.open("rb", buffering=0) as file:
            return _WRITTEN.search(file.read(_HEAD)) is not None
    except OSError:
        return False


def _end_of_header(data: bytes) -> int:
    """Where the first segment of a JPEG file ends; comments may follow."""
    if data[:4] != _JPEG_START + _APP0:
        return len(data)
    return 4 + int.from_bytes(data[4:6])
