"""Places behind URLs, and the worker of a cluster in this process."""

import multiprocessing
import os
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.engines.base import Options
from atrous.errors import ConfigError, EngineError, InputError
from atrous.jobs import folder
from atrous.jobs.cluster import job as cluster
from atrous.jobs.cluster import node, remote
from atrous.jobs.output import Output
from atrous.jobs.sources import find
from atrous.labels import generic
from atrous.pictures.samples import Taking
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from tests.builders import rasters
from tests.builders.threads import threads

fsspec = pytest.importorskip("fsspec", reason="needs pip install 'atrous[cluster]'")


@pytest.fixture
def memory() -> Iterator[Any]:
    """An object store in this process."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield store
    store.store.clear()


@pytest.fixture
def png(image: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture
def model(tmp_path: Path, small_model: Callable[..., onnx.ModelProto]) -> Path:
    path = tmp_path / "model" / "mod.onnx"
    path.parent.mkdir()
    onnx.save(small_model(), path)
    return path


@pytest.fixture
def predictor(model: Path) -> Iterator[Predictor]:
    with Predictor.open(
        model,
        engine="onnxruntime",
        options=Options(threads=1),
        preprocess=Preprocess(size=(32, 32)),
        labels=generic(3),
    ) as predictor:
        yield predictor


@pytest.fixture
def job(predictor: Predictor) -> node.ClusterJob:
    return node.ClusterJob(
        model=None,
        identity=predictor.engine.identity,
        engine="onnxruntime",
        options=Options(threads=1),
        preprocess=predictor.preprocess,
        labels=predictor.labels,
        output=Output("memory://results/job"),
        token="",
        taking=Taking(),
        max_pixels=10_000,
    )


def work(job: node.ClusterJob, model: Path, places: list[str], begun: int = 1) -> list[node.Reply]:
    """What a worker answers to one batch."""
    images = remote.find(places, str(job.output.place))
    segmenter = node.Segmenter(job, lambda _: begun, lambda _: cluster.model_files(model), False)
    replies = segmenter(
        {
            "index": list(range(len(images))),
            "place": [os.fsencode(one.place) for one in images],
            "stem": [os.fsencode(one.stem) for one in images],
        }
    )
    return [pickle.loads(reply) for reply in replies["reply"]]


def states(replies: list[node.Reply]) -> list[str | None]:
    assert [reply.index for reply in replies] == list(range(len(replies)))
    return [reply.result and reply.result.status for reply in replies]


def test_what_a_url_names(memory: Any, png: bytes) -> None:
    for name in ("b.png", "a.PNG", "sub/b.png", ".hidden.png", ".git/x.png", "notes.txt"):
        memory.pipe_file(f"/in/{name}", png)
    memory.pipe_file("/in/out/masks/a.png", png)
    found = remote.find(["memory://in"], "memory://in/out")
    assert [(one.place, one.stem) for one in found] == [
        ("memory:///in/a.PNG", "a"),
        ("memory:///in/b.png", "b"),
        ("memory:///in/sub/b.png", "sub/b"),
    ]
    one = remote.find(["memory://in/b.png", "memory://in/*.png"], "elsewhere")
    assert [(image.place, image.stem) for image in one] == [("memory:///in/b.png", "b")]
    # The results of a job may lie among its images.
    assert len(remote.find(["memory://in"], "memory://in")) == 4


def test_names_of_two_folders(memory: Any, png: bytes, tmp_path: Path) -> None:
    memory.pipe_file("/in/a.png", png)
    (tmp_path / "a.png").write_bytes(png)
    (tmp_path / "b.png").write_bytes(png)
    found = remote.find(["memory://in", str(tmp_path), f"file://{tmp_path}"], "out")
    assert {one.place: one.stem for one in found} == {
        "memory:///in/a.png": "memory/in/a.png",
        str(tmp_path / "a.png"): str(tmp_path / "a.png")[1:],
        str(tmp_path / "b.png"): "b",
    }


@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        ("memory://none", InputError, "memory://none: no such file or folder"),
        ("memory://notes.txt/*", InputError, "no such file or folder"),
        ("memory://in", InputError, "memory://in: no images in it"),
        ("nonsense://in", ConfigError, "Protocol not known: nonsense"),
        ("file:///none", InputError, "/none: no such file or folder"),
    ],
)
def test_places_that_hold_nothing(
    memory: Any, place: str, error: type[Exception], words: str
) -> None:
    memory.pipe_file("/in/notes.txt", b"")
    with pytest.raises(error, match=words):
        remote.find([place], "out")


def test_a_job_on_an_object_store(
    memory: Any,
    png: bytes,
    job: node.ClusterJob,
    model: Path,
    predictor: Predictor,
    tmp_path: Path,
) -> None:
    local = tmp_path / "in"
    (local / "sub").mkdir(parents=True)
    for name, content in {"a.png": png, "broken.png": b"no image", "sub/c.png": png}.items():
        (local / name).write_bytes(content)
        memory.pipe_file(f"/in/{name}", content)
    expected = tmp_path / "expected"
    assert len(list(folder.segment(predictor, find([local]), Output(expected)))) == 3

    replies = work(job, model, ["memory://in"])
    assert states(replies) == ["written", "failed", "written"]
    assert replies[1].result is not None
    assert replies[1].result.error == ("memory:///in/broken.png: not a picture of a known kind")
    names = [path.relative_to(expected) for path in expected.rglob("*.*")]
    assert memory.find("/results/job") == sorted(f"/results/job/{name}" for name in names)
    for name in names:
        assert memory.cat_file(f"/results/job/{name}") == (expected / name).read_bytes()

    # Given again, it does what is not there, or was made from something else, and says so.
    memory.pipe_file("/in/a.png", png[:-12] + b"\0" * 12)
    memory.rm("/results/job/overlays/sub/c.jpg")
    assert states(work(job, model, ["memory://in"])) == ["written", "failed", "written"]
    assert states(work(job, model, ["memory://in"])) == ["kept", "failed", "kept"]
    memory.pipe_file("/results/job/masks/a.png", b"mine")
    replies = work(job, model, ["memory://in"])
    assert states(replies) == ["failed", "failed", "kept"]
    assert replies[0].result is not None
    assert replies[0].result.error.startswith(
        "memory:///in/a.png: memory://results/job/masks/a.png: is in the way and kept"
    )
    again = replace(job, output=replace(job.output, force=True))
    assert states(work(again, model, ["memory://in"])) == ["written", "failed", "written"]


def test_a_store_that_refuses_one_result(
    memory: Any, png: bytes, job: node.ClusterJob, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe({"/in/a.png": png, "/in/b.png": png})
    put = type(memory).put_file

    def refuse(self: Any, file: str, path: str, **options: Any) -> None:
        if path.endswith("overlays/a.jpg"):
            raise PermissionError("access denied\nand a long story")
        put(self, file, path, **options)

    monkeypatch.setattr(type(memory), "put_file", refuse)
    first, second = work(job, model, ["memory://in"])
    assert first.result is not None
    assert first.result.error == (
        "memory:///in/a.png: memory://results/job/overlays/a.jpg: cannot be written: access denied"
    )
    assert second.result is not None
    assert second.result.status == "written"
    # No mask without the rest, so that it is made when the job is given again.
    assert not memory.exists("/results/job/masks/a.png")


def test_an_image_that_is_gone(memory: Any, png: bytes, job: node.ClusterJob, model: Path) -> None:
    memory.pipe_file("/in/a.png", png)
    images = remote.find(["memory://in"], str(job.output.place))
    memory.rm("/in/a.png")
    segmenter = node.Segmenter(job, lambda _: 1, lambda _: cluster.model_files(model), False)
    [result] = segmenter.segment(images)
    assert (result.status, result.error) == ("failed", "memory:///in/a.png: no such file")


def test_a_batch_that_was_begun_too_often(
    memory: Any, png: bytes, job: node.ClusterJob, model: Path
) -> None:
    memory.pipe_file("/in/a.png", png)
    tries = node.Tries()
    begun = [tries.begin(7) for _ in range(node.MOST_TRIES + 1)]
    assert begun == [1, 2, 3]
    assert tries.begin(8) == 1
    assert states(work(job, model, ["memory://in"], node.MOST_TRIES)) == ["written"]
    assert states(work(job, model, ["memory://in"], node.MOST_TRIES + 1)) == [None]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"identity": "0" * 64}, EngineError, "install the same versions everywhere"),
        ({"token": "token"}, ConfigError, "expected one that all machines share"),
        ({"engine": "none"}, ConfigError, "there is no engine 'none'"),
    ],
)
def test_a_machine_that_can_do_nothing(
    job: node.ClusterJob,
    model: Path,
    png: bytes,
    tmp_path: Path,
    change: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    (tmp_path / "a.png").write_bytes(png)
    job = replace(job, output=Output(str(tmp_path / "out")), **change)
    [reply] = work(job, model, [str(tmp_path / "a.png")])
    assert reply.index == -1
    assert isinstance(reply.failure, error)
    assert words in str(reply.failure)
    assert os.uname().nodename in str(reply.failure)


def test_weights_beside_the_model_go_with_it(
    tmp_path: Path,
    job: node.ClusterJob,
    png: bytes,
    small_model: Callable[..., onnx.ModelProto],
) -> None:
    path = tmp_path / "large" / "mod.onnx"
    path.parent.mkdir()
    onnx.save(
        small_model(), path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    assert list(cluster.model_files(path)) == ["mod.onnx", "weights.bin"]
    (tmp_path / "a.png").write_bytes(png)
    with Predictor.open(path, engine="onnxruntime") as predictor:
        identity = predictor.engine.identity
    job = replace(job, output=Output(str(tmp_path / "out")), identity=identity)
    assert states(work(job, path, [str(tmp_path / "a.png")])) == ["written"]
    with pytest.raises(InputError, match=r"none.pth: cannot be read: No such file"):
        cluster.model_files(tmp_path / "none.pth")


def _claim(count: int, pipe: Any) -> None:
    held = node.claim_cores(count)
    pipe.send((len(held), os.sched_getaffinity(0)))
    pipe.recv()


@pytest.mark.heavy
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_every_worker_has_cores_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    context = multiprocessing.get_context("spawn")
    cores = os.sched_getaffinity(0)
    workers, answers = [], []
    for _ in range(len(cores) + 1):
        here, there = context.Pipe()
        workers.append((context.Process(target=_claim, args=(1, there)), here))
        workers[-1][0].start()
        answers.append(here.recv())
    *own, (claimed, allowed) = answers
    assert sorted(core for _, one in own for core in one) == sorted(cores)
    assert {len(one) for _, one in own} == {1}
    assert (claimed, allowed) == (0, cores)  # nothing was left
    for process, here in workers:
        here.send(None)
        process.join()
    here, there = context.Pipe()
    process = context.Process(target=_claim, args=(1, there))
    process.start()
    assert here.recv()[0] == 1  # a claim ends with its process
    here.send(None)
    process.join()


def test_nobody_at_the_address() -> None:
    for address, words in {
        "127.0.0.1:1": "nothing answers there",
        "ray://host:1": "expected local, auto or HOST:PORT",
        "host": "expected local, auto or HOST:PORT",
    }.items():
        with pytest.raises(ConfigError, match=words):
            cluster._knock(address)


def test_somebody_else_at_the_address() -> None:
    def answer(server: socket.socket) -> None:
        with server.accept()[0] as link:
            link.sendall(b"HTTP/1.1 400")
            link.recv(100)

    with socket.create_server(("127.0.0.1", 0)) as server:
        other = threading.Thread(target=answer, args=(server,))
        other.start()
        with pytest.raises(ConfigError, match="what answers there is not Ray"):
            cluster._knock(f"127.0.0.1:{server.getsockname()[1]}")
        other.join()


def test_no_more_threads_than_calls_of_the_network(predictor: Predictor, tmp_path: Path) -> None:
    for name in "abc":
        Image.new("RGB", (60, 40), "red").save(tmp_path / f"{name}.png")
    results = folder.segment(predictor, find([tmp_path]), Output(tmp_path / "out"), pipelined=False)
    assert next(results).status == "written"
    assert len(threads()) == predictor.engine.streams == 1
    assert [result.status for result in results] == ["written"] * 2
    assert len(threads()) == 0


def test_what_a_worker_decided_about_samples_comes_back(
    memory: Any, job: node.ClusterJob, model: Path, tmp_path: Path
) -> None:
    deep = rasters.png(
        tmp_path / "a.png", np.arange(900, 964, dtype=np.uint16).reshape(1, 8, 8), 16
    )
    memory.pipe_file("/in/a.png", deep.read_bytes())
    [reply] = work(job, model, ["memory://in"])
    assert reply.notes["range"].startswith("memory:///in/a.png: most values are between 900 and")


@pytest.mark.parametrize(
    ("options", "workers"),
    [
        (Options(threads=1), 12),
        (Options(threads=3), 3),
        (Options("cuda", threads=1), 4),
        (Options("cuda", threads=3), 1),
        (Options(threads=9), 0),
    ],
)
def test_how_many_workers_there_is_room_for(options: Options, workers: int) -> None:
    machines = [{"CPU": 4.0, "GPU": 8.0}, {"CPU": 8.0}, {"CPU": 64.0, "GPU": 8.0}]
    alive = (True, True, False)
    known = [{"Alive": is_, "Resources": has} for is_, has in zip(alive, machines, strict=True)]
    assert cluster._room(SimpleNamespace(nodes=lambda: known), options) == workers


def test_no_machine_has_a_gpu(job: node.ClusterJob) -> None:
    known = [{"Alive": True, "Resources": {"CPU": 4.0}}]
    one = remote.RemoteImage("a.png", "a")
    asked = replace(job, options=Options("cuda", threads=1))
    replies = cluster._replies(SimpleNamespace(nodes=lambda: known), asked, {0: one}, 0, False)
    with pytest.raises(ConfigError, match="no machine of the cluster has GPU for a worker"):
        next(replies)
