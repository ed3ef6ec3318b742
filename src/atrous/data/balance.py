"""What makes up for rare classes: images that come more often, pixels that weigh more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def image_weights(shown: NDArray[np.bool_], strength: float) -> NDArray[np.float64]:
    """Weights for `atrous.data.augment.order` that prefer images of rare classes.

    Args:
        shown: `(images, classes)`: does the image show the class?
        strength: 0 takes all alike, 1 in inverse proportion to the images that show the rarest
            class of the image.

    Returns:
        `(images,)` weights over 0.
    """
    images = np.maximum(1, shown.sum(axis=0))
    rarest = np.where(shown, images, len(shown)).min(axis=1)
    return np.asarray((rarest / len(shown)) ** -strength, np.float64)


def class_weights(pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights for a loss by median frequency balancing (arXiv:1411.4734).

    The frequency of a class is its share of the pixels of the images that show it, and its weight
    the median of the frequencies over its own.

    Args:
        pixels: of each class in each label, `(images, classes)`.

    Returns:
        `(classes,)`; 0 for a class that never occurs.
    """
    shown = pixels > 0
    around = (shown * pixels.sum(axis=1, keepdims=True)).sum(axis=0)
    frequency = pixels.sum(axis=0) / np.maximum(1, around)
    weights = np.zeros(pixels.shape[1])
    if (occurs := frequency > 0).any():
        weights[occurs] = np.median(frequency[occurs]) / frequency[occurs]
    return weights
