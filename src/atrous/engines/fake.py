"""An engine that calls a function: for tests of everything above the engines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from atrous.engines.base import Engine, TensorSpec
from atrous.preprocess import Tensor

Logits = NDArray[np.float32]


class FakeEngine(Engine):
    """Return `function(batch)`; `dtype` is that of the batch."""

    name = "fake"

    def __init__(
        self, function: Callable[..., Logits], num_classes: int, dtype: str = "float32"
    ) -> None:
        self.input = TensorSpec("input", (None, 3, None, None), dtype)
        self.output = TensorSpec("output", (None, num_classes, None, None), "float32")
        self._function = function

    def _run(self, batch: Tensor) -> Logits:
        return self._function(batch)
