"""PASCAL VOC 2012: the VOCdevkit layout, and split files in `ImageSets/Segmentation`."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from atrous.data.dataset import Dataset, Sample
from atrous.data.masks import read_ids
from atrous.data.splits import check_split, check_unique, read_lines
from atrous.errors import ConfigError
from atrous.labels import VOC

AUGMENTED = "train_aug"

_log = logging.getLogger("atrous")


def open_voc(root: Path, split: str, spec: str) -> Dataset:
    """Open a split of PASCAL VOC 2012.

    Args:
        root: the folder `VOC2012`, or one that holds it, or one that holds `VOCdevkit`.
        split: name of a file in `ImageSets/Segmentation` without its `.txt`, or a path of such a
            file. Its masks are in `SegmentationClass`; those of `train_aug`, and of every split
            that needs masks which are only in `SegmentationClassAug`, are all taken from there, so
            that one split is annotated in one way.
        spec: as the user wrote it.

    Raises:
        ConfigError: the layout or the split is not there; lists the splits that are.
    """
    base = find_base(root)
    if base is None:
        raise ConfigError(
            f"{root}: expected VOC2012 with JPEGImages, SegmentationClass and "
            "ImageSets/Segmentation in it; atrous data voc --download ROOT gets it"
        )
    folder = base / "ImageSets" / "Segmentation"
    listed = folder / f"{split}.txt"
    if not listed.is_file() and Path(split).is_file():
        listed = Path(split)
    known = sorted(path.stem for path in folder.glob("*.txt"))
    if not listed.is_file():
        check_split(split, known, spec, folder)
    ids = read_list(listed)
    masks = _masks(base, listed.stem, ids)
    if not masks.is_dir():
        raise ConfigError(f"{spec}: no folder {masks}, which holds the masks of {listed.stem}")
    samples = tuple(Sample(i, base / "JPEGImages" / f"{i}.jpg", masks / f"{i}.png") for i in ids)
    siblings = tuple(f"voc:{root}:{name}" for name in known if folder / f"{name}.txt" != listed)
    return Dataset(f"voc:{listed.stem}", spec, VOC, samples, read_ids, siblings=siblings)


def _masks(base: Path, split: str, ids: Collection[str]) -> Path:
    """The folder that a split takes its masks from."""
    own, augmented = base / "SegmentationClass", base / "SegmentationClassAug"
    if split == AUGMENTED:
        return augmented
    wanted = {f"{name}.png" for name in ids}
    missing, also_missing = (
        wanted.difference(path.name for path in one.glob("*.png")) for one in (own, augmented)
    )
    if not missing or also_missing:
        return own
    _log.warning(
        "%s: %d of its %d masks are not in %s; all are taken from %s",
        split,
        len(missing),
        len(wanted),
        own.name,
        augmented.name,
    )
    return augmented


def find_base(root: Path) -> Path | None:
    """The folder VOC2012 at or below `root`, `None` if there is none."""
    for base in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (base / "ImageSets" / "Segmentation").is_dir():
            return base
    return None


def read_list(path: Path) -> tuple[str, ...]:
    """The ids of a split file: the first word of each line, without folder and file ending.

    So a list of pairs of paths, as `/JPEGImages/2007_000032.jpg /SegmentationClassAug/…`, names
    `2007_000032`.

    Raises:
        ConfigError: the file cannot be read, names nothing, or names an id twice.
    """
    ids = [Path(line.split()[0]).stem for line in read_lines(path)]
    if not ids:
        raise ConfigError(f"{path}: names no image, expected one id a line")
    check_unique(ids, path)
    return tuple(ids)
