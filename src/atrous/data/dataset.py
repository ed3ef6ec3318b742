"""What evaluation and training see of a data set, whatever lies on the disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous import image
from atrous.errors import InputError
from atrous.labels import LabelSet

Decode = Callable[[Path], NDArray[np.uint8]]


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
    """

    name: str
    spec: str
    labels: LabelSet
    samples: tuple[Sample, ...]
    decode: Decode

    def read_image(self, sample: Sample) -> NDArray[np.uint8]:
        """`(H, W, 3)` uint8 RGB.

        Raises:
            InputError: the file cannot be read.
        """
        return image.read(sample.image)

    def read_label(self, sample: Sample) -> NDArray[np.uint8]:
        """`(H, W)` uint8 class ids, `labels.ignore_index` where nothing is scored.

        Raises:
            InputError: there is no mask, it cannot be read, or it holds other ids.
        """
        if sample.label is None:
            raise InputError(f"{sample.id}: has no label")
        label = self.decode(sample.label)
        present = np.flatnonzero(np.bincount(label.reshape(-1), minlength=256))
        classes = self.labels.num_classes
        wrong = [int(i) for i in present if i >= classes and i != self.labels.ignore_index]
        if wrong:
            raise InputError(
                f"{sample.label}: holds the ids {wrong[:8]}, expected 0..{classes - 1} or "
                f"{self.labels.ignore_index} to ignore"
            )
        return label
