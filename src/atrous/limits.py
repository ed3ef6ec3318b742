"""What a file may cost before it is believed: one policy for every reader (docs/security.md).

A header is looked at first. What it announces may take as much memory as the file has bytes, or
`memory()`, whichever is more; only then is room made for it.
"""

from __future__ import annotations

import os
import re

from atrous.errors import ConfigError, InputError

VARIABLE = "ATROUS_MAX_MEMORY"
"""The environment variable that raises the limit: bytes, or with K, M, G or T behind."""

TEXT_BYTES = 2**26
"""Of a list or a JSON file, where the variable says nothing."""

YAML_BYTES = 2**20
YAML_VALUES = 200_000
"""Of a configuration, aliases written out."""

DEPTH = 100
"""Of what lies in each other, in YAML and in the subgraphs and functions of ONNX."""

NODES = 1_000_000
"""That a network runs, its functions written out and its loops unrolled."""

_DEFAULT = 2**31
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class TooCostly(InputError):
    """A file announces more than it may cost."""


def memory() -> int:
    """Bytes that one file may ask for beyond its own size: 2 GiB, or `$ATROUS_MAX_MEMORY`.

    Raises:
        ConfigError: the variable holds no number of bytes.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return _DEFAULT
    found = re.fullmatch(r"(\d{1,15})([KMGT]?)", text.upper(), re.ASCII)
    if found is None:
        raise ConfigError(f"{VARIABLE}: expected bytes, as 8G, found {text!r}")
    return int(found[1]) * _UNITS[found[2]]


def text() -> int:
    """Bytes that a list or a JSON file may have: 64 MiB, or `$ATROUS_MAX_MEMORY`.

    Raises:
        ConfigError: the variable holds no number of bytes.
    """
    return memory() if os.environ.get(VARIABLE, "").strip() else TEXT_BYTES


def check(needed: int, name: object, what: str, own: int = 0) -> None:
    """See that a file does not ask for too much memory.

    Args:
        needed: bytes, by its header.
        name: of the file.
        what: would take them, as the subject of a sentence.
        own: bytes of the file.

    Raises:
        TooCostly: it does.
    """
    most = max(memory(), own)
    if needed > most:
        raise TooCostly(
            f"{name}: {what} would take {_shown(needed)}, the limit is {_shown(most)}; if you "
            f"trust the file, set {VARIABLE}={_next(needed)}"
        )


def _shown(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count < 2**60 else "more than 2^60 bytes"


def _next(needed: int) -> str:
    return f"{max(1, -(-needed // 2**30))}G" if needed < 2**60 else "BYTES"
