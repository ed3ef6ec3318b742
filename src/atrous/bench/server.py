"""The highest rate of arrivals under which latencies stay bounded."""

from __future__ import annotations

from collections.abc import Callable

STEPS = 6
"""Halvings of the interval in which the rate is looked for."""

BACK = 0.95
"""What a rate is multiplied with if a longer measurement does not confirm it."""


def highest(holds: Callable[[float], bool], most: float, steps: int = STEPS) -> float:
    """Find the highest rate that holds, by halving an interval.

    Args:
        holds: measures a rate; noise may make it answer wrongly near the limit.
        most: a rate that is not expected to hold, such as the throughput with a queue that never
            empties.
        steps: how often to halve.

    Returns:
        a rate that held, or `most / 2**steps`, the lowest that was tried, if none did.
    """
    low, high = 0.0, most
    for _ in range(steps):
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low or high
