"""Clients that send too much, too slowly or too often, that go away, or that have no key."""

import asyncio
import gzip
import json
import math
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.requests import Request

from atrous.errors import ConfigError
from atrous.serve.body import Intake, inflate
from atrous.serve.refusal import Refusal
from atrous.serve.settings import Settings, read_key
from tests.builders.server import Live, Network, halves, png, serving, until

PICTURE = png(halves())


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises more than its few bytes hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        packed = kind + data
        return struct.pack(">I", len(data)) + packed + struct.pack(">I", zlib.crc32(packed))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9000, 12_000, 60_000])
def test_decompression_bombs_are_refused_by_their_header(live: Live, side: int) -> None:
    answer = live.segment(bomb(side, side))
    assert answer.status_code == 413
    assert "the limit" in answer.json()["error"]


def test_a_small_body_that_inflates_to_a_large_one() -> None:
    with serving(max_body=2**20) as live:
        packed = gzip.compress(bytes(2**24))
        headers = {"content-encoding": "gzip"}
        answer = live.client.post("/v1/segment", content=packed, headers=headers)
        assert answer.status_code == 413
        assert "inflates to more than 1048576 bytes" in answer.json()["error"]
        assert live.service.intake.held == 0
    with pytest.raises(Refusal, match="inflates to more"):
        inflate(gzip.compress(bytes(99)), 98)
    assert inflate(gzip.compress(bytes(99)), 99) == bytes(99)


def raw(live: Live, head: str) -> socket.socket:
    """A connection on which `head` has been sent."""
    connection = socket.create_connection(live.address, timeout=9)
    lines = head.replace("\n", "\r\n")
    connection.sendall(f"{lines}\r\nHost: localhost\r\n\r\n".encode())
    return connection


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while part := connection.recv(2**16):
        data += part
    return data


@pytest.mark.heavy
@pytest.mark.parametrize(
    "length", ["Content-Length: 2147483648", "Transfer-Encoding: chunked"], ids=["told", "untold"]
)
def test_a_body_of_two_gigabytes_is_refused_early(live: Live, length: str) -> None:
    chunk = bytes(2**20)
    framed = b"100000\r\n" + chunk + b"\r\n" if "chunked" in length else chunk
    sent = 0
    with raw(live, f"POST /v1/segment HTTP/1.1\n{length}") as connection:
        try:
            for _ in range(2048):
                connection.sendall(framed)
                sent += len(chunk)
                if sent > 80 * 2**20:  # more than any limit: what else would come is known
                    break
        except OSError:
            pass
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"the limit" in answer
    assert b"connection: close" in answer
    assert live.service.intake.held == 0
    assert live.segment(PICTURE).status_code == 200


def test_expecting_clients_are_told_before_they_send(live: Live) -> None:
    head = "POST /v1/segment HTTP/1.1\nContent-Length: 2147483648\nExpect: 100-continue"
    with raw(live, head) as connection:
        assert connection.recv(2**16).startswith(b"HTTP/1.1 413 ")


def test_an_expecting_client_may_leave_out_the_body_that_was_refused(live: Live) -> None:
    """What it sends next may be that body or another request, so the connection ends."""
    head = "POST /nothing HTTP/1.1\nContent-Length: 10\nExpect: 100-continue"
    with raw(live, head) as connection:
        answer = HTTPResponse(connection)
        answer.begin()
        assert (answer.status, answer.getheader("connection")) == (404, "close")


def test_a_body_that_does_not_come() -> None:
    with serving(body_seconds=0.2) as live:
        with raw(live, "POST /v1/segment HTTP/1.1\nContent-Length: 100") as connection:
            connection.sendall(b"abc")
            answer = HTTPResponse(connection)
            answer.begin()
            assert answer.status == 408
            assert b"not in within 0.2 s" in answer.read()
        until(lambda: live.service.intake.held == 0)


def test_headers_that_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atrous.serve.connection._HEADERS_WITHIN", 0.1)
    with serving() as live, socket.create_connection(live.address, timeout=9) as connection:
        connection.sendall(b"POST /v1/segment HTTP/1.1\r\nX: ")
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("told", [True, False])
def test_a_body_in_parts_is_put_together(told: bool) -> None:
    """Its tensors at an aligned address if it is known how much memory it takes."""
    content = np.arange(2000, dtype=np.uint16).tobytes()
    parts = [content[:1], content[1:13], b"", content[13:3000], content[3000:]]
    intake = Intake(Settings())

    async def receive() -> dict[str, object]:
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def read() -> None:
        headers = [(b"content-length", b"4000")] if told else []
        request = Request({"type": "http", "headers": headers}, receive)
        async with intake.body(request, 13) as body:
            assert intake.held == 4000
            assert bytes(body) == content
            where = np.frombuffer(body, np.uint8)[13:].ctypes.data
            assert where % 64 == 0 or not told

    asyncio.run(read())
    assert intake.held == 0


