from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.jobs.video.job import segment_video
from atrous.runtime.predictor import Predictor
from tests.builders.clips import make_clip, predictor_of

SECONDS = 2


@pytest.fixture
def predictor() -> Predictor:
    return predictor_of()


def add_tone(
    clip: Path,
    path: Path,
    codec: str,
    *,
    rate: int = 48000,
    layout: str = "stereo",
    silent: Callable[[float], bool] = lambda time: False,
    options: dict[str, str] | None = None,
) -> Path:
    """A clip with a tone of 440 Hz, which has no packets where it is silent."""
    with av.open(str(clip)) as before, av.open(str(path), "w") as after:
        video: Any = after.add_stream_from_template(before.streams.video[0])
        sound: Any = after.add_stream(codec, rate=rate, layout=layout, options=options or {})
        context = sound.codec_context
        context.open()
        form, size = context.format, context.frame_size or 1024
        for packet in before.demux(video=0):
            if packet.size:
                packet.stream = video
                after.mux(packet)
        for start in range(0, SECONDS * rate, size):
            if silent(start / rate):
                continue
            wave = np.sin(np.arange(start, start + size) * 2 * np.pi * 440 / rate) * 0.5
            flat = av.AudioFrame.from_ndarray(
                np.stack([wave] * len(context.layout.channels)).astype(np.float32), "fltp", layout
            )
            flat.sample_rate, flat.pts, flat.time_base = rate, start, Fraction(1, rate)
            for frame in av.AudioResampler(form, layout, rate).resample(flat):
                after.mux(sound.encode(frame))
        after.mux(sound.encode(None))
    return path


def heard(path: Path) -> tuple[str, NDArray[np.float64]]:
    """The codec of the first track, and how loud every tenth of a second of it is."""
    loud = np.zeros(SECONDS * 10 + 5)
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("fltp", "mono", 8000)
        for frame in container.decode(stream):
            for part in resampler.resample(frame):
                start = round(float(part.time) * 8000)
                for number, value in enumerate(part.to_ndarray()[0], start):
                    if 0 <= number // 800 < len(loud):
                        loud[number // 800] = max(loud[number // 800], abs(value))
        return stream.codec_context.name, loud


@pytest.mark.parametrize(
    ("suffix", "codec", "rate", "layout", "output", "expected"),
    [
        (".mkv", "pcm_s24le", 48000, "stereo", ".mp4", "aac"),
        (".mkv", "flac", 96000, "mono", ".mp4", "flac"),
        (".mkv", "pcm_u8", 11025, "mono", ".mp4", "aac"),
        (".mkv", "libmp3lame", 44100, "stereo", ".mp4", "mp3float"),
        (".mov", "pcm_mulaw", 8000, "mono", ".m4v", "aac"),
        (".mkv", "libopus", 48000, "stereo", ".mov", "aac"),
        (".mkv", "libopus", 48000, "stereo", ".webm", "opus"),
        (".mkv", "aac", 44100, "5.1", ".webm", "opus"),
        (".ts", "aac", 44100, "stereo", ".mp4", "aac"),
        (".ts", "aac", 44100, "stereo", ".mkv", "aac"),
        (".mp4", "aac", 44100, "stereo", ".ts", "aac"),
        (".mkv", "ac3", 48000, "5.1", ".ts", "ac3"),
        (".mkv", "flac", 44100, "stereo", ".ts", "aac"),
    ],
)
def test_every_sound_is_heard(
    tmp_path: Path, predictor: Predictor, suffix: str, codec: str, rate: int, layout: str,
    output: str, expected: str,
) -> None:  # fmt: skip
    clip = make_clip(tmp_path / "clip.mp4", 5, sound=False)
    source = add_tone(clip, tmp_path / f"in{suffix}", codec, rate=rate, layout=layout)
    segment_video(predictor, source, tmp_path / f"out{output}")
    found, loud = heard(tmp_path / f"out{output}")
    assert found == expected
    assert loud[2:18].min() > 0.25


@pytest.mark.parametrize("output", [".mp4", ".mkv"])
def test_a_gap_stays_where_it_is(tmp_path: Path, predictor: Predictor, output: str) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 5, sound=False)
    source = add_tone(clip, tmp_path / "in.mkv", "pcm_s16le", silent=lambda time: 0.6 <= time < 1.2)
    segment_video(predictor, source, tmp_path / f"out{output}")
    _, loud = heard(tmp_path / f"out{output}")
    assert loud[1:5].min() > 0.25
    assert loud[8:11].max() < 0.1
    assert loud[13:18].min() > 0.25


def test_a_damaged_description_of_a_track_costs_no_frame(
    tmp_path: Path, predictor: Predictor
) -> None:
    """MP4 would refuse it at the end."""
    clip = make_clip(tmp_path / "clip.mp4", 5, sound=False)
    source = add_tone(clip, tmp_path / "in.mkv", "libopus")
    data = source.read_bytes()
    assert data.count(b"OpusHead\x01") == 1
    source.write_bytes(data.replace(b"OpusHead\x01", b"OpusHead\xff"))
    summary = segment_video(predictor, source, tmp_path / "out.mp4")
    assert summary.frames == 5


def test_subtitles_are_left_out(
    tmp_path: Path, predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "in.mkv"
    clip = make_clip(tmp_path / "clip.mkv", 5)
    with av.open(str(clip)) as before, av.open(str(source), "w") as after:
        streams: list[Any] = [after.add_stream_from_template(one) for one in before.streams]
        words: Any = after.add_stream("subrip")
        words.codec_context.subtitle_header = b""
        for packet in before.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                after.mux(packet)
        packet = av.Packet(b"hi")
        packet.stream, packet.pts, packet.dts, packet.duration = words, 0, 0, 100
        packet.time_base = Fraction(1, 1000)
        after.mux(packet)
    segment_video(predictor, source, tmp_path / "out.mp4")
    assert caplog.text.count("in.mkv: left out: 1 subtitle track") == 1
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sorted(stream.type for stream in container.streams) == ["audio", "video"]
