"""`predict --cluster` on a Ray cluster of two nodes: whatever is lost, the outputs are the same."""

import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from PIL import Image

from atrous.image import photograph
from tests.builders import processes
from tests.builders.command import Run
from tests.builders.networks import make_small_model

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(
        not all(map(find_spec, ("ray", "fsspec", "pyarrow"))),
        reason="needs pip install 'atrous[cluster]'",
    ),
]
COUNT = 32
BATCH = COUNT // 32
MANAGER = Path(__file__).with_name("cluster_of_two.py")

Arguments = tuple[object, ...]

# Every Python process of the cluster runs this: who opens one picture dies of it, and the others
# take their time, so that what happens in the middle of a job does.
WATCH = """
import os, signal, sys, time

seen = set()

def watch(event, arguments):
    name = str(arguments[0]) if event == "open" else ""
    if name.endswith("deadly.png"):
        os.kill(os.getpid(), signal.SIGKILL)
    if "/slow/" in name and name not in seen:
        seen.add(name)
        time.sleep(0.3)

sys.addaudithook(watch)
"""


class Nodes:
    """A cluster of two nodes in processes of its own."""

    def __init__(self, folder: Path) -> None:
        self.aws = folder / "aws.ini"
        (folder / "sitecustomize.py").write_text(WATCH)
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, MANAGER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Ray's workers are niced by 15, and what else runs here leaves them little. None is
            # started before it is needed, and nobody looks at how they fare.
            env={
                **os.environ,
                "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_worker_niceness": "0",
                "RAY_enable_worker_prestart": "0",
                "RAY_prestart_worker_first_driver": "0",
                "RAY_enable_metrics_collection": "0",
                "PYTHONPATH": path,
                "AWS_CONFIG_FILE": str(self.aws),
            },
        )
        self.address = self.read()

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        assert self.read() == "done"

    def workers(self) -> list[psutil.Process]:
        """Processes of actors that hold an engine."""
        return processes.named(self.process, "MapWorker")

    def close(self) -> None:
        processes.end(self.process, 20)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path_factory.mktemp("cluster"))
    yield nodes
    nodes.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows of a photograph, and among them one file that is no image."""
    folder = tmp_path_factory.mktemp("pictures") / "slow"
    (folder / "sub").mkdir(parents=True)
    whole = photograph()
    for number in range(COUNT - 1):
        top, left = divmod(number * 7, 100)
        window = np.ascontiguousarray(whole[top : top + 160, left : left + 200])
        name = f"{number:03}.jpg" if number % 2 else f"sub/{number:03}.png"
        Image.fromarray(window).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Arguments:
    """The arguments that use a model which the package does not have."""
    folder = tmp_path_factory.mktemp("own") / "model"
    folder.mkdir()
    onnx.save(make_small_model(classes=21), folder / "mod.onnx")
    common = ("--labels", "voc", "--size", 32, "--threads", 1)
    return "-m", folder, *common, "--engine", "onnxruntime"  # which a worker loads the sooner


@pytest.fixture(scope="module")
def expected(pictures: Path, own: Arguments) -> Path:
    """What one machine makes of them."""
    output = pictures.parent / "expected"
    done = predict(pictures, "-o", output, *own)
    assert done.returncode == 1
    assert len(files(output)) == 2 * (COUNT - 1)
    return output


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "atrous", "predict", *map(str, arguments)]


def predict(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=240)


def files(folder: Path) -> list[str]:
    """All of them, hidden ones too."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def assert_same(output: Path, expected: Path) -> None:
    assert files(output) == files(expected)
    same, *others = filecmp.cmpfiles(output, expected, files(expected), shallow=False)
    assert (len(same), others) == (2 * (COUNT - 1), [[], []])


def made(output: Path) -> dict[Path, tuple[int, int]]:
    """The masks that are there, and what changes when one is made again."""
    masks = [path for path in (output / "masks").rglob("*.png") if path.name[0] != "."]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in masks}


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def statuses(out: str) -> dict[str, list[str]]:
    """Status → names of the images."""
    found: dict[str, list[str]] = {}
    for line in out.splitlines():
        record = json.loads(line)
        found.setdefault(record["status"], []).append(Path(record["source"]).name)
    return found


