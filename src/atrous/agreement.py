"""How far two networks are apart on the same pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from atrous.errors import ArtifactError
from atrous.formatting import as_share
from atrous.record import Record

TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2}
"""Largest difference allowed per precision of one network, as a share of the logits' range."""

LEAST = 0.90
"""Smallest share of the pixels on which two forms of one network must agree."""


class Agreement(Record):
    """How close one network is to another that it was made from.

    Attributes:
        images: on which both ran.
        agreement: share of the pixels with the same class, mean over the images, 0–1.
        largest_difference: largest absolute difference of a logit.
        logit_range: largest minus smallest logit of the first.
    """

    images: int
    agreement: float
    largest_difference: float
    logit_range: float

    @property
    def relative(self) -> float:
        """`largest_difference` as a share of `logit_range`."""
        if self.logit_range:
            return self.largest_difference / self.logit_range
        return math.inf if self.largest_difference else 0.0

    def check(self, what: str, tolerance: float) -> None:
        """Raise `ArtifactError` if a logit differs by more than `tolerance`, or is no number."""
        if not self.relative <= tolerance:
            raise ArtifactError(
                f"{what} disagrees with the original: largest difference of a logit "
                f"{self.largest_difference:.2g} is {self.relative:.2g} of their range, allowed "
                f"{tolerance:.0e}; nothing was written"
            )

    def __str__(self) -> str:
        """One line for people."""
        return self.of("1 image" if self.images == 1 else f"{self.images} images")

    def of(self, what: str) -> str:
        """One line for people that says what the images are."""
        return (
            f"same class on {as_share(self.agreement)} of the pixels of {what}, "
            f"largest difference of a logit {self.largest_difference:.2g} "
            f"in a range of {self.logit_range:.3g}"
        )


class Answer(Protocol):
    """What a network says of one image: its logits, and the class map that is made of them."""

    @property
    def grid(self) -> NDArray[np.float32]:
        """`(C, h, w)` logits."""
        ...

    def class_map(self) -> NDArray[Any]:
        """`(H, W)` class ids."""
        ...


def compare(pairs: Iterable[tuple[Answer, Answer]]) -> Agreement:
    """Compare what two networks say of some images.

    Args:
        pairs: for each image what is expected and what was found, at least one.
    """
    shares, differences, low, high = [], [], np.inf, -np.inf
    for expected, actual in pairs:
        same, pixels = same_pixels(expected.class_map(), actual.class_map())
        shares.append(same / pixels)
        # A NaN on either side ends up here, and fails every check.
        differences.append(np.abs(expected.grid - actual.grid).max())
        low, high = min(low, expected.grid.min()), max(high, expected.grid.max())
    return Agreement(
        images=len(shares),
        agreement=float(np.mean(shares)),
        largest_difference=float(np.max(differences)),
        logit_range=float(high - low),
    )


@dataclass(frozen=True, slots=True)
class _FullLogits:
    """What a network says that was run with its last resize."""

    grid: NDArray[np.float32]

    def class_map(self) -> NDArray[Any]:
        return np.asarray(self.grid.argmax(0))


def pairs_of(
    expected: NDArray[np.float32], actual: NDArray[np.float32]
) -> Iterator[tuple[Answer, Answer]]:
    """Logits as large as the input, for `compare`.

    Args:
        expected: `(N, C, H, W)`.
        actual: the same shape.

    Raises:
        ArtifactError: the shapes differ.
    """
    if expected.shape != actual.shape:
        raise ArtifactError(f"expected logits {expected.shape}, found {actual.shape}")
    return zip(map(_FullLogits, expected), map(_FullLogits, actual), strict=True)


def same_pixels(
    first: NDArray[Any], second: NDArray[Any], ignore: int | None = None
) -> tuple[int, int]:
    """On how many pixels two class maps agree, of how many.

    Args:
        first: `(H, W)` class ids.
        second: the same shape.
        ignore: value of pixels that a network did not see; where neither saw them, they do not
            count.
    """
    same = first == second
    if ignore is None:
        return int(np.count_nonzero(same)), same.size
    seen = (first != ignore) | (second != ignore)
    return int(np.count_nonzero(same & seen)), int(np.count_nonzero(seen))
