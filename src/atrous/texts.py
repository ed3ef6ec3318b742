"""Text files as people and programs leave them: lists, JSON, YAML, keys.

A byte-order mark, the line ends of Windows and blanks around an entry are no part of it.
"""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any

_MARK = "\ufeff"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 where it begins as PowerShell writes that.

    Raises:
        OSError: it cannot be read.
        UnicodeError: it is none.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-16" if data.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError:
        raise UnicodeError("not a text file in UTF-8") from None
    return text.replace("\r\n", "\n")


def read_lines(path: Path) -> list[str]:
    """The lines of a list that hold something, without blanks around them.

    Names of files need not be UTF-8; other bytes stand for themselves, as in `os.fsdecode`.

    Raises:
        OSError: it cannot be read.
        UnicodeError: it is no text.
    """
    try:
        text = read(path)
    except UnicodeError:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    if "\0" in text:
        raise UnicodeError("not a text file")
    # Lists that were put together of several hold several marks.
    lines = (re.sub(rf"^[\s{_MARK}]+|[\s{_MARK}]+$", "", line) for line in re.split("[\r\n]", text))
    return [line for line in lines if line]


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no text, or no JSON.
    """
    return json.loads(read(path))
