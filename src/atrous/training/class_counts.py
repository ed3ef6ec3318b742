"""What the labels of a data set hold, counted once before a run."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from atrous.data import Dataset
from atrous.data.dataset import id_counts
from atrous.errors import ConfigError, InputError
from atrous.evaluation.result import hash_ids
from atrous.files import write_atomic


def count_pixels(dataset: Dataset, kept: Path) -> NDArray[np.int64]:
    """Pixels of each class in each label.

    Args:
        dataset: to read all labels of.
        kept: file of an earlier count, taken if it is of the same images; written otherwise.

    Returns:
        `(images, classes)`.

    Raises:
        InputError: a label cannot be read, or holds other ids; the first one is named.
    """
    classes = dataset.labels.num_classes
    known = hash_ids([dataset.spec, *(sample.id for sample in dataset.samples)])
    if kept.is_file():
        with np.load(io.BytesIO(kept.read_bytes()), allow_pickle=False) as file:
            if str(file["ids"]) == known and file["pixels"].shape[1] == classes:
                return np.asarray(file["pixels"])
    try:
        with ThreadPoolExecutor() as pool:  # most of the work is decoding, outside the interpreter
            labels = pool.map(dataset.read_label, dataset.samples)
            pixels = np.array([id_counts(label)[:classes] for label in labels])
    except InputError as error:
        raise InputError(
            f"{error}; atrous doctor --data {dataset.spec} lists all that is wrong"
        ) from None

    def write(file: IO[bytes]) -> None:
        np.savez(file, pixels=pixels, ids=np.array(known))

    write_atomic(kept, write)
    return pixels


def median_frequency(pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Class weights: the median of the classes' frequencies over their own (arXiv:1411.4734).

    Args:
        pixels: as `count_pixels` returns it.

    Returns:
        `(classes,)`; 0 for a class that never occurs.
    """
    shown = pixels > 0
    around = (shown * pixels.sum(axis=1, keepdims=True)).sum(axis=0)
    frequency = pixels.sum(axis=0) / np.maximum(1, around)
    weights = np.zeros(pixels.shape[1])
    if (occurs := frequency > 0).any():
        weights[occurs] = np.median(frequency[occurs]) / frequency[occurs]
    return weights


def check_apart(train: Dataset, val: Dataset) -> None:
    """Raise `ConfigError` if an image that is scored on is learnt from."""
    learnt = {sample.image for sample in train.samples}
    # Synthetic images are no files, and share names without being the same.
    shared = [s.id for s in val.samples if s.image in learnt and s.image.is_file()]
    if shared:
        raise ConfigError(
            f"{len(shared)} images of {val.name}, such as {shared[0]!r}, are in {train.name} too: "
            "a score on them says nothing; take them out of one of the two"
        )
