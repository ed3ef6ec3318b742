"""A guard for tests of threads."""

import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import pytest


def threads() -> list[str]:
    """Names of the package's threads that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("atrous ")]


@pytest.fixture
def guard() -> Iterator[None]:
    """A deadlock fails the test instead of stopping the whole run, and no thread is left behind."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("deadlock: the test has not ended within a minute")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    try:
        yield
        end = time.monotonic() + 10
        while threads() and time.monotonic() < end:
            time.sleep(0.01)
        assert not threads()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
