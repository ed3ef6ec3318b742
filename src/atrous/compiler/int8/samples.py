"""Which images calibrate, and how they are read."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous import image
from atrous.compiler.progress import Progress, Tell, silent
from atrous.data import open_dataset
from atrous.data.dataset import Decode
from atrous.data.masks import read_ids
from atrous.errors import ConfigError, InputError
from atrous.files import from_home
from atrous.jobs.output import is_result_in_place
from atrous.pictures.folders import RESULTS, search
from atrous.pictures.formats import SUFFIXES
from atrous.preprocess import Preprocess
from atrous.vastai import npz

_log = logging.getLogger("atrous")

COUNT = 50
"""Images that are taken where the compile file does not say how many."""

MOST_MASKS = 2000
"""Masks that are looked at for their classes; of more, evenly spread ones (2 s on one core)."""

WHERE = "dataset.path"
_DATASETS = ("voc:", "cityscapes:", "folder:")
_MASKS = ("SegmentationClassAug", "SegmentationClass")
_STEP = 8  # masks are looked at on every eighth pixel of either side
_SHARE = 0.005  # of the pixels, which a class covers at least to count as present


def choose(
    path: Path | str,
    suffix: str | None = None,
    count: int | None = COUNT,
    *,
    exclude: Collection[str] = (),
    tell: Tell = silent,
) -> list[Path]:
    """Choose the images to calibrate on, the same ones every time.

    Where masks are known, the classes get equal shares as far as they can: `path` is a data set,
    or the folder JPEGImages of VOC with SegmentationClass beside it. Otherwise the images are
    taken evenly from the sorted list.

    Args:
        path: a folder, searched recursively, or a data set as `voc:ROOT:train`.
        suffix: ending of the files, in any case and without the dot, as `jpg` or `npz`; `None` for
            any image that the package reads, and npz.
        count: how many; `None` for all. Where there are fewer, all are taken.
        exclude: ids, as `image_id` has them, that are left out: images one will be evaluated on.
            If there are no others they are taken all the same, with a warning.
        tell: called with what was decided.

    Returns:
        Sorted paths, at least one.

    Raises:
        ConfigError: there is no such folder or data set, or no such file in it.
    """
    found = _found(str(path), suffix)
    kept = [file for file in found.files if image_id(file) not in exclude]
    if not kept:
        _log.warning(
            "%s: all %d images of %s are also evaluated on, which flatters the accuracy; calibrate "
            "on others, as voc:VOCdevkit:train",
            WHERE,
            len(found.files),
            path,
        )
        kept = found.files
    elif len(kept) < len(found.files):
        tell(Progress(f"left out: {len(found.files) - len(kept)} images that are evaluated on"))
    if count is None or count >= len(kept):
        if count is not None and count > len(kept):
            few = f"{path}: holds {len(kept)} images, fewer than the {count} wanted: all are taken"
            tell(Progress(few))
        return kept
    labelled = [file for file in kept if file in found.masks]
    if len(labelled) < count:
        return spread(kept, count)
    looked = spread(labelled, max(count, MOST_MASKS))
    if len(looked) < len(labelled):
        tell(Progress(f"{path}: classes looked up in {len(looked)} of {len(labelled)} masks"))
    return sorted(balance({file: found.classes(file) for file in looked}, count))


def spread(files: Sequence[Path], count: int) -> list[Path]:
    """`count` of the files, at even distances; all if there are fewer."""
    if count >= len(files):
        return list(files)
    return [files[(2 * i + 1) * len(files) // (2 * count)] for i in range(count)]


def balance(present: dict[Path, frozenset[int]], count: int) -> list[Path]:
    """Choose images so that each class is in as many as can be, the rarest first.

    Greedy: whichever class is in the fewest of the chosen images is served next, and among equal
    ones the rarest; of the images that have it, that whose other classes have been chosen least.

    Args:
        present: image → its classes, in the order that decides between equals.
        count: how many images.
    """
    # Neighbours in a sorted list come from one scene or film: equals are taken far apart.
    order = sorted(range(len(present)), key=_reversed_bits)
    names = list(present)
    left = [names[index] for index in order]
    frequency: dict[int, int] = {}
    for classes in present.values():
        for one in classes:
            frequency[one] = frequency.get(one, 0) + 1
    taken = dict.fromkeys(frequency, 0)
    chosen: list[Path] = []
    while left and len(chosen) < count:
        open_ones = frozenset[int]().union(*(present[file] for file in left))
        if open_ones:
            wanted = min(open_ones, key=lambda one: (taken[one], frequency[one], one))
            fit = [file for file in left if wanted in present[file]]
        else:
            fit = left
        best = min(fit, key=lambda file: sum(taken[one] for one in present[file]))
        left.remove(best)
        chosen.append(best)
        for one in present[best]:
            taken[one] += 1
    return chosen


def read(path: Path, preprocess: Preprocess | None = None) -> NDArray[np.uint8]:
    """Read an image, or the npz file of one.

    Args:
        path: an image file, or an npz with `input_0`: uint8, RGB, `(3, H, W)`, `(1, 3, H, W)` or
            `(H, W, 3)`.
        preprocess: of the network, which may say what stored values mean.

    Returns:
        `(H, W, 3)` uint8, RGB.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    if path.suffix.lower() == npz.SUFFIX:
        return npz.read_input(path, channels_last=True)
    return image.read(path, value_range=preprocess.value_range if preprocess else None)


