"""YAML with dotted keys: read it strictly, set single keys, and say in one line what is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from atrous import limits, texts
from atrous.errors import ConfigError

# A key of another type than text is unknown, too.
_UNKNOWN = ("extra_forbidden", "invalid_key")
# YAML's types as their users call them.
_TYPES = {
    "a valid list": "a list",
    "a valid tuple": "a list",
    "a valid string": "text",
    "a valid boolean": "true or false",
    "a valid integer": "a whole number",
}

# Text that would be another type without its quotes.
_QUOTED = re.compile(r"[-+]?[0-9][0-9.]*(e[-+]?[0-9]+)?|true|false", re.IGNORECASE)

# Branches of a union, as pydantic calls them.
_BRANCH = re.compile(r"str|int|(list|dict|tuple|literal)\[.*\]")


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which YAML would keep the last.

    It also refuses what is nested too deep, what becomes too much where aliases are written out,
    and escapes that stand for no character.
    """

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > limits.DEPTH:
            mark = parent.start_mark if parent is not None else None
            raise yaml.MarkedYAMLError(problem="nested too deep", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.ScalarNode) and not node.value.isascii():
            try:
                node.value.encode()
            except UnicodeEncodeError:
                problem = "half of a surrogate pair, which is no character"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None
        return node

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None and _values(node, {}) > limits.YAML_VALUES:
            problem = f"more than {limits.YAML_VALUES} values, aliases written out"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in getattr(node, "value", ()):
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                problem = f"the key {key!r} occurs twice; keep one"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


def _values(node: Any, known: dict[int, int]) -> int:
    """How many values a node stands for; one that holds itself has no end."""
    if id(node) not in known:
        known[id(node)] = limits.YAML_VALUES + 1  # until it is known
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = (one for part in inner for one in (part if isinstance(part, tuple) else (part,)))
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]


