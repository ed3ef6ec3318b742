"""Text files as people and programs leave them: lists, JSON, YAML, keys.

A byte-order mark, the line ends of Windows and blanks around an entry are no part of it.
"""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any

from atrous import limits

_MARK = "\ufeff"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read(path: Path, most: int | None = None) -> str:
    """The text of a file in UTF-8, or in UTF-16 where it begins as PowerShell writes that.

    Raises:
        OSError: it cannot be read.
        UnicodeError: it is none, or too long to be one.
    """
    data = content(path, most)
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
        text = content(path).decode("utf-8", "surrogateescape")
    if "\0" in text:
        raise UnicodeError("not a text file")
    # Lists that were put together of several hold several marks.
    lines = (re.sub(rf"^[\s{_MARK}]+|[\s{_MARK}]+$", "", line) for line in re.split("[\r\n]", text))
    return [line for line in lines if line]


def read_json(path: Path, most: int | None = None) -> Any:
    """What a JSON file holds.

    Args:
        path: of the file.
        most: bytes that it may have, by default `limits.text()`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no text, or no JSON.
    """
    return parse_json(read(path, most))


def parse_json(text: str | bytes) -> Any:
    """What JSON says.

    Raises:
        ValueError: it is none, or nested deeper than anything that is meant.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("not readable as JSON: nested too deep") from None


def content(path: Path, most: int | None = None) -> bytes:
    """The bytes of a text file, of a pipe too.

    Raises:
        OSError: it cannot be read.
        UnicodeError: there are more of them than `most`, as of a device without an end.
    """
    most = limits.text() if most is None else most
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise UnicodeError(
            f"more than {most} bytes, too long for a list or a setting; if you trust the file, set "
            f"{limits.VARIABLE}=8G"
        )
    return data
