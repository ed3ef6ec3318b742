"""The splits of a data set, and the lists of names that some of them are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from atrous import texts
from atrous.errors import ConfigError


def check_split(split: str, known: Collection[str], spec: str, where: Path) -> None:
    """Raise `ConfigError` for a split that is not there; it lists those that are."""
    if split not in known:
        raise ConfigError(
            f"{spec}: no split {split!r} in {where}; there are: {', '.join(known) or 'none'}"
        )


def read_lines(path: Path) -> list[str]:
    """The lines of a list that are not empty, without the space around them.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        return texts.read_lines(path)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{path}: not a readable list of names: {error}") from None


def check_unique(ids: Sequence[str], path: Path) -> None:
    """Raise `ConfigError` for the first id that occurs twice."""
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise ConfigError(f"{path}: names {one!r} twice; every id is scored once")
        seen.add(one)
