"""What several tests need: photographs-like images, a small model, the shared data."""

import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import FrameType

import numpy as np
import numpy.testing  # earlier versions start lscpu when it is imported
import onnx
import onnxruntime
import pytest
import typer.main
from numpy.typing import NDArray

from atrous.cli import main
from atrous.cores import cores
from tests.builders.cases import Cases
from tests.builders.command import Done, Run
from tests.builders.networks import make_small_model
from tests.builders.threads import threads
from tests.builders.tiers import Tiers

if "PYTEST_XDIST_WORKER" in os.environ:
    # There is one for each core, and one more: each and what it starts computes on one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).parents[2] / "shared"

# A job that a script puts into the background ignores Ctrl-C, and what it starts inherits that: the
# tests which interrupt a command would wait for its end.
signal.signal(signal.SIGINT, signal.default_int_handler)


TIERS = Tiers()

# Files whose tests share what takes long to make: one process of xdist has them all.
TOGETHER = {
    "tests/compiler/rewrites/test_exports.py",
    "tests/exporters/test_deploy_examples.py",
    "tests/exporters/test_export.py",
    "tests/jobs/cluster/test_cluster.py",
    "tests/serve/test_page.py",
    "tests/serve/test_site.py",
    "tests/serve/test_ray.py",
    "tests/test_wheel.py",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than cores: tests wait for Ray, a browser, or a process that is stuck on purpose."""
    return cores() + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Hands out the tests: by the file where it has no heavy ones, else by the function.

    One by one costs more than most of them take. xdist's own `xdist_group` is without effect under
    pytest 9.2, and says nothing of it.
    """
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False  # the heavy ones are first, see below

    @cache
    def is_one(file: str) -> bool:
        return file in TOGETHER or "mark.heavy" not in (config.rootpath / file).read_text()

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if is_one(file) else nodeid.partition("[")[0]

        def mark_test_complete(self, node: object, item_index: int, duration: float = 0) -> None:
            """Forgets what is done: xdist counts all of it again after each test."""
            super().mark_test_complete(node, item_index, duration)
            work = self.assigned_work[node]
            scope = self._split_scope(self.registered_collections[node][item_index])
            if all(work[scope].values()):
                del work[scope]

    return Scheduling(config, log)


def read_operators_once() -> None:
    """torch's newer exporter reads the source of its 500 operators anew for each export, which
    takes a second and more; what it makes of them it does not change.

    Done once it is imported, which takes a second too, and most tests have no use for it.
    """
    found = sys.modules.get("torch.onnx._internal.exporter._registration")
    registry = getattr(found, "ONNXRegistry", None)
    read = getattr(registry, "from_torchlib", None)
    if read is not None and not hasattr(read, "cache_info"):
        registry.from_torchlib = staticmethod(cache(read))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    read_operators_once()
    TIERS.begin(item)
    try:
        return (yield)
    finally:
        TIERS.end()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, so that no process of xdist ends long after the other."""
    items.sort(key=lambda item: not any(item.iter_markers("heavy")))


def pytest_collection_finish() -> None:
    """What is there now stays to the end, and need not be looked through at every collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests keep in the cache does not stay on the machine.

    Each process of xdist has its own: an evaluation that one interrupts, another must not end.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATROUS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def short_measurements() -> Iterator[None]:
    """Under load a machine may never settle, and nobody reads the figures of tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("atrous.bench.warmup.LIMIT", 0.0)
        patch.setattr("atrous.bench.warmup.WITHIN", 1e9)
        patch.setattr("atrous.compiler.build.RUNS", 1)
        patch.setattr("atrous.engines.profile.REST", 0.0)
        yield


class Patient(onnxruntime.SessionOptions):  # type: ignore[misc]
    """Threads that wait for work sleep, where else they spin on a core that another test needs."""

    def __init__(self) -> None:
        super().__init__()
        self.add_session_config_entry("session.intra_op.allow_spinning", "0")


@pytest.fixture(scope="session", autouse=True)
def patient_threads() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime, "SessionOptions", Patient)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"needs {SHARED}, which is not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    """Builds groups of the cases from the field."""
    return Cases(SHARED / "cases", tmp_path_factory.mktemp("cases"))


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


@pytest.fixture
def image() -> NDArray[np.uint8]:
    """A `(40, 60, 3)` picture whose left half is red and right half green."""
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, :30, 0] = 200
    picture[:, 30:, 1] = 200
    return picture


@pytest.fixture
def small_model() -> Callable[..., onnx.ModelProto]:
    return make_small_model


# typer reads every option of every verb anew at each call: 0.1 s, which a user pays once.
command = cache(typer.main.get_command)


@pytest.fixture
def atrous(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process, as a user would see it."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["atrous", *map(str, arguments)])
        monkeypatch.setattr("typer.main.get_command", command)
        monkeypatch.setenv("COLUMNS", "200")
        code: object = 0
        logger = logging.getLogger("atrous")
        before = logger.level, logger.propagate
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            logger.handlers.clear()
            logger.setLevel(before[0])
            logger.propagate = before[1]  # `serve` says more, and to itself
        found = capsys.readouterr()
        assert isinstance(code, int)
        return Done(code, found.out, found.err)

    return run
