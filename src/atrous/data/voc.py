"""PASCAL VOC 2012: the VOCdevkit layout, and split files in `ImageSets/Segmentation`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.data.dataset import Dataset, Sample
from atrous.errors import ConfigError, InputError
from atrous.labels import VOC


def open_voc(root: Path, split: str, spec: str) -> Dataset:
    """Open a split of PASCAL VOC 2012.

    Args:
        root: the folder `VOC2012`, or one that holds it, or one that holds `VOCdevkit`.
        split: name of a file in `ImageSets/Segmentation` without its `.txt`, or a path of such a
            file. `train_aug` takes its masks from `SegmentationClassAug`.
        spec: as the user wrote it.

    Raises:
        ConfigError: the layout or the split is not there; lists the splits that are.
    """
    base = _base(root)
    folder = base / "ImageSets" / "Segmentation"
    listed = folder / f"{split}.txt"
    if not listed.is_file() and Path(split).is_file():
        listed = Path(split)
    if not listed.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.txt"))) or "none"
        raise ConfigError(f"{spec}: no split {split!r} in {folder}; there are: {known}")
    ids = [line.split()[0] for line in listed.read_text().splitlines() if line.strip()]
    if not ids:
        raise ConfigError(f"{spec}: {listed} names no image")
    masks = base / ("SegmentationClassAug" if listed.stem == "train_aug" else "SegmentationClass")
    samples = tuple(Sample(i, base / "JPEGImages" / f"{i}.jpg", masks / f"{i}.png") for i in ids)
    return Dataset(f"voc:{listed.stem}", spec, VOC, samples, read_ids)


def voc_splits(root: Path) -> list[str]:
    """Names of the splits in `root`, without unions such as `trainval`."""
    folder = _base(root) / "ImageSets" / "Segmentation"
    names = sorted(path.stem for path in folder.glob("*.txt"))
    return [name for name in names if not name.startswith("trainval")]


def read_ids(path: Path) -> NDArray[np.uint8]:
    """The pixel values of a palette or grey PNG.

    Raises:
        InputError: it cannot be read, or its pixels are colours.
    """
    try:
        with Image.open(path) as mask:
            if mask.mode not in ("P", "L"):
                raise InputError(
                    f"{path}: its pixels are {mask.mode}, expected class ids in a palette or grey "
                    "image"
                )
            return np.asarray(mask)
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _base(root: Path) -> Path:
    for base in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (base / "ImageSets" / "Segmentation").is_dir():
            return base
    raise ConfigError(
        f"{root}: expected VOC2012 with JPEGImages, SegmentationClass and ImageSets/Segmentation "
        "in it"
    )
