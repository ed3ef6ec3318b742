"""Known moments, known figures."""

import numpy as np
import pytest

from atrous.bench import statistics
from atrous.bench.load_generator import ThreadGroup
from atrous.bench.statistics import Latency, Throughput
from tests.builders.bench import recording


def test_percentiles_of_1_to_101_milliseconds() -> None:
    """Shuffled, so that order does not matter: percentile p lies at 1 + p."""
    seconds = np.random.default_rng(0).permutation(np.arange(1, 102)) / 1e3
    found = Latency.of(seconds)
    assert found == Latency(mean=51, min=1, max=101, p50=51, p90=91, p95=96, p99=100)


def test_percentiles_of_a_known_distribution() -> None:
    """Exponential with mean 10 ms: percentile p is at -10·ln(1 - p)."""
    found = Latency.of(np.random.default_rng(1).exponential(0.01, 200_000))
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        assert getattr(found, name) == pytest.approx(-10 * np.log(1 - share), rel=0.02)
    assert found.mean == pytest.approx(10, rel=0.02)


def test_throughput_of_even_work() -> None:
    found = Throughput.of([recording(np.arange(1, 101) / 10, samples=4)])
    assert found.mean == pytest.approx(40)
    assert found.half == pytest.approx(0, abs=1e-6)


def test_throughput_of_uneven_work() -> None:
    """Slices of one second with 5 and 15 queries in turn: their deviation is 5·√(10/9)."""
    ends = [
        second + (place + 1) / count
        for second in range(10)
        for count in ((5, 15)[second % 2],)
        for place in range(count)
    ]
    found = Throughput.of([recording(ends)])
    deviation = 5 * np.sqrt(10 / 9)
    assert found.mean == pytest.approx(10)
    assert found.spread == pytest.approx(deviation / 10, rel=1e-3)
    assert found.half == pytest.approx(2.262 * deviation / np.sqrt(10), rel=1e-3)


def test_an_image_counts_in_every_slice_that_it_took_time_in() -> None:
    """Without that, 15 queries over 10 slices would be 1 or 2 in each, though work is even."""
    found = Throughput.of([recording(np.arange(1, 26) / 2.5)])
    assert found.half == pytest.approx(0, abs=1e-6)


def test_the_interval_holds_what_it_promises() -> None:
    """95 of 100 intervals contain the true mean; of 400, chance leaves 366 to 394."""
    noise = np.random.default_rng(2)
    inside = 0
    for _ in range(400):
        found = Throughput.of([recording(np.cumsum(noise.gamma(4, 1 / 400, 1000)))])
        assert found.half is not None
        inside += abs(found.mean - 100) <= found.half
    assert 366 <= inside <= 394


def test_few_queries_have_no_interval() -> None:
    assert Throughput.of([recording(range(1, 20))]).half is None
    assert Throughput.of([recording(range(1, 21))]).half is not None


def test_processes_add_up() -> None:
    one, other = recording(np.arange(1, 101) / 10), recording(np.arange(1, 51) / 5)
    found = Throughput.of([one, other])
    assert found.mean == pytest.approx(15)
    assert statistics.seconds([one, other]) == 10
    assert len(statistics.latencies([one, other])) == 150


def test_ratio() -> None:
    one, other = Throughput(mean=60, half=0.6), Throughput(mean=40, half=0.8)
    ratio, half = one.ratio(other)
    assert ratio == pytest.approx(1.5)
    assert half == pytest.approx(1.5 * np.hypot(0.01, 0.02))
    assert one.ratio(Throughput(mean=40)) == (pytest.approx(1.5), None)


def test_what_was_never_begun_had_waited() -> None:
    found = recording([1.0], latency=0.5, waited=np.array([3.0])).latencies
    assert found.tolist() == [0.5, 3.0]


def test_steps() -> None:
    crews = (ThreadGroup(("decode", "preprocess"), 1), ThreadGroup(("infer",), 2))
    spent = {"decode": 0.01, "preprocess": 0.02, "infer": 0.1, "queue": 0.05}
    busy = {"decode": 1.0, "preprocess": 2.0, "infer": 16.0}
    one = recording(range(1, 11), crews=crews, spent=spent, busy=busy)
    twice = {name: 2 * value for name, value in spent.items()}
    other = recording(np.arange(1, 31) / 3, crews=crews, spent=twice, busy=busy)
    found = {step.name: step for step in statistics.steps([one, other])}
    assert list(found) == ["decode", "preprocess", "infer", "queue"]
    # 10 queries of the one and 30 of the other, which took twice as long
    assert found["infer"].milliseconds == pytest.approx(100 * (10 + 60) / 40)
    assert (found["infer"].threads, found["infer"].busy) == (4, pytest.approx(32 / 40))
    assert (found["decode"].crew, found["preprocess"].crew, found["infer"].crew) == (0, 0, 1)
    assert (found["queue"].threads, found["queue"].busy) == (0, 0)