def begin(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments, "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def test_a_worker_that_is_killed_and_then_a_node_that_is_lost(
    nodes: Nodes, pictures: Path, own: Arguments, expected: Path, tmp_path: Path
) -> None:
    process = begin(pictures, "-o", tmp_path / "out", "--cluster", nodes.address, *own)
    until(lambda: len(made(tmp_path / "out")) > COUNT // 8, process)
    victim = nodes.workers()[0]
    victim.kill()
    victim.wait()
    before = made(tmp_path / "out")
    until(lambda: len(made(tmp_path / "out")) > COUNT // 2, process)
    nodes.tell("remove")
    try:
        out, err = process.communicate(timeout=240)
    finally:
        nodes.tell("add")
    found = statuses(out)
    assert (process.returncode, found["failed"]) == (1, ["broken.jpg"])
    said = [line for line in err.splitlines() if "segmenting" not in line]
    # The note is that the model does not say how its images were prepared.
    assert [line for line in said if not line.startswith("note: ")] == [
        f"failed: {pictures / 'broken.jpg'}: not a picture of a known kind"
    ]
    assert_same(tmp_path / "out", expected)
    # Of each one's batch was done again what it had not finished, and nothing else.
    kept = found.get("kept", [])
    assert len(found["written"]) + len(kept) == COUNT - 1
    assert len(kept) <= 2 * BATCH
    after = made(tmp_path / "out")
    assert len(before) < len(after)
    assert {path: after[path] for path in before} == before


def test_a_job_that_is_stopped_and_given_again(
    nodes: Nodes, pictures: Path, own: Arguments, expected: Path, tmp_path: Path
) -> None:
    arguments = (pictures, "-o", f"file://{tmp_path}/out", "--cluster", nodes.address, *own)
    first = begin(*arguments)
    until(lambda: len(made(tmp_path / "out")) > COUNT // 4, first)
    os.killpg(first.pid, signal.SIGINT)
    _, err = first.communicate(timeout=120)
    assert (first.returncode, "Traceback" in err) == (130, False)
    assert err.splitlines()[-1] == "interrupted; what was finished is kept"
    before = made(tmp_path / "out")
    assert COUNT // 4 < len(before) < COUNT - 1
    assert not [name for name in files(tmp_path / "out") if Path(name).name.startswith(".")]

    done = predict(*arguments, "--json")
    found = statuses(done.stdout)
    assert (done.returncode, found["failed"]) == (1, ["broken.jpg"])
    assert len(found["kept"]) == len(before)
    assert len(found["written"]) == COUNT - 1 - len(before)
    after = made(tmp_path / "out")
    assert {path: after[path] for path in before} == before
    assert_same(tmp_path / "out", expected)


def test_a_picture_that_kills_its_worker(
    nodes: Nodes, pictures: Path, own: Arguments, expected: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    shutil.copytree(pictures, source)
    (source / "deadly.png").touch()
    (source / "broken.jpg").unlink()
    done = predict(source, "-o", tmp_path / "out", "--cluster", nodes.address, "--json", *own)
    found = statuses(done.stdout)
    assert (done.returncode, found["failed"]) == (1, ["deadly.png"])
    assert f"failed: {source / 'deadly.png'}: 4 workers that took it were lost" in done.stderr
    assert len(found["written"]) + len(found.get("kept", [])) == COUNT - 1
    assert_same(tmp_path / "out", expected)


def test_urls_and_a_model_of_ones_own(
    nodes: Nodes,
    pictures: Path,
    tmp_path: Path,
    own: Arguments,
) -> None:
    """`dir::file` is a file system that all processes share and that counts as remote."""
    source, own = pictures / "sub", (*own, "--engine", "openvino")
    assert predict(source, "-o", tmp_path / "one", *own).returncode == 0
    places = (f"dir://sub::file://{pictures}", "-o", f"dir://many::file://{tmp_path}")
    done = predict(*places, "--cluster", nodes.address, *own)
    assert done.returncode == 0, done
    assert f"{COUNT // 2} written by model on openvino, 1 thread" in done.stdout
    assert files(tmp_path / "many") == files(tmp_path / "one")
    for name in files(tmp_path / "one"):
        assert (tmp_path / "many" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


@pytest.fixture
def bucket(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A server of S3 that everybody here finds, its bucket named `bucket`."""
    command = [sys.executable, Path(__file__).with_name("s3_server.py")]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        settings = {
            "endpoint_url": server.stdout.readline().strip(),
            "region": "us-east-1",
            "aws_access_key_id": "somebody",
            "aws_secret_access_key": "something",
        }
        lines = (f"{name} = {value}\n" for name, value in settings.items())
        nodes.aws.write_text("[default]\n" + "".join(lines))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(nodes.aws))
        yield server
        server.kill()


@pytest.mark.skipif(not all(map(find_spec, ("s3fs", "moto"))), reason="needs s3fs and moto[s3]")
def test_a_store_that_throttles_and_loses_connections(
    nodes: Nodes,
    bucket: subprocess.Popen[str],
    pictures: Path,
    tmp_path: Path,
    own: Arguments,
) -> None:
    import fsspec

    source = tmp_path / "in"
    source.mkdir()
    good = sorted((pictures / "sub").iterdir())[:8]
    for path in good:
        shutil.copy(path, source)
    (source / "broken.jpg").write_bytes(b"no image")
    whole = (pictures / "001.jpg").read_bytes()
    (source / "short.jpg").write_bytes(whole[: len(whole) // 2])
    assert predict(source, "-o", tmp_path / "one", *own).returncode == 1
    store = fsspec.filesystem("s3")
    store.mkdir("bucket")
    store.put(f"{source}/", "bucket/in/", recursive=True)

    places = ("s3://bucket/in", "-o", "s3://bucket/out", "--cluster", nodes.address)
    done = predict(*places, *own, "--json")
    found = statuses(done.stdout)
    assert (done.returncode, sorted(found["failed"])) == (1, ["broken.jpg", "short.jpg"]), done
    assert len(found["written"]) == len(good)
    for name in ("broken.jpg", "short.jpg"):
        assert f"failed: s3://bucket/in/{name}: " in done.stderr
    store.invalidate_cache()
    expected = {f"bucket/out/{name}": name for name in files(tmp_path / "one")}
    assert sorted(store.find("bucket/out")) == sorted(expected)
    for place, made in store.cat([*expected]).items():
        assert made == (tmp_path / "one" / expected[place]).read_bytes()

    counts = json.loads(bucket.communicate()[0])
    assert min(counts[kind] for kind in ("throttled", "cut", "halved")) > 0, counts


def test_workers_on_this_machine_alone(
    atrous: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the model of the package."""
    monkeypatch.setenv("RAY_worker_niceness", "0")  # as above
    some = [pictures / f"{number:03}.jpg" for number in (1, 3, 5)]
    expected, out = tmp_path / "expected", tmp_path / "out"
    assert atrous("predict", *some, "-o", expected, "--threads", 1).code == 0
    done = predict(*some, "-o", out, "--cluster", "local", "--workers", 1)
    assert (done.returncode, "3 written" in done.stdout) == (0, True), done
    # Ray has nothing to say on the terminal.
    assert [line for line in done.stderr.splitlines() if "segmenting" not in line] == []
    for path in some:
        name = Path("masks", f"{path.stem}.png")
        assert (out / name).read_bytes() == (expected / name).read_bytes()


def test_a_worker_larger_than_all_machines(
    nodes: Nodes, pictures: Path, own: Arguments, tmp_path: Path
) -> None:
    """Of more cores; those without a GPU, `test_remote.py` has."""
    common = (pictures / "001.jpg", "-o", tmp_path, "--cluster", nodes.address, *own)
    done = predict(*common, "--threads", 2)
    assert done.returncode == 2
    assert "no machine of the cluster has 2 CPUs" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--cluster", "local", "--tile", "64"), "--tile belongs to images in tiles (--tile): not"),
        (("--cluster", "local", "--every", "2"), "--every belongs to a video (-o NAME.mp4): not f"),
        (("--cluster", "local", "-o", "out.mp4"), "--cluster segments images: expected no video"),
        (("camera:0", "--cluster", "local"), "--cluster segments images: expected no video"),
        (("--cluster", "127.0.0.1:1"), "--cluster 127.0.0.1:1: nothing answers there"),
        (("--cluster", "nonsense"), "expected local, auto or HOST:PORT, got 'nonsense'"),
        (("--cluster", "local", "-o", "nonsense://out"), "Protocol not known: nonsense"),
        (("--workers", "2"), "--workers belongs to a cluster (--cluster): not for whole"),
        (("-o", "s3://bucket/out"), "s3://bucket/out belongs to --cluster"),
    ],
)
def test_a_wrong_command(
    atrous: Run, pictures: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    done = atrous("predict", pictures / "001.jpg", "-o", tmp_path / "out", *options)
    assert done.code == 2
    [error] = [line for line in done.err.splitlines() if "segmenting" not in line]
    assert error.startswith("error: ")
    assert words in error


def test_without_ray(
    atrous: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = atrous("predict", pictures / "001.jpg", "-o", tmp_path / "out", "--cluster", "local")
    assert done.code == 2
    assert "pip install 'atrous[cluster]'" in done.err
    assert files(tmp_path) == []
