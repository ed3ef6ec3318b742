"""Class names and colours: what the numbers in a class map mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from atrous.errors import InputError
from atrous.palette import COLOURS

Colour = tuple[int, int, int]


def interleaved_colour(class_id: int) -> Colour:
    """Return the RGB colour PASCAL VOC gives to `class_id` (0..255), distinct for each.

    The bits of the id are dealt in turn to red, green and blue, highest colour bit first, as in
    the VOC development kit: 0 is black, 1 dark red, 255 the beige (224, 224, 192) of "void".
    """
    red, green, blue = (
        sum((class_id >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3))
        for channel in range(3)
    )
    return red, green, blue


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Names and colours of the classes of a model or data set.

    Attributes:
        name: what the set is called, as `voc`.
        names: one name per class id, in order.
        colours: one RGB colour, 0..255 each, per class id.
        ignore_index: the id of pixels that are not scored; 0..255 and not a class id.

    Raises:
        InputError: names and colours differ in number, or an id or colour is out of range.
    """

    name: str
    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    ignore_index: int = 255

    def __post_init__(self) -> None:
        count = len(self.names)
        if count != len(self.colours):
            raise InputError(
                f"label set {self.name!r}: {count} names but {len(self.colours)} colours"
            )
        if not 1 <= count <= 256:
            raise InputError(f"label set {self.name!r}: expected 1..256 classes, found {count}")
        if not 0 <= self.ignore_index <= 255 or (self.ignore_index < count <= 255):
            raise InputError(
                f"label set {self.name!r}: ignore_index {self.ignore_index} must be 0..255 "
                f"and outside the class ids 0..{count - 1}"
            )
        for label, colour in zip(self.names, self.colours, strict=True):
            if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
                raise InputError(
                    f"label set {self.name!r}: colour of {label!r} must be three numbers "
                    f"0..255, found {colour}"
                )

    @property
    def num_classes(self) -> int:
        """The number of classes, background included."""
        return len(self.names)

    def palette(self) -> bytes:
        """Return 768 bytes, RGB of ids 0..255, as Pillow's `Image.putpalette` takes them.

        Ids that are no class have VOC's colours; the ignored id has its beige.
        """
        return _palette(self.colours, self.ignore_index)

    def paint(self) -> bytes:
        """Return 768 bytes, RGB of ids 0..255, for pictures to look at.

        Colours that the set gives itself stay. Where they are only VOC's, which tell ids apart and
        few eyes, they are those of `atrous.palette`, and a background keeps its black.
        """
        return _paint(self.colours, self.ignore_index, self.names[0] == "background")

    @property
    def unpainted(self) -> tuple[int, ...]:
        """Ids that pictures to look at leave bare: what is ignored, and a background."""
        return (self.ignore_index, *([0] if self.names[0] == "background" else []))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that `json.dumps` takes and `from_dict` reads."""
        return {
            "name": self.name,
            "names": list(self.names),
            "colours": [list(colour) for colour in self.colours],
            "ignore_index": self.ignore_index,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LabelSet:
        """Read what `to_dict` wrote.

        Raises:
            InputError: a key is missing or unknown, or a value has the wrong type.
        """
        fields = {"name": str, "names": list, "colours": list, "ignore_index": int}
        if not isinstance(data, Mapping):
            raise InputError(f"label set: expected a mapping, found {type(data).__name__}")
        if set(data) != set(fields):
            raise InputError(f"label set: expected the keys {sorted(fields)}, found {sorted(data)}")
        for key, kind in fields.items():
            if not isinstance(data[key], kind) or isinstance(data[key], bool):
                raise InputError(
                    f"label set: {key!r} must be {kind.__name__}, found {type(data[key]).__name__}"
                )
        for label in data["names"]:
            if not isinstance(label, str):
                raise InputError(f"label set: a class name must be str, found {label!r}")
        for colour in data["colours"]:
            numbers = isinstance(colour, (list, tuple)) and len(colour) == 3
            if not numbers or not all(type(value) is int for value in colour):
                raise InputError(f"label set: a colour must be three integers, found {colour!r}")
        colours = tuple((red, green, blue) for red, green, blue in data["colours"])
        return cls(data["name"], tuple(data["names"]), colours, data["ignore_index"])


@lru_cache(maxsize=64)
def _palette(colours: tuple[Colour, ...], ignore_index: int) -> bytes:
    every = [*colours, *map(interleaved_colour, range(len(colours), 256))]
    if ignore_index >= len(colours):
        every[ignore_index] = VOID_COLOUR
    return bytes(value for colour in every for value in colour)


@lru_cache(maxsize=64)
def _paint(colours: tuple[Colour, ...], ignore_index: int, background: bool) -> bytes:
    if colours != tuple(map(interleaved_colour, range(len(colours)))):
        return _palette(colours, ignore_index)
    every = [*(colours[:1] if background else ()), *COLOURS][:256]
    if ignore_index >= len(colours):
        every[ignore_index] = VOID_COLOUR
    return bytes(value for colour in every for value in colour)


def of_number(num_classes: int) -> LabelSet:
    """The known set of that many classes, or `generic` names."""
    sizes = {known.num_classes: known for known in LABEL_SETS.values()}
    return sizes.get(num_classes) or generic(num_classes)


def parse(text: str) -> LabelSet:
    """A known set by its name, or one of names with commas between them.

    Raises:
        InputError: it is neither.
    """
    if text in LABEL_SETS:
        return LABEL_SETS[text]
    names = [name.strip() for name in text.split(",")]
    if len(names) < 2 or not all(names):
        known = ", ".join(LABEL_SETS)
        raise InputError(f"expected {known}, or the names of all classes: a,b,c; got {text!r}")
    return named(names)


def named(names: Sequence[str]) -> LabelSet:
    """Classes of these names, with distinct colours.

    Raises:
        InputError: they are not 1..256.
    """
    colours = tuple(map(interleaved_colour, range(min(len(names), 257))))
    return LabelSet("named", tuple(names)[:257], colours)


def generic(num_classes: int) -> LabelSet:
    """Return names `class 0`, `class 1`, … and distinct colours for a model of unknown labels.

    Raises:
        InputError: `num_classes` is not 1..256.
    """
    ids = range(min(num_classes, 257))
    names = tuple(f"class {class_id}" for class_id in ids)
    return LabelSet("generic", names, tuple(map(interleaved_colour, ids)))


VOID_COLOUR = interleaved_colour(255)

_VOC_NAMES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse "
    "motorbike person pottedplant sheep sofa train tvmonitor"
)

VOC = LabelSet("voc", tuple(_VOC_NAMES.split()), tuple(map(interleaved_colour, range(21))))
"""PASCAL VOC 2012: 20 classes and background."""

_CITYSCAPES: dict[str, Colour] = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}

CITYSCAPES = LabelSet("cityscapes", tuple(_CITYSCAPES), tuple(_CITYSCAPES.values()))
"""The 19 evaluated classes of Cityscapes, by train id."""

LABEL_SETS = {labels.name: labels for labels in (VOC, CITYSCAPES)}
"""The label sets known by name."""
