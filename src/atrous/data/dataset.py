"""What evaluation and training see of a data set, whatever lies on the disk."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous import __version__, image
from atrous.errors import InputError
from atrous.labels import LabelSet

Decode = Callable[[Path], NDArray[np.uint8]]


class MaskError(InputError):
    """A mask can be read but its pixels are no class ids.

    Attributes:
        kind: the fault, in the words of `atrous.data.doctor`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind

    def __str__(self) -> str:
        return str(self.args[1])


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and its label.

    Attributes:
        id: unique in the data set.
        image: the image file.
        label: the mask file, `None` where there is none.
    """

    id: str
    image: Path
    label: Path | None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Images with labels.

    Attributes:
        name: kind and split, as `voc:val`; stamped on results.
        spec: the specification it was opened by.
        labels: names of the classes and the ignore index.
        samples: in the order of the split file.
        decode: reads a mask file to `(H, W)` uint8 class ids, before they are checked.
        decode_image: reads an image file to `(H, W, 3)` uint8 RGB.
        siblings: specifications of the other splits on the same disk.
        advice: what helps where masks hold values that are no class; empty if unknown.
    """

    name: str
    spec: str
    labels: LabelSet
    samples: tuple[Sample, ...]
    decode: Decode
    decode_image: Decode = image.read
    siblings: tuple[str, ...] = ()
    advice: str = ""

    def read_image(self, sample: Sample) -> NDArray[np.uint8]:
        """`(H, W, 3)` uint8 RGB.

        Raises:
            InputError: the file cannot be read.
        """
        return self.decode_image(sample.image)

    def read_label(self, sample: Sample) -> NDArray[np.uint8]:
        """`(H, W)` uint8 class ids, `labels.ignore_index` where nothing is scored.

        Raises:
            InputError: there is no mask, it cannot be read, or it holds other ids.
        """
        if sample.label is None:
            raise InputError(f"{sample.id}: has no label")
        label = self.decode(sample.label)
        if wrong := outside(id_counts(label), self.labels):
            raise InputError(
                f"{sample.label}: holds {listed(wrong)}, expected the ids "
                f"0..{self.labels.num_classes - 1}, or {self.labels.ignore_index} to ignore"
                + (f"; {self.advice}" if self.advice else "")
            )
        return label

    def reading(self) -> str:
        """A name for all that decides what is read out of its files, beside what they hold."""
        taken = getattr(self.decode_image, "taking", None)
        most = getattr(self.decode_image, "max_pixels", None)
        try:
            decode = pickle.dumps(self.decode)
        except (pickle.PicklingError, AttributeError, TypeError):  # a caller's own, of this process
            decode = repr(self.decode).encode()
        parts = repr((self.spec, self.labels, taken, most, __version__))
        return hashlib.sha256(parts.encode(errors="surrogateescape") + decode).hexdigest()[:32]


def id_counts(label: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels of each value, `(256,)`."""
    return np.bincount(label.reshape(-1), minlength=256)


def outside(counts: NDArray[np.int64], labels: LabelSet) -> dict[int, int]:
    """Of `id_counts`, the values that are neither a class nor ignored, with their pixels."""
    found = (int(value) for value in np.flatnonzero(counts[labels.num_classes :]))
    ids = (value + labels.num_classes for value in found)
    return {value: int(counts[value]) for value in ids if value != labels.ignore_index}


def listed(wrong: dict[int, int]) -> str:
    """Some of the values that `outside` found."""
    few = [f"id {value} on {pixels} pixels" for value, pixels in list(wrong.items())[:4]]
    more = f" and {len(wrong) - 4} other ids" if len(wrong) > 4 else ""
    return ", ".join(few) + more
