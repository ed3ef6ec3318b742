"""What a second process, and a second replica on Ray Serve, bring: images a second, and latency.

    python benchmarks/ray_serve.py
    python benchmarks/ray_serve.py --model x.onnx --rounds 5 --seconds 10
    RAY_SERVE_ENABLE_HA_PROXY=1 python benchmarks/ray_serve.py --ray-alone

A client asks `/v1/segment` for the masks of windows of 500×375 of the package's photograph, as
JPEG. Subject: `atrous.serve.ray` with two replicas of one thread. Control: the same with one. For
comparison `atrous serve` as a process of one thread, as two of them on a core each, between which
the client alternates, and as one process of two threads and two instances.

Method: a round is each of the five once, started anew, the other way round every second time. Of
each, one request after the other for a while, of which the median counts; then four connections
that ask without a pause, of which the images of the last so many seconds count. Client, Ray and
servers share the machine. Printed are all rounds, of the ratios median, least and greatest, and the
CPU time that Ray's proxy takes for a request.
"""

from __future__ import annotations

import argparse
import http.client
import logging
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np
import psutil
from PIL import Image

from atrous import image

CONNECTIONS = 4
WARM_UP = 1.0
ALONE = 2.0


class Measured(NamedTuple):
    """Of one contender: ms of a request alone, images a second, ms of CPU of the proxy for one."""

    alone: float
    rate: float
    proxy: float


def make_pictures(count: int = 16) -> list[bytes]:
    """Windows of the photograph, as large as those of Pascal VOC."""
    scene = cv2.resize(image.photograph(), (1000, 750), interpolation=cv2.INTER_CUBIC)
    made = []
    for number in range(count):
        top, left = (number * 37) % 375, (number * 61) % 500
        file = BytesIO()
        window = np.ascontiguousarray(scene[top : top + 375, left : left + 500])
        Image.fromarray(window).save(file, "JPEG", quality=90)
        made.append(file.getvalue())
    return made


def ask(connection: http.client.HTTPConnection, picture: bytes) -> None:
    """Have a picture segmented."""
    connection.request("POST", "/v1/segment", picture)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body


