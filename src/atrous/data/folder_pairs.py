"""Which folder of masks belongs to which folder of pictures, where no file says so."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from atrous.data.file_names import Affix, Names, affixes
from atrous.data.masks import Look
from atrous.data.meaning import looks
from atrous.data.splits import meant, split_in, without_split
from atrous.pictures.folders import search
from atrous.pictures.opening import MAX_PIXELS

MOST_COLOURS = 64
"""A picture of more colours or greys is a photograph, and no mask."""

_FEW = 3
_MOST_KINDS = 8

_MASKS = re.compile(r"mask|label|annot|segm|ground|truth|(?<![a-z])gt|target", re.IGNORECASE)
_IMAGES = re.compile(r"image|(?<![a-z])img|photo|picture|(?<![a-z])rgb", re.IGNORECASE)
_NOT_CLASSES = re.compile(
    r"instance|object|colou?r|(?<![a-z])vi[sz](?![a-z])|visual|overlay|preview|panoptic|depth|"
    r"dispar|human",
    re.IGNORECASE,
)
"""Names of what lies beside masks: numbers of objects, and copies for people to look at."""


@dataclass(frozen=True)
class FolderPair:
    """A folder of pictures, and one kind of the masks in a folder.

    Attributes:
        images: the folder of the pictures, below the one that was searched.
        masks: that of the masks.
        names: what is put around the names that they share.
        pictures: those that have a mask.
        paths: the masks of this kind.
    """

    images: Path
    masks: Path
    names: Names
    pictures: tuple[Path, ...]
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class BareFolder:
    """The pictures at and below a folder.

    Attributes:
        all: folder, below the one that was searched → its files.
        masks: folder → those of its files that are masks by what they hold, if there are any.
    """

    all: dict[Path, list[Path]]
    masks: dict[Path, list[Path]]

    def photographs(self, place: Path) -> list[Path]:
        """The files of a folder that are no masks."""
        masks = set(self.masks.get(place, ()))
        return [path for path in self.all[place] if path not in masks]


def sorted_files(folder: Path) -> BareFolder:
    """Tell masks from photographs, by what some files of each kind hold."""
    found: dict[Path, list[Path]] = {}
    for path, below in search(folder).pictures.items():
        found.setdefault(below.parent, []).append(path)
    files = dict(sorted(found.items()))
    masks = {place: some for place, one in files.items() if (some := _masks_in(one))}
    return BareFolder(files, masks or _called_alike(files))


def _called_alike(files: dict[Path, list[Path]]) -> dict[Path, list[Path]]:
    """The masks of folders of one picture each, in which files have the same names everywhere."""
    called: dict[str, list[Path]] = {}
    for path in (path for paths in files.values() for path in paths):
        called.setdefault(path.name, []).append(path)
    names = {
        name
        for name, paths in called.items()
        if 2 * len(paths) >= max(4, len(files))
        and (some := looks(paths[:_FEW], MAX_PIXELS))
        and all(_is_mask(one) for _, one in some)
    }
    found = {place: [one for one in paths if one.name in names] for place, paths in files.items()}
    return {place: paths for place, paths in found.items() if paths}


def _masks_in(paths: list[Path]) -> list[Path]:
    """Those of some files that are masks by what they hold; all of one ending and affixes count."""
    stems = {path.stem for path in paths}
    ending = _own_ending(stems)
    words = Counter(word for stem in stems for word in (_first_word(stem), _last_word(stem)))
    groups: dict[tuple[str, ...], list[Path]] = {}
    for path in paths:
        own = ending if ending and path.stem.endswith(ending) else _last_word(path.stem)
        around = [
            word if word == ending or words[word] * _MOST_KINDS >= len(stems) else ""
            for word in (_first_word(path.stem), own)
        ]
        groups.setdefault((path.suffix.lower(), *around), []).append(path)
    found: list[Path] = []
    for members in groups.values():
        some = looks(sorted(members)[:_FEW], MAX_PIXELS)
        if some and all(_is_mask(one) for _, one in some):
            found += members
    return found


def _own_ending(stems: set[str]) -> str:
    """What half of the names in one folder end in, the other half being without; empty if none."""
    for stem in sorted(stems):
        for cut in range(1, len(stem)):
            end = stem[cut:]
            if stem[:cut] in stems and sum(one.endswith(end) for one in stems) * 3 >= len(stems):
                return end
    return ""


def _first_word(stem: str) -> str:
    found = re.match(r"[A-Za-z]+[_-]", stem)
    return found[0] if found else ""


def _last_word(stem: str) -> str:
    found = re.search(r"[_-][A-Za-z]+$", stem)
    return found[0] if found else ""


def _is_mask(one: Look) -> bool:
    if one.values is not None and one.mode in ("P", "L", "1", "I", "I;16", "I;16B", "F"):
        return len(one.values) <= MOST_COLOURS
    return len(one.colours) <= MOST_COLOURS


def folder_pairs(files: BareFolder) -> list[FolderPair]:
    """Folders of pictures, each with the masks that it most likely belongs to.

    A folder of one split never gets masks of another, nor masks of no split where others have their
    own, and no mask is given to two folders.
    """
    every = _one_of_each(files) or [_tried(place, files) for place in files.all]
    likely = _Likely(pair for tried in every for pair in tried)
    found: list[FolderPair] = []
    for tried in every:
        most = max((len(pair.pictures) for pair in tried), default=0)
        found += sorted((one for one in tried if 2 * len(one.pictures) >= most), key=likely)[-1:]
    if any(split_in(pair.images) and split_in(pair.masks) for pair in found):
        found = [pair for pair in found if split_in(pair.masks) or not split_in(pair.images)]
    photographs = [pair for pair in found if not _are_copies(pair, found, files)]
    taken: dict[Path, list[FolderPair]] = {}
    for pair in sorted(photographs or found, key=likely, reverse=True):
        others = taken.setdefault(pair.masks, [])
        if all(_share_masks(pair, one) for one in others):
            others.append(pair)
    kept = (pair for several in taken.values() for pair in several)
    return [_with_ending(pair, files) for pair in sorted(kept, key=lambda one: one.images)]


def _share_masks(one: FolderPair, other: FolderPair) -> bool:
    """Whether the folder of masks of two pairs is that of all splits."""
    splits = {meant(split_in(pair.images)) for pair in (one, other)} - {""}
    theirs = (
        {pair.names.images.name(Path(path.name)) for path in pair.pictures} for pair in (one, other)
    )
    alike = one.names == other.names and not split_in(one.masks)
    return alike and len(splits) == 2 and not set.intersection(*theirs)


def _contradict(images: Path, masks: Path) -> bool:
    splits = {meant(split_in(images)), meant(split_in(masks))} - {""}
    return len(splits) > 1


def _are_copies(pair: FolderPair, found: list[FolderPair], files: BareFolder) -> bool:
    """Whether what seem to be pictures are, by their names, copies of masks for people to look at.

    Those in one folder with masks are if another folder has a picture for each.
    """
    if pair.images != pair.masks:
        return _says_masks(pair.images)
    affix = pair.names.images
    return bool(_NOT_CLASSES.search(f"{affix.prefix} {affix.suffix}")) or (
        _says_masks(pair.images)
        and any(
            one.masks == pair.masks and len(one.pictures) == len(files.photographs(one.images))
            for one in found
            if one is not pair
        )
    )


def _says_masks(place: Path) -> bool:
    """Whether the name of a folder, or of the nearest above it that says anything, says masks."""
    for part in reversed(place.parts):
        if _IMAGES.search(part):
            return False
        if _MASKS.search(part):
            return True
    return False


class _Likely:
    """A key by which the pair that is most likely meant is the largest."""

    def __init__(self, pairs: Iterable[FolderPair]) -> None:
        self._ids: dict[Path, bool] = {}
        self._splits: dict[tuple[str, str], set[str]] = {}
        for pair in pairs:
            self._splits.setdefault(_pattern(pair), set()).add(split_in(pair.images))

    def __call__(self, pair: FolderPair) -> tuple[object, ...]:
        images, masks = pair.images.as_posix(), pair.masks.as_posix()
        kind = f"{masks} {pair.names.masks.prefix} {pair.names.masks.suffix}"
        same_split = bool(split_in(pair.images)) and bool(split_in(pair.masks))
        near = len(os.path.commonpath((f"/{images}", f"/{masks}")))
        return (
            same_split,
            len(_words(images) & _words(masks)),
            not _NOT_CLASSES.search(kind),
            # What all splits have can be read in all; one may have more kinds than the others.
            len(self._splits[_pattern(pair)]),
            self._holds_ids(pair.paths[0]),
            "trainid" in kind.lower(),
            not pair.names.images and not pair.names.masks,
            len(pair.pictures),
            bool(_MASKS.search(pair.masks.name)),
            near,
            # Files of several folders may have the same names: those of south are in southmasks.
            _shared(images, masks) + _shared(images[::-1], masks[::-1]),
        )

    def _holds_ids(self, path: Path) -> bool:
        if path not in self._ids:
            self._ids[path] = all(one.values is not None for _, one in looks([path], MAX_PIXELS))
        return self._ids[path]


def _pattern(pair: FolderPair) -> tuple[str, str]:
    """The folders of a pair with `{split}` for its split."""
    split = split_in(pair.images)
    return without_split(pair.images, split), without_split(pair.masks, split)


def _words(path: str) -> set[str]:
    """The words in a path, those for pictures left out: `image_labels` is not near `images`."""
    words = re.split(r"[/_. -]", path.lower())
    return {one for one in words if one and not _IMAGES.search(one)}


def _shared(one: str, other: str) -> int:
    """How many letters two texts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _kinds(
    place: Path, pictures: list[Path], other: Path, files: BareFolder
) -> Iterable[FolderPair]:
    """What some masks are to some pictures, for each kind of names that the masks have."""
    rest = files.masks[other]
    own = _of_the_same_name(place, pictures, other, rest)
    found = [own] if own else []
    left = {path.stem for path in pictures}
    while len(found) <= _MOST_KINDS:
        known = set(found[-1].paths) if found else set()
        rest = [path for path in rest if path not in known]
        names = affixes(left, {path.stem for path in rest})
        pair = _named(place, pictures, other, rest, names) if names else None
        if pair is None:
            break
        found.append(pair)
    return found


