"""What a bare folder of pictures and masks seems to be: the file for it, with reasons."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from atrous import texts
from atrous.data.masks import Look
from atrous.data.meaning import blurred, looks
from atrous.data.pairing import Affix, Names, affixes
from atrous.data.splits import VAL_SHARE
from atrous.errors import ConfigError
from atrous.labels import CITYSCAPES, VOC, Colour
from atrous.pictures.folders import search
from atrous.pictures.opening import MAX_PIXELS

SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
_FEW = 3
_MOST_COLOURS = 64
"""A picture of more colours or greys is a photograph, and no mask."""

_MASKS = re.compile(r"mask|label|annot|segm|ground|truth|gt|target", re.IGNORECASE)


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


@dataclass(frozen=True)
class _Pair:
    images: Path
    masks: Path
    names: Names
    count: int


def guess(folder: Path, root: Path) -> Guess:
    """Describe a folder of pictures and masks.

    Args:
        folder: to look into.
        root: where the file will lie; its paths are relative to it.

    Raises:
        ConfigError: no masks were found in it, or none that belong to pictures.
    """
    reasons: list[str] = []
    files = _by_folder(folder)
    masks = {place: found for place, names in files.items() if (found := _masks_in(names))}
    pairs = _pairs(files, masks)
    if not pairs:
        what = ", ".join(f"{len(names)} in {place}" for place, names in list(files.items())[:6])
        raise ConfigError(
            f"{folder}: no masks that belong to pictures; found {what or 'no picture'}. A mask has "
            f"the name of its picture, and at most {_MOST_COLOURS} colours or greys; outlines in "
            "JSON become masks by atrous data masks"
        )
    content, splits = _folders(pairs, root, reasons)
    splits = splits or _lists(folder, root, content, pairs[0], reasons)
    alone = len(splits) == 1 and splits[0].lower().startswith("train")
    if (alone or not splits) and pairs[0].count > 1:
        content["val_share"] = VAL_SHARE
        reasons.append(
            f"nothing says what to score on: {VAL_SHARE:.0%} of the pictures are held out as val"
        )
        splits = ["train", "val"]
    split = min(splits, key=_order, default="all")
    paths = sorted(path for pair in pairs for path in masks[pair.masks])
    content |= _classes(looks(paths, MAX_PIXELS), _named_classes(folder, reasons), reasons)
    header = "".join(f"# {reason}\n" for reason in reasons)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return Guess(f"{header}{text}", split, reasons)


def _by_folder(folder: Path) -> dict[Path, list[Path]]:
    found: dict[Path, list[Path]] = {}
    for path in search(folder).pictures:
        found.setdefault(path.parent, []).append(path)
    return dict(sorted(found.items()))


def _masks_in(paths: list[Path]) -> list[Path]:
    """Those of some files that are masks by what they hold; all of one ending and affix count."""
    stems = {path.stem for path in paths}
    ending = _own_ending(stems)
    groups: dict[str, list[Path]] = {}
    for path in paths:
        own = "mask" if ending and path.stem.endswith(ending) else path.suffix.lower()
        groups.setdefault(own, []).append(path)
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


def _is_mask(one: Look) -> bool:
    if one.values is not None and one.mode in ("P", "L", "1", "I", "I;16", "I;16B", "F"):
        return len(one.values) <= _MOST_COLOURS
    return len(one.colours) <= _MOST_COLOURS


def _pairs(files: Mapping[Path, list[Path]], masks: Mapping[Path, list[Path]]) -> list[_Pair]:
    """Folders of images with their folders of masks, those that share most names."""
    found: list[_Pair] = []
    for place, names in files.items():
        pictures = [path for path in names if path not in masks.get(place, [])]
        if not pictures:
            continue
        tried = [_match(place, pictures, other, masks[other]) for other in masks]
        best = max((one for one in tried if one), key=_likely, default=None)
        if best is not None:
            found.append(best)
    return found


def _likely(pair: _Pair) -> tuple[int, int, bool, int, int]:
    both = [pair.images.as_posix(), pair.masks.as_posix()]
    parts = [part for part in re.split(r"[/_.-]", both[0]) if part in SPLITS]
    shared = sum(bool(re.search(rf"(?<![A-Za-z]){one}", both[1])) for one in parts)
    near = len(os.path.commonpath(both))
    # Files of several folders may have the same names: those of south are in south_masks.
    alike = _shared(both[0], both[1]) + _shared(both[0][::-1], both[1][::-1])
    return pair.count, shared, bool(_MASKS.search(pair.masks.name)), near, alike


def _shared(one: str, other: str) -> int:
    """How many letters two texts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _match(place: Path, pictures: list[Path], other: Path, masks: list[Path]) -> _Pair | None:
    left, right = {one.stem for one in pictures}, {one.stem for one in masks}
    same = len(left & right)
    if place == other:
        if same:
            endings = {one.suffix for one in masks}
            suffix = endings.pop() if len(endings) == 1 else ""
            return _Pair(place, other, Names(masks=Affix(suffix=suffix)), same) if suffix else None
    elif same or {one.name for one in pictures} & right:
        return _Pair(place, other, Names(), same or len({one.name for one in pictures} & right))
    found = affixes(left, right)
    if found is None:
        return None
    shared = {found.images.name(Path(f"{one}.x")) for one in left}
    count = len(shared & {found.masks.name(Path(f"{one}.x")) for one in right} - {None})
    return _Pair(place, other, found, count) if count else None


