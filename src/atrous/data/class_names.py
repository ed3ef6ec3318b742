"""What the classes in masks are called and stored as, where no description says so."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atrous import texts
from atrous.data.masks import Look
from atrous.data.meaning import blurred
from atrous.data.polygons import BACKGROUND, IGNORED, NOTHING
from atrous.labels import CITYSCAPES, VOC, VOID_COLOUR, Colour

_LISTS = ("classes.txt", "class_names.txt", "labels.txt")
_CITYSCAPES_VOID = ((0, 0, 0), (111, 74, 0), (81, 0, 81))
"""What is unlabelled or static, what is dynamic, and the ground."""

_RECOGNISED = 4
"""So many colours of Cityscapes make masks of its kind, in which black is no class."""


@dataclass
class Named:
    """What a file that a tool wrote says of classes.

    Attributes:
        names: of the classes.
        colours: one for each, or `None`.
        values: stored value → class; empty if the names are in order.
        ignored: names among those that are not scored.
    """

    names: list[str] = field(default_factory=list)
    colours: list[Colour | None] = field(default_factory=list)
    values: dict[int, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)


def named_classes(folder: Path, reasons: list[str]) -> Named:
    """The first file in a folder that names classes; empty if there is none."""
    for path in sorted(folder.rglob("*")):
        try:
            found = _read(path)
        except (OSError, UnicodeError, IndexError, ValueError):
            continue
        if found is not None and found.names:
            found.names = [BACKGROUND if one in NOTHING else one for one in found.names]
            found.ignored = [one for one in found.names if one in IGNORED]
            reasons.append(f"{path.name} names the classes {', '.join(found.names)}")
            return found
    return Named()


def _read(path: Path) -> Named | None:
    name = path.name.lower()
    if name in ("labelmap.txt", "label_colors.txt"):  # CVAT: name:r,g,b:parts:actions
        rows = [line.split(":") for line in texts.read_lines(path) if line[0] != "#"]
        colours = [_colour(row[1]) if len(row) > 1 else None for row in rows]
        return Named([row[0] for row in rows], colours)
    if name == "_classes.csv":  # Roboflow: Pixel Value, Class
        values: dict[int, str] = {}
        for row in csv.reader(texts.read_lines(path)):
            if row[0].strip().isdigit():
                values[int(row[0])] = row[1].strip()
        return Named(list(values.values()), [None] * len(values), values)
    if name in _LISTS:
        # Labelme numbers the first line -1.
        lines = [line for line in texts.read_lines(path) if line != IGNORED[0]]
        return Named(lines, [None] * len(lines))
    return None


def _colour(text: str) -> Colour | None:
    parts = [int(part) for part in re.findall(r"\d+", text)]
    return (parts[0], parts[1], parts[2]) if len(parts) >= 3 else None


def guessed_classes(
    seen: list[tuple[Path, Look]], named: Named, reasons: list[str]
) -> dict[str, Any]:
    """The keys that say what is in the masks.

    Args:
        seen: some of them.
        named: what a file says of the classes.
        reasons: one sentence for each decision is added.
    """
    found = [one for _, one in seen]
    used = sorted({value for one in found for value in one.values or ()})
    coloured = [one for one in found if one.values is None]
    if any(named.colours) and (coloured or any(one.palette for one in found)):
        reasons.append("the classes have colours, and so have the masks: they are read by colour")
        listed = {
            name: list(colour)
            for name, colour in zip(named.names, named.colours, strict=True)
            if colour is not None
        }
        void = [listed.pop(name) for name in named.ignored if name in listed]
        return {"classes": listed, "mask_type": "rgb", **_key("ignore_colours", void)}
    painted = {(index, colour) for one in found for index, colour in one.palette.items()}
    if coloured or len(painted) > len({index for index, _ in painted}):
        every = {colour for one in found for colour in (*one.colours, *one.palette.values())}
        return {**_of_colours(every, reasons), "mask_type": "rgb"}
    if not named.values and len(named.names) <= 2 and blurred(found):
        reasons.append(
            "the masks are black and white, with greys that JPEG or a smooth resize left"
        )
        used = [0, 255]
    return {**_of_values(used, named, reasons), "mask_type": "ids"}


def _key(name: str, content: list[Any]) -> dict[str, list[Any]]:
    return {name: content} if content else {}


def _of_values(used: list[int], named: Named, reasons: list[str]) -> dict[str, Any]:
    reasons.append(f"the masks hold the values {', '.join(map(str, used[:12]))}")
    if len(used) == 1:
        reasons.append(f"every pixel of every mask is {used[0]}: are these the right masks?")
    names = named.names
    if named.values:
        values = {value: IGNORED[1] if n in IGNORED else n for value, n in named.values.items()}
        return {"classes": [one for one in names if one not in IGNORED], "values": values}
    objects = [value for value in used if value not in (0, 255)] or [one for one in used if one]
    if len(names) == 1 and names[0] != BACKGROUND and len(objects) <= 1:
        return _of_one_name(names[0], objects[0] if objects else 1, used, reasons)
    if used == [0, 255] and len(names) in (0, 2):
        one = names or [BACKGROUND, "object"]
        reasons.append("0 and 255 are two classes: nothing would be left if 255 were ignored")
        return {"classes": one, "values": {0: one[0], 255: one[1]}}
    inside = [value for value in used if value != 255]
    most = max(inside, default=0)
    if names and most < len(names):
        return {"classes": names, **_key("ignore", named.ignored)}
    if names and inside and min(inside) >= 0 and most == len(names):
        reasons.append(f"{len(names)} names end at the value {most}: 0 is taken as not labelled")
        return {"classes": names, "ignore": [0, *named.ignored]}
    return _unnamed(inside, 255 in used, reasons)


def _of_one_name(name: str, value: int, used: list[int], reasons: list[str]) -> dict[str, Any]:
    reasons.append(f"one class is named: {value} is taken as {name}, and 0 as {BACKGROUND}")
    classes = {"classes": [BACKGROUND, name]}
    if value == 1:
        return classes
    void = [255] if 255 in used and value != 255 else []
    return {**classes, "values": {0: BACKGROUND, value: name}, **_key("ignore", void)}


def _unnamed(inside: list[int], void: bool, reasons: list[str]) -> dict[str, Any]:
    most = max(inside, default=0)
    if inside and min(inside) >= 0 and most < 2 * len(inside) + 2:
        if void:
            reasons.append("255 is taken as not labelled")
        first = [BACKGROUND] if 0 in inside else ["class 0"]
        return {"classes": first + [f"class {i}" for i in range(1, most + 1)]}
    listed = [f"value {value}" for value in inside]
    found = dict(zip(inside, listed, strict=True))
    reasons.append("what the values stand for has to be written behind them")
    return {"classes": listed, "values": found, **_key("ignore", [255] if void else [])}


def _of_colours(every: set[Colour], reasons: list[str]) -> dict[str, Any]:
    void, known = _void(every)
    reasons.append(f"the masks hold {len(every)} colours: give them their names")
    if void:
        listed = ", ".join(map(str, void))
        reasons.append(f"the colours are those of {known}, which has no class for {listed}")
    classes = _name_colours(sorted(every - set(void)))
    return {"classes": classes, **_key("ignore_colours", [list(colour) for colour in void])}


def _void(every: set[Colour]) -> tuple[list[Colour], str]:
    """The colours of no class, and the data set that they and the others are recognised by."""
    if VOID_COLOUR in every and every & set(VOC.colours[1:]):
        return [VOID_COLOUR], "PASCAL VOC"
    if len(every & set(CITYSCAPES.colours)) >= _RECOGNISED:
        return sorted(every & set(_CITYSCAPES_VOID)), "Cityscapes"
    return [], ""


def _name_colours(colours: Collection[Colour]) -> dict[str, list[int]]:
    """Names of colours, those of known data sets where one is not just a pure red or green."""
    known: dict[Colour, str] = {(0, 0, 0): VOC.names[0]}
    for labels in (CITYSCAPES, VOC):
        if any(set(one) - {0, 255} for one in set(colours) & set(labels.colours)):
            known |= zip(labels.colours, labels.names, strict=True)
    found: dict[str, list[int]] = {}
    for number, colour in enumerate(colours):
        name = known.get(colour, f"class {number}")
        found[name if name not in found else f"class {number}"] = list(colour)
    return found
