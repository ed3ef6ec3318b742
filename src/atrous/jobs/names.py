"""What the results of pictures are called: no two share a name, on any file system.

A result is called like its picture, `a.png` for `a.jpg`. Where that would be the name of two, their
own endings stay in it: `a.jpg.png`, `a.png.png`. Names that differ only in case, or in how their
letters are composed, are one name here, as they are on other machines.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ENDINGS = (".png", ".tif", ".jpg")
"""Of results."""

_LONGEST = 255  # bytes of a name
_DIGITS = 12


def stems(found: Mapping[T, Path], whole: Callable[[T], Path]) -> dict[T, Path]:
    """What the results of every image are called, without an ending. No two share a name.

    Args:
        found: image → its path below the folder that was searched.
        whole: image → a path that no other has.
    """
    relatives = Counter(found.values())

    def name(one: T, level: int) -> Path:
        """Ever longer, until no other image has it."""
        relative = found[one]
        if level == 0:
            return _fitting(relative.with_suffix(""))
        if level == 1:
            return _fitting(relative)
        if relatives[relative] == 1:
            return _marked(relative, relative)
        return _fitting(whole(one)) if level == 2 else _marked(whole(one), Path(str(one)))

    levels = dict.fromkeys(found, 0)
    names = {one: name(one, 0) for one in found}
    while clashing := _clashing(names, levels):
        for one in clashing:
            levels[one] += 1
            names[one] = name(one, levels[one])
    return names


def whole_path(path: Path) -> Path:
    """The path of a file from the root of its file system, as no other has it."""
    return Path(*Path(os.path.realpath(path)).parts[1:])  # also of a link to itself


def earlier(path: Path, stem: Path) -> list[Path]:
    """What else the results of an image may have been called, beside other images than today's.

    Args:
        path: the image file.
        stem: what they are called now, see `stems`.
    """
    whole = whole_path(path)
    folders = [stem.parent]
    if stem in (whole, _fitting(whole)):  # below which folder it was searched is not known
        folders += [Path(*whole.parts[start:-1]) for start in range(1, len(whole.parts))]
    found = [_fitting(folder / name) for folder in folders for name in (path.stem, path.name)]
    return [name for name in dict.fromkeys([*found, _fitting(whole)]) if name != stem]


def _clashing(names: Mapping[T, Path], levels: Mapping[T, int]) -> list[T]:
    """The images that need a longer name: of those that share one, the ones with the shortest."""
    owners: defaultdict[str, list[T]] = defaultdict(list)
    for one, name in names.items():
        owners[_folded(name)].append(one)
    inner = {name.parent for name in names.values()}
    folders = {_folded(folder) for one in inner for folder in (one, *one.parents)}
    clashing = []
    for key, sharing in owners.items():
        if len(sharing) > 1:
            least = min(levels[one] for one in sharing)
            clashing += [one for one in sharing if levels[one] == least and least < 3]
        elif levels[sharing[0]] < 2 and any(f"{key}{ending}" in folders for ending in ENDINGS):
            clashing += sharing  # a file where another result has its folder
    return clashing


def _folded(path: Path) -> str:
    """The same for names that some file system takes for one."""
    text = str(path)
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def _fitting(path: Path) -> Path:
    """The path itself, its last part cut where a result could not be called so."""
    long = len(os.fsencode(path.name)) > _LONGEST - max(map(len, ENDINGS))
    return _marked(path, Path(path.name)) if long else path


def _marked(path: Path, of: Path) -> Path:
    """The path with digits that belong to `of`, behind as much of its name as there is room for."""
    mark = f"~{hashlib.sha256(os.fsencode(of)).hexdigest()[:_DIGITS]}"
    name = path.name
    while len(os.fsencode(name)) > _LONGEST - max(map(len, ENDINGS)) - len(mark):
        name = name[:-1]
    return path.with_name(name + mark)
