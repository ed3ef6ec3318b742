"""Batches of changed crops, in an order that the seed decides and any iteration can start from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from atrous.cores import cores
from atrous.data import Dataset, Sample
from atrous.data.augment import Augment, generator, order
from atrous.data.soft_labels import SoftLabel
from atrous.errors import AtrousError, InputError
from atrous.preprocess import Preprocess

MOST_WORKERS = 8


# No class, as pylint fails on one that is another's type parameter.
Piece = NamedTuple(  # noqa: UP014
    "Piece", [("images", Tensor), ("labels", Tensor), ("soft", Tensor)]
)
"""Crops of a batch, or one crop, which has no first axis.

`images` are `(N, 3, crop, crop)` float32, normalised; `labels` `(N, crop, crop)` uint8 class ids;
`soft` `(N, C, crop, crop)` uint8, how likely each class is, times 255: all zero where that is
unknown, and without soft labels C is 0.
"""


@dataclass
class Crops(TorchDataset[Piece]):
    """The endless sequence of crops of a run: epoch after epoch, each in its own order.

    Attributes:
        dataset: what is learnt from.
        augment: how an image is changed.
        preprocess: how a crop becomes the network's input; its size is the crop's.
        seed: of the run.
        weights: see `atrous.data.augment.order`.
        soft: folder of the soft labels, `None` without.
    """

    dataset: Dataset
    augment: Augment
    preprocess: Preprocess
    seed: int
    weights: NDArray[np.float64] | None = None
    soft: Path | None = None
    _order: tuple[int, NDArray[np.int64]] | None = field(default=None, repr=False)

    def sample(self, position: int) -> tuple[int, int, int]:
        """Epoch, place in its order and index of the image at a position of the sequence."""
        epoch, place = divmod(position, len(self.dataset.samples))
        if self._order is None or self._order[0] != epoch:
            count = len(self.dataset.samples)
            self._order = epoch, order(self.seed, epoch, count, self.weights)
        return epoch, place, int(self._order[1][place])

    def __getitem__(self, position: int) -> Piece:
        """The crop at a position of the sequence.

        Raises:
            InputError: the files cannot be read or do not fit each other.
        """
        epoch, place, index = self.sample(position)
        sample = self.dataset.samples[index]
        image, label = self.dataset.read_image(sample), self.dataset.read_label(sample)
        if image.shape[:2] != label.shape:
            raise InputError(f"{sample.label}: label is {label.shape}, its image {image.shape[:2]}")
        random = generator(self.seed, epoch, place)
        matrix = self.augment.placed(label.shape, random)
        soft = self._soft(sample, label.shape, matrix)
        image, label = self.augment.cut(image, label, matrix, random)
        return Piece(
            torch.from_numpy(self.preprocess(image)),
            torch.from_numpy(label),
            torch.from_numpy(soft),
        )

    def _soft(
        self, sample: Sample, shape: tuple[int, ...], matrix: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """The soft labels of the crop that shows an image of this shape so."""
        size = (self.augment.crop, self.augment.crop)
        if self.soft is None:
            return np.zeros((0, *size), np.uint8)
        found = SoftLabel.load(self.soft, sample.id)
        path = SoftLabel.path(self.soft, sample.id)
        found.check(path, shape, self.dataset.labels.num_classes)
        crop = found.warped(matrix, size, self.dataset.labels.num_classes)
        crop[:, self.augment.beyond(shape, matrix)] = 0
        return crop


@dataclass(frozen=True)
class Positions:
    """Which positions of the sequence a process takes, piece by piece.

    Attributes:
        iterations: from the first to the one behind the last.
        batch: images of one iteration, of all processes together.
        rank: of this process.
        processes: how many there are.
        pieces: that a process takes its share of a batch in.
    """

    iterations: range
    batch: int
    rank: int = 0
    processes: int = 1
    pieces: int = 1

    def __iter__(self) -> Iterator[list[int]]:
        share = self.batch // self.processes
        size = share // self.pieces
        for iteration in self.iterations:
            first = iteration * self.batch + self.rank * share
            for piece in range(self.pieces):
                yield list(range(first + piece * size, first + (piece + 1) * size))

    def __len__(self) -> int:
        return len(self.iterations) * self.pieces


def load(crops: Crops, positions: Positions, workers: int) -> Iterator[Piece]:
    """The pieces of the batches, made ahead by `workers`.

    Args:
        crops: where they come from.
        positions: which.
        workers: processes that make them, 0 for this one.

    Raises:
        AtrousError: a crop cannot be made; as the process that tried raised it.
    """
    batches: DataLoader[Piece | AtrousError] = DataLoader(
        cast("TorchDataset[Piece | AtrousError]", _Told(crops)),
        batch_sampler=positions,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        # Its own, as it would take a number from the one that dropout draws from.
        generator=torch.Generator(),
    )
    for batch in _begun(batches):
        if isinstance(batch, AtrousError):
            raise batch
        yield batch


T = TypeVar("T")


def _begun(batches: DataLoader[T]) -> Iterator[T]:
    """Start the worker processes, each with one thread of OpenCV's.

    A process that is forked while OpenCV has threads waits for ever for those which it has not, at
    the first call that changes their number; so they end before.
    """
    before = cv2.getNumThreads()
    if batches.num_workers:
        cv2.setNumThreads(1)
    try:
        return iter(batches)
    finally:
        cv2.setNumThreads(before)


@dataclass
class _Told(TorchDataset[Piece]):
    """Crops, or the errors in their place: raised in a worker, they would come as its traceback."""

    crops: Crops

    def __getitem__(self, position: int) -> Piece | AtrousError:  # type: ignore[override]
        try:
            return self.crops[position]
        except AtrousError as error:
            return error


def _collate(pieces: list[Piece | AtrousError]) -> Piece | AtrousError:
    error = next((piece for piece in pieces if isinstance(piece, AtrousError)), None)
    if error is not None:
        return error
    collated: Piece = default_collate(pieces)
    return collated


def spare_workers(processes: int) -> int:
    """Processes to prepare images that the machine has to spare for one of `processes`."""
    return min(MOST_WORKERS, max(1, cores() // (2 * processes)))
