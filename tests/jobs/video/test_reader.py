"""Clips that are odd in other ways than their colours, orientation and sound."""

import logging
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.errors import InputError
from atrous.jobs.video.job import segment_video
from atrous.jobs.video.writer import partial
from atrous.runtime.predictor import Predictor
from tests.builders.clips import BASE, STEP, make_clip, marker, picture, play, predictor_of

pytestmark = pytest.mark.usefixtures("guard")


@pytest.fixture
def predictor() -> Predictor:
    return predictor_of()


def cat(target: Path, *parts: Path) -> Path:
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


@pytest.mark.parametrize(
    ("suffix", "sound", "parts"),
    [(".ts", False, 2), (".ts", False, 3), (".ts", True, 3), (".mkv", True, 2)],
)
def test_joined_clips(
    tmp_path: Path, predictor: Predictor, suffix: str, sound: bool, parts: int
) -> None:
    clip = make_clip(tmp_path / f"in{suffix}", 10, sound=sound)
    source = cat(tmp_path / f"joined{suffix}", *[clip] * parts)
    segment_video(predictor, source, tmp_path / "out.mp4", opacity=0.0)
    seen = play(tmp_path / "out.mp4")
    assert len(seen.times) == 10 * parts
    steps = np.diff(np.array(seen.times, float))
    assert steps.min() > 0.035
    assert steps.max() < 0.16  # the sound is longer than the pictures
    numbers = [number * 4 % 56 // 4 for number in range(10)] * parts
    assert [marker(pixels) for pixels in seen.pixels] == numbers
    if sound:
        apart = np.diff([float(time) for time, _ in seen.sound])
        assert apart.min() > 0
        assert abs(float(seen.sound[-1][0] - seen.times[-1])) < 0.2


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "libx264"), (".flv", "libx264"), (".webm", "libvpx-vp9")]
)
def test_joined_clips_of_which_players_show_the_first(
    tmp_path: Path, predictor: Predictor, caplog: pytest.LogCaptureFixture, suffix: str, codec: str
) -> None:
    clip = make_clip(tmp_path / f"in{suffix}", 10, codec=codec, sound=False)
    source = cat(tmp_path / f"joined{suffix}", clip, clip, clip)
    with caplog.at_level(logging.WARNING):
        segment_video(predictor, clip, tmp_path / "out.mp4")
        assert "another" not in caplog.text
        segment_video(predictor, source, tmp_path / "out.mp4")
    assert caplog.text.count("another clip begins behind its end and is left out") == 1


@pytest.mark.parametrize("start", [0, 1.4, 90000])
def test_a_broadcast_begins_at_any_time(tmp_path: Path, predictor: Predictor, start: float) -> None:
    first = round(start / BASE)
    source = make_clip(tmp_path / "in.ts", 5, times=lambda n: first + n * STEP, sound=False)
    segment_video(predictor, source, tmp_path / "out.mp4")
    seen = play(tmp_path / "out.mp4")
    assert np.array(seen.times, float) == pytest.approx(np.arange(5) / 25, abs=1e-4)


def test_frames_before_a_gap_are_kept(tmp_path: Path, predictor: Predictor) -> None:
    """Also those that the decoder holds back."""
    parts = [
        make_clip(
            tmp_path / f"{name}.ts", 20, times=lambda n, start=start: start + n * STEP, sound=False
        )
        for name, start in (("a", 0), ("b", 400000))
    ]
    source = cat(tmp_path / "joined.ts", *parts)
    with pytest.raises(InputError, match=r"damaged after 1\d frames.*kept"):
        segment_video(predictor, source, tmp_path / "out.mp4")