def _folders(
    pairs: list[_Pair], root: Path, reasons: list[str]
) -> tuple[dict[str, Any], list[str]]:
    """The keys that say where images and masks are, and the splits that folders make."""

    def below(path: Path) -> str:
        return Path(os.path.relpath(path, root)).as_posix()

    content: dict[str, Any] = {}
    known: list[str] = []
    patterns = {_pattern(below(one.images), below(one.masks)) for one in pairs}
    splits = [_split_in(below(one.images)) for one in pairs]
    if None not in splits and len(set(splits)) == len(pairs):
        known = sorted((one for one in splits if one is not None), key=_order)
        if len(patterns) == 1:
            content["images"], content["masks"] = patterns.pop()
        else:
            content["images"] = {
                str(s): below(p.images) for s, p in zip(splits, pairs, strict=True)
            }
            content["masks"] = {str(s): below(p.masks) for s, p in zip(splits, pairs, strict=True)}
        reasons.append(f"the folders are splits: {', '.join(known)}")
    else:
        best = max(pairs, key=_likely)
        content["images"], content["masks"] = below(best.images), below(best.masks)
        if len(pairs) > 1:
            reasons.append(f"{len(pairs)} folders have masks; this is the one with most")
        pairs[:] = [best]
    for one in pairs:
        reasons.append(
            f"{one.count} pictures of {below(one.images)} have a mask in {below(one.masks)}"
        )
    names = pairs[0].names
    for key, value in (
        ("image_prefix", names.images.prefix),
        ("image_suffix", names.images.suffix),
        ("mask_prefix", names.masks.prefix),
        ("mask_suffix", names.masks.suffix),
    ):
        if value:
            content[key] = value
            reasons.append(f"names show {key}: {value}")
    return content, known


def _split_in(path: str) -> str | None:
    found = [part for part in re.split(r"[/_.-]", path) if part.lower() in SPLITS]
    return found[0] if len(found) >= 1 else None


def _order(split: str) -> int:
    return SPLITS.index(split.lower())


def _pattern(images: str, masks: str) -> tuple[str, str]:
    split = _split_in(images)
    if split is None:
        return images, masks
    part = re.compile(rf"(?<![A-Za-z]){re.escape(split)}")
    return part.sub("{split}", images, count=1), part.sub("{split}", masks, count=1)


def _lists(
    folder: Path, root: Path, content: dict[str, Any], pair: _Pair, reasons: list[str]
) -> list[str]:
    """Add lists of names, where there are some; return the splits that they make."""
    found: dict[str, str] = {}
    stems = {path.stem for path in pair.images.iterdir()}
    for path in sorted(folder.rglob("*.txt")):
        if path.stem.lower() not in SPLITS:
            continue
        try:
            lines = texts.read_lines(path)[:_FEW]
        except (OSError, UnicodeError):
            continue
        if lines and all(Path(line.split()[0]).stem in stems for line in lines):
            found.setdefault(path.stem, Path(os.path.relpath(path, root)).as_posix())
    if found:
        content["splits"] = found
        reasons.append(f"lists of names are splits: {', '.join(found)}")
    return list(found)


