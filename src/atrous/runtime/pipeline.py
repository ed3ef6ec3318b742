"""Stages of work that overlap: many values under way, results in the order they were handed in.

Stages are threads, not processes: decoding, resizing, inference, the class-map kernel and PNG
compression release the GIL for most of their time (docs/stream.md has the measurement), and threads
share images without copying them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from queue import Empty
from typing import Any, Generic, Literal, Self, TypeVar, get_args

from atrous.errors import InputError, StreamError
from atrous.runtime.queue import Queue
from atrous.runtime.worker import Crew, Item, Stage, Worker, join

T = TypeVar("T")

Overflow = Literal["block", "drop"]

TIMEOUT = 300.0
"""Seconds after which a step of an ordinary job counts as stuck."""

_TICK = 0.2
_PATIENCE = 0.5


class Pipeline(Generic[T]):
    """Hand values in, take results out in the same order, while stages work side by side.

    One thread may do both (`map`), or some hand in (`submit`) and another takes out (`results`). At
    most `capacity` values are between the two, so memory is bounded whichever stage is slowest.
    A value whose step fails comes out with its error, and the others go on.

    Args:
        stages: in order.
        capacity: values under way, from being handed in to being taken out; by default `room`.
        overflow: what `submit` does when that many are under way: wait, or drop the one that has
            waited longest for the stage that most wait for (the new one, if none waits). Dropped
            values never come out.
        timeout: seconds after which a step counts as stuck. All that is under way then fails, and
            the pipeline with it; `None` waits for ever.

    Attributes:
        dropped: how many values were.

    Raises:
        InputError: no stage, a capacity that a batch does not fit into, or another argument that
            is out of range.
    """

    def __init__(
        self,
        stages: Iterable[Stage[T]],
        *,
        capacity: int | None = None,
        overflow: Overflow = "block",
        timeout: float | None = None,
    ) -> None:
        stages = tuple(stages)
        capacity = room(stages) if capacity is None else capacity
        largest = max((stage.batch for stage in stages), default=0)
        if not stages or capacity < largest:
            raise InputError(
                f"expected one stage or more and a capacity of at least the largest batch, got "
                f"{len(stages)} stages, capacity {capacity}, batch {largest}"
            )
        if overflow not in get_args(Overflow):
            raise InputError(f"overflow: expected block or drop, got {overflow!r}")
        if timeout is not None and not timeout > 0:
            raise InputError(f"timeout: expected seconds over 0, or None, got {timeout}")
        self.capacity, self.overflow, self.timeout = capacity, overflow, timeout
        self.dropped = 0
        self.closed = False
        self._room = threading.Semaphore(capacity)
        self._lock = threading.Lock()
        self._taker = threading.Lock()
        self._stop = threading.Event()
        self._submitted = self._unwanted = 0
        self._under_way: deque[Item[T]] = deque()
        self._early: dict[int, Item[T]] = {}
        self._broken: StreamError | None = None
        self._out: Queue[Item[T] | None] = Queue()
        self._queues: list[Queue[Item[T] | None]] = [Queue() for _ in stages]
        self._in = self._queues[0]
        self._workers: list[Worker[T]] = []
        outboxes = [*self._queues[1:], self._out]
        for stage, inbox, outbox in zip(stages, self._queues, outboxes, strict=True):
            crew: Crew[T] = Crew(stage, inbox, outbox, self._out, self._stop)
            self._workers += crew.workers
        for worker in self._workers:
            worker.thread.start()

    def submit(self, value: T) -> int | None:
        """Hand a value in; waits for room unless `overflow` is `drop`.

        Room is made by whoever takes results, so that must be another thread.

        Returns:
            its index, `None` if it was dropped.

        Raises:
            StreamError: the pipeline is closed, or a step is stuck.
        """
        if self.overflow == "block":
            while not self._room.acquire(timeout=_TICK):
                self._watch()
                self._check()
        with self._lock:
            self._check()
            if self.overflow == "drop" and not self._make_room():
                return None
            now = time.perf_counter()
            item = Item(self._submitted, value, submitted=now, since=now)
            self._submitted += 1
            self._under_way.append(item)
            self._in.put(item)
        return item.index

    def results(self, *, ordered: bool = True) -> Iterator[Item[T]]:
        """Yield what comes out; ends when the pipeline is closed and empty.

        A step that is stuck makes the rest come out failed; after `cancel` the rest is missing.

        Args:
            ordered: in the order in which values were handed in; else each as soon as it is done.

        Raises:
            StreamError: another loop takes results.
        """
        with self._taking():
            while (item := self._take(wait=True, ordered=ordered)) is not None:
                yield item

    def map(self, values: Iterable[T]) -> Iterator[Item[T]]:
        """Hand all values in and yield what comes out, in order.

        `values` is read in the calling thread, no further ahead than `capacity`; what it raises
        reaches the caller after the results of all that came before. A loop that is left half-way
        gives up the results that it has not seen, and the pipeline may be used again.

        Raises:
            StreamError: results of earlier values have not been taken, another loop takes
                results, a step is stuck, or the pipeline was closed before all was handed in.
        """
        with self._taking():
            if self._under_way:
                self._check()
                raise StreamError("results of earlier values have not been taken; take them first")
            source, failure = iter(values), None
            more = True
            try:
                while more or self._under_way:
                    wait = not more or len(self._under_way) >= self.capacity
                    if (item := self._take(wait=wait)) is not None:
                        yield item
                    elif wait:
                        raise StreamError("the stream was cancelled; what was under way is lost")
                    else:
                        try:
                            self.submit(next(source))
                        except StopIteration:
                            more = False
                        except Exception as error:
                            failure, more = error, False
            finally:
                self._unwanted = self._submitted
            if failure is not None:
                raise failure

    @property
    def busy(self) -> dict[str, float]:
        """Step → seconds that all its workers together have spent in it."""
        total: dict[str, float] = {}
        for worker in self._workers:
            for name, seconds in list(worker.busy.items()):
                total[name] = total.get(name, 0.0) + seconds
        return total

    def close(self) -> None:
        """Take nothing more in and finish what is under way. Its results stay to be taken."""
        with self._lock:
            if not self.closed:
                self.closed = True
                self._in.put(None)
        try:
            for worker in self._workers:
                while worker.thread.is_alive() and not self._stop.is_set():
                    worker.thread.join(_TICK)
                    self._watch()
        except BaseException:
            self.cancel()
            raise
        join(self._workers, _PATIENCE)

    def cancel(self) -> None:
        """Leave what has not begun, wait half a second for what has, and end."""
        self.closed = True  # without the lock: a signal handler of the submitting thread may cancel
        self._halt()
        join(self._workers, _PATIENCE)
        self._out.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if kind is None:
            self.close()
        else:
            self.cancel()

    def _make_room(self) -> bool:
        """Take free room, or that of the item which waits longest where most wait."""
        if self._room.acquire(blocking=False):
            return True
        self.dropped += 1
        queue = max(self._queues, key=len)
        try:
            item = queue.get(0)
        except Empty:
            return False
        if item is None:  # cancelled this very moment
            queue.put(None)
            return False
        self._under_way.remove(item)
        return True

    @contextmanager
    def _taking(self) -> Iterator[None]:
        """One loop at a time takes results, and none sees what another one gave up."""
        if not self._taker.acquire(blocking=False):
            raise StreamError("another loop takes this stream's results; end it first")
        try:
            while (head := self._head()) is not None and head.index < self._unwanted:
                if self._take(wait=True) is None:
                    break
            yield
        finally:
            self._taker.release()

    def _head(self) -> Item[T] | None:
        with self._lock:
            return self._under_way[0] if self._under_way else None

    def _take(self, *, wait: bool, ordered: bool = True) -> Item[T] | None:
        """The next item; `None` if it is not ready, or with `wait` if none will come."""
        while True:
            if (item := self._pop_done(ordered)) is not None:
                self._room.release()
                return item
            try:
                item = self._out.get(_TICK if wait else 0)
            except Empty:
                if not wait:
                    return None
                self._watch()
                continue
            if item is None:
                self._out.put(None)  # the last worker has ended: nothing comes after this
                return None
            # A worker may end a step after its item has come out failed as stuck.
            self._early.setdefault(item.index, item)

    def _pop_done(self, ordered: bool) -> Item[T] | None:
        """The item whose turn it is, or any if not `ordered`, once it has come out."""
        with self._lock:
            for one in islice(self._under_way, 1 if ordered else None):
                if (item := self._early.pop(one.index, None)) is not None:
                    self._under_way.remove(one)
                    return item
        return None

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken
        if self.closed:
            raise StreamError("the stream is closed; open another one")

    def _watch(self) -> None:
        """Give up if a step takes longer than `timeout`."""
        if self.timeout is None or self._stop.is_set():
            return
        latest = time.perf_counter() - self.timeout
        for worker in self._workers:
            step, began = worker.step, worker.began
            if began and began < latest:
                self._break(f"{step}: stuck, no answer within {self.timeout:g} s")

    def _break(self, reason: str) -> None:
        """Let all that is under way come out failed, unless it came out before."""
        with self._lock:
            if self._broken is not None:
                return
            self._broken = StreamError(f"{reason}; what was under way is lost")
            now = time.perf_counter()
            for item in self._under_way:
                # A copy, because a worker may still write to the item.
                self._out.put(
                    Item(
                        item.index,
                        item.value,
                        self._broken,
                        submitted=item.submitted,
                        finished=now,
                    )
                )
            self._out.put(None)
        self._halt()

    def _halt(self) -> None:
        for worker in self._workers:
            worker.halt()


def room(stages: Iterable[Stage[Any]]) -> int:
    """How many values may be under way: twice as many as the stages work on at once."""
    return 2 * sum(stage.workers * stage.batch for stage in stages)