def _tried(place: Path, files: BareFolder) -> list[FolderPair]:
    """Every kind of masks, in any folder, that the pictures of a folder may have."""
    pictures = files.photographs(place)
    return [
        pair
        for other in files.masks
        if pictures and not _contradict(place, other)
        for pair in _kinds(place, pictures, other, files)
    ]


def _one_of_each(files: BareFolder) -> list[list[FolderPair]]:
    """The pairs of folders that have one picture and its mask, called as in the others.

    Empty unless most folders are so.
    """
    called = Counter(path.name for paths in files.all.values() for path in paths)
    found: list[list[FolderPair]] = []
    for place in files.all:
        pictures, masks = (
            [path for path in paths if called[path.name] > 1 and not _NOT_CLASSES.search(path.stem)]
            for paths in (files.photographs(place), files.masks.get(place, []))
        )
        if max(len(pictures), len(masks)) > 1:
            return []
        if not pictures or not masks:
            found.append([])
            continue
        names = Names(Affix("", pictures[0].name), Affix("", masks[0].name))
        pair = _named(place, pictures, place, masks, names)
        found.append([pair] if pair else [])
    return found if 2 * sum(map(len, found)) >= max(4, len(found)) else []


def _of_the_same_name(
    place: Path, pictures: list[Path], other: Path, masks: list[Path]
) -> FolderPair | None:
    if place == other:
        endings = {path.suffix.lower() for path in masks}
        names = Names(masks=Affix(suffix=endings.pop())) if len(endings) == 1 else None
        return _named(place, pictures, other, masks, names) if names else None
    stems, whole = {one.stem for one in masks}, {path.name for path in pictures}
    known = {path.stem for path in pictures} | whole
    shown = tuple(one for one in pictures if one.stem in stems or one.name in stems)
    paths = tuple(path for path in masks if path.stem in known)
    return FolderPair(place, other, Names(), shown, paths) if shown else None


