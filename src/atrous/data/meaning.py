"""What the values and colours in masks stand for: as their file says, or as the masks show.

The masks of all splits are looked at together, some of them, so that each split is read alike. What
was decided is refused, and never guessed anew, in a mask that does not agree with it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from atrous.data.dataset import Decode
from atrous.data.masks import ColourTable, IdReader, Look, look
from atrous.errors import ConfigError, InputError
from atrous.labels import Colour, LabelSet

_log = logging.getLogger("atrous")

LOOKED_AT = 64
"""Masks that are looked at, and as many again for as long as they all hold the value 0 alone."""

MOST_PIXELS = 2**28
"""Of all masks that are looked at."""

_NEARLY = 8
"""So far from black and white are those that JPEG has blurred."""

IGNORED = "ignore"
"""What `values` calls pixels that are not scored."""

NOT_A_CLASS = ("background", "void", "unlabeled", "unlabelled", "unknown", "ignored", "nodata")
"""Names by which 0 is known where it is no class."""


@dataclass(frozen=True)
class Said:
    """What the file of a data set says of its masks.

    Attributes:
        kind: `ids`, `palette`, `rgb`, or `None` if nothing is said.
        coloured: there is a colour for every class.
        table: id of each stored value, where the file says what values stand for.
        others: id of all other values, `None` to refuse them.
        ignore_index: the file says which id is not scored.
        ignored: colours that are not scored.
        max_pixels: of a mask.
    """

    kind: str | None
    coloured: bool
    table: Mapping[int, int] | None
    others: int | None
    ignore_index: bool
    ignored: tuple[Colour, ...]
    max_pixels: int


def looks(masks: Sequence[Path], max_pixels: int) -> list[tuple[Path, Look]]:
    """Look at some masks, evenly spread; those that cannot be read are left out."""
    found: list[tuple[Path, Look]] = []
    step = max(1, len(masks) // LOOKED_AT)
    pixels = 0
    for start in range(step):
        for path in masks[start::step]:
            try:
                found.append((path, look(path, max_pixels)))
            except InputError:
                continue
            one = found[-1][1]
            pixels += sum((one.values or one.colours).values())
            if pixels > MOST_PIXELS:
                return found
        if any(one.values is None or one.values.keys() - {0} for _, one in found):
            break
    return found


def decoder(said: Said, labels: LabelSet, seen: Sequence[tuple[Path, Look]], where: Path) -> Decode:
    """How the masks of a data set are read.

    Args:
        said: in its file.
        labels: its classes.
        seen: some of its masks.
        where: its file, for messages and what is logged.

    Raises:
        ConfigError: what is said and what is seen cannot both be.
    """
    colours = _colours(said, labels, where)
    if said.kind == "rgb":
        return ColourTable(tuple(colours.items()), said.max_pixels)
    if said.ignored and said.kind is not None:
        raise ConfigError(f"{where}: ignore_colours belongs to mask_type rgb, not {said.kind}")
    reader = IdReader(
        ("P",) if said.kind == "palette" else IdReader().modes,
        grey=_greys(seen),
        max_pixels=said.max_pixels,
        classes=labels.num_classes,
        unlabelled=labels.ignore_index,
    )
    if said.table is not None:
        _say_nodata(said, labels, seen, where)
        return replace(reader, table=tuple(said.table.items()), others=said.others)
    if said.kind is None and said.coloured:
        by_colour = _by_colour(said, labels, colours, seen, where)
        if by_colour is not None:
            return by_colour
    if said.kind is None and not said.coloured:
        _check_palettes(seen, where)
    if said.kind is None and seen:
        _say(where, seen, "ids")
    if said.kind is not None and colours:
        turned = next((path for path, one in seen if _contradicts(one, colours)), None)
        if turned is not None:
            _log.warning(
                "%s: the palette of %s has the colours of the classes in another order than "
                "their numbers; the numbers are taken, as mask_type: %s says",
                where, turned.name, said.kind
            )  # fmt: skip
    used = _used(seen)
    if said.coloured and said.kind != "palette":
        shades = {colour[0]: i for i, colour in enumerate(labels.colours) if len({*colour}) == 1}
        wrong = {v for v in used if v >= labels.num_classes} - _ignored(said, labels)
        if wrong and used <= shades.keys():
            return _mapped(reader, labels, {v: shades[v] for v in sorted(shades)}, where)
    _say_nodata(said, labels, seen, where)
    if _binary(said, labels, seen, where):
        return _mapped(reader, labels, {0: 0, 255: 1}, where)
    palette = tuple(colours.items()) if said.kind is None and said.coloured else ()
    unseen = labels.num_classes > 1 and not said.ignore_index and 255 not in used
    mixed = "holds nothing but 0 and 255, and the masks that were looked at hold no 255"
    return replace(
        reader,
        palette=palette,
        advice=advice(labels, seen),
        mixed=f"{mixed}; {_way_out(labels)}" if unseen else "",
    )


def advice(labels: LabelSet, seen: Sequence[tuple[Path, Look]]) -> str:
    """What to write in the file where masks hold values that are no class; empty if nothing."""
    used, count = _used(seen), labels.num_classes
    inside = used - {labels.ignore_index}
    if not inside or (max(inside) < count and min(inside) >= 0):
        return ""
    if blurred([one for _, one in seen]):
        return (
            "black and white with greys between them, as JPEG and smooth resizes leave edges: make "
            "the masks again as PNG with two values, resized to the nearest pixel"
        )
    if inside == set(range(1, count + 1)):
        return f"nothing is 0: write ignore: [0], and 1..{count} are the classes in order"
    if inside == set(range(count + 1)):
        return (
            "there is one value more than classes: name what 0 is, or write ignore: [0] if it is "
            f"nothing, and 1..{count} are the classes in order"
        )
    every = sorted(used) if len(used) == count else sorted(inside)
    if len(every) == count:
        pairs = zip(every, labels.names, strict=True)
        text = ", ".join(f"{value}: {name}" for value, name in pairs)
        return f"say what they stand for, as values: {{{text}}}"
    return "say what they stand for in values, and what is not scored in ignore"


def blurred(masks: Sequence[Look]) -> bool:
    """Whether masks were black and white before JPEG or a smooth resize mixed the two at edges."""
    pixels: Counter[int] = Counter()
    for one in masks:
        pixels.update(one.values or {})
    common = sorted(value for value, _ in pixels.most_common(2))
    if len(common) < 2 or common[0] > _NEARLY or not 255 - _NEARLY <= common[1] <= 255:
        return False
    # Numbers of a catalogue lie on the dark side alone, beside 255 for what has none.
    between = [value for value in pixels if common[0] < value < common[1]]
    both = any(value < 128 for value in between) and any(value >= 128 for value in between)
    return both and max(pixels) <= 255 and sum(pixels[v] for v in common) > 0.5 * pixels.total()


def _colours(said: Said, labels: LabelSet, where: Path) -> dict[Colour, int]:
    if not said.coloured:
        return {}
    found = dict.fromkeys(said.ignored, labels.ignore_index)
    for class_id, colour in enumerate(labels.colours):
        if colour in found:
            if said.kind != "rgb":
                return {}
            raise ConfigError(f"{where}: the colour {colour} is given twice")
        found[colour] = class_id
    return found


def _by_colour(
    said: Said,
    labels: LabelSet,
    colours: Mapping[Colour, int],
    seen: Sequence[tuple[Path, Look]],
    where: Path,
) -> ColourTable | None:
    """A reader by colour where the masks show that their colours are what counts."""
    if not colours:
        return None
    table = ColourTable(tuple(colours.items()), said.max_pixels)
    shown = [one for _, one in seen if one.mode not in IdReader().modes]
    if any(one.values is None or one.colours.keys() <= colours.keys() for one in shown):
        _say(where, seen, "rgb")
        return table
    turned = next((path for path, one in seen if _contradicts(one, colours)), None)
    if turned is not None:
        _log.warning(
            "%s: mask_type is not given; the palette of %s has the colours of the classes in "
            "another order than their numbers, so all masks are taken by colour; write "
            "mask_type: rgb to say so, or mask_type: ids if the numbers are right",
            where, turned.name,
        )  # fmt: skip
        return ColourTable(tuple(colours.items()), said.max_pixels, labels.ignore_index)
    greys = {colour[0]: i for colour, i in colours.items() if len({*colour}) == 1}
    used = {v for _, one in seen if one.mode == "L" for v in one.values or ()}
    if used and used <= greys.keys() and any(greys[value] != value for value in used):
        _say(where, seen, "rgb")
        return table
    return None


def _greys(seen: Sequence[tuple[Path, Look]]) -> bool:
    """Whether the masks that are stored as colours are all grey, and not all black."""
    stored = [one.values for _, one in seen if one.mode in ("RGB", "RGBA", "LA")]
    shown = any(values is not None and values.keys() - {0} for values in stored)
    return shown and None not in stored


def _contradicts(one: Look, colours: Mapping[Colour, int]) -> bool:
    return any(colours.get(colour, index) != index for index, colour in one.palette.items())


def _check_palettes(seen: Sequence[tuple[Path, Look]], where: Path) -> None:
    """Raise `ConfigError` where one index has different colours in two masks.

    Some tools number the colours of each file as they come.
    """
    first: dict[int, tuple[Colour, Path]] = {}
    for path, one in seen:
        if all(colour == (index,) * 3 for index, colour in one.palette.items()):
            continue  # a grey picture, which says nothing of colours
        for index, colour in one.palette.items():
            known, other = first.setdefault(index, (colour, path))
            if known != colour:
                raise ConfigError(
                    f"{where}: the palettes of the masks disagree: {index} is {known} in "
                    f"{other.name} and {colour} in {path.name}; give the colour of every class, as "
                    "road: [128, 64, 128], and mask_type: rgb; or mask_type: ids if the numbers "
                    "are right"
                )


def _binary(said: Said, labels: LabelSet, seen: Sequence[tuple[Path, Look]], where: Path) -> bool:
    """Whether the masks hold 0 and 255 for two classes."""
    used = _used(seen)
    if not said.ignore_index and used <= {*range(labels.num_classes), 255}:
        _check_mixed(labels, seen, where)
    if used != {0, 255}:
        return False
    if labels.num_classes == 1:
        raise ConfigError(
            f"{where}: the masks hold 0 and 255, and classes names {labels.names[0]!r} alone; name "
            f"what 0 is too: values: {{0: background, 255: {labels.names[0]}}} and classes: "
            f"[background, {labels.names[0]}]"
        )
    if labels.num_classes != 2:
        return False
    if said.ignore_index and labels.ignore_index == 255:
        first, second = labels.names
        raise ConfigError(
            f"{where}: the masks hold 0 and 255, and ignore_index: 255 leaves nothing of "
            f"{second!r}; take ignore_index out and write values: {{0: {first}, 255: {second}}}"
        )
    return True


def _check_mixed(labels: LabelSet, seen: Sequence[tuple[Path, Look]], where: Path) -> None:
    """Raise `ConfigError` where some masks hold classes, others 0 and 255, and none all three.

    One of several classes that holds 255 alone is a picture that nobody labelled.
    """
    held = {path: {*(one.values or ())} for path, one in seen}
    classes = {*range(1, labels.num_classes)}
    some = next((path for path, values in held.items() if values & classes), None)
    alone = {255} if labels.num_classes > 2 else set()
    white = next((path for path, own in held.items() if 255 in own and own != alone), None)
    both = any(255 in values and values & classes for values in held.values())
    if some is not None and white is not None and not both:
        raise ConfigError(
            f"{where}: {some.name} holds {min(held[some] & classes)} and {white.name} holds 255; "
            f"{_way_out(labels)}"
        )


def _way_out(labels: LabelSet) -> str:
    """What to write where it is open whether 255 is a class."""
    if labels.num_classes > 2:
        return "say in values which class 255 is, or write ignore_index: 255 if 255 is not scored"
    first, second = labels.names
    return (
        f"write values: {{0: {first}, 1: {second}, 255: {second}}} if both are {second}, or "
        "ignore_index: 255 if 255 is not scored"
    )


def _say_nodata(
    said: Said, labels: LabelSet, seen: Sequence[tuple[Path, Look]], where: Path
) -> None:
    """Say what becomes of a number that a mask calls no data, where its file does not."""
    marked = {one.nodata: path.name for path, one in reversed(seen) if one.nodata is not None}
    for value, name in marked.items():
        if value in (said.table if said.table is not None else _ignored(said, labels)):
            continue
        number = f"{value:.0f}" if abs(value) < 2**32 else f"{value:g}"
        if said.table is None and value in range(labels.num_classes):
            known = labels.names[int(value)]
            _log.warning(
                "%s: %s marks %s as no data, but it is taken as %s; write ignore: [%s] if it is "
                "not labelled, or name it in values if it is",
                where, name, number, known, known,
            )  # fmt: skip
        else:
            _log.warning("%s: %s marks %s as no data, taken as not labelled", where, name, number)


def _mapped(reader: IdReader, labels: LabelSet, table: dict[int, int], where: Path) -> IdReader:
    text = ", ".join(f"{value}: {labels.names[i]}" for value, i in table.items())
    _log.warning(
        "%s: the masks hold %s, taken as values: {%s}; write that line to say so",
        where, " and ".join(map(str, sorted(table))), text,
    )  # fmt: skip
    return replace(reader, modes=IdReader().modes, table=tuple(table.items()))


def _ignored(said: Said, labels: LabelSet) -> set[int]:
    return {labels.ignore_index} if said.ignore_index else set()


def _used(seen: Sequence[tuple[Path, Look]]) -> set[int]:
    return {value for _, one in seen for value in one.values or ()}


def _say(where: Path, seen: Sequence[tuple[Path, Look]], kind: str) -> None:
    modes = " and ".join(dict.fromkeys(one.mode for _, one in seen)) or "missing"
    _log.warning(
        "%s: mask_type is not given; the masks are %s, taken as %s; write mask_type: %s to say so",
        where, modes, kind, kind,
    )  # fmt: skip
