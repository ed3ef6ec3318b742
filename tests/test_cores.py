"""Masks and quotas count as cores, wherever threads are counted."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest

from atrous.bench.machine import Machine
from atrous.cores import cores
from atrous.engines.base import Options
from atrous.engines.session import open_session
from atrous.errors import EngineError

V2 = "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
V1 = "30 23 0:27 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"


def machine(root: Path, cgroup: str, mount: str, files: dict[str, str]) -> Path:
    told = {"proc/self/cgroup": cgroup + "\n", "proc/self/mountinfo": mount + "\n", **files}
    for name, text in told.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def sixty_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 64)


@pytest.mark.usefixtures("sixty_four")
@pytest.mark.parametrize(
    ("quota", "expected"),
    [("200000 100000", 2), ("max 100000", 64), ("150000 100000", 2), ("5000 100000", 1), ("", 64),
     ("9900000 100000", 64), ("0 0", 64), ("nonsense", 64)],
)  # fmt: skip
def test_quotas_of_version_2(tmp_path: Path, quota: str, expected: int) -> None:
    files = {"sys/fs/cgroup/a/b/cpu.max": quota}
    assert cores(machine(tmp_path, "0::/a/b", V2, files)) == expected
    # In a group above, and in a container, where the group is the mount.
    above = {"sys/fs/cgroup/a/cpu.max": quota, "sys/fs/cgroup/a/b/cpu.max": "max 100000"}
    assert cores(machine(tmp_path / "above", "0::/a/b", V2, above)) == expected
    mounted = {"sys/fs/cgroup/cpu.max": quota}
    for number, path in enumerate(["/", "/kubepods/pod1/x", "/../other"]):
        root = machine(tmp_path / str(number), f"0::{path}", V2, mounted)
        assert cores(root) == expected


@pytest.mark.usefixtures("sixty_four")
@pytest.mark.parametrize(("quota", "expected"), [("300000", 3), ("-1", 64), ("1000", 1)])
@pytest.mark.parametrize(
    ("top", "below"), [("/", "docker/x/"), ("/docker/x", ""), ("/docker", "x/"), ("/", "")]
)
def test_quotas_of_version_1(
    tmp_path: Path, quota: str, expected: int, top: str, below: str
) -> None:
    folder = f"sys/fs/cgroup/cpu,cpuacct/{below}"
    files = {f"{folder}cpu.cfs_quota_us": quota, f"{folder}cpu.cfs_period_us": "100000"}
    own = "7:memory:/elsewhere\n4:cpu,cpuacct:/docker/x\n0::/y"
    memory = "31 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    assert cores(machine(tmp_path, own, memory + V1.format(top=top), files)) == expected


def test_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3, 9, 11}, raising=False)
    assert cores(tmp_path) == 3
    assert cores(machine(tmp_path, "0::/", V2, {"sys/fs/cgroup/cpu.max": "200000 100000"})) == 2
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert cores(tmp_path / "none") == 1


def test_everybody_counts_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0}, raising=False)
    assert Options().cores == Machine.here().cores == 1


def test_cores_are_counted_in_one_place() -> None:
    """But for the share of the whole machine that others take, and for pinning threads."""
    source = Path(__file__).parents[1] / "src/atrous"
    counting = {
        file.relative_to(source).as_posix()
        for file in source.rglob("*.py")
        if "os.cpu_count()" in file.read_text("utf-8")
    }
    assert counting == {"cores.py", "bench/machine.py"}


def test_onnx_runtime_is_told_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it is not, it starts a thread for each core of the machine and binds it there."""
    seen: list[int] = []

    def opened(content: bytes, sess_options: ort.SessionOptions, **others: object) -> None:
        seen.append(sess_options.intra_op_num_threads)
        raise RuntimeError

    monkeypatch.setattr(ort, "InferenceSession", opened)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0}, raising=False)
    for machine_has, threads in ((64, 0), (1, 0), (64, 5)):
        monkeypatch.setattr("os.cpu_count", lambda known=machine_has: known)
        with pytest.raises(EngineError, match="refuses"):
            open_session(b"", "x", threads=threads)
    assert seen == [1, 0, 5]


MASKED = """
import os, pathlib, sys
os.sched_setaffinity(0, {int(sys.argv[2])})
import numpy as np
from atrous.engines import open_engine
with open_engine(pathlib.Path(sys.argv[1]), engine=sys.argv[3]) as engine:
    engine.run(np.zeros((1, 3, 32, 32), np.float32))
    for task in os.listdir("/proc/self/task"):
        print(sorted(os.sched_getaffinity(int(task))))
"""


@pytest.mark.heavy
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_no_thread_leaves_the_mask(
    tmp_path: Path, small_model: Callable[..., onnx.ModelProto], engine: str
) -> None:
    pytest.importorskip(engine)
    own = sorted(os.sched_getaffinity(0))
    if len(own) < 2:
        pytest.skip("needs two cores")
    onnx.save(small_model(), tmp_path / "m.onnx")
    command = [sys.executable, "-c", MASKED, str(tmp_path / "m.onnx"), str(own[-1]), engine]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(done.stdout.splitlines()) == {f"[{own[-1]}]"}


def test_openvino_is_told_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip("atrous.engines.openvino")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0}, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert openvino.settings_for(Options())["INFERENCE_NUM_THREADS"] == "1"
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert "INFERENCE_NUM_THREADS" not in openvino.settings_for(Options())
