"""Stages of a pipeline: threads that take items from one queue and pass them to the next."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from queue import Empty
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

from atrous.errors import InputError, StreamError
from atrous.runtime.queue import Queue

T = TypeVar("T")

_AT_EXIT = 5.0

SKIP: Final = object()
"""What a step returns when the rest of the steps has nothing to do for this value."""


@dataclass(frozen=True, slots=True)
class Stage(Generic[T]):
    """Steps that one thread does to a value, one after the other.

    Attributes:
        steps: name → function that works on the value in place. It may return `SKIP`. With `batch`
            over 1 the only step, and it takes a list of values.
        workers: threads that do the same.
        batch: gather up to this many values for one call.
        wait: seconds to wait for a batch to fill, counted from when its first value came.

    Raises:
        InputError: a number is out of range, or a stage with batches has several steps.
    """

    steps: Mapping[str, Callable[[Any], object]]
    workers: int = 1
    batch: int = 1
    wait: float = 0.0

    def __post_init__(self) -> None:
        if self.workers < 1 or self.batch < 1 or not 0 <= self.wait < threading.TIMEOUT_MAX:
            raise InputError(
                f"stage {', '.join(self.steps)}: expected workers and batch of 1 or more and a "
                f"wait of 0 or more, got {self.workers}, {self.batch}, {self.wait}"
            )
        if self.batch > 1 and len(self.steps) != 1:
            raise InputError(f"a stage with batches has one step, got {', '.join(self.steps)}")


@dataclass(slots=True, eq=False)
class Item(Generic[T]):
    """One value on its way, or at its end.

    Attributes:
        index: how many were handed in before it.
        value: what was handed in, as the steps left it.
        error: why a step failed; the rest was not done then.
        seconds: step → how long it took; in a batch, how long the whole batch took. `queue` is the
            time spent waiting between stages.
        submitted: when it was handed in, by `time.perf_counter`.
        finished: when its last step ended.
    """

    index: int
    value: T
    error: Exception | None = None
    seconds: dict[str, float] = field(default_factory=lambda: {"queue": 0.0})
    submitted: float = 0.0
    finished: float = 0.0
    since: float = 0.0


class Crew(Generic[T]):
    """The workers of one stage, and the queues they share.

    Args:
        stage: what they do.
        inbox: where items come from.
        outbox: where they go.
        results: where those go that a step failed on or finished early.
        stop: set when nothing more is to be begun.
    """

    def __init__(
        self,
        stage: Stage[T],
        inbox: Queue[Item[T] | None],
        outbox: Queue[Item[T] | None],
        results: Queue[Item[T] | None],
        stop: threading.Event,
    ) -> None:
        self.stage, self.stop = stage, stop
        self.inbox, self.outbox, self.results = inbox, outbox, results
        self.workers = [Worker(self) for _ in range(stage.workers)]
        self._present = stage.workers
        self._lock = threading.Lock()

    def leave(self) -> None:
        """Called by every worker when nothing more comes; the last one tells the next stage."""
        self.inbox.put(None)
        with self._lock:
            self._present -= 1
            last = not self._present
        if last:
            self.outbox.put(None)


class Worker(Generic[T]):
    """One thread of a stage.

    Attributes:
        step: what it does.
        began: since when, by `time.perf_counter`; 0 while it waits.
        busy: step → seconds spent in it so far.
    """

    def __init__(self, crew: Crew[T]) -> None:
        self._crew = crew
        self._steps = list(crew.stage.steps.items())
        self.step, self.began = "", 0.0
        self.busy = dict.fromkeys(crew.stage.steps, 0.0)
        self.thread = threading.Thread(
            target=self._loop, daemon=True, name=f"atrous {'+'.join(self.busy)}"
        )
        _everyone.add(self)

    def halt(self) -> None:
        """Let the whole pipeline begin nothing more, and this thread not wait for more."""
        self._crew.stop.set()
        self._crew.inbox.put(None)

    def _loop(self) -> None:
        batches = self._crew.stage.batch > 1
        while (item := self._next()) is not None:
            if batches:
                self._together(item)
            else:
                self._alone(item)
            item = None  # a thread that waits keeps no picture alive
        self._crew.leave()

    def _next(self, patience: float | None = None) -> Item[T] | None:
        """The next item, `None` if none will come; raises `Empty` when patience ends."""
        item = self._crew.inbox.get(patience)
        return None if self._crew.stop.is_set() else item

    def _gather(self, first: Item[T]) -> list[Item[T]]:
        """Fill a batch until it is full or its first item has waited long enough.

        Empty if the pipeline was cancelled meanwhile.
        """
        stage, items = self._crew.stage, [first]
        end = first.since + stage.wait
        while len(items) < stage.batch:
            try:
                item = self._next(max(0.0, end - time.perf_counter()))
            except Empty:
                break
            if item is None:
                self._crew.inbox.put(None)
                return [] if self._crew.stop.is_set() else items
            items.append(item)
        return items

    def _alone(self, item: Item[T]) -> None:
        now = time.perf_counter()
        item.seconds["queue"] += now - item.since
        done = False
        for step, work in self._steps:
            self.step, self.began, began = step, now, now
            try:
                done = work(item.value) is SKIP
            except BaseException as error:
                item.error, done = _as_exception(step, error), True
            now = time.perf_counter()
            item.seconds[step] = now - began
            self.busy[step] += now - began
            if done:
                break
        self.began = 0.0
        self._pass_on(item, now, done)
        # An error knows this frame: with the item in it, a failed picture would wait for the
        # garbage collector.
        del item

    def _together(self, first: Item[T]) -> None:
        items = self._gather(first)
        if not items:
            return
        (self.step, work), *_ = self._steps
        self.began = began = time.perf_counter()
        try:
            work([item.value for item in items])
        except BaseException as error:
            if len(items) == 1:
                items[0].error = _as_exception(self.step, error)
            else:
                self._one_by_one(items)
        now = time.perf_counter()
        self.busy[self.step] += now - began
        self.began = 0.0
        for item in items:
            item.seconds["queue"] += began - item.since
            item.seconds[self.step] = now - began
            self._pass_on(item, now, item.error is not None)
        del first, item, items  # as in `_alone`

    def _one_by_one(self, items: list[Item[T]]) -> None:
        """A batch failed: find out whose fault it was, so that the others do not fail with it."""
        (step, work), *_ = self._steps
        for item in items:
            self.began = time.perf_counter()
            try:
                work([item.value])
            except BaseException as error:
                item.error = _as_exception(step, error)
        del item, items  # as in `_alone`

    def _pass_on(self, item: Item[T], now: float, done: bool) -> None:
        crew = self._crew
        if done or crew.outbox is crew.results:
            item.finished = now
            crew.results.put(item)
        else:
            item.since = now
            crew.outbox.put(item)


_everyone: WeakSet[Worker[Any]] = WeakSet()


@atexit.register
def _end() -> None:
    """Wait for steps under way when the interpreter exits, but not for stuck ones.

    Python ends threads at exit, and an engine that returns into a thread so ended aborts the
    process. From Python 3.14 on it would not.
    """
    running = [worker for worker in _everyone if worker.thread.is_alive()]
    for worker in running:
        worker.halt()
    join(running, _AT_EXIT)


def join(workers: Iterable[Worker[Any]], patience: float) -> None:
    """Wait until their threads have ended, but no longer than `patience` seconds."""
    deadline = time.monotonic() + patience
    for worker in workers:
        worker.thread.join(max(0.0, deadline - time.monotonic()))


def _as_exception(step: str, error: BaseException) -> Exception:
    if isinstance(error, Exception):
        return error
    failed = StreamError(f"{step}: raised {error!r}")
    failed.__cause__ = error
    return failed
