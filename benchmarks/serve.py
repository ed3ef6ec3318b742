"""What the server adds to a model, what it does under too much load, and whether it leaks.

    python benchmarks/serve.py
    python benchmarks/serve.py --only endurance slow
    python benchmarks/serve.py --json benchmarks/results/serve.json

The server runs in a process of its own, with a network that is a function: it sleeps as long as it
is told and returns the same logits, 21 × 33 × 33. The client is in this process; both share the
machine's cores, and what else runs on them is in the figures too.

Overhead: one client, one request after the other, 513×513, binary tensors, class map out, by
tritonclient and by http.client; the network does not sleep. Subtracted is the same work in this
process without a server: prediction and class map of the same tensor. In turn, blocks of 20; the
first block is not counted. Shown are the medians with 10th and 90th percentile. As a floor, what
the same bytes take over a bare socket: another process reads them and sends a class map back.

Overload: the network sleeps 50 ms, two calls side by side, so that it does 40 images a second.
First one request after the other; then requests leave on a schedule, four times 40 a second,
whatever becomes of those before, and count from when they should have left. The aim is that the
99th percentile of those that are served stays under three times that of the unloaded server.

Endurance: 20,000 requests of 8 clients, 1 % malformed; memory of the server after the first
tenth, and at the end; and how long the good ones took.

Slow clients: 300 that send a byte every half a second, half of them of a head and half of a body,
and one that asks like anybody else; its times without them and with them. They are cut off after
15 and 30 s, so it asks for 10.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tritonclient.http as triton

from atrous.engines.fake import FakeEngine
from atrous.labels import VOC
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from atrous.serve import server
from atrous.serve.service import Service
from atrous.serve.settings import Settings

SIDE = 513
CAPACITY = 40.0
BLOCK = 20


def network(seconds: float, side: int) -> Predictor:
    """Two calls side by side, `seconds` each."""
    coarse = np.random.default_rng(0).normal(size=(21, 5, 5)).astype(np.float32)
    logits = np.kron(coarse, np.ones((7, 7), np.float32))[:, :33, :33]

    def run(batch: Any) -> Any:
        if seconds:
            time.sleep(seconds)
        return np.repeat(logits[None], len(batch), axis=0)

    engine = FakeEngine(run, num_classes=21)
    engine.streams = 2
    return Predictor(engine, Preprocess(size=(side, side)), VOC)


def serve(seconds: float, side: int, queue: int) -> None:
    """What the other process does."""
    settings = Settings(port=0, queue=queue)
    bound = server.listen(settings)
    service = Service({"fake": network(seconds, side)}, settings)
    server.run(service, bound, lambda _: print(server.url_of(bound), flush=True))


def echo() -> None:
    """What the process of the bare socket does; eight bytes say how many come."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        print(f"http://127.0.0.1:{bound.getsockname()[1]}", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        while True:
            connection, _ = bound.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while count := int.from_bytes(receive(connection, 8), "little"):
                receive(connection, count)
                connection.sendall(bytes(SIDE * SIDE))


def receive(connection: socket.socket, count: int) -> bytearray:
    """So many bytes, or none if the other side has closed."""
    data = bytearray(count)
    left = memoryview(data)
    while left:
        came = connection.recv_into(left)
        if not came:
            return bytearray()
        left = left[came:]
    return data


