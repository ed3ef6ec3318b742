"""Run until times no longer change."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

BLOCKS = 3
"""Blocks in a row that have to agree."""

WITHIN = 0.05
"""How far apart the medians of agreeing blocks may be, as a share of the smallest."""

LIMIT = 20.0
"""Seconds after which a measurement begins all the same."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What happened before the measurement.

    Attributes:
        queries: that were answered.
        seconds: that it took.
        stable: whether times had stopped changing.
    """

    queries: int
    seconds: float
    stable: bool

    @classmethod
    def of_all(cls, parts: Sequence[WarmUp]) -> WarmUp:
        """Of several processes that warmed up side by side."""
        return cls(
            sum(part.queries for part in parts),
            max(part.seconds for part in parts),
            all(part.stable for part in parts),
        )


def settled(medians: Sequence[float]) -> bool:
    """Whether the last `BLOCKS` medians are `WITHIN` each other."""
    last = medians[-BLOCKS:]
    return len(last) == BLOCKS and max(last) <= min(last) * (1 + WITHIN)


def warm_up(
    block: Callable[[], Sequence[float]],
    *,
    limit: float = LIMIT,
    clock: Callable[[], float] = time.perf_counter,
) -> WarmUp:
    """Run blocks of queries until their medians agree, or time is over.

    Args:
        block: runs some queries and returns the latency of each, one at least.
        limit: seconds.
        clock: tells the time in seconds.
    """
    began, queries = clock(), 0
    medians: list[float] = []
    while not settled(medians) and (not medians or clock() - began < limit):
        latencies = block()
        queries += len(latencies)
        medians.append(float(np.median(latencies)))
    return WarmUp(queries, clock() - began, settled(medians))
