"""What hostile clients can do to a server with its limits as shipped.

    python benchmarks/attack.py
    python benchmarks/attack.py --only logits_as_json --json benchmarks/results/attack.json

Each attack meets a fresh `atrous serve -m default` that has answered three requests. It comes from
a process of its own; this one asks for `/v2/health/live` every 5 ms over a connection it keeps.
Shown are the peak of the server's resident memory above what it was before (the kernel's figure),
the longest that health took to answer, how long it all took, and what was answered. The aims: less
than 1 GB, and less than 100 ms. `PYTHONPATH=OTHER/src` attacks another version. 20,000 requests
with 1 % malformed, and four times too many, are in `benchmarks/serve.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import http.client
import json
import multiprocessing
import os
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PATIENCE = 75.0
Answer = str


def png(width: int, height: int, kind: int = 2, depth: int = 8) -> bytes:
    """A picture of one colour; `kind` 2 is RGB, 6 with transparency."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    squeeze = zlib.compressobj(9)
    row = b"\0" + b"\x40" * (width * {2: 3, 6: 4}[kind] * depth // 8)
    data = b"".join([squeeze.compress(row) for _ in range(height)] + [squeeze.flush()])
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def post(port: int, path: str, body: Any, headers: dict[str, str] | None = None) -> Answer:
    """Send one request and read what comes; its status, or what happened instead."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        with contextlib.suppress(OSError):  # what came back may tell why
            connection.request("POST", path, body, headers or {})
        answer = connection.getresponse()
        while answer.read(2**20):
            pass
        return str(answer.status)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def infer(port: int, head: bytes, tensors: bytes = b"", *, told: bool = False) -> Answer:
    """Send a request of the Open Inference Protocol, compressed."""
    fields = {"Content-Encoding": "gzip"}
    if tensors or told:
        fields["Inference-Header-Content-Length"] = str(len(head))
    body = gzip.compress(head + tensors, 9)
    return post(port, "/v2/models/default/infer", body, fields)


def tensor(shape: list[int], outputs: str = "", size: bool = True) -> bytes:
    """The JSON of a request for pictures."""
    count = 1
    for extent in shape:
        count *= extent
    given: dict[str, Any] = {"name": "image", "shape": shape, "datatype": "UINT8"}
    if size:
        given["parameters"] = {"binary_data_size": count}
    document: dict[str, Any] = {"inputs": [given]}
    if outputs:
        document["outputs"] = [{"name": outputs}]
    return json.dumps(document).encode()


def with_data(data: bytes) -> bytes:
    """The same with its tensor in JSON."""
    head = tensor([1, 513, 513, 3], size=False)
    return head[:-3] + b',"data":' + data + b"}]}"


def logits_as_json(port: int) -> Answer:
    """Logits of 3.2 megapixels, 67 million numbers, as text."""
    return infer(port, tensor([1, 1700, 1870, 3], "logits"), bytes(1700 * 1870 * 3))


def numbers(port: int) -> Answer:
    """20 million numbers."""
    return infer(port, with_data(b"[" + b"0," * 20_000_000 + b"0]"))


def numbers_as_head(port: int) -> Answer:
    """20 million numbers, said to be the JSON before binary tensors."""
    return infer(port, with_data(b"[" + b"0," * 20_000_000 + b"0]"), told=True)


def lists(port: int) -> Answer:
    """20 million empty lists."""
    return infer(port, with_data(b"[" + b"[]," * 20_000_000 + b"[]]"))


def objects(port: int) -> Answer:
    """Parameters of a million names."""
    names = b",".join(b'"%d":{}' % number for number in range(4_000_000))
    return infer(port, b'{"parameters":{' + names + b'},"inputs":[]}')


def deep(port: int) -> Answer:
    """A million lists in each other."""
    return infer(port, with_data(b"[" * 1_000_000 + b"]" * 1_000_000))


def long_id(port: int) -> Answer:
    """An id of 60 MB."""
    return infer(port, b'{"id":"' + b"x" * 60_000_000 + b'",' + tensor([1, 1, 1, 3])[1:], b"abc")


def float_tensor(port: int) -> Answer:
    """A network input of a billion digits' kin: floats with 60 digits each."""
    values = b",".join([b"0." + b"1" * 60] * (3 * 513 * 513))
    head = b'{"inputs":[{"name":"input","shape":[1,3,513,513],"datatype":"FP32","data":['
    return infer(port, head + values + b"]}]}")


def many_pictures(port: int) -> Answer:
    """A hundred thousand pictures of one pixel."""
    return infer(port, tensor([100_000, 1, 1, 3]), bytes(300_000))


def long_picture(port: int) -> Answer:
    """A tensor of 22 million by 1 pixels."""
    return infer(port, tensor([1, 1, 20_000_000, 3]), bytes(60_000_000))


def bomb(port: int) -> Answer:
    """Four gigabytes behind gzip."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = b"".join([squeeze.compress(bytes(2**20)) for _ in range(4096)] + [squeeze.flush()])
    return post(port, "/v1/segment", body, {"Content-Encoding": "gzip"})


def segment(output: str, *pictures: bytes) -> Callable[[int], Answer]:
    """Pictures, one at a time."""

    def run(port: int) -> Answer:
        found = Counter(post(port, f"/v1/segment?output={output}", data) for data in pictures)
        return ", ".join(f"{count}× {status}" for status, count in found.items())

    return run


def form(port: int) -> Answer:
    """A form of half a million fields."""
    part = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n'
    body = part * 1_000_000 + b"--b--\r\n"
    return post(port, "/v1/segment", body, {"Content-Type": "multipart/form-data; boundary=b"})


def header_fields(port: int) -> Answer:
    """20 connections that send a header field without end, 64 MB each."""

    def one(number: int) -> str:
        piece = b"x" * 2**20 if number % 2 else b"A: b\r\n" * 170_000
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
            try:
                connection.sendall(b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nX: ")
                for _ in range(64):
                    connection.sendall(piece)
            except OSError:
                pass
            return status(connection)

    with ThreadPoolExecutor(20) as pool:
        found = Counter(pool.map(one, range(20)))
    return ", ".join(f"{count}× {what}" for what, count in found.items())


def trailers(port: int) -> Answer:
    """A trailer without end behind an empty body."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        try:
            connection.sendall(
                b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: "
            )
            for _ in range(400):
                connection.sendall(b"x" * 2**20)
        except OSError:
            pass
        return status(connection)


def deaf(port: int) -> Answer:
    """14 clients that ask for 250 MB of logits and read nothing for 20 s."""
    head = tensor([1, 1700, 1870, 3], "logits").replace(
        b'"logits"', b'"logits","parameters":{"binary_data":true}'
    )
    body = gzip.compress(head + bytes(1700 * 1870 * 3), 9)
    asked = (
        b"POST /v2/models/default/infer HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n"
        b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
        % (len(head), len(body))
    ) + body
    connections = []
    for _ in range(14):
        connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        connection.sendall(asked)
        connections.append(connection)
        time.sleep(1.5)
    return ", ".join(
        f"{count}× {what}" for what, count in Counter(map(status, connections)).items()
    )


def slow(port: int) -> Answer:
    """300 clients that send a byte every half a second, for 10 s; and one that wants an answer."""
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
    for number, connection in enumerate(connections):
        if number % 2:
            head = b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n"
            connection.sendall(head)
        else:
            connection.sendall(b"POST /v1/segment HTTP/1.1\r\nX: ")
    for _ in range(20):
        for connection in connections:
            connection.sendall(b"x")
        time.sleep(0.5)
    return post(port, "/v1/segment", png(64, 64))


def status(connection: socket.socket) -> str:
    """Of what came back, if anything did."""
    try:
        came = connection.recv(64)
    except OSError as error:
        return type(error).__name__
    found = re.match(rb"HTTP/1.1 (\d+)", came)
    return found[1].decode() if found else "closed" if not came else "?"


ATTACKS: dict[str, Callable[[int], Answer]] = {
    work.__name__: work
    for work in (
        logits_as_json, numbers, numbers_as_head, lists, objects, deep, long_id, float_tensor,
        many_pictures, long_picture, bomb, form, header_fields, trailers, deaf, slow,
    )
}  # fmt: skip
for wanted in ("mask", "overlay", "json"):
    ATTACKS[f"large_{wanted}"] = segment(wanted, *[png(8192, 8191)] * 4)
ATTACKS["large_16_bit"] = segment("mask", png(8192, 8191, 6, 16))
ATTACKS["strips"] = segment("mask", png(60_000, 1), png(1, 60_000))
ATTACKS["small_many"] = segment("mask", *[png(2048, 2048)] * 60)


def run(name: str, port: int) -> Answer:
    """Of the process that attacks."""
    return ATTACKS[name](port)


def probe(port: int, done: Callable[[], bool]) -> float:
    """The longest that health took, seconds, until `done`."""
    longest = 0.0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    while not done():
        began = time.perf_counter()
        try:
            connection.request("GET", "/v2/health/live")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            connection.close()
        longest = max(longest, time.perf_counter() - began)
        time.sleep(0.005)
    return longest


def memory(process: int, field: str) -> float:
    """MB, of `VmRSS` or `VmHWM`."""
    text = Path(f"/proc/{process}/status").read_text()
    found = re.search(rf"{field}:\s+(\d+)", text)
    return int(found[1]) / 1e3 if found else 0.0


def attack(name: str) -> dict[str, Any]:
    """Start a server and attack it."""
    environment = {key: value for key, value in os.environ.items() if key != "ATROUS_API_KEY"}
    process = subprocess.Popen(
        [sys.executable, "-m", "atrous", "serve", "-m", "default=default", "--port", "0"],
        stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stderr is not None
    port = 0
    for line in process.stderr:
        if found := re.search(r"listening on http://127.0.0.1:(\d+)", line):
            port = int(found[1])
            break
    log = ThreadPoolExecutor(1).submit(process.stderr.read)  # or the pipe is full
    for _ in range(3):
        assert post(port, "/v1/segment", png(513, 513)) == "200"
    idle = memory(process.pid, "VmRSS")
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        began = time.perf_counter()
        result = pool.apply_async(run, (name, port))
        stall = probe(port, result.ready)
        took = time.perf_counter() - began
        answer = result.get()
    alive = post(port, "/v1/segment", png(64, 64))
    peak = memory(process.pid, "VmHWM") - idle
    process.kill()
    process.wait()
    tracebacks = log.result().count("Traceback")
    print(
        f"  {name:16} {peak:6.0f} MB  {1e3 * stall:7.0f} ms  {took:5.1f} s  {answer}; then {alive}"
        + f"; {tracebacks} tracebacks" * bool(tracebacks),
        flush=True,
    )
    return {"peak_mb": peak, "stall_ms": 1e3 * stall, "seconds": took, "answer": answer}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What hostile clients can do to a server.")
    parser.add_argument("--only", nargs="*", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--json", type=Path, help="keep every value in this file")
    given = parser.parse_args()
    print("attack, peak memory above idle, longest wait for health, time, answer")
    found = {name: attack(name) for name in given.only}
    print(f"  worst {max(one['peak_mb'] for one in found.values()):.0f} MB", end="")
    print(f", {max(one['stall_ms'] for one in found.values()):.0f} ms")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
