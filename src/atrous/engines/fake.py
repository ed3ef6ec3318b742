"""An engine that calls a function: for tests of everything above the engines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from atrous.engines.base import Engine, TensorSpec

Logits = NDArray[np.float32]


class FakeEngine(Engine):
    """Return `function(batch)`."""

    name = "fake"

    def __init__(self, function: Callable[[Logits], Logits], num_classes: int) -> None:
        self.input = TensorSpec("input", (None, 3, None, None), "float32")
        self.output = TensorSpec("output", (None, num_classes, None, None), "float32")
        self._function = function

    def _run(self, batch: Logits) -> Logits:
        return self._function(batch)
