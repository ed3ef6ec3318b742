"""Find the images that a command line names."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from atrous.errors import MissingInput
from atrous.jobs.names import stems, whole_path
from atrous.jobs.output import FOLDERS, is_result
from atrous.pictures.folders import Found, search, sort


@dataclass(frozen=True, slots=True)
class Source:
    """An image and the name of what is made of it.

    Attributes:
        path: the image file.
        stem: what its results are called, see `atrous.jobs.names.stems`.
        error: why it cannot be read, where that is known already.
    """

    path: Path
    stem: Path
    error: str = ""

    def check(self) -> None:
        """Raise `MissingInput` if it is known that it cannot be read."""
        if self.error:
            raise MissingInput(self.error)


def find(sources: Sequence[str | Path], output: Path | None = None) -> list[Source]:
    """Find images in files, folders (recursively) and glob patterns.

    What counts in a folder says `atrous.pictures.folders.search`.

    A file named by itself counts as an image whatever its ending, and also if Atrous made it; in
    folders masks and overlays by Atrous are left out. What cannot be looked into, as a
    name of nothing beside others, becomes a source with an error. What is left out is said in one
    line of the log.

    Args:
        sources: what to search, in this order; a file found twice counts once.
        output: folder of the results, which are left out; images that lie in it are not.

    Raises:
        MissingInput: there is no image at all.
    """
    made = [] if output is None else [output, *(output / name for name in FOLDERS)]
    excluded = {Path(os.path.realpath(folder)) for folder in made}  # also of a link to itself
    found = Found()
    for source in sources:
        found.add(matches(source, excluded))
    if not found.pictures:
        raise MissingInput("; ".join(found.failures.values()))
    found.note()
    names = stems(_once(found.pictures), whole_path)
    failed = [Source(path, Path(path.name), error) for path, error in found.failures.items()]
    return [*failed, *(Source(path, stem) for path, stem in names.items())]


def matches(source: str | Path, excluded: Collection[Path] = ()) -> Found:
    """What one source names: a file, a folder or a glob pattern.

    Args:
        source: what to search.
        excluded: folders to leave out, resolved.

    Returns:
        At least one picture or one failure.
    """
    path, found = Path(source), Found()
    if path.is_dir():
        found = search(path, excluded=excluded, is_result=is_result)
    elif path.exists():
        found.pictures[path] = Path(path.name)
    else:
        for name in sorted(glob.glob(str(source), recursive=True)):  # noqa: PTH207 (absolute patterns)
            one = Path(name)
            if one.is_dir():
                found.add(search(one, excluded=excluded, is_result=is_result))
            else:
                sort(one, Path(one.name), found)
        if found == Found():
            found.failures[path] = f"{source}: no such file or folder"
    if not found.pictures and not found.failures:
        found.failures[path] = f"{source}: no images in it"
        if found.left_out:
            found.failures[path] += f"; {found.summary()}"
            found.left_out.clear()
    found.pictures = _once(found.pictures)
    return found


def _once(pictures: dict[Path, Path]) -> dict[Path, Path]:
    """Each file once, whatever linked folders it was found through."""
    folders: dict[Path, Path] = {}
    found: dict[Path, Path] = {}
    for path in pictures:
        folder = folders.setdefault(path.parent, path.parent.resolve())
        found.setdefault(folder / path.name, path)
    return {path: pictures[path] for path in found.values()}
