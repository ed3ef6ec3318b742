"""One's own images and masks: two folders, paired by name, described by a small YAML file.

    images: images/{split}          # {split} is replaced by the split asked for
    masks: masks/{split}
    classes:                        # names alone, or names with colours
      background: [0, 0, 0]
      road: [128, 64, 128]
    mask_type: rgb                  # ids (grey or palette), or rgb; default: ids
    ignore_index: 255               # ids: this value; rgb: colours that are no class are errors
    ignore_colour: [224, 224, 192]  # rgb alone: this colour is ignored
    splits:                         # optional: files that list the names of a split
      val: val.txt

Paths are relative to the YAML file.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atrous.data.dataset import Dataset, Sample
from atrous.data.voc import read_ids
from atrous.errors import ConfigError, InputError
from atrous.image import SUFFIXES
from atrous.labels import Colour, LabelSet, interleaved_colour

Channel = Annotated[int, Field(ge=0, le=255)]
Rgb = tuple[Channel, Channel, Channel]


class Description(BaseModel):
    """The content of the YAML file; see the module."""

    model_config = ConfigDict(extra="forbid")

    images: str
    masks: str
    classes: list[str] | dict[str, Rgb]
    mask_type: Literal["ids", "rgb"] = "ids"
    ignore_index: Channel = 255
    ignore_colour: Rgb | None = None
    splits: dict[str, str] = {}


def open_folder(path: Path, split: str, spec: str) -> Dataset:
    """Open a split of a data set of one's own.

    Args:
        path: the YAML file.
        split: takes the place of `{split}`, or names an entry of `splits`.
        spec: as the user wrote it.

    Raises:
        ConfigError: the file is wrong, or a folder or list that it names is not there.
    """
    described = _read(path)
    root = path.parent
    images = _folder(root / described.images.format(split=split), path)
    masks = _folder(root / described.masks.format(split=split), path)
    if split in described.splits:
        listed = root / described.splits[split]
        if not listed.is_file():
            raise ConfigError(f"{path}: splits.{split}: no file {listed}")
        names = [line.strip() for line in listed.read_text().splitlines() if line.strip()]
    else:
        if "{split}" not in described.images and described.splits:
            raise ConfigError(
                f"{spec}: no split {split!r} in {path}; there are: {', '.join(described.splits)}"
            )
        names = []
    by_stem = {p.relative_to(images).with_suffix("").as_posix(): p for p in _images(images)}
    found_masks = {p.relative_to(masks).with_suffix("").as_posix(): p for p in _images(masks)}
    stems = [Path(name).with_suffix("").as_posix() for name in names] or sorted(
        by_stem.keys() | found_masks.keys()
    )
    if not stems:
        raise ConfigError(f"{spec}: no images in {images}")
    samples = tuple(
        Sample(s, by_stem.get(s, images / f"{s}.jpg"), found_masks.get(s)) for s in stems
    )
    labels = _labels(described, path)
    decode = read_ids if described.mask_type == "ids" else _rgb_decoder(described, labels)
    return Dataset(f"{path.stem}:{split}", spec, labels, samples, decode)


def folder_splits(path: Path) -> list[str]:
    """Names of the splits that the YAML file `path` lists, or that have a folder."""
    described = _read(path)
    if described.splits:
        return sorted(described.splits)
    before, braces, _ = described.images.partition("{split}")
    around = path.parent / before
    return sorted(p.name for p in around.glob("*") if p.is_dir()) if braces else []


def _read(path: Path) -> Description:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Description.model_validate(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not a readable YAML file: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
        near = difflib.get_close_matches(where, Description.model_fields, n=1)
        hint = f"; did you mean {near[0]!r}?" if first["type"] == "extra_forbidden" and near else ""
        raise ConfigError(f"{path}: {where or 'content'}: {first['msg']}{hint}") from None


def _labels(described: Description, path: Path) -> LabelSet:
    classes = described.classes
    colours: tuple[Colour, ...]
    if isinstance(classes, dict):
        names, colours = tuple(classes), tuple(classes.values())
    elif described.mask_type == "rgb":
        raise ConfigError(f"{path}: mask_type rgb needs a colour for every class")
    else:
        names, colours = tuple(classes), tuple(map(interleaved_colour, range(len(classes))))
    try:
        return LabelSet(path.stem, names, colours, described.ignore_index)
    except InputError as error:
        raise ConfigError(f"{path}: {error}") from None


def _rgb_decoder(described: Description, labels: LabelSet) -> Callable[[Path], NDArray[np.uint8]]:
    colours = [*labels.colours]
    ids = [*range(labels.num_classes)]
    if described.ignore_colour is not None:
        colours.append(described.ignore_colour)
        ids.append(labels.ignore_index)
    packed = np.array([r << 16 | g << 8 | b for r, g, b in colours])
    order = np.argsort(packed)
    known, values = packed[order], np.array(ids, np.uint8)[order]

    def decode(path: Path) -> NDArray[np.uint8]:
        try:
            with Image.open(path) as mask:
                pixels = np.asarray(mask.convert("RGB")).astype(np.int32)
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise InputError(f"{path}: cannot be read: {error}") from None
        found = pixels[:, :, 0] << 16 | pixels[:, :, 1] << 8 | pixels[:, :, 2]
        at = np.minimum(np.searchsorted(known, found), len(known) - 1)
        strange = known[at] != found
        if strange.any():
            first = int(found[strange][0])
            colour = (first >> 16, first >> 8 & 255, first & 255)
            raise InputError(
                f"{path}: {int(strange.sum())} pixels have colours of no class, the first "
                f"{colour}; add it to classes or as ignore_colour"
            )
        return values[at]

    return decode


def _folder(path: Path, described: Path) -> Path:
    if not path.is_dir():
        raise ConfigError(f"{described}: no folder {path}")
    return path


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