def _named_classes(
    folder: Path, reasons: list[str]
) -> tuple[list[str], list[Colour | None], dict[int, str]]:
    """Names, colours and values of classes in a file that a tool wrote; empty if there is none."""
    for path in sorted(folder.rglob("*")):
        name = path.name.lower()
        try:
            if name in ("labelmap.txt", "label_colors.txt"):  # CVAT: name:r,g,b:parts:actions
                rows = [line.split(":") for line in texts.read_lines(path) if line[0] != "#"]
                colours = [_colour(row[1]) if len(row) > 1 else None for row in rows]
                found = [row[0] for row in rows], colours, dict[int, str]()
            elif name in ("_classes.csv",):  # Roboflow: Pixel Value, Class
                values = {}
                for row in csv.reader(texts.read_lines(path)):
                    if row[0].strip().isdigit():
                        values[int(row[0])] = row[1].strip()
                found = list(values.values()), [None] * len(values), values
            elif name in ("classes.txt", "class_names.txt", "labels.txt"):
                lines = texts.read_lines(path)
                found = lines, [None] * len(lines), {}
            else:
                continue
        except (OSError, UnicodeError, IndexError, ValueError):
            continue
        if found[0]:
            reasons.append(f"{path.name} names the classes {', '.join(found[0])}")
            return found
    return [], [], {}


def _colour(text: str) -> Colour | None:
    parts = [int(part) for part in re.findall(r"\d+", text)]
    return (parts[0], parts[1], parts[2]) if len(parts) >= 3 else None


def _classes(
    seen: list[tuple[Path, Look]],
    named: tuple[list[str], list[Colour | None], dict[int, str]],
    reasons: list[str],
) -> dict[str, Any]:
    """The keys that say what is in the masks."""
    names, colours, values = named
    found = [one for _, one in seen]
    used = sorted({value for one in found for value in one.values or ()})
    coloured = [one for one in found if one.values is None]
    if any(colour is not None for colour in colours) and (
        coloured or any(o.palette for o in found)
    ):
        reasons.append("the classes have colours, and so have the masks: they are read by colour")
        listed = {n: list(c) for n, c in zip(names, colours, strict=True) if c is not None}
        return {"classes": listed, "mask_type": "rgb"}
    painted = {(index, colour) for one in found for index, colour in one.palette.items()}
    if coloured or len(painted) > len({index for index, _ in painted}):
        every = {colour for one in found for colour in (*one.colours, *one.palette.values())}
        reasons.append(f"the masks hold {len(every)} colours: give them their names")
        return {"classes": _name_colours(sorted(every)), "mask_type": "rgb"}
    if not values and len(names) in (0, 2) and blurred(found):
        reasons.append(
            "the masks are black and white, with greys that JPEG or a smooth resize left"
        )
        used = [0, 255]
    return {**_of_values(used, names, values, reasons), "mask_type": "ids"}


def _of_values(
    used: list[int], names: list[str], values: Mapping[int, str], reasons: list[str]
) -> dict[str, Any]:
    reasons.append(f"the masks hold the values {', '.join(map(str, used[:12]))}")
    if values:
        return {"classes": names, "values": dict(values)}
    if used == [0, 255] and len(names) in (0, 2):
        one = names or ["background", "object"]
        reasons.append("0 and 255 are two classes: nothing would be left if 255 were ignored")
        return {"classes": one, "values": {0: one[0], 255: one[1]}}
    inside = [value for value in used if value != 255]
    most = max(inside, default=0)
    if names and most < len(names):
        return {"classes": names}
    if names and inside and min(inside) >= 0 and most == len(names):
        reasons.append(f"{len(names)} names end at the value {most}: 0 is taken as not labelled")
        return {"classes": names, "ignore": [0]}
    if inside and min(inside) >= 0 and most < 2 * len(inside) + 2:
        if 255 in used:
            reasons.append("255 is taken as not labelled")
        first = ["background"] if 0 in inside else ["class 0"]
        return {"classes": first + [f"class {i}" for i in range(1, most + 1)]}
    listed = [f"value {value}" for value in inside]
    found = dict(zip(inside, listed, strict=True))
    reasons.append("what the values stand for has to be written behind them")
    return {"classes": listed, "values": found, **({"ignore": [255]} if 255 in used else {})}


def _name_colours(colours: Iterable[Colour]) -> dict[str, list[int]]:
    known = {colour: name for labels in (VOC, CITYSCAPES) for name, colour in zip(
        labels.names, labels.colours, strict=True)}  # fmt: skip
    found: dict[str, list[int]] = {}
    for number, colour in enumerate(colours):
        name = known.get(colour, f"class {number}")
        found[name if name not in found else f"class {number}"] = list(colour)
    return found