def image_id(path: Path) -> str:
    """What data sets and artefacts call an image: its name without ending."""
    return path.stem.removesuffix("_leftImg8bit")


@dataclass(frozen=True, slots=True)
class _Found:
    """The images, sorted; the masks of those that have one; how a mask is read."""

    files: list[Path]
    masks: dict[Path, Path]
    decode: Decode = read_ids
    ignored: int = 255

    def classes(self, file: Path) -> frozenset[int]:
        """The classes that a mask shows to an amount worth a look; none if it cannot be read."""
        try:
            label = self.decode(self.masks[file])[::_STEP, ::_STEP]
        except InputError:
            return frozenset()
        counts = np.bincount(label.reshape(-1), minlength=256)
        counts[self.ignored] = 0
        return frozenset(np.flatnonzero(counts > _SHARE * label.size).tolist())


def _found(path: str, suffix: str | None) -> _Found:
    ending = _ending(suffix)
    if path.startswith(_DATASETS):
        dataset = open_dataset(path)
        # A split may name images that were not downloaded.
        there = [sample for sample in dataset.samples if sample.image.is_file()]
        masks = {sample.image: sample.label for sample in there if sample.label is not None}
        files = _of_ending((sample.image for sample in there), ending, path)
        return _Found(files, masks, dataset.decode, dataset.labels.ignore_index)
    folder = from_home(path)
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing"
        raise ConfigError(
            f"{WHERE}: expected a folder of images, or a data set as voc:VOCdevkit:train, found "
            f"{what} at {path} (seen from {Path.cwd()})"
        )
    listed = search(folder, also=(npz.SUFFIX,), is_result=is_result_in_place)
    if ending is None or RESULTS in listed.left_out:
        listed.note(path)
    # What cannot be looked into is an image that cannot be read, which is said.
    files = _of_ending([*listed.pictures, *listed.failures], ending, path, listed.left_out)
    if folder.name != "JPEGImages":
        return _Found(files, {})
    beside = [folder.parent / name for name in _MASKS]
    by_name = {mask.stem: mask for one in beside if one.is_dir() for mask in one.iterdir()}
    return _Found(files, {file: by_name[file.stem] for file in files if file.stem in by_name})


def _ending(suffix: str | None) -> str | None:
    if suffix is None:
        return None
    ending = f".{suffix.lower().lstrip('.')}"
    if ending not in SUFFIXES | {npz.SUFFIX}:
        known = ", ".join(sorted(name[1:] for name in SUFFIXES | {npz.SUFFIX}))
        raise ConfigError(f"dataset.sampler.suffix: expected one of {known}, found {suffix!r}")
    return ending


def _of_ending(
    files: Iterable[Path], ending: str | None, path: str, others: Iterable[str] = ()
) -> list[Path]:
    everything = list(files)
    found = sorted(file for file in everything if ending in (None, file.suffix.lower()))
    if not found:
        suffixes = {file.suffix for file in everything} | set(others)
        there = sorted(suffix[1:] for suffix in suffixes if suffix.startswith("."))
        listed = ", ".join(there[:8]) + (", …" if len(there) > 8 else "")
        raise ConfigError(
            f"{WHERE}: no {ending[1:] + ' file' if ending else 'image'} in {path}; there are: "
            f"{listed or 'no files'}; dataset.sampler.suffix names the ending"
        )
    return found


def _reversed_bits(number: int) -> int:
    return int(f"{number:032b}"[::-1], 2)
