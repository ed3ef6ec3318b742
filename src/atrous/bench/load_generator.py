"""Keep a model busy as a scenario says, and record when everything began and ended."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous.bench.load import Loaded
from atrous.bench.plan import Plan
from atrous.engines.base import Engine
from atrous.preprocess import Tensor
from atrous.runtime.pipeline import Pipeline, room
from atrous.runtime.stages import Frame, Steps, stages
from atrous.runtime.worker import Item, Stage

QUEUE = 64
"""Images that may wait in scenario `server` before others wait outside; it bounds the memory."""

WAIT = 0.01
"""Seconds to wait for a batch to fill, as `Stream` does."""

LATE = 1.1
"""Queries that have found no room after this multiple of the time do not get in."""

Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Load:
    """How long to go on: until this many seconds are over and this many queries are answered.

    Attributes:
        seconds: from the start.
        queries: at least.
        rate: queries per second that arrive in scenario `server`; `None` hands in what is taken.
        seed: of the arrivals.
    """

    seconds: float
    queries: int = 1
    rate: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ThreadGroup:
    """Threads of one process that do the same steps."""

    steps: tuple[str, ...]
    workers: int


@dataclass(slots=True)
class Recording:
    """What one process did; moments are those of `time.perf_counter`, which processes share.

    Attributes:
        begins: when each query arrived.
        ends: when each was answered.
        samples: images in one query.
        began: the start of all.
        ended: the last answer.
        waited: seconds that each query which arrived and was not begun had waited at the end.
        crews: who did what.
        busy: step → seconds that its threads together spent in it.
        spent: step → mean seconds that a query spent in it, `queue` between steps.
        cpu: seconds of CPU time of the process.
        memory: bytes of memory of the process at its peak.
    """

    begins: Times
    ends: Times
    samples: int
    began: float
    ended: float
    crews: tuple[ThreadGroup, ...]
    busy: dict[str, float]
    spent: dict[str, float]
    waited: Times = field(default_factory=lambda: np.empty(0))
    cpu: float = 0.0
    memory: int = 0

    @property
    def latencies(self) -> Times:
        """Seconds of every query; of one that was never begun, what it had waited."""
        return np.concatenate([self.ends - self.begins, self.waited])


class LoadGenerator(ABC):
    """Something that can be driven again and again, with the same threads every time."""

    @abstractmethod
    def run(self, load: Load) -> Recording:
        """Drive it for a while; raises what the model raises."""

    @abstractmethod
    def close(self) -> None:
        """End its threads."""


def generator_for(plan: Plan, loaded: Loaded) -> LoadGenerator:
    """What drives a model as a plan says."""
    closed = plan.scenario in ("offline", "single-stream")
    if plan.feed == "tensors" and closed:
        return Loops(loaded.engine, loaded.inputs[: plan.instances])
    return Flow(plan, loaded)


class Loops(LoadGenerator):
    """Threads that call the engine over and over; between two calls is nothing but the clock.

    Args:
        engine: to be called.
        batches: the input of each thread.
    """

    def __init__(self, engine: Engine, batches: Sequence[Tensor]) -> None:
        self._run, self._batches = engine.run, batches
        self._pool = ThreadPoolExecutor(len(batches), "atrous bench")
        # Every thread waits for the others, so no thread can take two of the loops.
        self._start = threading.Barrier(len(batches))
        self._stopped = False

    def run(self, load: Load) -> Recording:
        """See `LoadGenerator`."""
        least = -(-load.queries // len(self._batches))
        began = time.perf_counter()
        futures = [self._pool.submit(self._loop, b, load.seconds, least) for b in self._batches]
        moments = [np.array(future.result()) for future in futures]
        begins = np.concatenate([one[:-1] for one in moments])
        ends = np.concatenate([one[1:] for one in moments])
        return Recording(
            begins=begins,
            ends=ends,
            samples=len(self._batches[0]),
            began=began,
            ended=float(ends.max()),
            crews=(ThreadGroup(("infer",), len(self._batches)),),
            busy={"infer": float((ends - begins).sum())},
            spent={"infer": float((ends - begins).mean())},
        )

    def _loop(self, batch: Tensor, seconds: float, least: int) -> list[float]:
        run, clock = self._run, time.perf_counter
        self._start.wait()
        now = clock()
        moments, end = [now], now + seconds
        try:
            while (now < end or len(moments) <= least) and not self._stopped:
                run(batch)
                now = clock()
                moments.append(now)
        except BaseException:
            self._stopped = True  # the others would go on to the end
            raise
        return moments

    def close(self) -> None:
        """See `LoadGenerator`."""
        self._stopped = True
        self._start.abort()
        self._pool.shutdown()


class Flow(LoadGenerator):
    """A pipeline from what is fed to its class map, or of the network alone.

    Args:
        plan: scenario, instances, batch and whether steps overlap.
        loaded: what runs and what is fed.
    """

    def __init__(self, plan: Plan, loaded: Loaded) -> None:
        work, self._value = _work(plan, loaded)
        # Pixels pass the step that decodes untouched.
        idle = {"decode"} if plan.feed == "pixels" else set()
        self._crews = tuple(
            ThreadGroup(tuple(step for step in stage.steps if step not in idle), stage.workers)
            for stage in work
        )
        self._group = {
            "offline": 0,
            "single-stream": 1,
            "multi-stream": plan.instances * loaded.facts.shape[0],
            "server": 0,
        }[plan.scenario]
        # A synchronous caller has nothing else under way.
        capacity = max(plan.instances if plan.synchronous else room(work), self._group)
        if plan.scenario == "server":
            capacity = max(capacity, QUEUE)
        self._pipeline: Pipeline[Any] = Pipeline(work, capacity=capacity)
        self._taken: list[Item[Any]] = []
        self._failed: Exception | None = None
        self._more = threading.Condition()
        self._inputs = cycle(loaded.inputs)
        threading.Thread(target=self._take, daemon=True, name="atrous bench").start()

    def run(self, load: Load) -> Recording:
        """See `LoadGenerator`."""
        self._taken.clear()
        before = self._pipeline.busy
        began = time.perf_counter()
        if load.rate is not None:
            due, waited = self._arrive(arrivals(load), began)
        elif self._group:
            due, waited = self._by_group(load, began), []
        else:
            self._as_taken(load, began)
            due, waited = [item.submitted for item in self._taken], []
        items, group = self._taken, self._group or 1
        finished = np.array([item.finished for item in items]).reshape(-1, group).max(1)
        ended = max(float(finished.max()), began + load.seconds if waited else 0.0)
        names = [*(step for crew in self._crews for step in crew.steps), "queue"]
        spent = {step: float(np.mean([i.seconds.get(step, 0.0) for i in items])) for step in names}
        # What waits outside of the pipeline waits as well.
        outside = np.array([item.submitted for item in items])[::group] - np.array(due)
        spent["queue"] += float(outside.mean())
        after = self._pipeline.busy
        return Recording(
            begins=np.array(due),
            ends=finished,
            samples=group,
            began=began,
            ended=ended,
            crews=self._crews,
            busy={step: after[step] - before[step] for step in names if step in after},
            spent=spent,
            waited=np.array([ended - one for one in waited]),
        )

    def close(self) -> None:
        """See `LoadGenerator`."""
        self._pipeline.cancel()

    def _as_taken(self, load: Load, began: float) -> None:
        """Hand in whatever there is room for."""
        number = 0
        while time.perf_counter() - began < load.seconds or number < load.queries:
            self._hand_in()
            number += 1
        self._wait_for(number)

    def _by_group(self, load: Load, began: float) -> list[float]:
        """Hand in a group when the last one is done."""
        due: list[float] = []
        while (now := time.perf_counter()) - began < load.seconds or len(due) < load.queries:
            due.append(now)
            for _ in range(self._group):
                self._hand_in()
            self._wait_for(len(due) * self._group)
        return due

    def _arrive(self, moments: Times, began: float) -> tuple[list[float], list[float]]:
        """Hand in at given moments, and return those of the queries that got in and did not."""
        due = (began + moments).tolist()
        end = began + LATE * moments[-1]
        for number, moment in enumerate(due):
            if (early := moment - time.perf_counter()) > 0:
                time.sleep(early)
            elif number and time.perf_counter() > end:
                self._wait_for(number)
                return due[:number], due[number:]
            self._hand_in()
        self._wait_for(len(due))
        return due, []

    def _hand_in(self) -> None:
        if self._failed is not None:
            raise self._failed
        self._pipeline.submit(self._value(next(self._inputs)))

    def _wait_for(self, number: int) -> None:
        """Until so many are taken; raises the error of the first that failed."""
        with self._more:
            self._more.wait_for(lambda: len(self._taken) >= number or self._failed is not None)
        if self._failed is not None:
            raise self._failed

    def _take(self) -> None:
        for item in self._pipeline.results():
            item.value = None
            with self._more:
                self._taken.append(item)
                self._failed = self._failed or item.error
                self._more.notify()


def arrivals(load: Load) -> Times:
    """Moments of a Poisson process, seconds from its start: all of `load.seconds`, or more."""
    assert load.rate is not None
    enough = max(load.queries, 64 + int(2 * load.rate * load.seconds))
    gaps = np.random.default_rng(load.seed).exponential(1 / load.rate, enough)
    moments = np.cumsum(gaps)
    return moments[: max(load.queries, int(np.searchsorted(moments, load.seconds)))]


def _work(plan: Plan, loaded: Loaded) -> tuple[list[Stage[Any]], Callable[[Any], Any]]:
    """The stages, and what makes their value of an input."""
    instances, batch = plan.instances, loaded.facts.shape[0]
    if loaded.predictor is None:
        run = loaded.engine.run

        def infer(tensors: list[Tensor]) -> None:
            own = loaded.engine.signature.batch or 0
            missing = [np.zeros_like(tensors[0])] * (own - len(tensors))
            batch: Any = np.stack([*tensors, *missing])
            run(batch)

        if batch == 1:
            return [Stage({"infer": run}, instances)], lambda tensor: tensor
        # The inputs are batches: their first images stand for them.
        return [Stage({"infer": infer}, instances, batch, WAIT)], lambda tensor: tensor[0]
    work = stages(Steps(loaded.predictor), batch=batch)
    alone = plan.synchronous or plan.scenario == "single-stream"
    return work.in_one() if alone else list(work), Frame
