"""One's own images and masks: two folders, paired by name, described by a small YAML file.

    images: images/{split}          # or one folder for all splits, or {train: a, val: b}
    masks: masks/{split}
    classes:                        # names alone, or names with colours
      background: [0, 0, 0]
      road: [128, 64, 128]
    mask_type: rgb                  # ids: grey values or palette indices; palette: the latter
                                    # alone; rgb: colours. Default: what the first mask suggests
    ignore_index: 255               # this id is not scored
    ignore_colours:                 # rgb: nor are these colours
      - [224, 224, 192]
    splits:                         # lists of names, where the folders do not tell splits apart
      val: val.txt
    range: [0, 4095]                # stored values that are black and white, for images of more
                                    # than 8 bits; and the bands to take of them
    bands: [4, 3, 2]

Paths are relative to the YAML file.
"""

from __future__ import annotations

import glob
import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from atrous import image, strict_yaml
from atrous.data.dataset import Dataset, Decode, Sample
from atrous.data.masks import ColourTable, read_ids, read_palette
from atrous.data.splits import check_split, check_unique, read_lines
from atrous.errors import ConfigError, InputError
from atrous.labels import Colour, LabelSet, interleaved_colour
from atrous.pictures.folders import search
from atrous.pictures.formats import SUFFIXES
from atrous.pictures.opening import decoded
from atrous.pictures.samples import Taking
from atrous.record import Record

_log = logging.getLogger("atrous")

Channel = Annotated[int, Field(ge=0, le=255, strict=True)]
Rgb = tuple[Channel, Channel, Channel]
MaskType = Literal["ids", "palette", "rgb"]

ONLY = "all"
"""The split of a data set that has none."""


class Description(Record):
    """The content of the YAML file; see the module."""

    images: str | dict[str, str]
    masks: str | dict[str, str]
    classes: list[str] | dict[str, Rgb]
    mask_type: MaskType | None = None
    ignore_index: Channel = 255
    ignore_colours: list[Rgb] = Field(default_factory=list)
    splits: dict[str, str] = Field(default_factory=dict)
    range: tuple[float, float] | None = None
    bands: tuple[int, ...] | None = None


def open_folder(path: Path, split: str, spec: str) -> Dataset:
    """Open a split of a data set of one's own.

    An image without a mask is a sample without a label, and a mask without an image one whose
    image cannot be read.

    Args:
        path: the YAML file.
        split: takes the place of `{split}`, or names an entry of `images` or `splits`; `all` where
            there is none of these.
        spec: as the user wrote it.

    Raises:
        ConfigError: the file is wrong, or a folder or list that it names is not there.
    """
    described = _read(path)
    known = _splits(described, path.parent)
    check_split(split, known, spec, path)
    images_folder = _folder(described.images, split, path)
    masks_folder = _folder(described.masks, split, path)
    images, masks = _files(images_folder), _files(masks_folder)
    if split in described.splits:
        names = _names(path.parent / described.splits[split])
    else:
        names = sorted(images.keys() | masks.keys())
    if not names:
        raise ConfigError(f"{spec}: no image in {images_folder}")
    usual = next((image.suffix for image in images.values()), ".jpg")
    samples = tuple(
        Sample(name, images.get(name, images_folder / f"{name}{usual}"), masks.get(name))
        for name in names
    )
    first = next((sample.label for sample in samples if sample.label), None)
    kind = described.mask_type or _guess(described, first, path)
    labels = _labels(described, kind, path)
    siblings = tuple(f"folder:{path}:{other}" for other in known if other != split)
    decode = _decoder(described, kind, labels, path)
    read = _reader(described, path)
    return Dataset(f"{path.stem}:{split}", spec, labels, samples, decode, read, siblings)


def _reader(described: Description, path: Path) -> Decode:
    if described.range is None and described.bands is None:
        return image.read
    try:
        return image.Reading(Taking(described.range, described.bands))
    except ConfigError as error:
        raise ConfigError(f"{path}: {str(error).replace('`value_range`', 'range')}") from None


