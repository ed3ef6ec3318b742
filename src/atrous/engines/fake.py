"""An engine that calls a function: for tests of everything above the engines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from atrous.engines.base import Engine
from atrous.engines.signature import Signature
from atrous.preprocess import Tensor

Logits = NDArray[np.float32]


class FakeEngine(Engine):
    """Return `function(images)`; `dtype` is that of the images, `batch` how many it takes."""

    name = "fake"

    def __init__(
        self,
        function: Callable[..., Logits],
        num_classes: int,
        dtype: str = "float32",
        batch: int | None = None,
    ) -> None:
        self.signature = Signature.of(num_classes, dtype, batch)
        self._function = function

    def _run(self, batch: Tensor) -> Logits:
        return self._function(batch)
