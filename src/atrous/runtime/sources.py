"""Find the images that a command line names, and name what is made of them."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from atrous.errors import InputError
from atrous.image import SUFFIXES


@dataclass(frozen=True, slots=True)
class Source:
    """An image and the name of what is made of it.

    Attributes:
        path: the image file.
        stem: path of its results below an output folder, without an ending. Two images never share
            one: where only the endings differ, as in `a.jpg` and `a.png`, they are kept.
    """

    path: Path
    stem: Path


def find(sources: Sequence[str | Path], exclude: Sequence[Path] = ()) -> list[Source]:
    """Find images in files, folders (recursively, without hidden ones) and glob patterns.

    A file named by itself counts as an image whatever its ending; below a folder, the endings of
    `atrous.image.SUFFIXES` do.

    Args:
        sources: what to search, in this order; a file found twice counts once.
        exclude: folders to leave out, such as those of the results.

    Raises:
        InputError: a source does not exist, or holds no image.
    """
    excluded = {folder.resolve() for folder in exclude}
    found: dict[Path, Path] = {}
    for source in sources:
        matches = dict(_matches(source, excluded))
        if not matches:
            kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
            raise InputError(f"{source}: no images in it (looked for {kinds})")
        for path, relative in matches.items():
            found.setdefault(path, relative)
    stems = Counter(relative.with_suffix("") for relative in found.values())
    relatives = Counter(found.values())
    result = []
    for path, relative in found.items():
        if stems[relative.with_suffix("")] == 1:
            stem = relative.with_suffix("")
        elif relatives[relative] == 1:
            stem = relative
        else:  # the same name below two folders
            stem = Path(*path.resolve().parts[1:])
        result.append(Source(path, stem))
    return result


def _matches(source: str | Path, excluded: set[Path]) -> Iterator[tuple[Path, Path]]:
    path = Path(source)
    if path.is_dir():
        yield from _below(path, excluded)
    elif path.exists():
        yield path, Path(path.name)
    else:
        names = sorted(glob.glob(str(source), recursive=True))  # noqa: PTH207 (absolute patterns)
        if not names:
            raise InputError(f"{source}: no such file or folder")
        for name in map(Path, names):
            if name.is_dir():
                yield from _below(name, excluded)
            elif name.suffix.lower() in SUFFIXES:
                yield name, Path(name.name)


def _below(folder: Path, excluded: set[Path]) -> Iterator[tuple[Path, Path]]:
    for parent, folders, names in os.walk(folder):
        here = Path(parent)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (here / name).resolve() not in excluded
        )
        for name in sorted(names):
            path = here / name
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                yield path, path.relative_to(folder)
