"""The application for Ray Serve: on a cluster, and its replica in this process."""

import importlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from atrous.artifact import Metadata, save
from atrous.errors import ConfigError, EngineError
from atrous.labels import generic
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from atrous.serve.ray import NAME, Replica, Replication, application
from tests.builders import processes
from tests.builders.networks import make_small_model
from tests.builders.server import halves, png

cluster = pytest.mark.skipif(
    not all(map(find_spec, ("ray", "grpc_reflection"))),
    reason="needs pip install 'atrous[ray-serve]'",
)
MANAGER = Path(__file__).with_name("ray_cluster.py")
KEY = "a-key"
PICTURE = png(halves(1200, 1600))
LIMIT = 120


class Nodes:
    """The cluster, in processes of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, MANAGER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Ray's workers are niced by 15, and what else runs here leaves them little.
            env={
                **os.environ,
                "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_worker_niceness": "0",
                "ATROUS_API_KEY": KEY,
            },
        )

        self.deployed: dict[str, object] = {}
        self.url = ""

    def deploy(self, **arguments: object) -> str:
        """Deploy the application, unless it is there with these arguments; none take it away."""
        if arguments != self.deployed:
            self.url, self.deployed = self._deploy(arguments), arguments
        return self.url

    def _deploy(self, arguments: dict[str, object]) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{json.dumps(arguments)}\n")
        self.process.stdin.flush()
        # Ray has words of its own when a replica is lost.
        for line in self.process.stdout:
            if line.startswith("http://"):
                return line.strip()
        raise AssertionError(f"the cluster has ended with {self.process.wait()}")

    def replicas(self) -> list[psutil.Process]:
        return processes.named(self.process, "ServeReplica")

    def close(self) -> None:
        processes.end(self.process, 30)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    yield nodes
    nodes.close()


@dataclass
class Models:
    """Two networks of one name, which differ in the class of what is red."""

    old: Path
    new: Path

    def arguments(self, path: Path, replicas: int = 2) -> dict[str, object]:
        return {
            "models": {"small": str(path)},
            "engine": "onnxruntime",
            "min_replicas": replicas,
            "max_replicas": 2,
        }


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    made = Models(folder / "old.onnx", folder / "new.onnx")
    for path, channels in ((made.old, "rgb"), (made.new, "bgr")):
        settings = Preprocess(size=(32, 32), normalisation="div255", colour=channels)
        metadata = Metadata(name="small", labels=generic(3), preprocess=settings)
        save(make_small_model(), metadata, path)
    return made


@contextmanager
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers={"X-API-Key": KEY}, timeout=LIMIT) as client:
        yield client


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def mask(answer: httpx.Response) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(answer.content)))


@dataclass
class Load:
    """Clients that ask for the same picture without a pause, each until it is answered.

    Attributes:
        answers: class of the picture's left half → how often it was answered.
        refused: statuses of answers that were none; 0 where the connection was cut.
    """

    url: str
    answers: Counter[int] = field(default_factory=Counter)
    refused: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(4)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive()

    def more(self, count: int = 20) -> None:
        """Wait for so many more answers."""
        so_far = self.answers.total()
        until(lambda: self.answers.total() >= so_far + count)

    def _ask(self) -> None:
        with client(self.url) as own:
            while not self._enough.is_set():
                try:
                    answer = own.post("/v1/segment", content=PICTURE)
                except httpx.HTTPError:
                    self.refused.append(0)
                    continue
                if answer.status_code != 200:
                    self.refused.append(answer.status_code)
                    continue
                found = mask(answer)
                assert found.shape == (1200, 1600)
                self.answers[int(found[600, 400])] += 1


@cluster
@pytest.mark.heavy
@pytest.mark.slow
def test_the_same_routes_as_the_server(nodes: Nodes, models: Models) -> None:
    url = nodes.deploy(**models.arguments(models.old))
    picture = halves()
    with client(url) as own, Predictor.open(models.old, engine="onnxruntime") as predictor:
        assert own.get("/v2/health/ready").status_code == 200
        assert own.get("/v2/models/small").json()["inputs"][1]["name"] == "image"
        expected = predictor(picture).class_map()
        answer = own.post("/v1/segment", content=png(picture))
        np.testing.assert_array_equal(mask(answer), expected)
        body = {
            "inputs": [
                {
                    "name": "image",
                    "shape": [1, *picture.shape],
                    "datatype": "UINT8",
                    "data": picture.ravel().tolist(),
                }
            ]
        }
        inferred = own.post("/v2/models/small/infer", json=body).json()["outputs"][0]
        assert inferred["data"] == expected.ravel().tolist()
        assert "<title>" in own.get("/").text
        for status, content, query in (
            (422, b"no picture", {}),
            (404, png(picture), {"model": "none"}),
        ):
            assert own.post("/v1/segment", content=content, params=query).status_code == status
        assert httpx.get(f"{url}/v1/models").status_code == 401


@cluster
@pytest.mark.heavy
@pytest.mark.slow
def test_a_replica_that_is_killed(nodes: Nodes, models: Models) -> None:
    """What was under way in it is told to try again; nothing waits in vain, and another comes."""
    url = nodes.deploy(**models.arguments(models.old))
    before = {replica.pid for replica in nodes.replicas()}
    with Load(url) as load:
        load.more()
        victim = nodes.replicas()[0]
        victim.kill()
        victim.wait()
        load.more()
        until(lambda: len({replica.pid for replica in nodes.replicas()} - before) == 1)
        load.more()
    assert load.answers.keys() == {0}
    # All that a replica has at a time: one in the network, and one that waits for it.
    assert load.refused in ([], [500], [500, 500])


@cluster
@pytest.mark.heavy
@pytest.mark.slow
def test_an_update_refuses_nobody(nodes: Nodes, models: Models) -> None:
    url = nodes.deploy(**models.arguments(models.old))
    with Load(url) as load:
        load.more()
        nodes.deploy(**models.arguments(models.new))
        so_far = Counter(load.answers)
        load.more()
    assert load.refused == []
    assert load.answers.keys() == {0, 2}
    assert load.answers[0] - so_far[0] <= 4  # what was under way


@cluster
@pytest.mark.heavy
@pytest.mark.slow
def test_requests_that_wait_bring_another_replica(nodes: Nodes, models: Models) -> None:
    nodes.deploy()
    url = nodes.deploy(**models.arguments(models.old, replicas=1))
    assert len(nodes.replicas()) == 1
    with Load(url) as load:
        until(lambda: len(nodes.replicas()) == 2)
        load.more()
    assert load.refused == []


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica changes the process that it has for itself: its cores, and where it logs."""
    monkeypatch.setattr("atrous.serve.ray.claim_cores", lambda count: [])
    monkeypatch.setattr("atrous.serve.logs.set_up", lambda style: None)


