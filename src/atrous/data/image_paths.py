"""Where the images of annotations lie, whatever their tool wrote of it on another machine."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

_FEW = 20
"""Images of which one has to be there for its folder to be found."""


@dataclass(frozen=True)
class Reference:
    """How annotations name one image.

    Attributes:
        parts: of its path, as far as they may be folders below that of the images.
        foreign: the path leads out of the folder, or is one of another machine.
        file: the image, where it lies as a file beside or near its annotations says.
    """

    parts: tuple[str, ...]
    foreign: bool = False
    file: Path | None = None

    @classmethod
    def of(cls, written: str) -> Reference:
        """An image by its path as a file for all images names it.

        Raises:
            ValueError: it is no path of a file.
        """
        path = PureWindowsPath(written)
        parts = tuple(part for part in path.parts[bool(path.anchor) :] if part != "..")
        if not parts:
            raise ValueError(f"{written!r} names no image")
        return cls(parts, foreign=path.parts != parts or "://" in written)

    @classmethod
    def beside(cls, written: str, file: Path, folder: Path) -> Reference:
        """An image by its path from a file of its own, somewhere in a folder of such files."""
        path = PureWindowsPath(written)
        places = [file.parent / path.name]
        if not path.anchor:
            places.insert(0, file.parent / path.as_posix())
        there = (_plain(place) for place in places if place.is_file())
        return cls((*file.parent.relative_to(folder).parts, path.name), file=next(there, None))

    def ends(self) -> list[PurePosixPath]:
        """Paths that may be those below the folder of the images, the likeliest first."""
        ends = [PurePosixPath(*self.parts[at:]) for at in range(len(self.parts))]
        return ends[::-1] if self.foreign else [ends[0], *ends[:0:-1]]


def located(
    references: Sequence[Reference], annotations: Path, images: Path | None
) -> tuple[Path | None, list[PurePosixPath]]:
    """The folder of the images, `None` if it was not found, and the path of each below it.

    Args:
        references: how the images are named.
        annotations: the file, or the folder of files, that names them.
        images: the folder, if it is known.
    """
    folder = images or _above(references, annotations) or _around(references, annotations)
    names = [_below(one, folder) for one in references]
    often = Counter(names)
    # Names without their folders may be those of several images.
    return folder, [
        PurePosixPath(*one.parts) if often[name] > 1 and not one.file else name
        for name, one in zip(names, references, strict=True)
    ]


def _below(one: Reference, folder: Path | None) -> PurePosixPath:
    if folder is not None:
        if one.file and one.file.is_relative_to(above := _plain(folder)):
            return PurePosixPath(one.file.relative_to(above).as_posix())
        longest = sorted(one.ends(), key=lambda end: -len(end.parts))
        for end in longest:
            if (folder / end).is_file():
                return end
    return one.ends()[0]


def _above(references: Sequence[Reference], annotations: Path) -> Path | None:
    """The folder of the annotations if all images that are known lie in it, else their own."""
    files = [one.file for one in references if one.file is not None]
    here = _folder_of(annotations)
    if not files or all(file.is_relative_to(_plain(here)) for file in files):
        return here if files else None
    return Path(os.path.commonpath([file.parent for file in files]))


def _around(references: Sequence[Reference], annotations: Path) -> Path | None:
    """A folder near the annotations in which one of the first images lies."""
    for one in references[:_FEW]:
        for end in one.ends():
            for folder in _near(annotations):
                if (folder / end).is_file():
                    return folder
    return None


def _near(annotations: Path) -> Iterator[Path]:
    here = _folder_of(annotations)
    for folder in (here, here.parent):
        yield folder
        yield folder / "images"
        yield folder / "JPEGImages"
        yield folder / annotations.stem.removeprefix("instances_")


def _folder_of(annotations: Path) -> Path:
    return annotations if annotations.is_dir() else annotations.parent


def _plain(path: Path) -> Path:
    """The whole path without `..`."""
    return Path(os.path.normpath(path.absolute()))
