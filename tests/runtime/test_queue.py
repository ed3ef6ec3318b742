"""A queue that several threads take from: nobody waits longer than asked, and nobody in vain."""

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty

import pytest

from atrous.runtime.queue import Queue


@pytest.fixture
def _one_thread_at_a_time() -> Iterator[None]:
    """A thread that computes is not interrupted by others."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(30)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_one_thread_at_a_time")
def test_time_ends_where_others_take_the_value() -> None:
    """Called for a value that is gone when it comes, and its time is up: it waits no more."""
    queue: Queue[int] = Queue()
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(Empty):
            queue.get(0.1)
        ended.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    time.sleep(0.02)
    queue.put(1)
    assert queue.get(0) == 1
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        pass
    assert ended.wait(10)
    thread.join()


def test_without_values() -> None:
    queue: Queue[int] = Queue()
    for timeout in (0, 0.01):
        with pytest.raises(Empty):
            queue.get(timeout)
    queue.put(1)
    queue.put(2)
    assert (len(queue), queue.get(), queue.get(0), len(queue)) == (2, 1, 2, 0)
    with pytest.raises(Empty):
        queue.get(0)


@pytest.mark.parametrize("takers", [1, 4])
def test_each_value_is_taken_once(takers: int) -> None:
    """Some wait without an end, others look again and again."""
    queue: Queue[int | None] = Queue()

    def now_and_then() -> int | None:
        while True:
            with suppress(Empty):
                return queue.get(0.001)

    def take(number: int) -> list[int]:
        return [*iter(queue.get if number % 2 else now_and_then, None)]

    with ThreadPoolExecutor(takers + 2) as pool:
        taken = [pool.submit(take, number) for number in range(takers)]
        for one in [pool.submit(lambda: [*map(queue.put, range(500))]) for _ in range(2)]:
            one.result(20)
        for _ in range(takers):
            queue.put(None)
        found = [value for one in taken for value in one.result(20)]
    assert sorted(found) == sorted([*range(500), *range(500)])
