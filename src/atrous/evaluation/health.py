"""Find models that are broken, and measurements that flatter them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atrous.agreement import LEAST
from atrous.metrics import ConfusionMatrix

ONE_CLASS = 0.98
"""A model that gives one class this share of all pixels, where the truth does not, is broken."""

FAR = 0.25
"""Largest total variation distance between the class histograms of truth and prediction.

On VOC, a model that says background everywhere is at 0.27: the share of all other classes.
"""

ONE_CLASS_CAUSE = (
    "the head is broken, or the preprocessing is not the one the model was trained with"
)
FAR_CAUSE = "check the weights, the labels and the preprocessing"
"""What a finding of each kind advises for a model that is finished."""


def check_predictions(
    matrix: ConfusionMatrix, names: tuple[str, ...], not_finite: int
) -> list[str]:
    """What the predictions alone say of the model.

    Args:
        matrix: of the whole evaluation.
        names: of the classes.
        not_finite: images with logits that are NaN or infinite.

    Returns:
        One sentence per failure, empty for a healthy model.
    """
    findings = []
    if not_finite:
        findings.append(
            f"logits are NaN or infinite on {not_finite} images: the weights are damaged, or an "
            "operation overflows in this precision"
        )
    total = matrix.counts.sum()
    if not total:
        return [*findings, "no pixel was scored: no image could be read, or all is ignored"]
    truth, predicted = matrix.counts.sum(axis=1) / total, matrix.counts.sum(axis=0) / total
    top = int(predicted.argmax())
    distance = total_variation(truth, predicted)
    if predicted[top] > ONE_CLASS > truth[top]:
        findings.append(
            f"{predicted[top]:.1%} of the pixels are predicted as {names[top]!r}, of which the "
            f"truth has {truth[top]:.1%}: {ONE_CLASS_CAUSE}"
        )
    elif distance > FAR:
        worst = int(np.abs(predicted - truth).argmax())
        findings.append(
            f"the predicted classes are far from the true ones (total variation {distance:.2f}, "
            f"limit {FAR}): {names[worst]!r} is {predicted[worst]:.1%} of the prediction and "
            f"{truth[worst]:.1%} of the truth; {FAR_CAUSE}"
        )
    return findings


def check_agreement(same: int, pixels: int, reference: str) -> list[str]:
    """Whether the model says what its reference says.

    Args:
        same: pixels with the same class.
        pixels: pixels compared.
        reference: name of the reference model.
    """
    share = same / pixels if pixels else 0.0
    if share >= LEAST:
        return []
    return [
        f"agrees with {reference} on {share:.1%} of the pixels, expected at least {LEAST:.0%}: "
        "something was lost between the two"
    ]


def total_variation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Half the sum of the absolute differences of two distributions, 0–1."""
    return float(np.abs(first - second).sum() / 2)
