"""The stamp behind the end of a video."""

import shutil
from pathlib import Path

import pytest

av = pytest.importorskip("av", reason="needs the extra video")

from atrous.jobs.video import SUFFIXES  # noqa: E402
from atrous.jobs.video.seal import seal, stamp_of  # noqa: E402

MADE_FROM = "a" * 64


def clip(path: Path, frames: int = 3) -> Path:
    with av.open(str(path), "w") as container:
        webm = path.suffix == ".webm"
        stream = container.add_stream("libvpx-vp9" if webm else "libx264", rate=10)
        stream.width = stream.height = 32
        for number in range(frames):
            frame = av.VideoFrame(32, 32, "yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_sealed_video_plays_and_knows_what_it_is_of(tmp_path: Path, suffix: str) -> None:
    path = clip(tmp_path / f"a{suffix}")
    assert stamp_of(path) is None
    plain = path.read_bytes()
    seal(path, MADE_FROM, suffix)
    assert path.read_bytes().startswith(plain)
    stamp = stamp_of(path)
    assert stamp is not None
    assert stamp.made_from == MADE_FROM
    with av.open(str(path)) as container:
        assert len([*container.decode(video=0)]) == 3

    copy = shutil.copy(path, tmp_path / f"copy{suffix}")
    assert stamp_of(copy) == stamp
    with copy.open("r+b") as file:
        file.seek(20)
        file.write(b"#")
    assert stamp_of(copy) is None
    shutil.copy(path, copy)
    with copy.open("ab") as file:
        file.write(b"#")
    assert stamp_of(copy) is None


def test_what_is_no_video_has_no_stamp(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"atrous ")
    assert stamp_of(tmp_path / "a.mp4") is None
    assert stamp_of(tmp_path / "none.mp4") is None
    assert stamp_of(tmp_path / "a.txt") is None
