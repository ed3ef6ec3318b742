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
from atrous.errors import InputError
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
