"""One's own images and masks: two folders, paired by name, described by a small YAML file.

    images: images/{split}          # or one folder for all splits, or {train: a, val: b}; `*` is
                                    # any one folder, the same in both, as in {split}/*/images
    masks: masks/{split}
    image_suffix: _rgb              # around the names that an image and its mask share; also
    mask_suffix: _mask              # image_prefix and mask_prefix
    classes:                        # names alone, or names with colours
      background: [0, 0, 0]
      road: [128, 64, 128]
    mask_type: rgb                  # ids: grey values or palette indices; palette: the latter
                                    # alone; rgb: colours. Default: what the masks suggest
    values: {0: background, 255: road}  # what stored values stand for, where they are no ids
    ignore: [0]                     # stored values, or classes, that are not scored
    ignore_index: 255               # this id is not scored
    ignore_colours:                 # rgb: nor are these colours
      - [224, 224, 192]
    splits:                         # lists of names, where the folders do not tell splits apart,
      val: val.txt                  # or of images and masks, as `images/a.jpg masks/a.png`
    val_share: 0.2                  # hold this share of the images out as `val`, where nothing else
                                    # tells it from `train`
    range: [0, 4095]                # stored values that are black and white, for images of more
                                    # than 8 bits; and the bands to take of them
    bands: [4, 3, 2]
    max_pixels: 400000000           # of an image and of a mask

Paths are relative to the YAML file. `docs/data.md` says more.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StrictInt, ValidationError, field_validator

from atrous import image, strict_yaml
from atrous.data import classes as meanings
from atrous.data.dataset import Dataset, Decode, Sample
from atrous.data.file_names import Affix, Names
from atrous.data.meaning import Said, advice, decoder, looks
from atrous.data.pairing import Pairs, listed_pairs, pairs_in
from atrous.data.places import images_of, named, pairs_of, place
from atrous.data.splits import check_split, held_out, listed_names, read_lines
from atrous.errors import ConfigError
from atrous.pictures.opening import MAX_PIXELS
from atrous.pictures.samples import Taking
from atrous.record import Record

Channel = Annotated[int, Field(ge=0, le=255, strict=True)]
Rgb = tuple[Channel, Channel, Channel]
MaskType = Literal["ids", "palette", "rgb"]

ONLY = "all"
"""The split of a data set that has none."""

TRAIN, VAL = "train", "val"


class Description(Record):
    """The content of the YAML file; see the module."""

    images: str | dict[str, str] = "."
    masks: str | dict[str, str] = "."
    image_prefix: str = ""
    image_suffix: str = ""
    mask_prefix: str = ""
    mask_suffix: str = ""
    classes: list[str] | dict[str, Rgb] | None = None
    mask_type: MaskType | None = None
    values: dict[StrictInt, str | StrictInt | None] | None = None
    ignore: list[StrictInt | str] | Literal["others"] = Field(default_factory=list)
    ignore_index: Channel = 255
    ignore_colours: list[Rgb] = Field(default_factory=list)
    splits: dict[str, str] = Field(default_factory=dict)
    val_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    range: tuple[float, float] | None = None
    bands: tuple[int, ...] | None = None
    max_pixels: Annotated[int, Field(ge=1, strict=True)] = MAX_PIXELS

    @field_validator("classes", mode="before")
    @classmethod
    def _are_no_numbers(cls, said: object) -> object:
        numbered = meanings.numbered(said)
        if numbered:
            listed = ", ".join(f"{value}: {name}" for value, name in numbered.items())
            raise ValueError(
                f"expected a list of names in order, as [{', '.join(numbered.values())}], or names "
                f"with colours, as road: [128, 64, 128], found names with numbers; write values: "
                f"{{{listed}}} instead"
            )
        return said

    @property
    def names(self) -> Names:
        """What is put around the names that images and masks share."""
        return Names(
            Affix(self.image_prefix, self.image_suffix), Affix(self.mask_prefix, self.mask_suffix)
        )

    def renumbers(self, classes: int) -> str:
        """The key by which a stored value is not the number of its class, empty if there is none.

        Args:
            classes: how many there are; values from there on are nobody's.
        """
        if self.mask_type == "rgb":
            return "mask_type: rgb"
        if self.values is not None:
            return "values"
        moved = self.ignore == "others" or any(
            isinstance(one, int) and one < classes for one in self.ignore
        )
        return "ignore" if moved else ""


def open_folder(path: Path, split: str, spec: str) -> Dataset:
    """Open a split of a data set of one's own.

    An image without a mask is a sample without a label, and a mask without an image one whose
    image cannot be read.

    Args:
        path: the YAML file.
        split: takes the place of `{split}`, or names an entry of `images` or `splits`; `all` where
            there is none of these; `train` or `val` where `val_share` makes them.
        spec: as the user wrote it.

    Raises:
        ConfigError: the file is wrong, a folder or list that it names is not there, or the masks
            are not what it says.
    """
    described = read_description(path)
    known = _splits(described, path)
    given = _given_splits(described, path.parent)
    # What `val_share` divides is still there as a whole, but is no sibling of its parts.
    check_split(split, dict.fromkeys([*known, *given]), spec, path)
    read = _reader(described, path)
    classes = meanings.classes(
        described.classes,
        described.values,
        described.ignore,
        described.ignore_index,
        path,
        rgb=described.mask_type == "rgb",
    )
    samples = _samples(described, split, path)
    if not samples and described.val_share is not None and split == TRAIN:
        raise ConfigError(f"{spec}: val_share leaves nothing to train on; expected two images")
    if not samples:
        raise ConfigError(f"{spec}: no image in {path.parent / place(described.images, split)}")
    said = Said(
        described.mask_type,
        classes.coloured,
        classes.table,
        classes.others,
        "ignore_index" in described.model_fields_set,
        tuple(described.ignore_colours),
        described.max_pixels,
    )
    seen = looks(_masks(described, split, known, samples, path), described.max_pixels)
    decode = decoder(said, classes.labels, seen, path)
    beside = known if split in known else given
    siblings = tuple(f"folder:{path}:{other}" for other in beside if other != split)
    name = f"{path.stem}:{split}"
    labels = classes.labels
    helps = advice(labels, seen) if classes.table is None else ""
    return Dataset(name, spec, labels, samples, decode, read, siblings, helps)


def _samples(described: Description, split: str, path: Path) -> tuple[Sample, ...]:
    if described.val_share is None or split not in (TRAIN, VAL):
        return _given_samples(described, split, path)
    whole = _given_samples(described, _divided(_filled_splits(described, path.parent)), path)
    kept = held_out([sample.id for sample in whole], described.val_share)
    return tuple(sample for sample in whole if (sample.id in kept) == (split == VAL))


def _given_samples(described: Description, split: str, path: Path) -> tuple[Sample, ...]:
    """The samples of a split that folders or lists make."""
    if split in described.splits:
        return _listed(described, split, path)
    there = _own_pairs(described, split, path)
    return _as_samples(there, path.parent / place(described.images, split))


def _own_pairs(described: Description, split: str, path: Path) -> Pairs:
    """The pairs of a split, without masks in a folder of all splits that belong to another one."""
    there = _pairs(described, split, path)
    images, masks = (place(one, split) for one in (described.images, described.masks))
    for other in _given_splits(described, path.parent):
        if place(described.masks, other) != masks or place(described.images, other) == images:
            continue
        theirs = images_of(place(described.images, other), masks, described.names, path)
        for name in there.keys() & theirs.keys():
            image, mask = there[name]
            if image is not None and mask is not None:
                raise ConfigError(
                    f"{path}: {image} and {theirs[name]} have one mask, {mask}, as their names are "
                    "the same; expected a folder of masks for each split, or other names"
                )
            if image is None:
                del there[name]
    return there


def _listed(described: Description, split: str, path: Path) -> tuple[Sample, ...]:
    """The samples that the list of a split names."""
    listed = path.parent / described.splits[split]
    lines = read_lines(listed)
    if not lines:
        raise ConfigError(f"{listed}: names no image")
    images = place(described.images, split)
    roots = [path.parent, path.parent / images, listed.parent]
    pairs = pairs_in(lines, listed)
    if pairs is not None:
        # The folders are not needed, so they need not be there.
        roots += [path.parent / place(described.masks, split)]
        return _as_samples(listed_pairs(pairs, roots, listed), path.parent)
    there = _pairs(described, split, path)
    names = listed_names(lines, there, described.names, roots, listed)
    return _as_samples(
        {name: there.get(name, (None, None)) for name in names}, path.parent / images
    )


def _pairs(described: Description, split: str, path: Path) -> Pairs:
    for value in (described.images, described.masks):
        if isinstance(value, dict) and split not in value:
            known = ", ".join(value)
            raise ConfigError(f"{path}: no folder for the split {split!r}, only {known}")
    images, masks = place(described.images, split), place(described.masks, split)
    return pairs_of(images, masks, described.names, path)


def _as_samples(pairs: Pairs, folder: Path) -> tuple[Sample, ...]:
    usual = next((image.suffix for image, _ in pairs.values() if image is not None), ".jpg")
    return tuple(
        Sample(name, image or folder / f"{name}{usual}", mask)
        for name, (image, mask) in pairs.items()
    )


def _masks(
    described: Description, split: str, known: list[str], samples: tuple[Sample, ...], path: Path
) -> list[Path]:
    """The masks of all splits, each once, in an order that does not depend on the split."""
    found = {sample.label for sample in samples if sample.label is not None}
    for other in known:
        if other == split:
            continue
        try:
            there = _samples(described, other, path)
        except ConfigError:  # said when that split is opened
            continue
        found |= {sample.label for sample in there if sample.label is not None}
    return sorted(found)


def _reader(described: Description, path: Path) -> Decode:
    most = described.max_pixels
    if described.range is None and described.bands is None and most == MAX_PIXELS:
        return image.read
    try:
        return image.Reading(Taking(described.range, described.bands), most)
    except ConfigError as error:
        raise ConfigError(f"{path}: {str(error).replace('`value_range`', 'range')}") from None


def read_description(path: Path) -> Description:
    """Read the YAML file alone.

    Raises:
        ConfigError: it cannot be read, or is wrong.
    """
    content = strict_yaml.read(path, such_as="images, masks and classes")
    try:
        return Description.model_validate(content)
    except ValidationError as error:
        complaint = strict_yaml.complaint(error, {"": Description}, {}, {})
        raise ConfigError(f"{path}: {complaint}") from None


def _splits(described: Description, path: Path) -> list[str]:
    if described.val_share is None:
        return _given_splits(described, path.parent)
    filled = _filled_splits(described, path.parent)
    if VAL in filled or (TRAIN not in filled and len(filled) > 1):
        raise ConfigError(
            f"{path}: val_share holds a part of the one split, or of {TRAIN!r}, out as {VAL!r}; "
            f"found the splits {', '.join(filled)}; leave val_share out"
        )
    return [TRAIN, VAL, *(one for one in filled if one != _divided(filled))] if filled else []


def _divided(filled: Sequence[str]) -> str:
    """The split of which `val_share` makes two."""
    return TRAIN if TRAIN in filled else filled[0]


def _filled_splits(described: Description, root: Path) -> list[str]:
    """The splits that folders or lists make, without those whose folder is empty."""
    given = _given_splits(described, root)
    if described.splits:
        return given
    return [
        one
        for one in given
        if any(
            any(folder.glob("*")) for folder in named(root, place(described.images, one)).values()
        )
    ]


def _given_splits(described: Description, root: Path) -> list[str]:
    """The splits that folders or lists make."""
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
    pattern = f"{glob.escape(start)}*{glob.escape(end)}"
    there = {path.name for one in named(root, folder).values() for path in one.glob(pattern)}
    names = [name.removeprefix(start).removesuffix(end) for name in there]
    found = sorted(name for name in names if named(root, place(described.images, name)))
    # `{split}` beside `{split}annot` fits trainannot too, which holds the masks of train.
    masks = {place(described.masks, name) for name in found if described.masks != described.images}
    return [name for name in found if place(described.images, name) not in masks]
