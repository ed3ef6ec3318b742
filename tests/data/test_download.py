"""The archive of VOC comes from a server of our own."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from atrous.data.download import download_voc
from atrous.errors import ArtifactError, ConfigError
from tests.cli.conftest import Done, atrous  # noqa: F401 (a fixture)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    served = tmp_path / "served"
    served.mkdir()
    handler = partial(Quiet, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield served, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def archive(path: Path, names: tuple[str, ...]) -> str:
    """Write a tar of small files; return its md5."""
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_downloads_and_unpacks(server: tuple[Path, str], tmp_path: Path) -> None:
    served, url = server
    md5 = archive(served / "voc.tar", ("VOCdevkit/VOC2012/JPEGImages/a.jpg",))
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
    ("names", "message"),
    [
        (("VOCdevkit/VOC2012/a", "../outside"), "cannot be unpacked: .*outside"),
        (("something/else",), "expected VOCdevkit/VOC2012 in it, found none"),
    ],
)
def test_bad_archives_leave_nothing(
    names: tuple[str, ...], message: str, server: tuple[Path, str], tmp_path: Path
) -> None:
    served, url = server
    md5 = archive(served / "voc.tar", names)
    with pytest.raises(ArtifactError, match=message):
        download_voc(tmp_path / "d" / "e", url=f"{url}/voc.tar", md5=md5)
    assert not (tmp_path / "d" / "outside").exists()
    assert not (tmp_path / "d" / "e" / "VOCdevkit").exists()


def test_another_archive_is_refused(server: tuple[Path, str], tmp_path: Path) -> None:
    served, url = server
    archive(served / "voc.tar", ("VOCdevkit/VOC2012/a",))
    with pytest.raises(ArtifactError, match="md5"):
        download_voc(tmp_path / "d", url=f"{url}/voc.tar", md5="0" * 32)


def test_the_verb(
    atrous: Callable[..., Done],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "atrous.data.download.download_voc", lambda root, progress: root / "VOCdevkit" / "VOC2012"
    )
    done = atrous("data", "voc", "--download", tmp_path)
    assert done.code == 0
    assert f"atrous doctor --data voc:{tmp_path}:val" in done.out