def test_frames_of_another_size(
    tmp_path: Path, predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    first = make_clip(tmp_path / "a.ts", 10, sound=False)
    other = make_clip(tmp_path / "b.ts", 10, sound=False, size=(32, 48))
    source = cat(tmp_path / "joined.ts", first, other, first)
    with caplog.at_level(logging.WARNING):
        segment_video(predictor, source, tmp_path / "out.mp4", opacity=0.0)
    seen = play(tmp_path / "out.mp4")
    assert len(seen.pixels) == 30
    inner = seen.pixels[12][:, 16:48]
    assert np.abs(inner.astype(int) - picture(2, 32, 48)).mean() < 12
    assert seen.pixels[12][:, :14].max() < 30
    assert np.abs(seen.pixels[25].astype(int) - picture(5)).mean() < 12
    said = "fitted into the first (from 64×48 to 32×48 after 10 frames)"
    assert caplog.text.count(said) == caplog.text.count("fitted into") == 1


def test_a_frame_that_grows_too_large_keeps_what_came_before(
    tmp_path: Path, predictor: Predictor
) -> None:
    first = make_clip(tmp_path / "a.ts", 10, sound=False)
    other = make_clip(tmp_path / "b.ts", 10, sound=False, size=(640, 480))
    source = cat(tmp_path / "joined.ts", first, other)
    with pytest.raises(InputError, match=r"640×480 are more than 5000 .*`max_pixels`.*kept in"):
        segment_video(predictor, source, tmp_path / "out.mp4", max_pixels=5000)
    assert len(play(partial(tmp_path / "out.mp4")).times) >= 8


def test_an_animated_webp_is_not_called_damaged(tmp_path: Path, predictor: Predictor) -> None:
    frames = [Image.fromarray(picture(number, 32, 32)) for number in range(2)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match=r"a\.webp: an animated WebP, which FFmpeg does not read"):
        segment_video(predictor, str(tmp_path / "a.webp"), tmp_path / "a.mp4")


def test_cover_art_is_no_video(tmp_path: Path, predictor: Predictor) -> None:
    song = tmp_path / "song.mp3"
    with av.open(str(song), "w") as container:
        sound: Any = container.add_stream("libmp3lame", rate=44100)
        cover: Any = container.add_stream("png")
        cover.width = cover.height = 32
        cover.pix_fmt, cover.disposition = "rgb24", av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(picture(0, 32, 32))))
        container.mux(cover.encode(None))
        tone = av.AudioFrame.from_ndarray(np.zeros((2, 1152), np.float32), "fltp", "stereo")
        tone.sample_rate, tone.pts = 44100, 0
        container.mux([*sound.encode(tone), *sound.encode(None)])
    with pytest.raises(InputError, match=r"song\.mp3: expected a video, found no pictures in it"):
        segment_video(predictor, song, tmp_path / "out.mp4")


def test_the_default_of_several_videos(
    tmp_path: Path, predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as container:
        streams: list[Any] = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for number, stream in enumerate(streams):
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.disposition = av.stream.Disposition.default if number else 0
        for number in range(4):
            for offset, stream in enumerate(streams):
                frame = av.VideoFrame.from_ndarray(picture(number + 4 * offset), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    with caplog.at_level(logging.WARNING):
        segment_video(predictor, source, tmp_path / "out.mp4", opacity=0.0)
    assert [marker(pixels) for pixels in play(tmp_path / "out.mp4").pixels] == [4, 5, 6, 7]
    assert "in.mkv: left out: 1 video track" in caplog.text


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 5), (17, 16)])
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_tiny_frames(
    tmp_path: Path, predictor: Predictor, size: tuple[int, int], suffix: str
) -> None:
    def grey(number: int, width: int, height: int) -> NDArray[np.uint8]:
        return np.full((height, width, 3), 100 + number, np.uint8)

    source = make_clip(tmp_path / "in.mkv", 3, size=size, codec="ffv1", pixels=grey, sound=False)
    summary = segment_video(predictor, source, tmp_path / f"out{suffix}", opacity=0.0)
    assert summary.size == tuple(side + side % 2 for side in size)
    seen = play(tmp_path / f"out{suffix}")
    assert len(seen.pixels) == 3
    assert seen.pixels[2][0, 0].astype(int) == pytest.approx(102, abs=6)


@pytest.mark.parametrize(
    ("suffix", "codec", "layout"),
    [(".webm", "libvpx-vp9", "yuva420p"), (".webm", "libvpx", "yuva420p"),
     (".mov", "prores_ks", "yuva444p10le"), (".apng", "apng", "rgba")],
)  # fmt: skip
def test_transparent_clips_are_on_white(
    tmp_path: Path, predictor: Predictor, suffix: str, codec: str, layout: str
) -> None:
    source = tmp_path / f"in{suffix}"
    with av.open(str(source), "w") as container:
        options = {"auto-alt-ref": "0"} if codec == "libvpx" else {}
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, layout
        for number in range(3):
            alpha = np.full((48, 64), 255, np.uint8)
            alpha[24:] = 0
            pixels = np.dstack([picture(number), alpha])
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=layout)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    segment_video(predictor, source, tmp_path / "out.mp4", opacity=0.0)
    seen = play(tmp_path / "out.mp4")
    assert [marker(pixels) for pixels in seen.pixels] == [0, 1, 2]
    assert seen.pixels[1][15, 10].astype(int) == pytest.approx([200, 0, 0], abs=12)
    assert seen.pixels[1][40].min() > 245


def test_names_of_every_kind(tmp_path: Path, predictor: Predictor) -> None:
    clip = make_clip(tmp_path / "in.mp4", 2, sound=False)
    for name in (
        "part 1: the sea.mp4", "50%d.mp4", "concat:a|b.mp4", "-i.mp4", "é.mp4",
        os.fsdecode(b"caf\xe9.mp4"), "x" * 251 + ".mp4",
    ):  # fmt: skip
        source = tmp_path / "in" / name
        source.parent.mkdir(exist_ok=True)
        source.write_bytes(clip.read_bytes())
        output = tmp_path / "out" / name
        segment_video(predictor, source, output)
        assert len(play(output).times) == 2, name
        assert [*output.parent.iterdir()] == [output]
        output.unlink()


