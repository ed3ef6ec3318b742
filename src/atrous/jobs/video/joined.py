"""Clips that were joined byte by byte, of which players show the first alone."""

from __future__ import annotations

import re
from pathlib import Path

_BEGINNINGS = re.compile(
    rb"\0\0\0.ftyp|RIFF....AVI LIST|FLV\x01[\0-\5]\0\0\0\x09"
    rb"|\x1a\x45\xdf\xa3.{1,40}?\x42\x82.(?:matroska|webm)",
    re.S,
)
_SEARCHED = 2**22  # bytes; behind the last frame lie tables of a few bytes for each frame


def another(path: Path, end: int) -> bool:
    """Whether another clip begins in a file behind its last packet.

    Args:
        path: the file.
        end: where that packet ends.
    """
    try:
        with path.open("rb") as file:
            file.seek(end)
            return _BEGINNINGS.search(file.read(_SEARCHED)) is not None
    except OSError:
        return False
