"""Every image and label of a run, opened once before its first step.

What was found in a pair of files is kept by their content: an edit is noticed, whatever it leaves
of names, sizes and times, and a run that begins again does not decode anew.
"""

from __future__ import annotations

import io
import logging
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from atrous.cores import cores
from atrous.data import Dataset, Sample
from atrous.data.dataset import MaskError, id_counts
from atrous.download import cache_dir
from atrous.errors import InputError
from atrous.files import sha256, write_atomic

_log = logging.getLogger("atrous")

NAMED = 20
"""Files that cannot be used are named up to so many."""

Progress = Callable[[int, int], None]
"""Called with the pairs done and all."""


@dataclass(frozen=True)
class Survey:
    """What the files of a data set hold.

    Attributes:
        dataset: without what cannot be read, if that was wanted.
        pixels: of each class in each label, `(images, classes)`.
        left_out: ids of the samples that cannot be read.
    """

    dataset: Dataset
    pixels: NDArray[np.int64]
    left_out: tuple[str, ...]


class _Wrong(InputError):
    """A pair of files that are read, but do not fit each other or the classes."""


def survey(
    dataset: Dataset, *, skip_unreadable: bool = False, progress: Progress | None = None
) -> Survey:
    """Open all images and labels of a data set, as many at a time as there are processors.

    Args:
        dataset: to look through.
        skip_unreadable: go on without the samples whose files are not there or cannot be read.
        progress: see `Progress`.

    Raises:
        InputError: some files cannot be read, hold other ids or differ in size; the others are
            logged, or all samples would be left out.
    """
    kept = cache_dir() / "surveys" / f"{dataset.reading()}.npz"
    known = _read(kept, dataset.labels.num_classes)
    found: list[tuple[str, NDArray[np.int64]] | InputError] = []
    with ThreadPoolExecutor(cores()) as pool:
        for one in pool.map(partial(_look, dataset, known), dataset.samples):
            found.append(one)
            if progress is not None:
                progress(len(found), len(dataset.samples))
    good: list[tuple[str, NDArray[np.int64]]] = []
    samples: list[Sample] = []
    bad: list[tuple[str, InputError]] = []
    for sample, one in zip(dataset.samples, found, strict=True):
        if isinstance(one, InputError):
            bad.append((sample.id, one))
        else:
            good.append(one)
            samples.append(sample)
    _keep(kept, known, good)
    wrong = [error for _, error in bad if not skip_unreadable or isinstance(error, _Wrong)]
    if wrong:
        raise _refusal(dataset, wrong)
    if not samples:
        raise InputError(f"{dataset.name}: none of its {len(bad)} images can be read: {bad[0][1]}")
    for _, error in bad[:NAMED]:
        _log.warning("left out: %s", error)
    pixels = np.array([counts for _, counts in good])
    dataset = replace(dataset, samples=tuple(samples)) if bad else dataset
    return Survey(dataset, pixels, tuple(name for name, _ in bad))


def _look(
    dataset: Dataset, known: dict[str, NDArray[np.int64]], sample: Sample
) -> tuple[str, NDArray[np.int64]] | InputError:
    """Digest of a pair of files, empty where they are none, and the pixels of each class."""
    try:
        digest = _digest(sample)
        if digest in known:
            return digest, known[digest]
        try:
            label = dataset.read_label(sample)
        except MaskError as error:
            raise _Wrong(str(error)) from None
        except InputError as error:
            if sample.label is not None and _is_read(dataset, sample.label):
                raise _Wrong(str(error)) from None
            raise
        shape = dataset.read_image(sample).shape[:2]
    except InputError as error:
        return error
    if shape != label.shape:
        (height, width), (h, w) = shape, label.shape
        return _Wrong(f"{sample.label}: {w}×{h} pixels, its image {sample.image} {width}×{height}")
    return digest, id_counts(label)[: dataset.labels.num_classes]


def _is_read(dataset: Dataset, label: Path) -> bool:
    try:
        dataset.decode(label)
    except InputError:
        return False
    return True


def _digest(sample: Sample) -> str:
    if sample.label is None:
        return ""
    try:
        return f"{sha256(sample.image)}{sha256(sample.label)}"
    except OSError:  # no files, as those of drawn pictures; or to be said by who reads them
        return ""


def _read(path: Path, classes: int) -> dict[str, NDArray[np.int64]]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            digests, pixels = file["digests"].tolist(), file["pixels"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        return {}
    if pixels.ndim != 2 or pixels.shape != (len(digests), classes):
        return {}
    return dict(zip(digests, pixels, strict=True))


def _keep(
    path: Path,
    known: dict[str, NDArray[np.int64]],
    found: Sequence[tuple[str, NDArray[np.int64]]],
) -> None:
    kept = {digest: pixels for digest, pixels in found if digest}
    if not kept or kept.keys() <= known.keys():
        return

    def write(file: IO[bytes]) -> None:
        np.savez_compressed(file, digests=list(kept), pixels=np.array(list(kept.values())))

    try:
        write_atomic(path, write)
    except OSError as error:
        _log.info("what was found in %d images is not kept: %s", len(kept), error)


def _refusal(dataset: Dataset, wrong: Iterable[InputError]) -> InputError:
    errors = list(wrong)
    unreadable = not isinstance(errors[0], _Wrong)
    helps = "; mend it"
    if unreadable:
        helps += ", or write data: {skip_unreadable: true} in the recipe to train without them"
    helps += f"; atrous doctor --data {dataset.spec} lists all that is wrong"
    if len(errors) == 1:
        return InputError(f"{errors[0]}{helps}")
    for error in errors[:NAMED]:
        _log.warning("%s", error)
    return InputError(
        f"{len(errors)} of {len(dataset.samples)} images of {dataset.name} cannot be used, the "
        f"first: {errors[0]}{helps}"
    )
