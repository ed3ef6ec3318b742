"""What a bare folder of pictures and masks seems to be: the file for it, with reasons."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from atrous import texts
from atrous.data.arrangement import arrange
from atrous.data.class_names import guessed_classes, named_classes
from atrous.data.folder_pairs import (
    MOST_COLOURS,
    BareFolder,
    FolderPair,
    folder_pairs,
    sorted_files,
)
from atrous.data.masks import look
from atrous.data.meaning import looks
from atrous.data.splits import CALLED, VAL_SHARE, holds_val, meant
from atrous.errors import ConfigError, InputError
from atrous.pictures.folders import search
from atrous.pictures.opening import MAX_PIXELS

_MOST = 0.5
"""Share of the names in a list that have a picture and a mask, from which it is one of these."""


@dataclass
class Guess:
    """What was guessed.

    Attributes:
        text: the YAML file.
        split: one of its splits, the first to look at.
        reasons: one sentence each.
    """

    text: str
    split: str
    reasons: list[str] = field(default_factory=list)


def guess(folder: Path, root: Path) -> Guess:
    """Describe a folder of pictures and masks.

    Args:
        folder: to look into.
        root: where the file will lie; its paths are relative to it.

    Raises:
        ConfigError: no masks were found in it, or none that belong to pictures.
    """
    reasons: list[str] = []
    files = sorted_files(folder)
    pairs = folder_pairs(files)
    if not pairs:
        raise ConfigError(_no_masks(folder, files))
    found = arrange(pairs, files, Path(os.path.relpath(folder, root)), reasons)
    content, splits = found.content, found.splits
    if not splits:
        lists = _lists(folder, found.pairs)
        splits = list(lists)
        if lists:
            content["splits"] = {
                one: Path(os.path.relpath(path, root)).as_posix() for one, path in lists.items()
            }
            reasons.append(f"lists of names are splits: {', '.join(lists)}")
    alone = len(splits) == 1 and meant(splits[0]) == "train"
    if (alone or not splits) and sum(len(pair.pictures) for pair in found.pairs) > 1:
        content["val_share"] = VAL_SHARE
        reasons.append(
            f"nothing says what to score on: {VAL_SHARE:.0%} of the pictures are held out as val"
        )
        splits = ["train", "val"]
    split = min(splits, key=_order, default="all")
    paths = sorted(path for pair in found.pairs for path in pair.paths)
    content |= guessed_classes(looks(paths, MAX_PIXELS), named_classes(folder, reasons), reasons)
    header = "".join(f"# {reason}\n" for reason in reasons)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return Guess(f"{header}{text}", split, reasons)


def _no_masks(folder: Path, files: BareFolder) -> str:
    """Why nothing was found, with what the first file of a folder says that is not read."""
    places = list(files.all.items())[:6]
    what = ", ".join(f"{len(names)} in {folder / place}" for place, names in places)
    text = (
        f"{folder}: no masks that belong to pictures; found {what or 'no picture'}. A mask has "
        f"the name of its picture, and at most {MOST_COLOURS} colours or greys; outlines in "
        "JSON become masks by atrous data masks, and images and masks of any names can be listed, "
        "one of each in a line (splits, docs/data.md)"
    )
    search(folder).note(folder)
    for _, names in places:
        try:
            look(names[0])
        except InputError as error:
            text += f". Not read as a mask: {error}"
    return text


def _order(split: str) -> int:
    return list(CALLED).index(split.lower())


def _lists(folder: Path, pairs: list[FolderPair]) -> dict[str, Path]:
    """The lists of names that are splits; of several for one split, that of the most masks."""
    stems = {path.stem for pair in pairs for path in pair.pictures}
    stems |= {pair.names.images.of_stem(one) or one for pair in pairs for one in stems}
    found: list[tuple[bool, float, Path]] = []
    for path in sorted(folder.rglob("*.txt")):
        if not meant(path.stem):
            continue
        try:
            lines = texts.read_lines(path)
        except (OSError, UnicodeError):
            continue
        known = [_is_listed(line, stems) for line in lines]
        share = sum(known) / max(1, len(known))
        if share >= _MOST:
            found.append(("segm" in path.parent.name.lower(), share, path))
    best: dict[str, Path] = {}
    for _, _, path in sorted(found, key=lambda one: (-one[0], -one[1], one[2])):
        best.setdefault(path.stem, path)
    if any(meant(one) == "train" and not holds_val(one) for one in best):
        best = {one: path for one, path in best.items() if not holds_val(one)}
    return dict(sorted(best.items(), key=lambda one: _order(one[0])))


def _is_listed(line: str, stems: set[str]) -> bool:
    """Whether a line names a picture, by its name or its file, alone or before its mask."""
    words = line.replace("\\", "/").split()
    return any(
        name in stems or Path(name).stem in stems
        for name in (Path(line.replace("\\", "/")).name, Path(words[0]).name)
    )
