"""What a runtime built from a model, kept in a folder and proven before it is used again.

A runtime serves what it reads: of a file in which bits have changed it makes other masks. So each
file begins with the hash of the rest. A folder that cannot be read or written costs time, and
nothing else.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

from atrous.files import open_file, write_whole

_log = logging.getLogger("atrous")
_DIGEST = hashlib.sha256

T = TypeVar("T")


def built(
    path: Path, load: Callable[[bytes], T], build: Callable[[], T], save: Callable[[T], bytes]
) -> T:
    """What was built before, or is built now and kept.

    Args:
        path: of the file.
        load: makes it of what `save` returned; a `RuntimeError` says that it is of another version.
        build: makes it of the model.
        save: gives its bytes.
    """
    content = _read(path)
    if content is not None:
        with suppress(RuntimeError):
            return load(content)
    made = build()
    try:
        data = save(made)
        write_whole(path, _DIGEST(data).digest() + data)
    except RuntimeError as error:  # there are models that cannot be kept
        _log.info("%s: not kept: %s", path, error)
    except OSError as error:
        warn_once(f"{path.parent}: what was built is not kept there: {error.strerror}")
    return made


def _read(path: Path) -> bytes | None:
    """The content of a file that is there and whole."""
    try:
        with open_file(path) as file:
            digest = file.read(_DIGEST().digest_size)
            content = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        warn_once(f"{path}: cannot be read, and is built again: {error.strerror}")
        return None
    if _DIGEST(content).digest() != digest:
        warn_once(f"{path}: damaged, and built again")
        return None
    return content


@cache
def warn_once(text: str) -> None:
    """Say what is not as it should be, once for all engines of a process."""
    _log.warning("%s", text)