def _read(path: Path) -> Description:
    content = strict_yaml.read(path, such_as="images, masks and classes")
    try:
        return Description.model_validate(content)
    except ValidationError as error:
        complaint = strict_yaml.complaint(error, {"": Description}, {}, {})
        raise ConfigError(f"{path}: {complaint}") from None


def _splits(described: Description, root: Path) -> list[str]:
    if described.splits:
        return list(described.splits)
    if isinstance(described.images, dict):
        return list(described.images)
    if "{split}" not in described.images:
        return [ONLY]
    # `{split}` may be part of a name, as in `images_{split}/rgb`.
    before, _, after = described.images.partition("{split}")
    folder, _, start = before.rpartition("/")
    end = after.partition("/")[0]
    there = [path.name for path in (root / folder).glob(f"{glob.escape(start)}*{glob.escape(end)}")]
    names = [name.removeprefix(start).removesuffix(end) for name in there]
    wanted = described.images
    return sorted(name for name in names if (root / wanted.replace("{split}", name)).is_dir())


def _folder(value: str | dict[str, str], split: str, path: Path) -> Path:
    if isinstance(value, dict):
        if split not in value:
            raise ConfigError(f"{path}: no folder for the split {split!r}, only {', '.join(value)}")
        value = value[split]
    folder = path.parent / value.replace("{split}", split)
    if not folder.is_dir():
        raise ConfigError(f"{path}: no folder {folder}")
    return folder


def _files(folder: Path) -> dict[str, Path]:
    """The images at and below a folder, by their path in it without ending."""
    listed = search(folder)
    listed.note(folder)
    found: dict[str, Path] = {}
    # What cannot be looked into is a sample that cannot be read.
    below = listed.pictures | {path: path.relative_to(folder) for path in listed.failures}
    for path, inside in sorted(below.items()):
        name = inside.with_suffix("").as_posix()
        if name in found:
            raise ConfigError(
                f"{folder}: {found[name].name} and {path.name} share a name; keep one"
            )
        found[name] = path
    return found


def _names(path: Path) -> list[str]:
    names = [
        Path(line).with_suffix("").as_posix() if Path(line).suffix.lower() in SUFFIXES else line
        for line in read_lines(path)
    ]
    check_unique(names, path)
    return names


def _guess(described: Description, first: Path | None, path: Path) -> MaskType:
    mode = "none"
    if first is not None:
        try:
            mode = decoded(first, str(first), lambda mask: mask.mode, None)
        except InputError:
            mode = "unreadable"
    coloured = mode in ("RGB", "RGBA") and isinstance(described.classes, dict)
    kind: MaskType = "rgb" if coloured else "ids"
    _log.warning(
        "%s: mask_type is not given; the first mask is %s, taken as %s; write mask_type: %s to "
        "say so",
        path, mode, kind, kind,
    )  # fmt: skip
    return kind


def _labels(described: Description, kind: MaskType, path: Path) -> LabelSet:
    classes = described.classes
    colours: tuple[Colour, ...]
    if isinstance(classes, dict):
        names, colours = tuple(classes), tuple(classes.values())
    elif kind == "rgb":
        raise ConfigError(
            f"{path}: classes: mask_type rgb needs a colour for every class, as "
            "road: [128, 64, 128]"
        )
    else:
        names, colours = tuple(classes), tuple(map(interleaved_colour, range(len(classes))))
    try:
        return LabelSet(path.stem, names, colours, described.ignore_index)
    except InputError as error:
        raise ConfigError(f"{path}: {error}") from None


def _decoder(described: Description, kind: MaskType, labels: LabelSet, path: Path) -> Decode:
    if kind != "rgb":
        if described.ignore_colours:
            raise ConfigError(f"{path}: ignore_colours belongs to mask_type rgb, not {kind}")
        return read_ids if kind == "ids" else read_palette
    ids = dict.fromkeys(described.ignore_colours, labels.ignore_index)
    for class_id, colour in enumerate(labels.colours):
        if colour in ids:
            raise ConfigError(f"{path}: the colour {colour} is given twice")
        ids[colour] = class_id
    return ColourTable.of(ids)
