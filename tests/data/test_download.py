"""The archive of VOC comes from a server of our own."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from atrous.data.download import download_voc
from atrous.errors import ArtifactError, ConfigError


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder and the address that serves its files, from any byte on."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = tmp_path / "served"
    served.mkdir()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = (served / self.path.lstrip("/")).read_bytes()
            wanted = self.headers.get("Range")
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            self.end_headers()
            self.wfile.write(content[start:])

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield served, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def archive(path: Path, *names: str, link: tuple[str, str] | None = None) -> str:
    """Write a tar of small files and perhaps a symbolic link; return its md5."""
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
        if link is not None:
            member = tarfile.TarInfo(link[0])
            member.type, member.linkname = tarfile.SYMTYPE, link[1]
            tar.addfile(member)
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_downloads_and_unpacks(server: tuple[Path, str], tmp_path: Path) -> None:
    served, url = server
    md5 = archive(served / "voc.tar", "VOCdevkit/VOC2012/JPEGImages/a.jpg")
    seen: list[int] = []
    target = download_voc(
        tmp_path / "d", url=f"{url}/voc.tar", md5=md5, progress=lambda done, _: seen.append(done)
    )
    assert target == tmp_path / "d" / "VOCdevkit" / "VOC2012"
    assert (target / "JPEGImages" / "a.jpg").read_bytes() == b"abc"
    assert [path.name for path in (tmp_path / "d").iterdir() if path.suffix != ".lock"] == [
        "VOCdevkit"
    ]
    assert seen[-1] == (served / "voc.tar").stat().st_size
    with pytest.raises(ConfigError, match="is there already; nothing was downloaded"):
        download_voc(tmp_path / "d", url=f"{url}/voc.tar", md5=md5)


@pytest.mark.parametrize(
    ("names", "link", "message"),
    [
        (("VOCdevkit/VOC2012/a", "../outside"), None, "cannot be unpacked: .*outside"),
        (("VOCdevkit/VOC2012/a",), ("VOCdevkit/VOC2012/b", "/etc"), "cannot be unpacked: .*absol"),
        (("VOCdevkit/VOC2012/a",), ("b", "../../outside"), "cannot be unpacked: .*outside"),
        (("something/else",), None, "expected VOCdevkit/VOC2012 in it, found none"),
    ],
    ids=["path", "absolute link", "link", "other archive"],
)
def test_bad_archives_leave_nothing(
    names: tuple[str, ...],
    link: tuple[str, str] | None,
    message: str,
    server: tuple[Path, str],
    tmp_path: Path,
) -> None:
    served, url = server
    md5 = archive(served / "voc.tar", *names, link=link)
    with pytest.raises(ArtifactError, match=message):
        download_voc(tmp_path / "d" / "e", url=f"{url}/voc.tar", md5=md5)
    left = {path.name for path in (tmp_path / "d").rglob("*")}
    assert left == {"e", "voc.tar", ".voc.tar.lock"}


@pytest.mark.parametrize(("field", "value"), [("mtime", 1e30), ("name", "VOCdevkit/a\0b")])
def test_odd_headers_of_archives(
    field: str, value: object, server: tuple[Path, str], tmp_path: Path
) -> None:
    served, url = server
    odd = tarfile.TarInfo("VOCdevkit/VOC2012/a")
    odd.pax_headers = {"mtime" if field == "mtime" else "path": str(value)}
    with tarfile.open(served / "voc.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(odd)
    md5 = hashlib.md5((served / "voc.tar").read_bytes()).hexdigest()
    with pytest.raises(ArtifactError, match=r"cannot be unpacked: |expected VOCdevkit"):
        download_voc(tmp_path / "d", url=f"{url}/voc.tar", md5=md5)


def test_an_unpacked_set_is_kept(server: tuple[Path, str], tmp_path: Path) -> None:
    own = tmp_path / "VOCdevkit" / "VOC2012" / "mine"
    own.mkdir(parents=True)
    with pytest.raises(ConfigError, match="is there already; nothing was downloaded"):
        download_voc(tmp_path, url=f"{server[1]}/voc.tar", md5="0")
    assert own.is_dir()


def test_a_part_is_taken_up(server: tuple[Path, str], tmp_path: Path) -> None:
    served, url = server
    md5 = archive(served / "voc.tar", "VOCdevkit/VOC2012/a")
    content = (served / "voc.tar").read_bytes()
    (tmp_path / "voc.tar.part").write_bytes(content[:-9])
    seen: list[int] = []
    target = download_voc(
        tmp_path, url=f"{url}/voc.tar", md5=md5, progress=lambda done, _: seen.append(done)
    )
    assert seen == [len(content)]
    assert (target / "a").read_bytes() == b"abc"


def test_a_python_that_cannot_unpack_safely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(ConfigError, match=r"3\.11\.4 and later can"):
        download_voc(tmp_path)


def test_another_archive_is_refused(server: tuple[Path, str], tmp_path: Path) -> None:
    served, url = server
    archive(served / "voc.tar", "VOCdevkit/VOC2012/a")
    with pytest.raises(ArtifactError, match="md5"):
        download_voc(tmp_path / "d", url=f"{url}/voc.tar", md5="0" * 32)
