"""Soft labels: how likely each class is, once for every image, as a teacher's answers on the disk.

A file holds, for each cell of `CELL` by `CELL` pixels, its likeliest classes with their
probabilities in 8 bits. It is made once for an image, so its teacher may be one that is too slow to
be asked for every crop: several networks, sizes and mirrors, averaged.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.errors import InputError
from atrous.files import write_atomic

CELL = 4
"""Side of a cell, pixels of the image."""

KEPT = 4
"""Classes that are kept of a cell."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SoftLabel:
    """The soft labels of one image.

    Attributes:
        classes: `(k, h, w)` uint8 ids, likeliest first.
        shares: `(k, h, w)` uint8, their probabilities times 255; a class beyond is 0.
    """

    classes: Pixels
    shares: Pixels

    @classmethod
    def of(cls, probabilities: NDArray[np.float32]) -> Self:
        """Keep the likeliest classes of `(C, h, w)` probabilities, one for each cell."""
        kept = min(KEPT, len(probabilities))
        order = np.argsort(-probabilities, axis=0, kind="stable")[:kept]
        likely = np.take_along_axis(probabilities, order, axis=0)
        shares = np.rint(255 * likely / likely.sum(axis=0)).astype(np.uint8)
        # What says nothing is to compress to nothing.
        return cls(np.where(shares > 0, order, 0).astype(np.uint8), shares)

    @staticmethod
    def path(folder: Path, name: str) -> Path:
        """Where the soft labels of an image lie, by its id."""
        return folder / f"{name}.npz"

    def save(self, folder: Path, name: str) -> None:
        """Write them, whole or not at all."""
        write_atomic(
            self.path(folder, name),
            lambda file: np.savez_compressed(file, classes=self.classes, shares=self.shares),
        )

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: the file cannot be read, or holds something else.
        """
        path = cls.path(folder, name)
        try:
            with path.open("rb") as opened, np.load(opened) as file:
                classes, shares = file["classes"], file["shares"]
        except (OSError, KeyError, ValueError, EOFError, BadZipFile, zlib.error) as error:
            raise InputError(f"{path}: not soft labels: {error}") from None
        if classes.dtype != np.uint8 or shares.dtype != np.uint8 or classes.shape != shares.shape:
            raise InputError(f"{path}: not soft labels: classes and shares do not fit each other")
        return cls(classes, shares)

    def check(self, path: Path, shape: tuple[int, ...], num_classes: int) -> None:
        """Raise `InputError` if they are not of an image of this height and width.

        Args:
            path: named in the message.
            shape: of the image, pixels.
            num_classes: of the data.
        """
        cells = tuple(math.ceil(side / CELL) for side in shape)
        if self.classes.shape[1:] != cells:
            raise InputError(
                f"{path}: soft labels for {self.classes.shape[1:]} cells, its image has {cells}"
            )
        if self.classes.max() >= num_classes:
            raise InputError(
                f"{path}: soft labels of class {self.classes.max()}, expected 0..{num_classes - 1}"
            )

    def warped(
        self, matrix: NDArray[np.float64], size: tuple[int, int], num_classes: int
    ) -> Pixels:
        """The probabilities in a picture made from the image, between cells interpolated linearly.

        Args:
            matrix: `(2, 3)`, position in the image → in that picture, pixel centres at whole
                numbers.
            size: its height and width, pixels.
            num_classes: of the data.

        Returns:
            `(C, *size)` uint8, probabilities times 255; beyond the image they go on as at its edge.
        """
        # Cell 0 has its centre between the pixels 0 and CELL - 1.
        of_cells = np.array([[CELL, 0, (CELL - 1) / 2], [0, CELL, (CELL - 1) / 2], [0, 0, 1]])
        whole = matrix @ of_cells
        found = np.zeros((num_classes, *size), np.uint8)
        for index in np.unique(self.classes):
            plane = np.where(self.classes == index, self.shares, 0).sum(axis=0).clip(max=255)
            found[index] = cv2.warpAffine(
                plane.astype(np.uint8),
                whole,
                size[::-1],
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
        return found