def test_a_long_name_keeps_its_beginning(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", 10, sound=False)
    left = iter(range(4))

    def work(x: NDArray[Any]) -> NDArray[Any]:
        if next(left, None) is None:
            raise InputError("no more")
        return x

    with pytest.raises(InputError, match="the first 4 frames are kept in"):
        segment_video(predictor_of(work), clip, tmp_path / f"{'ü' * 125}.mp4")
    [made] = tmp_path.glob("*.partial.mp4")
    assert len(play(made).times) == 4


def test_titles_that_are_not_utf8(tmp_path: Path, predictor: Predictor) -> None:
    source = make_clip(tmp_path / "in.mkv", 2, sound=False)
    with av.open(str(source)) as before, av.open(str(tmp_path / "t.mkv"), "w") as after:
        after.metadata["title"] = "Tag XXXX"
        stream: Any = after.add_stream_from_template(before.streams.video[0])
        for packet in before.demux(video=0):
            if packet.size:
                packet.stream = stream
                after.mux(packet)
    data = (tmp_path / "t.mkv").read_bytes()
    assert data.count(b"Tag XXXX") == 1
    (tmp_path / "t.mkv").write_bytes(data.replace(b"Tag XXXX", b"Tag \xe9\xff\xfe\xfd"))
    segment_video(predictor, tmp_path / "t.mkv", tmp_path / "out.mp4")
    assert len(play(tmp_path / "out.mp4").times) == 2


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"not a video at all" * 400])
def test_what_holds_nothing(tmp_path: Path, predictor: Predictor, content: bytes) -> None:
    (tmp_path / "in.mp4").write_bytes(content)
    with pytest.raises(InputError, match=r"in\.mp4: expected a video"):
        segment_video(predictor, tmp_path / "in.mp4", tmp_path / "out.mp4")


PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile {name}\n",
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{name}\n#EXT-X-ENDLIST\n",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".m3u8"])
def test_a_text_that_names_other_files_opens_none(
    kind: str, suffix: str, tmp_path: Path, predictor: Predictor
) -> None:
    make_clip(tmp_path / "other.ts", 3)
    source = tmp_path / f"in{suffix}"
    source.write_text(PLAYLISTS[kind].format(name="other.ts"))
    with pytest.raises(InputError, match=r"expected a video, cannot be opened: "):
        segment_video(predictor, source, tmp_path / "out.mp4")


def test_a_format_of_pictures_that_nobody_knows(tmp_path: Path, predictor: Predictor) -> None:
    source = make_clip(tmp_path / "in.mp4", 2, sound=False)
    source.write_bytes(source.read_bytes().replace(b"avc1", b"zzz1").replace(b"avcC", b"zzzC"))
    with pytest.raises(InputError, match=r"in\.mp4: its pictures are in a format that"):
        segment_video(predictor, source, tmp_path / "out.mp4")


def test_a_moving_picture(tmp_path: Path, predictor: Predictor) -> None:
    """A GIF is a clip too."""
    source = make_clip_of_gif(tmp_path / "in.gif")
    segment_video(predictor, source, tmp_path / "out.mp4", opacity=0.0)
    seen = play(tmp_path / "out.mp4")
    assert [marker(pixels) for pixels in seen.pixels] == [0, 1, 2]
    assert [float(time) for time in seen.times] == pytest.approx([0, 0.1, 0.3])


def make_clip_of_gif(path: Path) -> Path:
    from PIL import Image

    first, *rest = [Image.fromarray(picture(number)) for number in range(3)]
    first.save(path, save_all=True, append_images=rest, duration=[100, 200, 100], loop=0)
    return path


@pytest.mark.parametrize("seed", range(20))
def test_damage_is_one_line(tmp_path: Path, predictor: Predictor, seed: int) -> None:
    """And what was done before plays."""
    suffix = (".mp4", ".mkv", ".ts", ".flv")[seed % 4]
    random = np.random.default_rng(seed)
    source = make_clip(tmp_path / f"in{suffix}", 12)
    data = bytearray(source.read_bytes())
    for at in random.integers(0, len(data), random.choice([1, 20, 400])):
        data[at] = random.integers(256)
    source.write_bytes(data)
    output = tmp_path / "out.mp4"
    error = ""
    try:
        summary = segment_video(predictor, source, output)
    except InputError as stop:
        error = str(stop)
    if not error:
        assert len(play(output).times) == summary.frames
    else:
        assert error.startswith(str(source))
        assert "\n" not in error
    if "kept in" in error:
        assert play(partial(output)).times
    assert not [*tmp_path.glob(".*")]
