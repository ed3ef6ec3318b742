"""Find the images that a command line names."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from atrous.errors import InputError
from atrous.formats import SUFFIXES
from atrous.jobs.output import FOLDERS, stems


@dataclass(frozen=True, slots=True)
class Source:
    """An image and the name of what is made of it.

    Attributes:
        path: the image file.
        stem: what its results are called, see `atrous.jobs.output.stems`.
    """

    path: Path
    stem: Path


def find(sources: Sequence[str | Path], output: Path | None = None) -> list[Source]:
    """Find images in files, folders (recursively, without hidden ones) and glob patterns.

    A file named by itself counts as an image whatever its ending; below a folder, the endings of
    `atrous.formats.SUFFIXES` do.

    Args:
        sources: what to search, in this order; a file found twice counts once.
        output: folder of the results, which are left out; images that lie in it are not.

    Raises:
        InputError: a source does not exist, or holds no image.
    """
    made = [] if output is None else [output, *(output / name for name in FOLDERS)]
    excluded = {folder.resolve() for folder in made}
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
