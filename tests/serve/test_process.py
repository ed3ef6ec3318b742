"""`atrous serve` as a process: its words, its signals, its exit codes."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import onnx
import psutil
import pytest

from atrous.artifact import Metadata, save
from atrous.labels import generic
from atrous.preprocess import Preprocess
from tests.builders.server import halves, png

pytestmark = pytest.mark.heavy


@pytest.fixture
def model(tmp_path: Path, small_model: Callable[..., onnx.ModelProto]) -> Path:
    settings = Preprocess(size=(32, 32), normalisation="div255")
    path = tmp_path / "m.onnx"
    save(small_model(), Metadata(name="small one", labels=generic(3), preprocess=settings), path)
    return path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "atrous", "serve", *map(str, arguments)]


def without_key() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "ATROUS_API_KEY"}


@contextmanager
def process(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A server, where it listens, and what it has said."""
    told = command("--port", 0, "--engine", "onnxruntime", "--log-format", "json", *arguments)
    with subprocess.Popen(told, stderr=subprocess.PIPE, text=True, env=without_key()) as running:
        assert running.stderr is not None
        said: list[str] = []
        url = ""
        for line in running.stderr:
            said.append(line)
            if found := re.search(r"listening on (http://[^\"]+)", line):
                url = found[1]
                break
        assert url, said
        rest = threading.Thread(target=lambda: said.extend(running.stderr or []))
        rest.start()
        try:
            yield running, url, said
        finally:
            running.kill()
            running.wait()
            rest.join()


def test_sigterm_under_load(model: Path) -> None:
    """Every request is answered or refused as a whole, and the process ends with 0."""
    picture = png(halves(200, 300))
    statuses: list[int] = []
    broken: list[str] = []

    with process("-m", model, "--queue", 32) as (running, url, said):
        enough = threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=url, timeout=20) as client:
                try:
                    while not statuses or statuses[-1] == 200:
                        statuses.append(client.post("/v1/segment", content=picture).status_code)
                        if len(statuses) > 60:
                            enough.set()
                except httpx.HTTPError as error:
                    broken.append(repr(error))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        assert enough.wait(20)
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
        for thread in threads:
            thread.join()
    assert not broken
    assert set(statuses) == {200, 503}
    assert statuses.count(200) > 30
    lines = [json.loads(line) for line in said]
    answered = [line for line in lines if line["event"] == "request"]
    assert {line["model"] for line in answered} == {"small-one"}
    assert {line["status"] for line in answered} <= {200, 503}
    assert any("shutting down" in line.get("message", "") for line in lines)


@pytest.mark.parametrize(("grace", "code"), [(20, 0), (0.3, 1)], ids=["taken", "not taken"])
def test_sigterm_while_an_answer_is_being_sent(model: Path, grace: float, code: int) -> None:
    """It is sent to its end; of a client that takes none of it the exit code and the log tell."""
    side = 2500  # more than the buffers of both sides hold
    given = {"name": "image", "shape": [1, side, side, 3], "datatype": "UINT8"}
    document = {
        "inputs": [{**given, "parameters": {"binary_data_size": 3 * side * side}}],
        "outputs": [{"name": "logits", "parameters": {"binary_data": True}}],
    }
    head = json.dumps(document).encode()
    fields = {"content-encoding": "gzip", "inference-header-content-length": str(len(head))}
    content = gzip.compress(head + bytes(3 * side * side), 1)
    with process("-m", model, "--grace-seconds", grace) as (running, url, said):
        asked = httpx.stream(
            "POST", f"{url}/v2/models/small-one/infer", content=content, headers=fields, timeout=20
        )
        with asked as answer:
            assert answer.status_code == 200
            running.send_signal(signal.SIGTERM)
            if code:
                assert running.wait(20) == 1
            else:
                assert len(answer.read()) > 4 * 3 * side * side
                assert running.wait(20) == 0
    told = [json.loads(line).get("message", "") for line in said]
    assert any("1 requests given up: the grace period is over" in one for one in told) == bool(code)
    assert not [line for line in said if "Traceback" in line]


def test_two_models_another_name_and_ctrl_c(model: Path) -> None:
    told = ["-m", f"a={model}", "-m", f"b={model}", "--allow-host", "lab.example"]
    with process(*told) as (running, url, _):
        names = [row["name"] for row in httpx.get(f"{url}/v1/models").json()["models"]]
        assert names == ["a", "b"]
        for name, status in (("lab.example", 200), ("evil.example", 421)):
            assert httpx.get(f"{url}/v1/models", headers={"host": name}).status_code == status
        running.send_signal(signal.SIGINT)
        assert running.wait(15) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "lets other machines in: set ATROUS_API_KEY"),
        (["-m", "x y=z"], "expected NAME=MODEL"),
        (["--host", "192.0.2.1", "--no-api-key"], "cannot listen on 192.0.2.1"),
    ],
)
def test_wrong_commands(arguments: list[str], message: str) -> None:
    done = subprocess.run(
        command("--port", 0, *arguments), capture_output=True, text=True, env=without_key()
    )
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.slow
def test_memory_after_many_large_pictures(model: Path) -> None:
    """Results are free when they are sent; before, 200 of these kept gigabytes."""
    picture = png(np.zeros((8191, 8192, 3), np.uint8))  # 67 megapixels, the limit
    assert len(picture) < 300_000
    told = ("-m", model, "--answer-seconds", 600)
    with process(*told) as (running, url, _), httpx.Client(base_url=url) as client:
        resident = []
        for number in range(200):
            answer = client.post("/v1/segment?output=json", content=picture, timeout=600)
            assert answer.status_code == 200
            if number in (9, 199):
                resident.append(psutil.Process(running.pid).memory_info().rss)
    assert resident[1] < 1.1 * resident[0]
