"""The stamp of a video: what it was made from, in a piece behind its end that every player skips.

Programs that copy or cut the video leave it out, and its hash is of all bytes before: a video that
was worked on does not pass for ours.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from atrous.stamp import KEY, FileStamp, of_file

_LENGTH = len(KEY) + 2 * 64 + 2
_UUID = b"atrous-stamp-v1\0"
_PACKET = 188  # of an MPEG transport stream


def seal(path: Path, made_from: str, suffix: str) -> None:
    """Put a stamp behind the end of a finished video.

    Args:
        path: the file, closed by who wrote it.
        made_from: see `atrous.stamp.FileStamp`.
        suffix: which container it is, as `.mp4`.

    Raises:
        OSError: it cannot be written.
    """
    text = f"{KEY} {FileStamp(made_from, of_file(path))}".encode()
    with path.open("ab") as file:
        file.write(_WRAPPED[suffix.lower()](text))


def stamp_of(path: Path) -> FileStamp | None:
    """The stamp of a video that has not been changed since it was sealed, else `None`."""
    wrap = _WRAPPED.get(path.suffix.lower())
    if wrap is None:
        return None
    length = len(wrap(b" " * _LENGTH))
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - length))
            tail = file.read()
        at = tail.find(KEY.encode() + b" ")
        text = tail[at : at + _LENGTH]
        stamp = FileStamp.parse(text.decode(errors="replace").partition(" ")[2])
        if at < 0 or stamp is None or wrap(text) != tail:
            return None
        return stamp.of(of_file(path, length))
    except OSError:
        return None


def _box(text: bytes) -> bytes:
    """A box of the ISO base media format that is known to nobody else."""
    return (24 + len(text)).to_bytes(4) + b"uuid" + _UUID + text


def _void(text: bytes) -> bytes:
    """An element of Matroska that stands for nothing."""
    return b"\xec" + (2**56 + len(text)).to_bytes(8) + text


def _null_packet(text: bytes) -> bytes:
    """A packet of an MPEG transport stream that every receiver drops."""
    return (b"\x47\x1f\xff\x10" + text).ljust(_PACKET, b"\xff")


_WRAPPED: dict[str, Callable[[bytes], bytes]] = {
    ".mp4": _box, ".m4v": _box, ".mov": _box,
    ".mkv": _void, ".webm": _void,
    ".ts": _null_packet,
}  # fmt: skip