@dataclass
class Running:
    """A server process."""

    process: subprocess.Popen[str]
    address: str

    def memory(self) -> float:
        """Resident, MB."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 1e6

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.terminate()
        code = self.process.wait(30)
        assert code == 0, f"the server ended with {code}"


def start(seconds: float, side: int = SIDE, queue: int = 0) -> Running:
    """Start one."""
    return start_process("--serve", str(seconds), str(side), str(queue))


def start_process(*arguments: str) -> Running:
    """Start this file again; it says where it listens."""
    process = subprocess.Popen(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return Running(process, process.stdout.readline().strip().removeprefix("http://"))


def request(name: str, array: np.ndarray[Any, Any]) -> tuple[bytes, dict[str, str]]:
    """Body and header fields of a binary request."""
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "shape": array.shape,
                    "datatype": "UINT8" if array.dtype == np.uint8 else "FP32",
                    "parameters": {"binary_data_size": array.nbytes},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    return head + array.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


def post(connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str]) -> int:
    """Send a request, read its answer, return its status."""
    connection.request("POST", "/v2/models/fake/infer", body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def timed(work: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - began)


def spread(values: Any) -> str:
    """Median and the 10th and 90th percentile."""
    low, middle, high = np.percentile(values, [10, 50, 90])
    return f"{middle:6.2f} ({low:.2f} to {high:.2f})"


def overhead(rounds: int) -> dict[str, Any]:
    """Measure and print what the server adds."""
    chance = np.random.default_rng(1)
    arrays = {
        "image": chance.integers(0, 256, (1, SIDE, SIDE, 3), np.uint8),
        "input": chance.normal(size=(1, 3, SIDE, SIDE)).astype(np.float32),
    }
    local = network(0, SIDE)
    found: dict[str, Any] = {}
    print("overhead, ms a request: median (p10 to p90); aim: under 3")
    with start(0) as running, start_process("--echo") as bare:
        client = triton.InferenceServerClient(running.address)
        connection = http.client.HTTPConnection(running.address)
        host, port = bare.address.split(":")
        wire = socket.create_connection((host, int(port)))
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, array in arrays.items():
            tensor = triton.InferInput(
                name, list(array.shape), "UINT8" if name == "image" else "FP32"
            )
            body, headers = request(name, array)

            def by_triton(tensor: Any = tensor, array: Any = array) -> None:
                tensor.set_data_from_numpy(array)
                client.infer("fake", [tensor]).as_numpy("classmap")

            def plain(body: bytes = body, headers: dict[str, str] = headers) -> None:
                assert post(connection, body, headers) == 200

            def floor(body: bytes = body) -> None:
                wire.sendall(len(body).to_bytes(8, "little"))
                wire.sendall(body)
                assert receive(wire, SIDE * SIDE)

            def alone(name: str = name, array: Any = array) -> None:
                if name == "image":
                    local(array[0]).class_map()
                else:
                    [grid] = local.logits([array[0]])
                    local.prediction(grid, local.preprocess.place(SIDE, SIDE)).class_map()

            ways: dict[str, Callable[[], object]] = {
                "tritonclient": by_triton,
                "http.client": plain,
                "no server": alone,
                "bare socket": floor,
            }
            times: dict[str, list[list[float]]] = {way: [] for way in ways}
            for _ in range(rounds + 1):
                for way, work in ways.items():
                    times[way].append([timed(work) for _ in range(BLOCK)])
            counted = {way: np.array(blocks[1:]).ravel() for way, blocks in times.items()}
            base = float(np.median(counted["no server"]))
            for way, values in counted.items():
                server_is_in = way not in ("no server", "bare socket")
                added = f"   added {spread(values - base)}" if server_is_in else ""
                print(f"  {name:5}  {way:12}  {spread(values)}{added}")
            found[name] = {way: values.round(3).tolist() for way, values in counted.items()}
        client.close()
        wire.close()
    return found


def overload(seconds: float) -> dict[str, Any]:
    """Measure and print what becomes of four times too many requests."""
    array = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    body, headers = request("image", array)
    rate = 4 * CAPACITY
    count = int(seconds * rate)
    served: list[float] = []
    statuses: Counter[int] = Counter()
    kept = threading.local()
    with start(2 / CAPACITY) as running:
        connection = http.client.HTTPConnection(running.address)
        unloaded = [timed(lambda: post(connection, body, headers)) for _ in range(220)][20:]
        begin = time.perf_counter() + 0.2

        def ask(number: int) -> None:
            if not hasattr(kept, "connection"):
                kept.connection = http.client.HTTPConnection(running.address)
            due = begin + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            status = post(kept.connection, body, headers)
            statuses[status] += 1
            if status == 200:
                served.append(1e3 * (time.perf_counter() - due))

        with ThreadPoolExecutor(48) as pool:
            list(pool.map(ask, range(count)))
        took = time.perf_counter() - begin
    calm, loaded = np.percentile(unloaded, 99), np.percentile(served, 99)
    print(f"overload, {rate:g} requests a second for {took:.1f} s, {CAPACITY:g} can be served")
    print(f"  {dict(statuses)}; served {len(served) / took:.1f} a second")
    print(f"  unloaded  {spread(unloaded)}  p99 {calm:.1f} ms")
    print(f"  served    {spread(served)}  p99 {loaded:.1f} ms, {loaded / calm:.2f} times (aim: 3)")
    return {
        "statuses": dict(statuses),
        "unloaded_ms": np.round(unloaded, 2).tolist(),
        "served_ms": np.round(served, 2).tolist(),
    }


def endurance(count: int) -> dict[str, Any]:
    """Measure and print memory over many requests."""
    array = np.zeros((1, 65, 65, 3), np.uint8)
    body, headers = request("image", array)
    wrong = [
        (body[:-9], headers),
        (body, {}),
        (b"\xff" * 99, headers),
        (body.replace(b"UINT8", b"INT64"), headers),
        (b"", {}),
    ]
    statuses: Counter[int] = Counter()
    unexpected: Counter[int] = Counter()
    took: list[float] = []
    lock = threading.Lock()
    with start(0, 65, queue=64) as running:

        def ask(numbers: range) -> None:
            connection = http.client.HTTPConnection(running.address)
            for number in numbers:
                bad = number % 100 == 99
                sent = wrong[number // 100 % 5] if bad else (body, headers)
                began = time.perf_counter()
                status = post(connection, *sent)
                with lock:
                    took.append(1e3 * (time.perf_counter() - began))
                    statuses[status] += 1
                    unexpected[status] += (status == 400) != bad

        def all_of(numbers: range) -> None:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(ask, [numbers[start::8] for start in range(8)]))

        all_of(range(count // 10))
        before, began = running.memory(), time.perf_counter()
        all_of(range(count // 10, count))
        rate = 0.9 * count / (time.perf_counter() - began)
        after = running.memory()
    print(f"endurance, {count} requests, 1 % malformed, {rate:.0f} a second")
    print(f"  {dict(statuses)}; not as expected: {sum(unexpected.values())}")
    print(f"  memory {before:.1f} MB after a tenth, {after:.1f} MB at the end")
    print(f"  {spread(took)} ms  p99 {np.percentile(took, 99):.1f} ms")
    return {
        "statuses": dict(statuses),
        "before_mb": before,
        "after_mb": after,
        "milliseconds": np.round(took, 2).tolist(),
    }


def slow_clients(count: int) -> dict[str, Any]:
    """Measure and print what slow clients do to others."""
    body, headers = request("image", np.zeros((1, 65, 65, 3), np.uint8))
    heads = (
        b"POST /v1/segment HTTP/1.1\r\nX: ",
        b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n",
    )
    done = threading.Event()
    statuses: Counter[int] = Counter()

    def trickle(connections: list[socket.socket]) -> None:
        while not done.wait(0.5):
            for connection in connections:
                connection.sendall(b"x")

    with start(0, 65) as running:
        host, port = running.address.split(":")
        connection = http.client.HTTPConnection(running.address)

        def ask() -> None:
            statuses[post(connection, body, headers)] += 1

        def asked(seconds: float) -> list[float]:
            end, times = time.perf_counter() + seconds, []
            while time.perf_counter() < end:
                times.append(timed(ask))
                time.sleep(0.01)
            return times

        asked(1)
        alone = asked(10)
        connections = []
        for number in range(count):
            connections.append(socket.create_connection((host, int(port))))
            connections[-1].sendall(heads[number % 2])
        with ThreadPoolExecutor(1) as pool:
            pool.submit(trickle, connections)
            beside = asked(10)
            done.set()
        for one in connections:
            one.close()
    print(f"slow clients, {count}: ms a request of another; {dict(statuses)}")
    for name, times in (("without", alone), ("with", beside)):
        print(f"  {name:7}  {spread(times)}  p99 {np.percentile(times, 99):.1f} ms")
    return {"alone_ms": np.round(alone, 2).tolist(), "beside_ms": np.round(beside, 2).tolist()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The server's overhead, overload, endurance.")
    names = ["overhead", "overload", "endurance", "slow"]
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=15.0, help="of overload")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--json", type=Path, help="keep every value in this file")
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs=3, type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.echo:
        echo()
        return
    if given.serve:
        serve(given.serve[0], int(given.serve[1]), int(given.serve[2]))
        return
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "overhead": lambda: overhead(given.rounds),
        "overload": lambda: overload(given.seconds),
        "endurance": lambda: endurance(given.requests),
        "slow": lambda: slow_clients(300),
    }
    found = {name: parts[name]() for name in given.only}
    if given.json:
        given.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
