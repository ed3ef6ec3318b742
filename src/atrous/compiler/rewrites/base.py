"""What every rewrite takes and returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["planar", "channels-last"]
"""How activations lie in memory on the engine that a model is compiled for."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a rewrite applied.

    Attributes:
        places: one phrase for every place that it changed.
        left: one phrase for every place that looked like its pattern and why it was left alone.
    """

    places: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
