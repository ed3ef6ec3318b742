"""Downloads from a real server that can cut, refuse and ignore ranges."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import FileIO
from pathlib import Path

import pytest

from atrous import download as module
from atrous.download import cache_dir, download
from atrous.errors import ArtifactError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


@dataclass
class Server:
    """What it serves, how it misbehaves, and what it was asked."""

    content: bytes = CONTENT
    ranges: bool = True
    shift: int = 0
    length: bool = True
    announced: str | None = None
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    url: str = ""
    entered: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append(wanted)
        self.entered.set()
        assert self.gate.wait(10)
        if self.statuses:
            handler.send_response(self.statuses.pop(0))
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        total = len(self.content)
        if start and start >= total:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{total}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start += self.shift if start else 0
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if self.length:
            handler.send_header("Content-Length", self.announced or str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.0)
    served = Server()
    served.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{httpd.server_port}/file.bin"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield served
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "file.bin"


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


@pytest.mark.parametrize(
    "checksum", [None, f"sha256:{SHA256}", f"sha256:{SHA256[:8].upper()}", f"md5:{MD5}"]
)
def test_download(server: Server, target: Path, checksum: str | None) -> None:
    seen: list[tuple[int, int | None]] = []
    progress = lambda done, total: seen.append((done, total))  # noqa: E731
    assert download(server.url, target, checksum=checksum, progress=progress) == target
    assert target.read_bytes() == CONTENT
    assert seen == sorted(seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert not part_of(target).exists()
    download(server.url, target, checksum=checksum)
    assert server.asked == [None]


@pytest.mark.parametrize(
    ("cuts", "ranges", "asked"),
    [
        pytest.param([70_000], True, [None, "bytes=70000-"], id="one cut"),
        pytest.param([10, 20], True, [None, "bytes=10-", "bytes=30-"], id="two cuts"),
        pytest.param([0], True, [None, None], id="cut before the first byte"),
        pytest.param([70_000], False, [None, "bytes=70000-"], id="ranges ignored"),
    ],
)
def test_cut_connections_are_taken_up(
    server: Server, target: Path, cuts: list[int], ranges: bool, asked: list[str | None]
) -> None:
    server.cuts, server.ranges = cuts, ranges
    download(server.url, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == asked


def test_gives_up_and_goes_on_next_time(server: Server, target: Path) -> None:
    server.cuts = [1000] * module.ATTEMPTS
    with pytest.raises(ArtifactError, match=r"gave up after 5 attempts .* 5000 bytes are kept"):
        download(server.url, target, checksum=f"sha256:{SHA256}")
    assert not target.exists()
    seen: list[int] = []
    download(
        server.url, target, checksum=f"sha256:{SHA256}", progress=lambda done, _: seen.append(done)
    )
    assert server.asked[-1] == "bytes=5000-"
    assert seen[0] > 5000
    assert target.read_bytes() == CONTENT


def test_an_old_part_without_checksum_is_not_trusted(server: Server, target: Path) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(b"of another file")
    download(server.url, target)
    assert server.asked == [None]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("part", "asked"),
    [
        pytest.param(CONTENT, [f"bytes={len(CONTENT)}-"], id="complete but not renamed"),
        pytest.param(CONTENT + b"x", [f"bytes={len(CONTENT) + 1}-", None], id="too long"),
    ],
)
def test_range_not_satisfiable(
    server: Server, target: Path, part: bytes, asked: list[str | None]
) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(part)
    download(server.url, target, checksum=f"md5:{MD5}")
    assert server.asked == asked
    assert target.read_bytes() == CONTENT


def test_another_range_than_asked_for(server: Server, target: Path) -> None:
    server.cuts, server.shift = [1000], 5
    download(server.url, target)
    assert server.asked == [None, "bytes=1000-", None]
    assert target.read_bytes() == CONTENT


def test_wrong_hash_leaves_nothing(server: Server, target: Path) -> None:
    with pytest.raises(ArtifactError, match=rf"expected sha256:0{{8}}, found sha256:{SHA256}; "):
        download(server.url, target, checksum="sha256:00000000")
    assert not target.exists()
    assert not part_of(target).exists()


def test_a_damaged_file_in_the_cache_is_noticed(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="delete it and run again"):
        download(server.url, target, checksum=f"sha256:{SHA256}")
    assert server.asked == []


@pytest.mark.parametrize("status", [403, 404])
def test_refusals_are_final(server: Server, target: Path, status: int) -> None:
    server.statuses = [status]
    with pytest.raises(ArtifactError, match=rf"file\.bin: the server answered {status} "):
        download(server.url, target)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_servers_are_asked_again(server: Server, target: Path, status: int) -> None:
    server.statuses = [status]
    download(server.url, target)
    assert len(server.asked) == 2


@pytest.mark.parametrize(("size", "total"), [(None, None), (1_024_000, 1_024_000)])
def test_servers_that_do_not_say_how_much(
    server: Server, target: Path, size: int | None, total: int | None
) -> None:
    server.length = False
    seen: list[int | None] = []
    download(server.url, target, size=size, progress=lambda _, of: seen.append(of))
    assert target.read_bytes() == CONTENT
    assert set(seen) == {total}


@pytest.mark.parametrize("announced", ["many", "-5", "9" * 5000, "1e6", "٣"])
def test_a_length_that_is_no_number(server: Server, target: Path, announced: str) -> None:
    server.announced = announced.encode().decode("latin-1")
    assert download(server.url, target, checksum=f"sha256:{SHA256}").read_bytes() == CONTENT


def test_what_comes_beyond_the_length_is_cut_off(server: Server, target: Path) -> None:
    server.content, server.announced = CONTENT + b"more", str(len(CONTENT))
    assert download(server.url, target, checksum=f"sha256:{SHA256}").read_bytes() == CONTENT


def test_no_network(server: Server, target: Path) -> None:
    with pytest.raises(ArtifactError, match=r"URLError: .*refused.*Check the network or the proxy"):
        download("http://127.0.0.1:9/file.bin", target)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/hostname", "ftp://x/y", "x.pth", "http://[::1", "http://x:port/y", "https:///y"],
)
def test_only_http(target: Path, url: str) -> None:
    with pytest.raises(ArtifactError, match="expected an http or https address"):
        download(url, target)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_full_disk(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(part: Path, *, keep: bool) -> FileIO:
        return FileIO("/dev/full", "wb")

    monkeypatch.setattr(module, "_open_part", full)
    with pytest.raises(ArtifactError, match=r"part: could not be written \(No space left"):
        download(server.url, target, checksum=f"sha256:{SHA256}")
    assert len(server.asked) == 1


def test_a_link_in_the_place_of_what_is_downloaded_is_not_followed(
    server: Server, target: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    target.parent.mkdir()
    part_of(target).symlink_to(precious)
    download(server.url, target, checksum=f"sha256:{SHA256}")
    assert target.read_bytes() == CONTENT
    assert not target.is_symlink()
    assert precious.read_text() == "mine"


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match=r"cannot be written to .* set ATROUS_CACHE"):
        download(server.url, tmp_path / "file" / "x.bin")


def test_two_at_once_download_once(server: Server, target: Path) -> None:
    server.gate.clear()
    threads = [threading.Thread(target=download, args=(server.url, target)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert server.entered.wait(10)
    server.gate.set()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == CONTENT
    assert server.asked == [None]


@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [("/a", "/b", "/a"), ("", "/b", "/b/atrous"), ("", "", "/home/me/.cache/atrous")],
)
def test_cache_dir(monkeypatch: pytest.MonkeyPatch, own: str, xdg: str, expected: str) -> None:
    monkeypatch.setenv("ATROUS_CACHE", own)
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_dir() == Path(expected)
