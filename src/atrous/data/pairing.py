"""Which mask belongs to which image: by name, or by a list of pairs."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import cache
from pathlib import Path, PurePosixPath

from atrous.data.file_names import Affix, Names, affixes
from atrous.errors import ConfigError
from atrous.pictures.folders import search
from atrous.pictures.formats import SUFFIXES

_log = logging.getLogger("atrous")

_HEADER = re.compile(r"[A-Za-z_ ]+([,;\t] ?[A-Za-z_ ]+)+$")
"""The first line of a table: names of its columns."""


Pairs = dict[str, tuple[Path | None, Path | None]]
"""Shared name → image and mask."""


def pair(images: Path, masks: Path, names: Names, where: Path) -> Pairs:
    """Find the images and masks at and below two folders, or one, and pair them by name.

    `x.jpg` and `x.png` belong together, and so do `x.jpg` and `x.jpg.png`.

    Args:
        images: the folder of the images.
        masks: that of the masks.
        names: what is put around the shared names.
        where: the file that names them, for messages.

    Raises:
        ConfigError: two files share a name, or it cannot be told which file is an image and which
            a mask.
    """
    same = _same(images, masks)
    pictures, labels = _files(images, masks), {} if same else _files(masks, images)
    if same:
        pictures, labels = _sorted_out(pictures, names, images, where)
    by_mask: dict[str, Path] = {}
    strange = 0
    for path, below in labels.items():
        name = names.masks.name(below)
        if name is None:
            strange += 1
        else:
            _add(by_mask, name, path, masks)
    if strange:
        around = f"{names.masks.prefix}…{names.masks.suffix}"
        _say(f"{masks}: {strange} files are not named {around} and do not count as masks")
    found: Pairs = {}
    by_image: dict[str, Path] = {}
    for path, below in pictures.items():
        if below.as_posix() in by_mask:  # x.jpg of x.jpg.png
            found[below.as_posix()] = path, by_mask.pop(below.as_posix())
            continue
        name = names.images.name(below)
        if name is not None:
            _add(by_image, name, path, images)
    _check_named(pictures, names.images, images, "image", bool(found or by_image), where)
    _check_named(labels, names.masks, masks, "mask", bool(found or by_mask), where)
    if not found and not by_image.keys() & by_mask.keys():
        _recognise(by_image, by_mask, names, where)
    for name in _copies(by_image.keys(), by_mask.keys(), masks):
        del by_mask[name]
    for name in by_image.keys() | by_mask.keys():
        found[name] = by_image.get(name), by_mask.get(name)
    _check_own(found.values(), where)
    return dict(sorted(found.items()))


def image_names(images: Path, masks: Path, names: Names) -> dict[str, Path]:
    """The images at and below a folder by the names that a mask of theirs would share.

    Args:
        images: the folder.
        masks: that of the masks, which is left out where it lies below.
        names: what is put around the shared names.
    """
    found: dict[str, Path] = {}
    for path, below in _files(images, masks).items():
        own = names.images.name(below)
        found |= {name: path for name in (own, below.as_posix()) if name is not None}
    return found


def listed_pairs(lines: Iterable[str], roots: Iterable[Path], where: Path) -> Pairs:
    """The pairs of a list with an image and its mask in each line, with a blank, tab or comma
    between them.

    Args:
        lines: as `images/a.jpg masks/a.png`.
        roots: folders that the paths may be relative to.
        where: the list, for messages.

    Raises:
        ConfigError: a line does not name two files that are there, or one image is named twice.
    """
    found: Pairs = {}
    seen: set[Path] = set()
    folders = list(dict.fromkeys(roots))
    for line in lines:
        halves = _halves(line, folders)
        if halves is None:
            raise ConfigError(
                f"{where}: {line!r}: expected an image and its mask that are there, with a blank, "
                f"a tab or a comma between them, relative to {folders[0]}"
            )
        name = PurePosixPath(line[: halves[0]].strip().strip("\"'").replace("\\", "/"))
        key = name.with_suffix("").as_posix()
        key = name.as_posix() if key in found else key
        if key in found or halves[1] in seen:
            raise ConfigError(f"{where}: names {str(name)!r} twice; every image is scored once")
        seen.add(halves[1])
        found[key] = halves[1], halves[2]
    _check_own(found.values(), where)
    return found


def pairs_in(lines: Sequence[str], where: Path) -> list[str] | None:
    """The lines of a list that hold two names with endings of pictures each, without a header.

    Args:
        lines: of the list.
        where: the list, for messages.

    Returns:
        `None` if there is no such line.

    Raises:
        ConfigError: some lines hold two names, and others do not.
    """
    endings = "|".join(re.escape(one) for one in SUFFIXES)
    two = re.compile(rf".+({endings})[\"']?\s*[ \t,;]\s*.+({endings})[\"']?$", re.IGNORECASE)
    found = [line for line in lines if two.match(line)]
    others = [line for line in lines if not two.match(line)]
    if not found:
        return None
    if others[:1] == [lines[0]] and _HEADER.match(lines[0]):
        del others[0]
    if others:
        raise ConfigError(
            f"{where}: {others[0]!r}: expected an image and its mask, as in {found[0]!r}"
        )
    return found


def _halves(line: str, roots: list[Path]) -> tuple[int, Path, Path] | None:
    for gap in re.finditer(r"\s*[,;\t]\s*| +", line):
        image = existing(line[: gap.start()], roots)
        mask = existing(line[gap.end() :], roots)
        if image is not None and mask is not None:
            return gap.start(), image, mask
    return None


def existing(text: str, roots: Iterable[Path]) -> Path | None:
    """The file that an entry of a list names, below one of some folders."""
    name = text.strip().strip("\"'").replace("\\", "/")
    if not name:
        return None
    roots = list(roots)
    places = [root / name for root in roots]
    # Lists of some tools begin at the folder's own root: /images/a.jpg.
    places += [root / name.lstrip("/") for root in roots]
    return next((path for path in places if path.is_file()), None)


@cache
def _say(text: str) -> None:
    """Say what holds of all splits once."""
    _log.warning("%s", text)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _files(folder: Path, other: Path) -> dict[Path, Path]:
    """The pictures at and below a folder, without those of the other one, → their path in it."""
    excluded = [other.resolve()] if folder.resolve() in other.resolve().parents else []
    listed = search(folder, excluded=excluded)
    listed.note(folder)
    # What cannot be looked into is a sample that cannot be read.
    below = listed.pictures | {path: path.relative_to(folder) for path in listed.failures}
    return dict(sorted(below.items()))


def _add(found: dict[str, Path], name: str, path: Path, folder: Path) -> None:
    if name in found:
        raise ConfigError(f"{folder}: {found[name].name} and {path.name} share a name; keep one")
    found[name] = path


def _sorted_out(
    files: dict[Path, Path], names: Names, folder: Path, where: Path
) -> tuple[dict[Path, Path], dict[Path, Path]]:
    """Images and masks of one folder."""
    if names.masks:
        masks = {path: below for path, below in files.items() if names.masks.name(below)}
        return {path: below for path, below in files.items() if path not in masks}, masks
    if names.images:
        images = {path: below for path, below in files.items() if names.images.name(below)}
        return images, {path: below for path, below in files.items() if path not in images}
    raise ConfigError(
        f"{where}: images and masks name one folder, {folder}, and a picture is never its own "
        "mask; "
        + (
            _of_one_folder(files.values())
            or "write mask_suffix: what the names of the masks end in"
        )
    )


def _of_one_folder(files: Iterable[Path]) -> str:
    """What tells masks from images in one folder, as advice; empty if nothing was recognised."""
    stems: dict[str, list[str]] = {}
    for below in files:
        stems.setdefault(below.with_suffix("").as_posix(), []).append(below.suffix)
    ends: Counter[str] = Counter()
    for stem in stems:
        cut = [i for i in range(1, len(stem)) if stem[:i] in stems and stem[i - 1] != "/"]
        ends.update({stem[i:] for i in cut})
    if ends:
        end, count = ends.most_common(1)[0]
        if 2 * count >= len(stems) - count:
            return f"the names of {count} files end in {end}: write mask_suffix: {end}"
    twice = [tuple(sorted(set(suffixes))) for suffixes in stems.values()]
    endings = Counter(suffix for pair in twice if len(pair) == 2 for suffix in pair)
    lossless = [one for one in endings if one.lower() in (".png", ".tif", ".tiff", ".bmp")]
    if len(endings) == 2 and len(lossless) == 1:
        return f"each name is there twice: write mask_suffix: {lossless[0]}"
    return ""


def _check_named(
    files: Mapping[Path, Path], around: Affix, folder: Path, what: str, some: bool, where: Path
) -> None:
    """Raise `ConfigError` where there are files, and none is called as is said of all."""
    if some or not files:
        return
    first = next(iter(files)).name
    raise ConfigError(
        f"{where}: none of {len(files)} pictures in {folder} is called {around.prefix}…"
        f"{around.suffix}, the first is {first}; look at {what}_prefix and {what}_suffix"
    )


def _copies(images: Set[str], masks: Set[str], folder: Path) -> list[str]:
    """Names of masks without an image that are those of others with one ending, as `x_vis`, or in
    a folder of their own, as `vis/x`.
    """
    both = images & masks
    ends: dict[str, list[str]] = {}
    for name in masks - images:
        cut = max(name.rfind("_"), name.rfind("-"))
        above, line, own = name.rpartition("/")
        outer = "".join(above.rpartition("/")[:2])
        if name[:cut] in both and re.fullmatch("[A-Za-z]+", name[cut + 1 :]):
            ends.setdefault(f"end in {name[cut:]} behind", []).append(name)
        elif line and f"{outer}{own}" in both:
            ends.setdefault(f"in the folder {above} have", []).append(name)
    found = {end: names for end, names in ends.items() if 2 * len(names) >= len(both)}
    for end, names in found.items():
        _say(
            f"{folder}: {len(names)} files {end} the name of a mask, have no image of their own "
            "and do not count as masks"
        )
    return [name for names in found.values() for name in names]


def _recognise(
    images: Mapping[str, Path], masks: Mapping[str, Path], names: Names, where: Path
) -> None:
    """Raise `ConfigError` where no image has a mask, but would if names were read otherwise."""
    if not images or not masks:
        return
    found = affixes(images, masks)
    if found is None:
        return
    said = {
        "image_prefix": found.images.prefix,
        "image_suffix": found.images.suffix,
        "mask_prefix": found.masks.prefix,
        "mask_suffix": found.masks.suffix,
    }
    keys = ", ".join(f"{key}: {value}" for key, value in said.items() if value)
    image, mask = next(iter(images.values())), next(iter(masks.values()))
    if keys and not (names.images or names.masks):
        what = f"every mask ends in {found.masks.suffix}" if keys.count(":") == 1 and (
            found.masks.suffix
        ) else f"they are called {image.name} and {mask.name}"  # fmt: skip
        raise ConfigError(f"{where}: no image has a mask of its own name; {what}: write {keys}")
    raise ConfigError(
        f"{where}: no image has a mask of its own name; they are called {image.name} and "
        f"{mask.name}; look at mask_prefix, mask_suffix, image_prefix and image_suffix"
    )


def _check_own(pairs: Iterable[tuple[Path | None, Path | None]], where: Path) -> None:
    """Raise `ConfigError` for an image that is its own mask, by whatever links."""
    for image, mask in pairs:
        if image is None or mask is None or image.name != mask.name:
            continue
        if image.exists() and mask.exists() and image.samefile(mask):
            raise ConfigError(f"{where}: {image} and its mask {mask} are one file")
