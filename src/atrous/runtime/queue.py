"""A queue between threads, for values that several of them take."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from queue import Empty
from typing import Generic, TypeVar

T = TypeVar("T")


class Queue(Generic[T]):
    """First in, first out.

    Two others do not do: a signal handler may call `put` while the same thread is inside it, which
    `queue.Queue` does not survive. And a `get` of CPython's `queue.SimpleQueue` (seen in 3.11)
    waits for ever if another thread takes the value that it was woken for and its time is up.
    """

    def __init__(self) -> None:
        self._values: deque[T] = deque()
        # Free when one of those who wait is to look.
        self._call = threading.Lock()
        self._call.acquire()

    def __len__(self) -> int:
        return len(self._values)

    def put(self, value: T) -> None:
        """Add a value; never waits."""
        self._values.append(value)
        self._wake()

    def get(self, timeout: float | None = None) -> T:
        """Take a value; wait for one no longer than `timeout` seconds, then raise `queue.Empty`."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                value = self._values.popleft()
            except IndexError:
                if not self._call.acquire(timeout=_left(end)):
                    raise Empty from None
                continue
            if self._values:  # one call may have stood for several values
                self._wake()
            return value

    def _wake(self) -> None:
        with suppress(RuntimeError):  # somebody has been called who has not come yet
            self._call.release()


def _left(end: float | None) -> float:
    """Seconds until then, as locks take them: -1 for no end."""
    return -1 if end is None else min(max(0.0, end - time.monotonic()), threading.TIMEOUT_MAX)
