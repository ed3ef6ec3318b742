from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from atrous.jobs.video.interlaced import Deinterlacer
from atrous.jobs.video.job import segment_video
from tests.builders.clips import make_clip, picture, play, predictor_of


def interlaced(path: Path, frames: int = 6) -> Path:
    """A bar that moves 8 pixels from the upper half picture to the lower."""
    flags = {"flags": "+ildct+ilme", "x264-params": "tff=1", "crf": "10"}
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=25, options=flags)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        video.codec_context.colorspace = 1
        for number in range(frames):
            pixels = np.zeros((64, 64, 3), np.uint8)
            for field in (0, 1):
                left = (16 * number + 8 * field) % 56
                pixels[field::2, left : left + 8] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def combed(pixels: Any) -> float:
    """How much lines differ from both of their neighbours."""
    lines = pixels.astype(int).mean(axis=-1)
    return float(np.minimum(abs(lines[1:-1] - lines[:-2]), abs(lines[1:-1] - lines[2:])).mean())


def test_half_pictures_become_whole_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = interlaced(tmp_path / "in.mkv")
    before = play(source)
    segment_video(predictor_of(), source, tmp_path / "out.mp4", opacity=0.0)
    after = play(tmp_path / "out.mp4")
    assert after.times == before.times
    assert after.tags == (1, 1)
    assert combed(before.pixels[3]) > 20
    assert combed(after.pixels[3]) < 6
    assert caplog.text.count("in.mkv: its frames are interlaced; they are made whole") == 1


def test_other_frames_stay_as_they_are(tmp_path: Path) -> None:
    deinterlacer = Deinterlacer()
    frame = av.VideoFrame.from_ndarray(picture(0), format="rgb24")
    assert deinterlacer.frames(frame) == [frame]
    assert deinterlacer.rest() == []
    assert not deinterlacer.active


def test_whole_frames_and_another_size_follow(tmp_path: Path) -> None:
    parts = (
        interlaced(tmp_path / "a.ts"),
        make_clip(tmp_path / "b.ts", 6, size=(32, 32), sound=False),
        interlaced(tmp_path / "c.ts"),
    )
    (tmp_path / "in.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    summary = segment_video(predictor_of(), tmp_path / "in.ts", tmp_path / "out.mp4")
    assert summary.frames == 18
    assert np.diff(np.array(play(tmp_path / "out.mp4").times, float)) == pytest.approx(0.04)