def _named(
    place: Path, pictures: list[Path], other: Path, masks: list[Path], names: Names
) -> FolderPair | None:
    of_pictures = {path: names.images.name(Path("_", path.name)) for path in pictures}
    of_masks = {path: names.masks.name(Path("_", path.name)) for path in masks}
    both = (set(of_pictures.values()) & set(of_masks.values())) - {None}
    shown = tuple(path for path, name in of_pictures.items() if name in both)
    paths = tuple(path for path, name in of_masks.items() if name is not None)
    return FolderPair(place, other, names, shown, paths) if shown else None


def _with_ending(pair: FolderPair, files: BareFolder) -> FolderPair:
    """The pair, its files known by their ending too where others beside them would count as well.

    A picture for people to look at may lie there as `x.jpg` beside the mask `x.png`; beside `x.jpg`
    and its mask `x_road.png`, `x_car.png` is no picture without a mask.
    """
    if pair.images == pair.masks:
        return _with_ending_of_images(pair, files)
    around, stems = pair.names.masks, {path.stem for path in pair.paths}
    endings = {path.suffix.lower() for path in pair.paths}
    known = "." not in around.suffix and len(endings) == 1
    if not known or not any(path.stem in stems for path in files.photographs(pair.masks)):
        return pair
    suffix = f"{around.suffix}{endings.pop()}"
    return replace(pair, names=Names(pair.names.images, Affix(around.prefix, suffix)))


def _with_ending_of_images(pair: FolderPair, files: BareFolder) -> FolderPair:
    around, masks = pair.names.images, files.masks[pair.masks]
    endings = {path.suffix.lower() for path in files.photographs(pair.images)}
    others = {path.suffix.lower() for path in masks}
    if len(masks) == len(pair.paths) or len(endings) > 1 or endings & others:
        return pair
    suffix = f"{around.suffix}{endings.pop()}"
    return replace(pair, names=Names(Affix(around.prefix, suffix), pair.names.masks))


def called_so(pair: FolderPair, names: Names, files: BareFolder) -> FolderPair | None:
    """What two folders hold if their files are called as others are; `None` if none is."""
    pictures, masks = files.photographs(pair.images), files.masks[pair.masks]
    return pair if pair.names == names else _named(pair.images, pictures, pair.masks, masks, names)
