"""`atrous predict clip.mp4 -o masked.mp4`."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.builders.command import Run

av = pytest.importorskip("av", reason="needs the extra video")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(7):
            pixels = np.full((64, 96, 3), 30 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.heavy
def test_a_clip_gives_a_clip(atrous: Run, clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "masked.mp4"
    done = atrous("predict", str(clip), "-o", str(output), "--every", "3", "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert (made["frames"], made["segmented"], made["size"]) == (7, 3, [96, 64])
    with av.open(str(output)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([number / 25 for number in range(7)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "masked.mp4"]


@pytest.mark.heavy
def test_a_damaged_clip_is_one_error(atrous: Run, clip: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    done = atrous("predict", str(cut), "-o", str(tmp_path / "masked.mp4"))
    assert done.code == 1
    [error] = [line for line in done.err.splitlines() if "frames" not in line]
    assert error.startswith(f"error: {cut}: expected a video, cannot be opened")
    assert not (tmp_path / "masked.mp4").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("clip.mp4", "-o", "out"), "a video makes a video: expected -o NAME.mp4"),
        (("camera:0", "-o", "out"), "a video makes a video"),
        (("clip.mp4", "-o", "."), ", got ., a folder"),
        (("a.png", "-o", "out", "--every", "2"), "--every belongs to a video (-o NAME.mp4): not f"),
        (("a.png", "-o", "out", "--every", "1"), "--every belongs to a video (-o NAME.mp4): not f"),
        (("a.mp4", "b.mp4", "-o", "c.mp4"), "expected one video, got a.mp4 b.mp4"),
        (("a.mp4", "-o", "c.mp4", "--tile", "513"), "--tile belongs to images in tiles (--tile)"),
        (("a.mp4", "-o", "c.mp4", "--workers", "2"), "--workers belongs to a cluster (--cluster)"),
    ],
)
def test_wrong_commands(atrous: Run, arguments: tuple[str, ...], message: str) -> None:
    done = atrous("predict", *arguments)
    assert done.code == 2
    assert message in done.err
