"""What the network said about one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atrous import upsample
from atrous.engines.meaning import Activation
from atrous.geometry import Axis


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the network said about one image.

    The class map is made by one enlargement of the logit grid straight to the image's size.
    Pixels that the preprocessing cropped away hold the ignore index.

    Attributes:
        grid: `(C, h, w)` float32 logits as the network made them.
        rows: for every row of the image its position on the grid.
        columns: the same for the columns.
        seen: rows and columns of the image that the network saw, `(top, bottom, left, right)`.
        ignore_index: value of the pixels it did not see.
        activation: what makes probabilities of the scores.
    """

    grid: NDArray[np.float32]
    rows: Axis
    columns: Axis
    seen: tuple[int, int, int, int]
    ignore_index: int
    activation: Activation = "softmax"

    def class_map(self) -> NDArray[np.uint8]:
        """`(H, W)` uint8: the most likely class of every pixel of the image."""
        result = np.full((self.rows.size, self.columns.size), self.ignore_index, np.uint8)
        top, bottom, left, right = self.seen
        if top < bottom and left < right:
            rows, columns = self.rows.part(top, bottom), self.columns.part(left, right)
            upsample.argmax(self.grid, rows, columns, out=result[top:bottom, left:right])
        return result

    def logits(self) -> NDArray[np.float32]:
        """`(C, H, W)` float32 logits of every pixel, `nan` where the network did not see."""
        shape = (len(self.grid), self.rows.size, self.columns.size)
        result = np.full(shape, np.nan, np.float32)
        top, bottom, left, right = self.seen
        if top < bottom and left < right:
            rows, columns = self.rows.part(top, bottom), self.columns.part(left, right)
            result[:, top:bottom, left:right] = upsample.enlarge(self.grid, rows, columns)
        return result

    def probabilities(self) -> NDArray[np.float32]:
        """`(C, H, W)` float32, `nan` where the network did not see.

        They are the softmax over the classes, or what each has for itself where they do not exclude
        each other; that of the background is then the threshold.
        """
        scores = self.logits()
        if self.activation == "sigmoid":
            with np.errstate(over="ignore"):
                return np.asarray(1 / (1 + np.exp(-scores)), np.float32)
        if self.activation != "softmax":
            return scores
        scores -= scores.max(axis=0)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=0)
        return scores