def measure(addresses: list[str], pictures: list[bytes], seconds: float) -> Measured:
    """Ask, one after the other and then without a pause."""
    alone: list[float] = []
    connections = [
        http.client.HTTPConnection(addresses[number % len(addresses)])
        for number in range(CONNECTIONS)
    ]
    for connection in connections:
        ask(connection, pictures[0])
    end = time.perf_counter() + ALONE
    while (began := time.perf_counter()) < end:
        ask(connections[0], pictures[len(alone) % len(pictures)])
        alone.append(1e3 * (time.perf_counter() - began))
    start = time.perf_counter() + WARM_UP
    end = start + seconds
    counts = [0] * CONNECTIONS

    def load(mine: int) -> None:
        number = mine
        while time.perf_counter() < end:
            ask(connections[mine], pictures[number % len(pictures)])
            counts[mine] += start < time.perf_counter() < end
            number += 1

    threads = [threading.Thread(target=load, args=(mine,)) for mine in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    time.sleep(WARM_UP)
    before = proxy_seconds()
    for thread in threads:
        thread.join()
    proxy = 1e3 * (proxy_seconds() - before) / max(1, sum(counts))
    return Measured(statistics.median(alone), sum(counts) / seconds, proxy)


def proxy_seconds() -> float:
    """CPU time of Ray's proxy so far, be it the one in Python or HAProxy."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            called = " ".join(process.cmdline())
            if "ProxyActor" in called or "haproxy" in called.lower():
                used = process.cpu_times()
                total += used.user + used.system
        except psutil.Error:
            continue
    return total


@contextmanager
def served(model: str, cores: list[int], threads: int) -> Iterator[list[str]]:
    """`atrous serve` as a process on these cores; where it listens."""
    told = (
        f"--port 0 -m model={model} --threads {threads} --instances {threads} --queue {CONNECTIONS}"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "atrous", "serve", *told.split()],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"listening on http://(\S+)", line):
                break
        else:
            raise SystemExit("atrous serve did not start")
        rest = threading.Thread(target=process.stderr.read)
        rest.start()
        yield [found[1]]
        process.send_signal(signal.SIGTERM)
        rest.join()


@contextmanager
def two_processes(model: str) -> Iterator[list[str]]:
    """One on each of the first two cores."""
    with ExitStack() as both:
        found = [
            both.enter_context(served(model, [core], 1))
            for core in sorted(os.sched_getaffinity(0))[:2]
        ]
        yield [address for addresses in found for address in addresses]


@contextmanager
def replicas(model: str, count: int, port: int) -> Iterator[list[str]]:
    """So many of one thread on Ray Serve, which runs."""
    from ray import serve

    from atrous.serve.ray import application

    arguments = {"models": {"model": model}, "min_replicas": count, "max_replicas": count}
    serve.run(application({**arguments, "no_api_key": True}), name="app")
    yield [f"127.0.0.1:{port}"]
    serve.delete("app")


def start_ray() -> int:
    """Start Ray Serve here, and say at which port."""
    # Workers would be niced by 15, and Ray would report its use to its makers.
    os.environ |= {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    import ray
    from ray import serve

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    quiet = {"log_level": "ERROR", "enable_access_log": False}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    serve.start(http_options={"port": port}, logging_config=quiet)
    return port


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each, under load")
    parser.add_argument("--model", default="default-int8")
    parser.add_argument("--ray-alone", action="store_true", help="leave out atrous serve")
    arguments = parser.parse_args()
    model, pictures, port = arguments.model, make_pictures(), start_ray()
    first, second = sorted(os.sched_getaffinity(0))[:2]
    contenders: dict[str, Callable[[], AbstractContextManager[list[str]]]] = {
        "serve, one thread": lambda: served(model, [first], 1),
        "serve, two processes": lambda: two_processes(model),
        "serve, two instances": lambda: served(model, [first, second], 2),
        "Ray, one replica": lambda: replicas(model, 1, port),
        "Ray, two replicas": lambda: replicas(model, 2, port),
    }
    if arguments.ray_alone:
        contenders = {name: one for name, one in contenders.items() if name.startswith("Ray")}
    found: dict[str, list[Measured]] = {name: [] for name in contenders}
    print(f"{model}, 500×375 JPEG to mask, {CONNECTIONS} connections: images/s (ms alone)")
    for number in range(arguments.rounds):
        # In turn, so that what else the machine does falls on all.
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            with contenders[name]() as addresses:
                found[name].append(measure(addresses, pictures, arguments.seconds))
        last = {name: seen[-1] for name, seen in found.items()}
        line = (f"{name} {one.rate:.2f} ({one.alone:.1f})" for name, one in last.items())
        print("  " + "   ".join(line), flush=True)
    for name, seen in found.items():
        rate, alone = (statistics.median(values) for values in list(zip(*seen, strict=True))[1::-1])
        print(f"{name}: median {rate:.2f} images/s, {alone:.1f} ms alone")
    for above, below in (
        ("Ray, two replicas", "Ray, one replica"),
        ("Ray, two replicas", "serve, two processes"),
        ("serve, two processes", "serve, one thread"),
        ("serve, two instances", "serve, one thread"),
    ):
        if below not in found:
            continue
        pairs = zip(found[above], found[below], strict=True)
        ratios = [one.rate / other.rate for one, other in pairs]
        print(
            f"{above} / {below}: median {statistics.median(ratios):.3f}, "
            f"{min(ratios):.3f}–{max(ratios):.3f}"
        )
    proxy = statistics.median(seen.proxy for seen in found["Ray, two replicas"])
    print(f"Ray's proxy: {proxy:.2f} ms of CPU for a request")


if __name__ == "__main__":
    main()
