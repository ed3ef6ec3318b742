"""The classes of one's own data set, and what stored values stand for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from atrous.data.meaning import IGNORED, NOT_A_CLASS
from atrous.errors import ConfigError, InputError
from atrous.labels import Colour, LabelSet, interleaved_colour

Values = Mapping[int, str | int | None]


@dataclass(frozen=True)
class Classes:
    """What a file says of classes.

    Attributes:
        labels: their names and colours.
        coloured: the colours are said, for every class.
        table: id of each stored value, where the file says so.
        others: id of all other values, `None` to refuse them.
    """

    labels: LabelSet
    coloured: bool
    table: dict[int, int] | None = None
    others: int | None = None


def classes(
    said: Sequence[str] | Mapping[str, Colour] | None,
    values: Values | None,
    ignore: Sequence[int | str] | Literal["others"],
    ignore_index: int,
    where: Path,
    *,
    rgb: bool = False,
) -> Classes:
    """Put together what the keys `classes`, `values`, `ignore` and `ignore_index` say.

    Args:
        said: names, or names with colours; `None` takes the names of `values` in their order.
        values: name, or id, of each stored value; `ignore` or nothing for what is not scored.
        ignore: stored values and classes that are not scored; `others` for all that `values`
            does not name. Without `values`, the other stored values are the classes in order.
        ignore_index: the id that stands for what is not scored.
        where: the file, for messages.
        rgb: classes are told by their colours.

    Raises:
        ConfigError: the keys do not fit each other.
    """
    names, colours = _named(said, values, rgb, where)
    if rgb and (values is not None or ignore):
        key = "values" if values is not None else "ignore"
        raise ConfigError(
            f"{where}: {key} is for stored values, and mask_type is rgb: give colours in classes "
            "and ignore_colours, or take mask_type out"
        )
    if isinstance(ignore, str):
        if values is None:
            raise ConfigError(f"{where}: ignore: others needs values, which name all the others")
        numbers, dropped = set[int](), set[str]()
    else:
        numbers = {one for one in ignore if isinstance(one, int)}
        dropped = {one for one in ignore if isinstance(one, str)}
    if unknown := sorted(dropped - set(names)):
        raise ConfigError(f"{where}: ignore: no class {unknown[0]!r}; expected values or classes")
    kept = [name for name in names if name not in dropped]
    labels = _labels(kept, [colours[name] for name in kept], ignore_index, where)
    coloured = isinstance(said, Mapping)
    if values is not None:
        table = _of_values(values, numbers, dropped, labels, where)
        return Classes(labels, coloured, table, ignore_index if ignore == "others" else None)
    if not ignore:
        return Classes(labels, coloured)
    if 0 in numbers and names[0].lower() in NOT_A_CLASS:
        raise ConfigError(
            f"{where}: ignore: [0] means that {names[0]!r} is the value 1; write ignore: "
            f"[{names[0]}] if 0 is {names[0]}"
        )
    table = {}
    stored = (value for value in range(65536) if value not in numbers)
    for name in names:
        value = next(stored)
        table[value] = ignore_index if name in dropped else kept.index(name)
    table |= dict.fromkeys(numbers, ignore_index)
    table.setdefault(ignore_index, ignore_index)
    return Classes(labels, coloured, table)


def numbered(said: object) -> dict[int, str]:
    """What says which number a class has, as `{0: background}` or `{background: 0}`; or nothing."""
    pairs = list(said.items()) if isinstance(said, dict) else []
    found = {one: other for one, other in pairs if isinstance(one, int) and isinstance(other, str)}
    turned = {one: other for other, one in pairs if isinstance(one, int) and isinstance(other, str)}
    return next((one for one in (found, turned) if one and len(one) == len(pairs)), {})


def _named(
    said: Sequence[str] | Mapping[str, Colour] | None, values: Values | None, rgb: bool, where: Path
) -> tuple[list[str], dict[str, Colour]]:
    if said is None:
        names = list(
            dict.fromkeys(
                one for one in (values or {}).values() if isinstance(one, str) and one != IGNORED
            )
        )
        if not names:
            raise ConfigError(f"{where}: classes: missing; add it")
    else:
        names = list(said)
    if isinstance(said, Mapping):
        return names, dict(said)
    if rgb:
        raise ConfigError(
            f"{where}: classes: mask_type rgb needs a colour for every class, as "
            "road: [128, 64, 128]"
        )
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise ConfigError(f"{where}: classes: names {twice!r} twice; keep one")
    return names, {name: interleaved_colour(i % 256) for i, name in enumerate(names)}


def _labels(names: list[str], colours: list[Colour], ignore_index: int, where: Path) -> LabelSet:
    if ignore_index < len(names) <= 255:
        left = [name for i, name in enumerate(names) if i != ignore_index]
        numbers = f"{', '.join(map(str, range(1, len(names) + 1)))}"
        zero = (
            f"; where 0 is no class and {numbers} are {', '.join(names)}, write ignore: [0] instead"
            if ignore_index == 0
            else ""
        )
        raise ConfigError(
            f"{where}: ignore_index {ignore_index} must be 0..255 and outside the class ids "
            f"0..{len(names) - 1}{zero}; where {names[ignore_index]} is not to be scored, write "
            f"ignore: [{names[ignore_index]}], which leaves {', '.join(left) or 'no class'}"
        )
    try:
        return LabelSet(where.stem, tuple(names), tuple(colours), ignore_index)
    except InputError as error:
        raise ConfigError(f"{where}: {error}") from None


def _of_values(
    values: Values, numbers: set[int], dropped: set[str], labels: LabelSet, where: Path
) -> dict[int, int]:
    table = dict.fromkeys(numbers, labels.ignore_index)
    ids = {name: i for i, name in enumerate(labels.names)} | dict.fromkeys(
        dropped, labels.ignore_index
    )
    ids.setdefault(IGNORED, labels.ignore_index)
    for value, meant in values.items():
        if value in numbers and meant not in (None, IGNORED):
            raise ConfigError(f"{where}: the value {value} is in values and in ignore; keep one")
        if meant is None or meant == labels.ignore_index:
            table[value] = labels.ignore_index
        elif isinstance(meant, int):
            if not 0 <= meant < labels.num_classes:
                raise ConfigError(
                    f"{where}: values.{value}: expected a class or its id "
                    f"0..{labels.num_classes - 1}, found {meant}"
                )
            table[value] = meant
        elif meant in ids:
            table[value] = ids[meant]
        else:
            raise ConfigError(
                f"{where}: values.{value}: no class {meant!r}; expected one of "
                f"{', '.join(labels.names)}, or {IGNORED}"
            )
    missing = [name for i, name in enumerate(labels.names) if i not in table.values()]
    if missing:
        raise ConfigError(f"{where}: values: no value stands for {', '.join(missing)}; add it")
    return table
