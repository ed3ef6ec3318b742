"""Processes that get ready, start together, fail and die."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import onnx
import pytest

from atrous.bench import processes
from atrous.bench.load import Facts
from atrous.bench.load_generator import Load
from atrous.bench.plan import Plan
from atrous.bench.processes import SeveralProcesses, cores_of, open_processes
from atrous.bench.warmup import WarmUp
from atrous.errors import ConfigError, EngineError
from tests.builders.bench import FACTS, recording


def ready(pipe: Connection, number: int) -> Load:
    pipe.send((FACTS, WarmUp(number + 1, 1.0, stable=True)))
    load = pipe.recv()
    assert isinstance(load, Load)
    return load


def starts_late(pipe: Connection, plan: Plan, number: int) -> None:
    """The second is ready half a second after the first; both say when they were, and began."""
    time.sleep(0.5 * number)
    was_ready = time.perf_counter()
    load = ready(pipe, number)
    began = time.perf_counter()
    pipe.send(recording([began + 1], began=began, samples=load.queries, ended=was_ready))
    pipe.recv()


def is_killed(pipe: Connection, plan: Plan, number: int) -> None:
    ready(pipe, number)
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def is_stuck(pipe: Connection, plan: Plan, number: int) -> None:
    ready(pipe, number)
    if number == 0:
        pipe.send(recording([1.0]))
    time.sleep(60)


def ends_at_once(pipe: Connection, plan: Plan, number: int) -> None:
    if number == 0:
        raise SystemExit(3)
    ready(pipe, number)


def fails(pipe: Connection, plan: Plan, number: int) -> None:
    pipe.send(EngineError(f"broken in {number}"))
    time.sleep(60)


@pytest.mark.heavy
def test_they_start_together() -> None:
    several = SeveralProcesses(Plan(processes=2), starts_late)
    try:
        assert several.facts == FACTS
        assert several.warm.queries == 1 + 2
        found = several.run(Load(1.0, queries=7))
        assert [one.samples for one in found] == [4, 4]  # a share of the queries each
        assert min(one.began for one in found) > max(one.ended for one in found)
    finally:
        several.close()


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("work", "message"),
    [
        (ends_at_once, r"process 1 of 2 ended \(3\) before it was done"),
        (fails, r"broken in \d"),
    ],
)
def test_one_that_cannot_begin(work: Callable[..., None], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        SeveralProcesses(Plan(processes=2), work)


@pytest.mark.heavy
def test_one_that_is_killed() -> None:
    several = SeveralProcesses(Plan(processes=2), is_killed)
    with pytest.raises(EngineError, match="process 2 of 2 was killed by SIGKILL before it was do"):
        several.run(Load(1.0))
    several.close()  # and the other, which sleeps
    assert not any(process.is_alive() for process in several._processes)


@pytest.mark.heavy
def test_one_that_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STUCK", 2.0)
    several = SeveralProcesses(Plan(processes=2), is_stuck)
    with pytest.raises(EngineError, match=r"process 2 of 2 is stuck: no answer, and no CPU time"):
        several.run(Load(1.0))
    several.close()
    assert not any(process.is_alive() for process in several._processes)


@pytest.fixture
def model(tmp_path: Path, small_model: Callable[..., onnx.ModelProto]) -> str:
    onnx.save(small_model(), tmp_path / "m.onnx")
    return str(tmp_path / "m.onnx")


@pytest.mark.heavy
def test_two_real_ones(model: str) -> None:
    plan = Plan(model=model, engine="onnxruntime", processes=2, threads=1)
    with open_processes(plan) as opened:
        assert isinstance(opened.facts, Facts)
        found = opened.run(Load(0.1))
    assert multiprocessing.active_children() == []
    assert len(found) == 2
    assert all(len(one.ends) > 1 and one.memory > 10e6 and one.cpu > 0 for one in found)
    # Their clocks are one: both ran at the same time.
    assert max(one.began for one in found) < min(one.ended for one in found)


@pytest.mark.heavy
def test_what_does_not_fit_is_said_once(model: str) -> None:
    plan = Plan(model=model, engine="onnxruntime", processes=2, batch=4)
    with (
        pytest.raises(ConfigError, match="`batch` 4: the network takes 1 image"),
        open_processes(plan),
    ):
        raise AssertionError


@pytest.mark.parametrize(
    ("plan", "cores"),
    [
        (Plan(processes=2), [{3, 4}, {5, 6}]),
        (Plan(processes=3, threads=1), [{3}, {4}, {5}]),
        (Plan(processes=2, threads=3), [set(), set()]),  # not enough for both
        (Plan(processes=5), [set()] * 5),
        (Plan(processes=1), [set()]),
        (Plan(processes=2, device="cuda"), [set(), set()]),
    ],
)
def test_each_has_cores_of_its_own(
    plan: Plan, cores: list[set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert [cores_of(plan, number, [3, 4, 5, 6]) for number in range(plan.processes)] == cores
