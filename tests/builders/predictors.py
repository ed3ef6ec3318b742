"""Predictors around networks that are functions."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from atrous.engines.fake import FakeEngine
from atrous.labels import generic
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor

SIZE = (16, 24)
"""Height and width of the input of `brightest`."""


def brightest(function: Callable[[NDArray[np.float32]], object] = lambda batch: None) -> Predictor:
    """Its class is the brightest channel; `function` sees every batch first."""

    def logits(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        function(batch)
        return batch[:, :, ::4, ::4].copy()

    return Predictor(FakeEngine(logits, 3), Preprocess(size=SIZE, normalisation="none"), generic(3))