def test_a_body_longer_than_it_says_ends_there() -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": bytes(11), "more_body": False}

    async def read() -> None:
        request = Request({"type": "http", "headers": [(b"content-length", b"10")]}, receive)
        async with Intake(Settings()).body(request):
            raise AssertionError

    with pytest.raises(Refusal, match="has more than 10 bytes"):
        asyncio.run(read())


def test_memory_for_bodies_is_shared() -> None:
    with serving(max_held=1000) as live:
        answer = live.segment(bytes(2000))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert live.service.intake.held == 0


@pytest.mark.heavy
def test_a_full_queue_and_an_answer_that_takes_too_long() -> None:
    engine = Network()
    with serving(engine, queue=2, answer_seconds=1.0) as live, ThreadPoolExecutor(2) as pool:
        engine.go.clear()
        model = live.service.models["small"]
        waiting = [pool.submit(live.segment, PICTURE) for _ in range(2)]
        until(lambda: model.under_way == 2)
        refused = live.segment(PICTURE)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "2 images under way, the limit is 2" in refused.json()["error"]
        assert live.segment(PICTURE, model="voc").status_code == 200
        late = [one.result() for one in waiting]
        assert [answer.status_code for answer in late] == [504, 504]
        assert "no answer within 1 s" in late[0].json()["error"]
        assert model.under_way == 0
        engine.go.set()
        until(lambda: live.segment(PICTURE).status_code == 200)


def test_who_goes_away_frees_the_place() -> None:
    engine = Network()
    with serving(engine, queue=3) as live:
        engine.go.clear()
        model = live.service.models["small"]
        head = f"POST /v1/segment HTTP/1.1\nContent-Length: {len(PICTURE)}"
        connections = [raw(live, head) for _ in range(3)]
        for connection in connections:
            connection.sendall(PICTURE)
        until(lambda: model.under_way == 3 and len(engine.calls) == 1)
        for connection in connections:
            connection.close()
        until(lambda: model.under_way == 0)
        engine.go.set()
        assert live.segment(PICTURE).status_code == 200
        # The one in the network was finished; the others never got there.
        assert len(engine.calls) == 2
        status = (
            'atrous_requests_total{method="POST",model="small",route="/v1/segment",status="499"}'
        )
        assert f"{status} 3.0" in live.client.get("/metrics").text


def test_a_slow_picture_holds_up_no_other() -> None:
    engine = Network()
    with serving(engine) as live, ThreadPoolExecutor(1) as pool:
        engine.go.clear()
        slow = pool.submit(live.segment, PICTURE)
        until(lambda: bool(engine.calls))
        assert live.segment(b"no picture").status_code == 422
        assert not slow.done()
        engine.go.set()
        assert slow.result().status_code == 200


KEY = "a-key-of-some-length"


@pytest.mark.parametrize("path", ["/v2", "/v1/models", "/metrics", "/openapi.json", "/nowhere"])
def test_the_key_is_asked_for(path: str) -> None:
    with serving(key=KEY) as live:
        for headers in ({}, {"x-api-key": KEY[:-1]}, {"authorization": f"Basic {KEY}"}):
            answer = live.client.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "X-API-Key" in answer.json()["error"]
        shown = {"x-api-key": KEY} if path == "/v2" else {"authorization": f"Bearer {KEY}"}
        assert live.client.get(path, headers=shown).status_code in (200, 404)
        for health in ("live", "ready"):
            assert live.client.get(f"/v2/health/{health}").status_code == 200


HOSTS = {
    "localhost:8000": True,
    "LOCALHOST": True,
    "127.0.0.1:1": True,
    "[::1]:8000": True,
    "lab.example": True,
    "evil.example:8000": False,
    "localhost.evil.example": False,
    "127.0.0.1.evil.example": False,
    "192.0.2.1": False,
    "[": False,
    "": False,
}


@pytest.mark.parametrize("field", HOSTS)
def test_names_that_lead_here_by_dns_rebinding(field: str) -> None:
    assert Settings(hosts=("Lab.example",)).is_called(field) == HOSTS[field]
    assert Settings(key=KEY).is_called(field)
    assert Settings(host="0.0.0.0").is_called(field)


