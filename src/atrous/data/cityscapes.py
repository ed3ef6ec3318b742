"""Cityscapes: `leftImg8bit` and `gtFine`, label ids folded to the 19 train ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous.data.dataset import Dataset, Sample
from atrous.data.voc import read_ids
from atrous.errors import ConfigError
from atrous.labels import CITYSCAPES

# Label id of each train id, in order; every other label id is ignored.
_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
TRAIN_IDS = np.full(256, CITYSCAPES.ignore_index, np.uint8)
TRAIN_IDS[list(_LABEL_IDS)] = np.arange(len(_LABEL_IDS))


def open_cityscapes(root: Path, split: str, spec: str) -> Dataset:
    """Open a split of Cityscapes.

    Masks named `*_labelTrainIds.png` are taken where they are there, `*_labelIds.png` otherwise.

    Args:
        root: the folder that holds `leftImg8bit` and `gtFine`.
        split: `train`, `val` or another folder of `leftImg8bit`.
        spec: as the user wrote it.

    Raises:
        ConfigError: the layout or the split is not there, or holds no image.
    """
    images = root / "leftImg8bit" / split
    if not images.is_dir():
        known = ", ".join(sorted(p.name for p in (root / "leftImg8bit").glob("*"))) or "none"
        raise ConfigError(f"{spec}: no folder {images}; splits there: {known}")
    samples = []
    folded = False
    for image in sorted(images.glob("*/*_leftImg8bit.png")):
        name = image.name.removesuffix("_leftImg8bit.png")
        masks = root / "gtFine" / split / image.parent.name
        label = masks / f"{name}_gtFine_labelTrainIds.png"
        if not label.is_file():
            label = masks / f"{name}_gtFine_labelIds.png"
            folded = True
        samples.append(Sample(name, image, label))
    if not samples:
        raise ConfigError(f"{spec}: no CITY/*_leftImg8bit.png in {images}")
    decode = read_label_ids if folded else read_ids
    return Dataset(f"cityscapes:{split}", spec, CITYSCAPES, tuple(samples), decode)


def cityscapes_splits(root: Path) -> list[str]:
    """Names of the splits in `root`."""
    return sorted(path.name for path in (root / "leftImg8bit").iterdir() if path.is_dir())


def read_label_ids(path: Path) -> NDArray[np.uint8]:
    """`(H, W)` uint8 train ids of a mask of label ids, or of one that holds train ids already."""
    ids = read_ids(path)
    return ids if path.name.endswith("labelTrainIds.png") else TRAIN_IDS[ids]
