"""Say by how much two runs of one network differ."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atrous.errors import ArtifactError

TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2}
"""Largest difference allowed per precision, as a share of the logits' range."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the logits of an export differ from PyTorch's on the same pixels.

    Attributes:
        largest: largest absolute difference of a logit.
        span: largest minus smallest logit of PyTorch.
        agreement: share of the pixels with the same class, 0–1.
    """

    largest: float
    span: float
    agreement: float

    @property
    def relative(self) -> float:
        """`largest` as a share of `span`."""
        return self.largest / self.span if self.span else (math.inf if self.largest else 0.0)

    def check(self, what: str, tolerance: float) -> None:
        """Raise `ArtifactError` if the difference is over `tolerance`, or not a number."""
        if not self.relative <= tolerance:
            raise ArtifactError(
                f"{what} disagrees with PyTorch: largest difference {self.largest:.2g} is "
                f"{self.relative:.2g} of the logits' range, allowed {tolerance:.0e}; "
                "nothing was written"
            )

    def __str__(self) -> str:
        return (
            f"largest difference to PyTorch {self.largest:.2g} "
            f"({self.relative:.1g} of the logits' range {self.span:.3g}), "
            f"same class on {self.agreement:.4%} of the pixels"
        )


def compare(expected: NDArray[np.float32], actual: NDArray[np.float32]) -> Comparison:
    """Compare two arrays of logits.

    Args:
        expected: `(N, C, H, W)`, PyTorch's.
        actual: the same shape.

    Raises:
        ArtifactError: the shapes differ.
    """
    if expected.shape != actual.shape:
        raise ArtifactError(f"expected logits {expected.shape}, found {actual.shape}")
    return Comparison(
        largest=float(np.abs(expected - actual).max()),
        span=float(np.ptp(expected)),
        agreement=float((expected.argmax(1) == actual.argmax(1)).mean()),
    )


def worst(comparisons: list[Comparison]) -> Comparison:
    """The comparison with the largest relative difference."""
    # A NaN compares as neither larger nor smaller: let it win.
    return max(comparisons, key=lambda c: (c.relative != c.relative, c.relative))
