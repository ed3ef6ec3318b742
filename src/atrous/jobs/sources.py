"""Find the images that a command line names, and name what is made of them."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from atrous.errors import InputError
from atrous.image import SUFFIXES

T = TypeVar("T")


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
        for path, relative in matches(source, excluded).items():
            found.setdefault(path, relative)
    names = stems(found, lambda path: Path(*path.resolve().parts[1:]))
    return [Source(path, stem) for path, stem in names.items()]


def matches(source: str | Path, excluded: Collection[Path] = ()) -> dict[Path, Path]:
    """The images that one source names, each with its path below the folder that was searched.

    Args:
        source: a file, a folder or a glob pattern.
        excluded: folders to leave out, resolved.

    Raises:
        InputError: it does not exist, or holds no image.
    """
    found = dict(_matches(source, excluded))
    if not found:
        kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        raise InputError(f"{source}: no images in it (looked for {kinds})")
    return found


def stems(found: Mapping[T, Path], whole: Callable[[T], Path]) -> dict[T, Path]:
    """What the results of every image are called, see `Source.stem`.

    Args:
        found: image → its path below the folder that was searched.
        whole: image → a path that no other has.
    """
    short = Counter(relative.with_suffix("") for relative in found.values())
    relatives = Counter(found.values())
    result = {}
    for image, relative in found.items():
        if short[relative.with_suffix("")] == 1:
            result[image] = relative.with_suffix("")
        elif relatives[relative] == 1:
            result[image] = relative
        else:  # the same name below two folders
            result[image] = whole(image)
    return result


def _matches(source: str | Path, excluded: Collection[Path]) -> Iterator[tuple[Path, Path]]:
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


def _below(folder: Path, excluded: Collection[Path]) -> Iterator[tuple[Path, Path]]:
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
