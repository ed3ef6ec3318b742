"""From moments to figures: throughput with its confidence, latencies, how busy each step was."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from atrous.bench.load_generator import Recording, Times
from atrous.record import Record

SLICES = 10
"""Time slices whose throughputs are the batch means."""

FEWEST = 20
"""Queries below which there is no confidence interval."""

_T = 2.262  # 97.5 % quantile of Student's t with SLICES - 1 degrees of freedom


class Latency(Record):
    """Milliseconds from a query's arrival to its answer."""

    mean: float
    min: float
    max: float
    p50: float
    p90: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Times) -> Latency:
        """The figures of some latencies, percentiles interpolated linearly."""
        each = 1e3 * seconds
        low, *percentiles, high = np.percentile(each, [0, 50, 90, 95, 99, 100])
        names = ("p50", "p90", "p95", "p99")
        figures = dict(zip(names, percentiles, strict=True), mean=each.mean(), min=low, max=high)
        return cls(**{name: round(float(value), 4) for name, value in figures.items()})


class Throughput(Record):
    """Images per second.

    Attributes:
        mean: all images over all of the time.
        half: half the width of its 95 % confidence interval, by the method of batch means: the
            throughputs of `SLICES` equal slices of the time count as independent, and Student's t
            does the rest. `None` where queries were too few.
        spread: standard deviation of the slices over their mean, `None` likewise.
    """

    mean: float
    half: float | None = None
    spread: float | None = None

    @classmethod
    def of(cls, recordings: Sequence[Recording]) -> Throughput:
        """That of all processes together.

        An image that ends in one slice and began in another counts in part for both: images done
        are interpolated between one end and the next.
        """
        began, ended = _span(recordings)
        ends = np.sort(np.concatenate([one.ends for one in recordings]))
        samples = recordings[0].samples
        mean = len(ends) * samples / (ended - began)
        if len(ends) < FEWEST:
            return cls(mean=round(mean, 4))
        edges = np.linspace(began, ended, SLICES + 1)
        done = np.interp(edges, [began, *ends], samples * np.arange(len(ends) + 1))
        slices = np.diff(done) * SLICES / (ended - began)
        deviation = float(slices.std(ddof=1))
        return cls(
            mean=round(mean, 4),
            half=round(_T * deviation / math.sqrt(SLICES), 4),
            spread=round(deviation / mean, 4),
        )

    def ratio(self, other: Throughput) -> tuple[float, float | None]:
        """How many times the throughput of `other` this is, and half the width of its interval.

        The two are independent, so that their relative errors add up like squares.
        """
        ratio = self.mean / other.mean
        if self.half is None or other.half is None:
            return ratio, None
        return ratio, ratio * math.hypot(self.half / self.mean, other.half / other.mean)


class StepTime(Record):
    """A step of the work.

    Attributes:
        name: as `infer`; `queue` is the time between steps, and nobody's work.
        milliseconds: that a query spends in it, mean; in a batch, the time of the whole batch.
        threads: that do it, and others of the same `crew`, in all processes.
        busy: share of the time of these threads that went into it, 0–1.
        crew: threads of one number do several steps, one after the other; -1 for `queue`.
    """

    name: str
    milliseconds: float
    threads: int = 0
    busy: float = 0.0
    crew: int = -1


def steps(recordings: Sequence[Recording]) -> tuple[StepTime, ...]:
    """The steps in the order of the work, `queue` last where there is one."""
    began, ended = _span(recordings)
    counts = np.array([len(one.ends) for one in recordings])

    def spent(name: str) -> float:
        each = [one.spent[name] for one in recordings]
        return round(1e3 * float(np.average(each, weights=counts)), 4)

    found = []
    for number, crew in enumerate(recordings[0].crews):
        threads = crew.workers * len(recordings)
        for name in crew.steps:
            busy = sum(one.busy[name] for one in recordings) / (threads * (ended - began))
            found.append(
                StepTime(
                    name=name,
                    milliseconds=spent(name),
                    threads=threads,
                    busy=round(busy, 4),
                    crew=number,
                )
            )
    if "queue" in recordings[0].spent:
        found.append(StepTime(name="queue", milliseconds=spent("queue")))
    return tuple(found)


def latencies(recordings: Sequence[Recording]) -> Times:
    """Seconds of all queries of all processes."""
    return np.concatenate([one.latencies for one in recordings])


def seconds(recordings: Sequence[Recording]) -> float:
    """From the first beginning to the last end."""
    began, ended = _span(recordings)
    return ended - began


def _span(recordings: Sequence[Recording]) -> tuple[float, float]:
    return min(one.began for one in recordings), max(one.ended for one in recordings)