@pytest.mark.usefixtures("in_this_process")
def test_a_replica_without_a_cluster(models: Models) -> None:
    replica = Replica(Replication(**models.arguments(models.old), no_api_key=True))
    assert replica.service.models["small"].places == 2 * 32
    replica.check_health()
    replica.service.models["small"].broken = "the device is gone"
    with pytest.raises(EngineError, match="a model has stopped"):
        replica.check_health()
    replica.__del__()


@pytest.mark.usefixtures("in_this_process")
def test_a_replica_wants_a_key(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATROUS_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="set ATROUS_API_KEY or give `api_key_file`"):
        Replica(Replication(**models.arguments(models.old)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"thread": 1}, "thread: unknown key; did you mean threads?"),
        ({"threads": 0}, "threads: expected"),
        ({"min_replicas": 3, "max_replicas": 2}, "expected min_replicas (3) or more, got 2"),
        ({"models": {"a b": "default"}}, "models.a b"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        application(arguments)
    assert words in str(raised.value)


def test_without_ray_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'atrous\[ray-serve\]'"):
        application({})


@cluster
@pytest.mark.heavy
def test_the_example_deploys_what_there_is() -> None:
    schema = pytest.importorskip("ray.serve.schema")
    example = Path(__file__).parents[2] / "examples" / "deploy" / "ray-serve.yaml"
    [told] = schema.ServeDeploySchema(**yaml.safe_load(example.read_text())).applications
    module, _, name = told.import_path.partition(":")
    assert getattr(importlib.import_module(module), name) is application
    assert Replication(**told.args).max_replicas == 8
    assert [one.name for one in told.deployments] == [NAME]
