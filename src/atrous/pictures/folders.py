"""Pictures in folders: which are taken, and what is said of the rest."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from atrous.pictures import formats

_log = logging.getLogger("atrous")

_LISTED = 8

WITHOUT = "without ending"
RESULTS = "masks and overlays by Atrous"
"""What is counted as these kinds."""


@dataclass(slots=True)
class Found:
    """What a search found.

    Attributes:
        pictures: picture file → its path below the folder that was searched.
        failures: what may hold pictures and cannot be looked into → why.
        left_out: what is no picture: ending → how many.
    """

    pictures: dict[Path, Path] = field(default_factory=dict)
    failures: dict[Path, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, other: Found) -> None:
        """What another search found too; a picture that both found counts once."""
        for path, below in other.pictures.items():
            self.pictures.setdefault(path, below)
        self.failures |= other.failures
        self.left_out += other.left_out

    def summary(self) -> str:
        """What was left out, in one line without an end; empty where nothing was."""
        if not self.left_out:
            return ""
        most_first = sorted(self.left_out.items(), key=lambda one: (-one[1], one[0]))
        kinds = [f"{kind} {count}{_hint(kind)}" for kind, count in most_first]
        listed = ", ".join(kinds[:_LISTED]) + ", …" * (len(kinds) > _LISTED)
        return f"{self.left_out.total()} left out: {listed}"

    def note(self, where: Path | str = "") -> None:
        """Say what was left out, in one line of the log; of the same place once."""
        if self.left_out and where:
            _say(f"{where}: {self.summary()}")
        elif self.left_out:
            _log.warning("%s", self.summary())


def search(
    folder: Path,
    *,
    recursive: bool = True,
    excluded: Collection[Path] = (),
    also: Collection[str] = (),
    is_result: Callable[[Path], bool] | None = None,
) -> Found:
    """Find the pictures in a folder.

    A file counts by its ending, see `formats.SUFFIXES`; one of another ending, or of none, if its
    first bytes are those of a picture. Hidden files and folders do not count. A link to a
    folder is entered, after all folders that lie here themselves, unless the search has been there
    or it leads to a folder above.

    Args:
        folder: to search.
        recursive: search the folders in it too.
        excluded: folders to leave out without a word, resolved.
        also: endings that count as well.
        is_result: tells pictures that were made of others, which are left out and counted.

    Returns:
        Pictures in order, those of a folder before those of the folders in it.
    """
    found = Found()
    above = {_identity(parent) for parent in folder.absolute().resolve().parents}
    seen: set[tuple[int, int] | None] = set()
    waiting = deque([(folder, Path())])
    links: deque[tuple[Path, Path]] = deque()
    while waiting or links:
        linked = not waiting
        here, below = links.popleft() if linked else waiting.pop()
        who = _identity(here)
        if who is not None and who in seen:
            continue
        if linked and who in above:
            found.left_out["links to a folder above"] += 1
            continue
        if here != folder and excluded and here.resolve() in excluded:
            continue
        seen.add(who)
        inside: list[tuple[Path, Path]] = []
        for entry in _entries(here, found):
            path, name = here / entry.name, below / entry.name
            if _is_folder(entry) and not entry.name.startswith("."):
                if recursive:
                    (links if entry.is_symlink() else inside).append((path, name))
                else:
                    found.left_out["folders"] += 1
            else:
                sort(path, name, found, also)
                if is_result is not None and path in found.pictures and is_result(path):
                    del found.pictures[path]
                    found.left_out[RESULTS] += 1
        waiting.extend(reversed(inside))
    return found


def sort(path: Path, below: Path, found: Found, also: Collection[str] = ()) -> None:
    """Put a file, or what else is no folder, where it belongs in `found`.

    Args:
        path: the file.
        below: its path below the folder that was searched.
        found: is added to.
        also: endings that count as pictures.
    """
    suffix = path.suffix.lower()
    known = suffix in formats.SUFFIXES or suffix in also
    if path.name.startswith("."):
        if known:
            found.left_out["hidden"] += 1
    elif path.is_file():
        if (known or _is_picture(path)) and not formats.missing(suffix):
            found.pictures[path] = below
        elif not path.is_dir():
            found.left_out[suffix or WITHOUT] += 1
    elif not path.is_symlink():
        found.left_out["pipes and devices"] += 1
    elif known or not suffix:
        what = "no file" if path.exists() else "not there"
        found.failures[path] = f"{path}: a link to {_target(path)}, which is {what}"
    else:
        found.left_out[suffix] += 1


@cache
def _say(text: str) -> None:
    _log.warning("%s", text)


def _entries(folder: Path, found: Found) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        found.failures[folder] = f"{folder}: cannot be entered: {error.strerror}"
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from all others on this machine; `None` if it cannot be asked."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_picture(path: Path) -> bool:
    """Whether a file begins as a picture, though its ending says nothing of the kind.

    Behind an ending of its own a TIFF is something else, as the raw files of cameras are.
    """
    try:
        with path.open("rb") as file:
            kind = formats.of_head(file.read(formats.HEAD))
    except OSError:
        return not path.suffix
    return kind is not None and (kind.name != "TIFF" or not path.suffix)


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return "nowhere"


def _hint(kind: str) -> str:
    missing = formats.missing(kind) if kind.startswith(".") else ""
    return f" ({missing})" if missing else ""
