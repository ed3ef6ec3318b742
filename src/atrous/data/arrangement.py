"""How folders of pictures and masks are written down: as splits, and as one with all below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atrous.data.file_names import Names
from atrous.data.folder_pairs import BareFolder, FolderPair, called_so
from atrous.data.places import ANY
from atrous.data.splits import CALLED, holds_val, meant, split_in, without_split

_NAMED = 6


@dataclass(frozen=True)
class Place:
    """One folder of images and one of masks, read with all that is below them, or several.

    Attributes:
        images: the one, below the folder that was searched; `*` in it is any folder.
        masks: the other.
        pairs: what lies in them.
    """

    images: Path
    masks: Path
    pairs: tuple[FolderPair, ...]

    @property
    def count(self) -> int:
        """Pictures with a mask."""
        return sum(len(pair.pictures) for pair in self.pairs)


@dataclass
class Arrangement:
    """What is said of the folders.

    Attributes:
        content: the keys that say where images and masks are.
        splits: those that folders make.
        pairs: what was taken.
    """

    content: dict[str, Any] = field(default_factory=dict)
    splits: list[str] = field(default_factory=list)
    pairs: list[FolderPair] = field(default_factory=list)


def arrange(
    pairs: Sequence[FolderPair], files: BareFolder, before: Path, reasons: list[str]
) -> Arrangement:
    """Say where images and masks are.

    Args:
        pairs: of folders, as they were found.
        files: all that was found.
        before: from the file that is written to the folder that was searched.
        reasons: one sentence for each decision is added.
    """
    called = Counter[Names]()
    for pair in pairs:
        called[pair.names] += len(pair.pictures)
    names = max(called, key=lambda one: called[one])
    places = _joined([same for pair in pairs if (same := called_so(pair, names, files))], files)
    splits = _splits(places)
    found = Arrangement()
    if splits:
        _write_splits(splits, before, found)
        reasons.append(f"the folders are splits: {', '.join(found.splits)}")
        chosen = list(splits.values())
    else:
        chosen = [max(places, key=lambda one: one.count)]
        found.content["images"] = (before / chosen[0].images).as_posix()
        found.content["masks"] = (before / chosen[0].masks).as_posix()
    found.pairs = [pair for one in chosen for pair in one.pairs]
    for one in chosen:
        inside = [_inside(pair.images, one.images) for pair in one.pairs]
        reasons.append(
            f"{one.count} pictures of {(before / one.images).as_posix()} have a mask in "
            f"{(before / one.masks).as_posix()}"
            + (f", in {len(inside)} folders: {_listed(inside)}" if len(inside) > 1 else "")
        )
    _say_left_out(pairs, chosen, files, before, reasons)
    for key, value in (
        ("image_prefix", names.images.prefix),
        ("image_suffix", names.images.suffix),
        ("mask_prefix", names.masks.prefix),
        ("mask_suffix", names.masks.suffix),
    ):
        if value:
            found.content[key] = value
            reasons.append(f"names show {key}: {value}")
    return found


def _inside(place: Path, folder: Path) -> str:
    """What a place is called within another, by what `*` stands for or below it."""
    parts = [own for own, part in zip(place.parts, folder.parts, strict=False) if part == ANY]
    return Path(*parts, *place.parts[len(folder.parts) :]).as_posix()


def _joined(pairs: list[FolderPair], files: BareFolder) -> list[Place]:
    """Pairs whose folders lie alike below two others, or between, are one place; each other pair
    is its own.
    """
    heads: dict[tuple[Path, Path], list[FolderPair]] = {}
    tails: set[tuple[str, ...]] = set()
    for pair in pairs:
        images, masks, tail = _tail(pair)
        heads.setdefault((images, masks), []).append(pair)
        tails.add(tail)
    found: list[Place] = []
    for (images, masks), inside in heads.items():
        whole = Place(images, masks, tuple(inside))
        if len(tails) > 1 and _is_all(whole, files):
            found.append(whole)
        else:
            found += [Place(pair.images, pair.masks, (pair,)) for pair in inside]
    return _between([one for one in found if len(one.pairs) == 1], files) + [
        one for one in found if len(one.pairs) > 1
    ]


def _between(places: list[Place], files: BareFolder) -> list[Place]:
    """Places that differ by one folder above images and masks are one, with `*` for it."""
    alike: dict[tuple[Path, Path], list[Place]] = {}
    for one in places:
        for key in _with_any(one):
            alike.setdefault(key, []).append(one)
    found: list[Place] = []
    left = set(places)
    for (images, masks), several in sorted(alike.items(), key=lambda one: -len(one[1])):
        inside = [one for one in several if one in left]
        whole = Place(images, masks, tuple(pair for one in inside for pair in one.pairs))
        if len(inside) > 1 and _is_all(whole, files) and _have_both(whole, files):
            found.append(whole)
            left -= set(inside)
    return found + [one for one in places if one in left]


def _have_both(whole: Place, files: BareFolder) -> bool:
    """Whether what `*` finds has pictures and masks everywhere."""
    for folder, other, own in (
        (whole.images, whole.masks, {pair.images for pair in whole.pairs}),
        (whole.masks, whole.images, {pair.masks for pair in whole.pairs}),
    ):
        there = {_above(place, folder) for place in files.all if _is_read(place, folder, other)}
        if there != {_above(place, folder) for place in own}:
            return False
    return True


def _above(place: Path, folder: Path) -> Path:
    return Path(*place.parts[: len(folder.parts)])


def _with_any(one: Place) -> list[tuple[Path, Path]]:
    """The paths of a place with `*` for a folder that both name, but for a split."""
    images, masks = one.images.parts, one.masks.parts
    return [
        (Path(*images[:i], ANY, *images[i + 1 :]), Path(*masks[:j], ANY, *masks[j + 1 :]))
        for i, part in enumerate(images)
        for j, same in enumerate(masks)
        if part == same and not split_in(Path(part))
    ]


def _tail(pair: FolderPair) -> tuple[Path, Path, tuple[str, ...]]:
    """The two folders of a pair without what their paths end in alike, below their split."""
    images, masks, tail = pair.images, pair.masks, list[str]()
    while images.name and images.name == masks.name and not split_in(Path(images.name)):
        tail.insert(0, images.name)
        images, masks = images.parent, masks.parent
    return images, masks, tuple(tail)


def _is_all(whole: Place, files: BareFolder) -> bool:
    """Whether all that is read in two folders belongs to them, but for pictures without a mask."""
    same = whole.images == whole.masks
    images = {pair.images for pair in whole.pairs}
    masks = {pair.masks for pair in whole.pairs}
    for place in files.all:
        strange = place in files.masks or whole.images == Path()
        if strange and place not in images and _is_read(place, whole.images, whole.masks):
            return False
        if not same and place not in masks and _is_read(place, whole.masks, whole.images):
            return False
    return True


def _is_read(place: Path, folder: Path, other: Path) -> bool:
    """Whether a folder is read with one above it, where those in the other one are not."""
    inside = len(folder.parts) < len(other.parts) and _is_in(other, folder) and _is_in(place, other)
    return _is_in(place, folder) and not inside


def _is_in(place: Path, folder: Path) -> bool:
    """Whether a place is a folder, or below it."""
    fits = zip(place.parts, folder.parts, strict=False)
    return len(place.parts) >= len(folder.parts) and all(part in (ANY, own) for own, part in fits)


def _splits(places: list[Place]) -> dict[str, Place]:
    """The fullest place of each split; of those that are as full, the one called as others are.

    Empty where the folders tell no splits apart.
    """
    found: dict[str, list[Place]] = {}
    for place in places:
        found.setdefault(meant(split_in(place.images)), []).append(place)
    if len(found) - ("" in found) < 2 and "" in found:
        return {}
    found.pop("", None)
    alike = Counter[tuple[str, str]]()
    for place in places:
        alike[_pattern(place)] += place.count
    order = list(CALLED.values())
    if train := [one for one in found.get("train", []) if not holds_val(split_in(one.images))]:
        found["train"] = train
    return {
        split: max(found[split], key=lambda one: (alike[_pattern(one)], one.count))
        for split in sorted(found, key=order.index)
    }


def _pattern(place: Place) -> tuple[str, str]:
    """The paths of a place with `{split}` for its split."""
    split = split_in(place.images)
    return without_split(place.images, split), without_split(place.masks, split)


def _write_splits(splits: dict[str, Place], before: Path, found: Arrangement) -> None:
    patterns = {_pattern(place) for place in splits.values()}
    images, masks = patterns.pop()
    # Of one split alone, `{split}` would find folders without masks too.
    if len(splits) > 1 and not patterns and "{split}" in masks:
        found.content["images"] = (before / images).as_posix()
        found.content["masks"] = (before / masks).as_posix()
        found.splits = [split_in(place.images) for place in splits.values()]
        return
    found.splits = list(splits)
    for key in ("images", "masks"):
        found.content[key] = {
            split: (before / getattr(place, key)).as_posix() for split, place in splits.items()
        }


def _say_left_out(
    pairs: Iterable[FolderPair],
    chosen: list[Place],
    files: BareFolder,
    before: Path,
    reasons: list[str],
) -> None:
    """Name the folders with pictures and with masks that are not read."""
    read = {pair.images for one in chosen for pair in one.pairs}
    known = {pair.images: pair for pair in pairs}
    for what, places in (
        ("with masks, which cannot be read together with these", list(known)),
        ("without masks of their own", [one for one in files.all if one not in known]),
    ):
        left = {one: len(files.photographs(one)) for one in places if one not in read}
        left = {one: count for one, count in left.items() if count and not any(
            _is_read(one, place.images, place.masks) for place in chosen)}  # fmt: skip
        if left:
            listed = [f"{(before / one).as_posix()} ({count})" for one, count in left.items()]
            reasons.append(f"pictures left out, {what}: {_listed(listed)}")
    taken = {path for one in chosen for pair in one.pairs for path in pair.paths}
    others = {one: len(set(masks) - taken) for one, masks in files.masks.items()}
    listed = [f"{(before / one).as_posix()} ({count})" for one, count in others.items() if count]
    if listed:
        reasons.append(f"masks that no picture gets: {_listed(listed)}")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + ", …" * (len(names) > _NAMED)
