"""The splits of a data set, and the lists of names that some of them are."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from pathlib import Path, PurePath, PurePosixPath

from atrous import texts
from atrous.data.file_names import Names
from atrous.data.pairing import Pairs, existing
from atrous.errors import ConfigError
from atrous.pictures.formats import SUFFIXES

VAL_SHARE = 0.2
"""What is held out of a set of one's own where nothing says what to score on."""

CALLED = {
    "train": "train", "training": "train",
    "trainval": "train", "train_val": "train", "train-val": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What splits are called, in any case → the split that is meant."""

_NUMBERS = re.compile(r"(?<=\S)(\s+\d+)+$")
"""What may follow a name in a list: the classes of an image."""

_CALLED = re.compile(
    rf"(?<![a-z])({'|'.join(sorted(CALLED, key=len, reverse=True))})"
    "(?=[^a-z]|$|annot|mask|label|image|img|gt|seg|truth)",
    re.IGNORECASE,
)


def split_in(path: PurePath) -> str:
    """The split that a path names, as it is written there, the last one of several; or nothing."""
    return next(iter(_CALLED.findall(path.as_posix())[::-1]), "")


def without_split(path: PurePath, split: str) -> str:
    """A path with `{split}` wherever it names this split as it is written."""
    return _CALLED.sub(lambda found: "{split}" if found[0] == split else found[0], path.as_posix())


def meant(written: str) -> str:
    """The split that a name such as `Validation` stands for."""
    return CALLED.get(written.lower(), "")


def holds_val(written: str) -> bool:
    """Whether what is called so holds training and validation both, as `trainval` does."""
    return "val" in written.lower() and meant(written) == "train"


def check_split(split: str, known: Collection[str], spec: str, where: Path) -> None:
    """Raise `ConfigError` for a split that is not there; it lists those that are."""
    there = ", ".join(known) or "none"
    if not split and known:
        raise ConfigError(
            f"{spec}: says no split; expected {spec.rstrip(':')}:{next(iter(known))}, or another "
            f"of {there}"
        )
    if split not in known:
        raise ConfigError(f"{spec}: no split {split!r} in {where}; there are: {there}")


def held_out(names: Sequence[str], share: float) -> set[str]:
    """Choose names to score on: at least one, and of two or more at least one is left.

    The choice hangs on the names alone, so images that are added later hardly change it.

    Args:
        names: of the images.
        share: of them that is chosen, between 0 and 1.
    """
    count = max(1, min(round(share * len(names)), len(names) - 1))

    def rank(name: str) -> bytes:  # names of files need not be Unicode
        return hashlib.sha256(name.encode(errors="surrogateescape")).digest()

    return set(sorted(names, key=rank)[:count])


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


def listed_names(
    lines: Sequence[str], there: Pairs, names: Names, roots: Sequence[Path], where: Path
) -> list[str]:
    """The shared names of images and masks that a list names, one in each line.

    A line is that name, or the file of the image: its name, with the folders that it is in or some
    of them, also those of another machine, and with the slashes of Windows. Numbers may follow, as
    those of VOC and of Oxford's pets do. What is not there is returned as it is written.

    Args:
        lines: of the list.
        there: the images and masks in the folders of the data set.
        names: what is put around the shared names.
        roots: folders that files may be relative to.
        where: the list, for messages.

    Raises:
        ConfigError: none of the names is there, or one is named twice.
    """
    known = {image.resolve(): name for name, (image, _) in there.items() if image is not None}
    found = [_listed_name(line, there, known, names, roots) for line in lines]
    if not any(one in there for one in found) and all(map(_NUMBERS.search, lines)):
        alone = [_NUMBERS.sub("", line) for line in lines]
        found = [_listed_name(line, there, known, names, roots) for line in alone]
    if found and not any(one in there for one in found):
        some = next(iter(there), None)
        helps = f"; expected names such as {some}" if some else ""
        raise ConfigError(
            f"{where}: no line names an image or a mask that is there, the first is {found[0]!r}"
            f"{helps}, or their files, relative to {roots[0]}"
        )
    check_unique(found, where)
    return found


def _listed_name(
    line: str, there: Pairs, known: dict[Path, str], names: Names, roots: Sequence[Path]
) -> str:
    name = _shared_name(line, names)
    if name in there:
        return name
    text = line.strip("\"'").replace("\\", "/")
    file = existing(text, roots)
    if file is not None:
        return known.get(file.resolve(), name)
    path = PurePosixPath(text)
    tails = (PurePosixPath(*path.parts[i:]) for i in range(len(path.parts)))
    tried = (_shared_name(tail.as_posix(), names) for tail in tails)
    return next((one for one in tried if one in there), name)


def _shared_name(line: str, names: Names) -> str:
    """The shared name in a line that may hold an ending, and what is put around names of images."""
    path = Path(line)
    known = path.suffix.lower() in SUFFIXES
    own = path if known else Path(f"{line}.x")
    around = names.images if "." not in names.images.suffix else None
    found = around.name(own) if around else None
    return found or (own.with_suffix("").as_posix() if known else line)
