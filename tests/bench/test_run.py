"""From a plan to a result, and the search for the highest rate."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from atrous.bench import machine, run, server
from atrous.bench.load_generator import Load, Recording
from atrous.bench.plan import Plan
from atrous.bench.warmup import WarmUp
from atrous.cores import cores
from tests.builders.bench import FACTS, recording


class Queue:
    """A model takes 10 ms a query, so that it serves 100 a second at most."""

    facts = FACTS
    warm = WarmUp(30, 1.0, stable=True)

    def __init__(self) -> None:
        self.rates: list[float] = []

    def run(self, load: Load) -> list[Recording]:
        if load.rate is None:
            return [recording(np.arange(1, 101) / 100)]
        self.rates.append(load.rate)
        gaps = np.random.default_rng(load.seed).exponential(1 / load.rate, 4000)
        begins, ends, free = np.cumsum(gaps), [], 0.0
        for begin in begins:
            free = max(free, begin) + 0.01
            ends.append(free)
        return [recording(ends, begins=begins)]


def test_the_highest_rate_that_holds_a_bound() -> None:
    """M/D/1: at 80 % of what is served, p99 of the time in the system is about 90 ms."""
    processes = Queue()
    found = run.measured(Plan(scenario="server", bound=90.0), processes)
    assert found.server is not None
    assert (found.server.searched, found.server.holds) == (True, True)
    assert 70 <= found.server.rate <= 85
    assert found.latency.p99 <= 90
    assert len(processes.rates) <= server.STEPS + run.CONFIRM


def test_a_bound_that_nothing_holds() -> None:
    found = run.measured(Plan(scenario="server", bound=5.0), Queue())
    assert found.server is not None
    assert found.server.holds is False
    assert found.latency.p99 > 5


def test_a_given_rate() -> None:
    processes = Queue()
    found = run.measured(Plan(scenario="server", rate=50.0), processes)
    assert found.server is not None
    assert (found.server.rate, found.server.searched, found.server.holds) == (50, False, None)
    assert processes.rates == [50]
    held = run.measured(Plan(scenario="server", rate=50.0, bound=1000.0), processes)
    assert held.server is not None
    assert held.server.holds is True


@pytest.mark.parametrize(("limit", "rate"), [(60, 60), (99, 98.4), (0.5, 1.6), (200, 98.4)])
def test_halving(limit: float, rate: float) -> None:
    found = server.highest(lambda rate: rate <= limit, 100)
    assert found == pytest.approx(rate, abs=100 / 2**server.STEPS)
    assert found <= limit or limit == 0.5


@pytest.mark.heavy
def test_a_result(tmp_path: Path, small_model: Callable[..., onnx.ModelProto]) -> None:
    onnx.save(small_model(), tmp_path / "m.onnx")
    plan = Plan(model=str(tmp_path / "m.onnx"), engine="onnxruntime", seconds=0.3, queries=50)
    said: list[str] = []
    found = run.measure(plan, say=said.append)
    assert said == ["opening and warming up", "measuring"]
    assert found.queries >= 50
    assert found.seconds >= 0.3
    assert found.throughput.mean == pytest.approx(found.queries / found.seconds, rel=1e-3)
    assert found.latency.min <= found.latency.p50 <= found.latency.p99 <= found.latency.max
    assert found.facts.shape == (1, 3, 32, 32)
    assert 0 < found.cpu <= 1
    assert found.memory > 20e6
    assert found.warm_up.queries >= 9
    [step] = found.steps
    assert (step.name, step.threads) == ("infer", 1)
    assert 0 < step.busy <= 1


@pytest.mark.heavy
def test_a_process_of_its_own(tmp_path: Path, small_model: Callable[..., onnx.ModelProto]) -> None:
    ballast = np.ones(100 * 2**20, np.uint8)  # of this process: must not count
    onnx.save(small_model(), tmp_path / "m.onnx")
    plan = Plan(model=str(tmp_path / "m.onnx"), engine="onnxruntime", seconds=0.1)
    found = run.measure(plan, apart=True)
    assert 20e6 < found.memory < machine.peak_memory() - ballast.nbytes / 2


@pytest.mark.heavy
def test_peak_memory_is_the_peak() -> None:
    before = machine.peak_memory()
    np.ones(before + 50 * 2**20, np.uint8)
    assert machine.peak_memory() >= before + 40 * 2**20


def test_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """All cores together work 3 s of 4 s; 1 s of that is our own."""
    cores = os.cpu_count() or 1
    busy, now = iter([100.0, 100.0 + 3 * cores]), iter([10.0, 14.0])
    monkeypatch.setattr(machine, "_busy", lambda: next(busy))
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    watch = machine.CpuWatch()
    assert watch.others(1.0 * cores) == pytest.approx(2 / 4)


def test_idle_time_is_not_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import namedtuple

    times = namedtuple("times", "user nice system idle iowait steal guest")
    monkeypatch.setattr("psutil.cpu_times", lambda: times(10, 1, 5, 1000, 70, 2, 3))
    assert machine._busy() == 18


def test_this_machine() -> None:
    here = machine.Machine.here()
    assert here.processor
    assert here.cores == cores()