def test_a_page_from_elsewhere_reads_nothing(live: Live) -> None:
    for path in ("/", "/v1/models", "/v2/health/ready"):
        answer = live.client.get(path, headers={"host": "evil.example"})
        assert answer.status_code == 421
        assert "not called 'evil.example' but localhost" in answer.json()["error"]
    answer = live.client.post("/v1/segment", content=PICTURE, headers={"host": "evil.example"})
    assert answer.status_code == 421


def test_where_the_key_comes_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pytest.TempPathFactory
) -> None:
    file = tmp_path / "key"  # type: ignore[operator]
    file.write_text(f"{KEY}\n")
    monkeypatch.delenv("ATROUS_API_KEY", raising=False)
    assert read_key(file, "127.0.0.1") == KEY
    for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9"):
        assert read_key(None, host) is None
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(ConfigError, match="lets other machines in: set ATROUS_API_KEY"):
            read_key(None, host)
        assert read_key(None, host, no_api_key=True) is None
    file.write_text(" \n")
    with pytest.raises(ConfigError, match="is empty or has other than printable ASCII"):
        read_key(file, "127.0.0.1")
    monkeypatch.setenv("ATROUS_API_KEY", KEY)
    assert read_key(None, "0.0.0.0") == KEY


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match="`max_pixels`: expected 1 to"):
        Settings(max_pixels=2**30)
    with pytest.raises(ConfigError, match="`body_seconds`: expected more than 0"):
        Settings(body_seconds=0)


@pytest.mark.parametrize("name", ["wait", "grace_seconds"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_time_that_no_clock_shows(name: str, value: float) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(**{name: value})  # type: ignore[arg-type]
    assert str(caught.value) == f"`{name}`: expected 0 or more, got {value}"


@pytest.mark.parametrize(
    "host", ["https://lab.example", "lab.example:8443", "lab.example/", "*", "*.example", "", "a b"]
)
def test_a_host_that_no_request_can_name(host: str) -> None:
    with pytest.raises(ConfigError, match=r"^`allow_host`: expected a host name alone") as caught:
        Settings(hosts=("lab.example", host))
    assert f"got {host!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("host", "field"), [("192.0.2.7", "192.0.2.7:80"), ("2001:db8::7", "[2001:db8::7]:80")]
)
def test_an_address_may_be_allowed_too(host: str, field: str) -> None:
    assert Settings(hosts=(host,)).is_called(field)


def test_a_key_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"cannot read {tmp_path}: Is a directory$"):
        read_key(tmp_path, "127.0.0.1")
    with pytest.raises(ConfigError, match=r"cannot read .*/gone: No such file or directory$"):
        read_key(tmp_path / "gone", "127.0.0.1")
    (tmp_path / "key").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"cannot read .*/key: not a text file$"):
        read_key(tmp_path / "key", "127.0.0.1")
    with pytest.raises(ConfigError, match="`no_api_key` and `api_key_file` exclude each other"):
        read_key(tmp_path / "key", "127.0.0.1", no_api_key=True)


def test_the_end_finishes_what_is_under_way() -> None:
    engine = Network()
    with serving(engine) as live, ThreadPoolExecutor(1) as pool:
        engine.go.clear()
        model = live.service.models["small"]
        waiting = pool.submit(live.segment, PICTURE)
        until(lambda: model.under_way == 1)
        loop = model._loop
        assert loop is not None
        loop.call_soon_threadsafe(live.server.stop)
        until(lambda: live.service.draining)
        assert live.client.get("/v2/health/ready").status_code == 503
        assert live.client.get("/v2/health/live").status_code == 200
        refused = live.segment(PICTURE)
        assert refused.status_code == 503
        assert "shutting down" in refused.json()["error"]
        engine.go.set()
        assert waiting.result().status_code == 200
        until(lambda: live.server.should_exit)


@pytest.mark.heavy
def test_a_thousand_requests_one_in_ten_malformed() -> None:
    """Whatever comes, the next is answered, and nothing is left over."""
    good = json.dumps(
        {"inputs": [{"name": "image", "shape": [1, 1, 1, 3], "datatype": "UINT8", "data": [1] * 3}]}
    ).encode()
    counts: dict[int, int] = {}
    lock = threading.Lock()
    with serving(queue=64) as live:

        def ask(number: int) -> None:
            with httpx.Client(base_url=live.url, timeout=15) as client:
                for turn in range(125):
                    cut = len(good) if turn % 10 else 10 + number * turn % 50
                    answer = client.post("/v2/models/small/infer", content=good[:cut])
                    with lock:
                        counts[answer.status_code] = counts.get(answer.status_code, 0) + 1

        before = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(8)))
        assert time.monotonic() - before < 60
        assert live.service.models["small"].under_way == live.service.intake.held == 0
    assert counts == {200: 896, 400: 104}
