"""Losses over labelled pixels. Ignored pixels count nowhere; without any other the loss is zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from atrous.training.config import LossSettings


class Loss:
    """What is minimised: a mean over the pixels, each weighted as its true class.

    A batch may be spread over processes and pieces. `mass` is the weight of the pixels of a piece,
    and the mean of the whole batch the sum of the pieces' means times their shares of the mass.

    Args:
        settings: see `atrous.training.config.LossSettings`.
        weights: one per class, `None` for 1.
        ignore_index: of the labels.
    """

    def __init__(
        self, settings: LossSettings, weights: Sequence[float] | None, ignore_index: int
    ) -> None:
        self.settings = settings
        self.weights = None if weights is None else torch.tensor(weights, dtype=torch.float32)
        self.ignore_index = ignore_index

    def mass(self, label: Tensor) -> Tensor:
        """Sum of the weights of the pixels that are not ignored.

        Args:
            label: `(N, H, W)` int64 class ids.

        Returns:
            A float64 scalar.
        """
        kept = label != self.ignore_index
        if self.weights is None:
            return kept.sum(dtype=torch.float64)
        return self.weights.to(label.device)[label[kept]].sum(dtype=torch.float64)

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        """The mean over the pixels that are not ignored; 0 if there are none.

        Args:
            logits: `(N, C, H, W)` floats.
            label: `(N, H, W)` int64 class ids.

        Returns:
            A scalar that gradients come from.
        """
        if not self.mass(label):
            return logits.sum() * 0
        weights = None if self.weights is None else self.weights.to(logits)
        ignore, own = self.ignore_index, self.settings
        match own.type:
            case "cross_entropy":
                value = cross_entropy(logits, label, weights, ignore, own.label_smoothing)
            case "focal":
                value = focal(logits, label, weights, ignore, own.gamma)
            case "ohem":
                value = ohem(logits, label, weights, ignore, own.threshold, own.keep)
            case "dice":
                value = dice(logits, label, ignore)
        return value + own.dice * dice(logits, label, ignore) if own.dice else value


def cross_entropy(
    logits: Tensor, label: Tensor, weights: Tensor | None, ignore_index: int, smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy, weighted by class."""
    return functional.cross_entropy(
        logits, label, weights, ignore_index=ignore_index, label_smoothing=smoothing
    )


def focal(
    logits: Tensor, label: Tensor, weights: Tensor | None, ignore_index: int, gamma: float
) -> Tensor:
    """Mean focal loss, `-(1 - p)^gamma log p` of the true class (arXiv:1708.02002)."""
    kept = label != ignore_index
    surprise = functional.cross_entropy(logits, label, ignore_index=ignore_index, reduction="none")[
        kept
    ]
    weighted = surprise * (-torch.expm1(-surprise)).clamp(min=0) ** gamma
    if weights is None:
        return weighted.mean()
    own = weights[label[kept]]
    return (weighted * own).sum() / own.sum()


def ohem(
    logits: Tensor,
    label: Tensor,
    weights: Tensor | None,
    ignore_index: int,
    threshold: float,
    keep: float,
) -> Tensor:
    """Mean cross-entropy of the hard pixels alone (online hard example mining, arXiv:1604.03540).

    Hard are those whose true class has a probability under `threshold`, and in any case the
    hardest `keep` of all.
    """
    kept = label != ignore_index
    surprise = functional.cross_entropy(logits, label, ignore_index=ignore_index, reduction="none")[
        kept
    ]
    values = surprise.detach()
    fewest = max(1, int(keep * values.numel()))
    limit = torch.minimum(
        values.kthvalue(values.numel() - fewest + 1).values,
        values.new_tensor(threshold).log().neg(),
    )
    hard = values >= limit
    if weights is None:
        return surprise[hard].mean()
    own = weights[label[kept][hard]]
    return (surprise[hard] * own).sum() / own.sum().clamp(min=torch.finfo(own.dtype).tiny)


def dice(logits: Tensor, label: Tensor, ignore_index: int) -> Tensor:
    """One minus the mean soft Dice coefficient of the classes in the label (arXiv:1606.04797)."""
    kept = (label != ignore_index).unsqueeze(1)
    classes = logits.shape[1]
    truth = functional.one_hot(label.where(kept[:, 0], 0), classes).movedim(-1, 1) * kept
    likely = logits.softmax(dim=1) * kept
    pixels = (0, 2, 3)
    shared, total = (truth * likely).sum(pixels), (truth.sum(pixels) + likely.sum(pixels))
    present = truth.sum(pixels) > 0
    return 1 - (2 * shared[present] / total[present]).mean()
