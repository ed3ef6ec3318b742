"""Cityscapes: `leftImg8bit` and `gtFine`, label ids folded to the 19 train ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous.data.dataset import Dataset, MaskError, Sample, id_counts
from atrous.data.masks import read_ids
from atrous.data.splits import check_split
from atrous.data.stored import NO_CLASS
from atrous.errors import ConfigError
from atrous.labels import CITYSCAPES

_IMAGE = "_leftImg8bit.png"
_KNOWN = 34
"""Label ids are 0..33; the licence plate, -1, is stored as 255."""

# Label id of each train id, in order; the other known label ids are ignored.
_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
TRAIN_IDS = np.full(256, CITYSCAPES.ignore_index, np.uint8)
TRAIN_IDS[list(_LABEL_IDS)] = np.arange(len(_LABEL_IDS))


def open_cityscapes(root: Path, split: str, spec: str) -> Dataset:
    """Open a split of Cityscapes.

    Masks are `gtFine/SPLIT/CITY/*_labelTrainIds.png` where they are there, `*_labelIds.png`
    otherwise, and those of `gtCoarse` for a split that `gtFine` has not. A mask without an image
    is a sample too, which cannot be read.

    Args:
        root: the folder that holds `leftImg8bit` and `gtFine`.
        split: `train`, `val` or another folder of `leftImg8bit`.
        spec: as the user wrote it.

    Raises:
        ConfigError: the layout or the split is not there, or holds no image.
    """
    images = root / "leftImg8bit"
    if not images.is_dir():
        raise ConfigError(f"{root}: expected the folders leftImg8bit and gtFine in it")
    known = sorted(path.name for path in images.iterdir() if path.is_dir())
    check_split(split, known, spec, images)
    kind = next((k for k in ("gtFine", "gtCoarse") if (root / k / split).is_dir()), None)
    if kind is None:
        raise ConfigError(f"{spec}: no folder {root / 'gtFine' / split}, which holds the masks")
    masks = root / kind / split
    names = {_name(path, _IMAGE) for path in (images / split).glob(f"*/*{_IMAGE}")}
    for ending in (f"_{kind}_labelIds.png", f"_{kind}_labelTrainIds.png"):
        names |= {_name(path, ending) for path in masks.glob(f"*/*{ending}")}
    if not names:
        raise ConfigError(f"{spec}: no CITY/*{_IMAGE} in {images / split}")
    samples = []
    for city, name in sorted(names):
        label = masks / city / f"{name}_{kind}_labelTrainIds.png"
        if not label.is_file():
            label = masks / city / f"{name}_{kind}_labelIds.png"
        samples.append(Sample(name, images / split / city / f"{name}{_IMAGE}", label))
    siblings = tuple(f"cityscapes:{root}:{other}" for other in known if other != split)
    name = f"cityscapes:{split}"
    return Dataset(name, spec, CITYSCAPES, tuple(samples), read_train_ids, siblings=siblings)


def read_train_ids(path: Path) -> NDArray[np.uint8]:
    """`(H, W)` uint8 train ids of a mask of label ids, or of one that holds train ids already.

    Raises:
        InputError: it cannot be read; `MaskError` if it holds label ids that are not defined.
    """
    ids = read_ids(path)
    if path.name.endswith("labelTrainIds.png"):
        return ids
    if strange := [int(i) for i in np.flatnonzero(id_counts(ids)[_KNOWN:255]) + _KNOWN]:
        raise MaskError(
            NO_CLASS, f"{path}: holds the label ids {strange[:8]}, expected 0..{_KNOWN - 1} or 255"
        )
    return np.asarray(TRAIN_IDS[ids])


def _name(path: Path, ending: str) -> tuple[str, str]:
    return path.parent.name, path.name.removesuffix(ending)