def read(path: Path, overrides: Sequence[str] = (), *, such_as: str) -> dict[str, Any]:
    """Read a file of keys, and change some.

    Args:
        path: the YAML file.
        overrides: see `override`, one after the other.
        such_as: keys that one would expect, for the message.

    Raises:
        ConfigError: the file cannot be read or holds something else, or an override does not fit.
    """
    try:
        content = parse(texts.read(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{path}: not a readable YAML file: {error}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys such as {such_as}, found {kind(content)}")
    for text in overrides:
        override(content, text)
    return content


def parse(text: str) -> Any:
    """Read YAML.

    Raises:
        ValueError: it is none, or a key occurs twice; one line that names the place.
    """
    try:
        if len(text) > limits.YAML_BYTES:
            raise ValueError(f"more than {limits.YAML_BYTES} characters, expected settings")
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ValueError("not valid YAML: nested too deep") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{place}not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from None


def override(content: dict[str, Any], text: str) -> None:
    """Set one key in place.

    Args:
        content: what `parse` returned.
        text: `key=value`, the key dotted, the value YAML; sections are made where they are missing.

    Raises:
        ConfigError: `text` is of another form, or a part of the key holds a value.
    """
    dotted, equals, value = text.partition("=")
    *sections, last = (part.strip() for part in dotted.split("."))
    if not equals or not all((*sections, last)):
        raise ConfigError(f"{text!r}: expected key=value, as backend.dtype=fp16")
    for depth, section in enumerate(sections):
        if content.get(section) is None:
            content[section] = {}
        content = content[section]
        if not isinstance(content, dict):
            where = ".".join(sections[: depth + 1])
            raise ConfigError(f"{text!r}: {where} is {kind(content)}; set it as a whole")
    try:
        content[last] = parse(value)
    except ValueError as error:
        raise ConfigError(f"{text!r}: {error}") from None


def at(content: Any, dotted: str) -> Any:
    """What lies under a dotted key; `None` if there is nothing."""
    for part in dotted.split(".") if dotted else ():
        content = content.get(part) if isinstance(content, dict) else None
    return content


def take(content: dict[str, Any], table: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    """Move keys out of `content`.

    Args:
        content: changed in place.
        table: dotted section → keys that are moved.

    Returns:
        The keys that were there, nested as in `content`.
    """
    taken: dict[str, Any] = {}
    for dotted, keys in table.items():
        section = at(content, dotted)
        if not isinstance(section, dict):
            continue
        found = {key: section.pop(key) for key in keys if key in section}
        target = taken
        for part in dotted.split(".") if found else ():
            target = target.setdefault(part, {})
        target.update(found)
    return taken


def merged(content: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with the keys of `other` added, section by section."""
    result = dict(content)
    for key, value in other.items():
        inner = result.get(key)
        both = isinstance(inner, dict) and isinstance(value, dict)
        result[key] = merged(inner, value) if both else value  # type: ignore[arg-type]
    return result


def complaint(
    error: ValidationError,
    sections: Mapping[str, type[BaseModel]],
    tagged: Mapping[str, type[BaseModel]],
    accepted: Mapping[str, Iterable[str]],
) -> str:
    """One line about what is wrong first of all.

    Args:
        error: pydantic's.
        sections: dotted name of a section → its keys; lists are named without their index.
        tagged: `type` of an entry of a list → its keys.
        accepted: section → further keys that are known.
    """
    # A misspelt key explains a missing one; of a union, the branch that went deepest is meant.
    found = error.errors(include_url=False)
    branches = [e for e in found if e["loc"][:1] == found[0]["loc"][:1] and _branches(e["loc"])]
    worst = next((e for e in found if e["type"] in _UNKNOWN), None)
    worst = worst or max(branches, key=lambda e: len(e["loc"]), default=found[0])
    loc, kind_of, value = worst["loc"], worst["type"], worst["input"]
    context = worst.get("ctx", {})
    where = _dotted(loc, tagged)
    match kind_of:
        case "extra_forbidden" | "invalid_key":
            tag = next((str(part) for part in loc[:-1] if part in tagged), None)
            section = ".".join(str(part) for part in loc[:-1])
            fields = tagged[tag] if tag else sections[section]
            known = [*fields.model_fields, *accepted.get(section, ())]
            where = _dotted((*loc[:-1], str(loc[-1])), tagged)
            return f"{where}: unknown key{nearest(str(loc[-1]), known)}"
        case "missing":
            return f"{where}: missing; add it"
        case "literal_error":
            hint = f"; did you mean {near}?" if (near := _close(value, context["expected"])) else ""
            listed = any(e["type"] in ("list_type", "tuple_type") for e in branches)
            expected = f"{context['expected']}{' or a list' if listed else ''}"
            return f"{where}: expected {expected}, found {short(value)}{hint}"
        case "union_tag_invalid":
            return f"{where}.type: unknown type {context['tag']!r}{nearest(context['tag'], tagged)}"
        case "union_tag_not_found":
            return f"{where}: expected a mapping with a type, found {short(value)}"
        case "value_error":
            return f"{where}: {context['error']}" if where else str(context["error"])
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{where}: expected a section with keys, found {kind(value)} {short(value)}"
    message = worst["msg"].removeprefix("Input should be ")
    for pydantics, ours in _TYPES.items():
        message = message.replace(pydantics, ours)
    return f"{where}: expected {message}, found {_told(value, message)}"


def _told(value: object, expected: str) -> str:
    """A value that was not expected; text in quotes that looks like what was meant is said so."""
    if isinstance(value, str) and "text" not in expected and _QUOTED.fullmatch(value):
        return f"the text '{value}'; take its quotes away"
    return short(value)


def _dotted(loc: tuple[int | str, ...], tagged: Mapping[str, Any]) -> str:
    text, previous = "", None
    for part in loc:
        if part in (*_branches(loc), "[key]"):
            continue
        if isinstance(part, int):
            text += f"[{part}]"
        elif not (isinstance(previous, int) and part in tagged):
            text += f".{part}" if text else str(part)
        previous = part
    return text


def _branches(loc: tuple[int | str, ...]) -> list[str]:
    """The parts of a place that are no keys but branches of a union."""
    return [p for p in loc if isinstance(p, str) and _BRANCH.fullmatch(p)]


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or a list of what there is."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(known)}" if known else "; there are none here"


def _close(value: object, expected: str) -> str:
    words = expected.replace(" or ", ", ").replace("'", "").split(", ")
    return next(iter(difflib.get_close_matches(str(value), words, n=1)), "")


def kind(value: object) -> str:
    """What YAML calls the type of `value`."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return "text"
        case _:
            return "a value"


def short(value: object, longest: int = 60) -> str:
    """`value` in one line, cut."""
    words = {"None": "null", "True": "true", "False": "false"}
    written = value if isinstance(value, str) else words.get(repr(value), repr(value))
    text = " ".join(written.split())
    return text if len(text) <= longest else f"{text[:longest]}…"
