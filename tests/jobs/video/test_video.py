import logging
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.errors import ConfigError, EngineError, InputError
from atrous.jobs.video.job import segment_video
from atrous.jobs.video.paint import Paint
from atrous.jobs.video.writer import partial
from atrous.labels import generic
from atrous.runtime.predictor import Predictor
from tests.builders.clips import (
    BASE,
    LABELS,
    STEP,
    make_clip,
    marker,
    picture,
    play,
    predictor_of,
)

pytestmark = pytest.mark.usefixtures("guard")


@pytest.fixture
def predictor() -> Predictor:
    return predictor_of()


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_frames_times_and_sound_are_kept(tmp_path: Path, predictor: Predictor, suffix: str) -> None:
    source = make_clip(tmp_path / f"in{suffix}")
    output = tmp_path / f"out{suffix}"
    calls: list[tuple[int, int | None]] = []
    summary = segment_video(
        predictor, source, output, opacity=0.0, progress=lambda *count: calls.append(count)
    )
    before, after = play(source), play(output)
    assert after.times == before.times
    assert after.end == before.end
    assert after.sound == before.sound
    assert len(after.sound) > 10
    assert [marker(pixels) for pixels in after.pixels] == [
        number * 4 % 56 // 4 for number in range(30)
    ]
    assert (summary.frames, summary.segmented, summary.dropped, summary.audio) == (30, 30, 0, 1)
    assert (summary.size, summary.encoder, summary.output) == ((64, 48), "libx264", output)
    assert calls == [(n, None if suffix == ".mkv" else 30) for n in range(1, 31)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"in{suffix}", f"out{suffix}"]


def test_frames_any_time_apart(tmp_path: Path, predictor: Predictor) -> None:
    source = make_clip(tmp_path / "in.mp4", times=lambda n: n * n * 100 + 77 * n, sound=False)
    segment_video(predictor, source, tmp_path / "out.mp4")
    before, after = play(source), play(tmp_path / "out.mp4")
    assert after.times == before.times
    assert len({b - a for a, b in zip(after.times, after.times[1:], strict=False)}) > 20


def test_webm(tmp_path: Path, predictor: Predictor) -> None:
    source = make_clip(tmp_path / "in.mkv", 8, sound=False)
    segment_video(predictor, source, tmp_path / "out.webm")
    seen = play(tmp_path / "out.webm")
    assert len(seen.times) == 8
    assert seen.codec == "vp9"


def test_mask_alone(tmp_path: Path, predictor: Predictor) -> None:
    source = make_clip(tmp_path / "in.mp4", 3)
    segment_video(predictor, source, tmp_path / "out.mp4", overlay=False)
    palette = np.array([*LABELS.palette()]).reshape(256, 3)
    for pixels in play(tmp_path / "out.mp4").pixels:
        for class_id in range(3):
            assert pixels[30, 11 + 21 * class_id] == pytest.approx(palette[class_id], abs=12)


def test_paint() -> None:
    labels = replace(generic(3), names=("background", "b", "c"))
    pixels = np.full((1, 3, 3), 100, np.uint8)
    classes = np.array([[0, 2, labels.ignore_index]], np.uint8)
    result = Paint(labels, 0.5)(pixels, classes)
    colour = np.array([*labels.paint()[6:9]])
    assert result[0, 0].tolist() == result[0, 2].tolist() == [100] * 3
    assert result[0, 1] == pytest.approx((100 + colour) / 2, abs=1)


@pytest.mark.parametrize("batch", [1, 3])
def test_every_fourth_frame(tmp_path: Path, batch: int) -> None:
    """The picture changes its class at every frame, the paint at every fourth alone."""

    def one_class(number: int, width: int, height: int) -> NDArray[np.uint8]:
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[..., number % 3] = 200
        return pixels

    seen = []

    def work(x: NDArray[Any]) -> NDArray[Any]:
        seen.append(len(x))
        return x

    source = make_clip(tmp_path / "in.mp4", 30, pixels=one_class)
    summary = segment_video(
        predictor_of(work), source, tmp_path / "out.mp4", overlay=False, every=4, batch=batch
    )
    after = play(tmp_path / "out.mp4")
    palette = np.array([*LABELS.palette()]).reshape(256, 3)
    for number, pixels in enumerate(after.pixels):
        assert pixels[24, 32] == pytest.approx(palette[number // 4 * 4 % 3], abs=12)
    assert len(after.pixels) == 30
    assert (summary.frames, summary.segmented, sum(seen)) == (30, 8, 8)
    assert after.sound == play(source).sound


def test_odd_sizes_get_one_pixel_more(tmp_path: Path, predictor: Predictor) -> None:
    source = make_clip(tmp_path / "in.mkv", 4, size=(63, 47))
    summary = segment_video(predictor, source, tmp_path / "out.mp4", opacity=0.0)
    [first, *_] = play(tmp_path / "out.mp4").pixels
    assert first.shape == (48, 64, 3)
    assert summary.size == (64, 48)
    assert first[40, 63] == pytest.approx(first[40, 61], abs=20)
    assert first[46, 30] == pytest.approx([0, 200, 0], abs=20)


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotated_clips_come_out_upright(tmp_path: Path, degrees: int) -> None:
    """The network sees what a person sees, and so does who plays the result."""
    seen = []

    def work(x: NDArray[Any]) -> NDArray[Any]:
        seen.append(np.argmax(x[0], axis=0))
        return x

    source = make_clip(tmp_path / "in.mp4", 3, rotation=degrees, shape=Fraction(4, 3))
    assert play(source).rotations == {degrees if degrees != 180 else -180}
    summary = segment_video(predictor_of(work), source, tmp_path / "out.mp4", opacity=0.0)
    after = play(tmp_path / "out.mp4")
    expected = np.rot90(picture(0), degrees // 90)
    assert after.rotations == {0}
    assert summary.size == expected.shape[1::-1]
    assert np.abs(after.pixels[0].astype(int) - expected).mean() < 12
    assert after.shape == (Fraction(4, 3) if degrees == 180 else Fraction(3, 4))
    height, width = expected.shape[:2]
    shown = np.argmax(expected[height // 32 :: height // 16, width // 32 :: width // 16], axis=2)
    for classes in seen:
        assert np.mean(classes == shown) > 0.9


@pytest.mark.parametrize("tags", [(1, 1), (1, 2), (5, 1), (5, 2)])
def test_colours_and_their_tags_are_kept(
    tmp_path: Path, predictor: Predictor, tags: tuple[int, int]
) -> None:
    source = make_clip(tmp_path / "in.mp4", 3, tags=tags)
    segment_video(predictor, source, tmp_path / "out.mp4", opacity=0.0)
    before, after = play(source), play(tmp_path / "out.mp4")
    assert after.tags == before.tags == tags
    for x in (10, 32, 54):
        assert after.pixels[1][30, x] == pytest.approx(picture(1)[30, x], abs=8)


def test_a_clip_without_its_index(tmp_path: Path, predictor: Predictor) -> None:
    source = make_clip(tmp_path / "in.mp4")
    source.write_bytes(source.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"in\.mp4: expected a video, cannot be opened: Invalid"):
        segment_video(predictor, source, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def noise(number: int, width: int, height: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("suffix", "harm"),
    [(".mp4", "overwritten"), (".mp4", "cut short"), (".mkv", "cut short")],
)
def test_damage_keeps_what_came_before(
    tmp_path: Path, predictor: Predictor, harm: str, suffix: str
) -> None:
    source = tmp_path / f"in{suffix}"
    make_clip(source, pixels=noise, options={"movflags": "faststart"} if suffix == ".mp4" else None)
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    if harm == "overwritten":
        data[middle : middle + 20000] = b"\xff" * 20000
    else:
        del data[middle:]
    source.write_bytes(data)
    output = tmp_path / f"out{suffix}"
    with pytest.raises(InputError, match=r"damaged after \d+ frames, expected more .* kept in"):
        segment_video(predictor, source, output)
    seen = play(partial(output))
    assert 5 < len(seen.times) < 25
    assert seen.times == [Fraction(STEP * n) * BASE for n in range(len(seen.times))]
    assert seen.sound
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"in{suffix}",
        f"out.partial{suffix}",
    ]


def test_a_partial_file_replaces_nobody_elses(tmp_path: Path) -> None:
    def work(x: NDArray[Any]) -> NDArray[Any]:
        if next(left, None) is None:
            raise EngineError("the network failed")
        return x

    source = make_clip(tmp_path / "in.mp4")
    partial(tmp_path / "out.mp4").write_bytes(b"mine")
    for _ in range(2):
        left = iter(range(10))
        with pytest.raises(EngineError, match=r"kept in .*out\.partial-2\.mp4"):
            segment_video(predictor_of(work), source, tmp_path / "out.mp4")
    assert partial(tmp_path / "out.mp4").read_bytes() == b"mine"
    assert len([*tmp_path.iterdir()]) == 3


def test_a_failing_network_keeps_what_came_before(tmp_path: Path) -> None:
    left = iter(range(10))

    def work(x: NDArray[Any]) -> NDArray[Any]:
        if next(left, None) is None:
            raise EngineError("the network failed")
        return x

    source = make_clip(tmp_path / "in.mp4")
    with pytest.raises(EngineError, match=r"the network failed; the first 10 frames are kept in"):
        segment_video(predictor_of(work), source, tmp_path / "out.mp4")
    assert len(play(tmp_path / "out.partial.mp4").times) == 10
    (tmp_path / "out.partial.mp4").rename(tmp_path / "out.mp4")
    assert segment_video(predictor_of(), source, tmp_path / "out.mp4").frames == 30


def test_cancelled(tmp_path: Path, predictor: Predictor, caplog: pytest.LogCaptureFixture) -> None:
    def stop(done: int, total: int | None) -> None:
        if done == 12:
            raise KeyboardInterrupt

    source = make_clip(tmp_path / "in.mp4")
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        segment_video(predictor, source, tmp_path / "out.mp4", progress=stop)
    assert "not finished; the first 12 frames are kept in" in caplog.text
    assert len(play(tmp_path / "out.partial.mp4").times) == 12


def test_an_earlier_output_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    def fail(x: NDArray[Any]) -> NDArray[Any]:
        raise EngineError("the network failed")

    output = tmp_path / "out.mp4"
    output.write_bytes(b"mine")
    with pytest.raises(EngineError, match="nothing was written"):
        segment_video(predictor_of(fail), make_clip(tmp_path / "in.mp4"), output, force=True)
    assert output.read_bytes() == b"mine"
    assert len([*tmp_path.iterdir()]) == 2


@pytest.mark.parametrize(
    ("output", "options", "error", "message"),
    [
        ("out.avi", {}, InputError, r"expected a name that ends in one of .*\.mp4.*got \.avi"),
        ("out", {}, InputError, "got none"),
        ("in.mp4", {}, InputError, "is the source itself"),
        ("out.mp4", {"every": 0}, InputError, "every of 1 or more"),
        ("out.mp4", {"opacity": 1.5}, InputError, "opacity of 0–1"),
        ("in.mp4/out.mp4", {}, InputError, "cannot be written"),
        ("out.mp4", {"batch": 0}, InputError, "batch"),
        ("out.mp4", {"max_pixels": 3071}, InputError, r"64×48 .* more than 3071 .*`max_pixels`"),
    ],
)
def test_refused(
    tmp_path: Path,
    predictor: Predictor,
    output: str,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    source = make_clip(tmp_path / "in.mp4", 2, sound=False)
    with pytest.raises(error, match=message):
        segment_video(predictor, source, tmp_path / output, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_what_is_no_video(tmp_path: Path, predictor: Predictor) -> None:
    sound = tmp_path / "sound.mkv"
    with av.open(str(sound), "w") as container:
        audio: Any = container.add_stream("aac", rate=16000)
        tone = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        tone.sample_rate, tone.pts = 16000, 0
        container.mux([*audio.encode(tone), *audio.encode(None)])
    with pytest.raises(InputError, match="found no pictures"):
        segment_video(predictor, sound, tmp_path / "out.mp4")
    for name in (tmp_path / "missing.mp4", "camera:99"):
        with pytest.raises(
            InputError, match=r"(missing\.mp4|camera:99): .*cannot be opened: No such"
        ):
            segment_video(predictor, name, tmp_path / "out.mp4")


def test_a_clip_on_a_website_is_to_be_downloaded_first(
    tmp_path: Path, predictor: Predictor
) -> None:
    message = (
        "https://example.org/a.mp4: a URL of this kind is not opened, expected one of a camera "
        "(rtsp://, rtsps://, rtmp://, rtp://, srt://, tcp://, udp://); download the clip and name "
        "its file"
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        segment_video(predictor, "https://example.org/a.mp4", tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())


class Camera:
    """Plays a clip at its own pace, again and again if it has to, and never waits for anybody."""

    def __init__(self, path: Path, pace: float) -> None:
        self._container = av.open(str(path))
        self.streams, self.name = self._container.streams, "camera"
        self._pace, self.closed = pace, threading.Event()

    def demux(self, *streams: Any) -> Iterator[Any]:
        for packet in self._container.demux(*streams):
            if packet.stream.type == "video":
                time.sleep(self._pace)
            yield packet

    def close(self) -> None:
        self.closed.set()
        self._container.close()


@pytest.mark.heavy
def test_a_live_source_drops_what_the_network_has_no_time_for(tmp_path: Path) -> None:
    def slow(x: NDArray[Any]) -> NDArray[Any]:
        time.sleep(0.03)
        return x

    source = make_clip(tmp_path / "in.mp4", 60)
    camera: Any = Camera(source, 0.003)
    summary = segment_video(
        predictor_of(slow), camera, tmp_path / "out.mp4", opacity=0.0, live=True
    )
    before, after = play(source), play(tmp_path / "out.mp4")
    assert summary.dropped > 5
    assert summary.frames == len(after.times) == 60 - summary.dropped
    assert after.times == sorted(after.times)
    for when, pixels in zip(after.times, after.pixels, strict=True):
        assert marker(pixels) == before.times.index(when) * 4 % 56 // 4
    assert after.sound == before.sound
    assert camera.closed.is_set()


@pytest.mark.heavy
def test_a_live_source_ends_at_an_interrupt_and_its_file_is_whole(
    tmp_path: Path, predictor: Predictor
) -> None:
    def stop(done: int, total: int | None) -> None:
        assert total is None
        if done == 12:
            raise KeyboardInterrupt

    camera: Any = Camera(make_clip(tmp_path / "in.mp4", 100), 0.01)
    summary = segment_video(predictor, camera, tmp_path / "out.mp4", progress=stop, live=True)
    assert summary.frames == len(play(tmp_path / "out.mp4").times) == 12
    assert camera.closed.is_set()


def test_what_a_live_source_showed_is_never_replaced(tmp_path: Path, predictor: Predictor) -> None:
    clip, output = make_clip(tmp_path / "in.mp4", 5), tmp_path / "out.mp4"

    def record(**options: Any) -> None:
        camera: Any = Camera(clip, 0.001)
        segment_video(predictor, camera, output, live=True, **options)

    record()
    first = output.read_bytes()
    for again in (record, lambda: segment_video(predictor, clip, output)):
        with pytest.raises(InputError, match="is in the way and kept"):
            again()
    assert output.read_bytes() == first
    record(force=True)
    segment_video(predictor, clip, output, force=True)
    with pytest.raises(InputError, match="is there already; name another output, or give `force`"):
        record()


def test_a_live_source_that_breaks_off(tmp_path: Path, predictor: Predictor) -> None:
    class Broken(Camera):
        def demux(self, *streams: Any) -> Iterator[Any]:
            for number, packet in enumerate(super().demux(*streams)):
                if number == 40:
                    raise OSError(5, "Input/output error")
                yield packet

    camera: Any = Broken(make_clip(tmp_path / "in.mp4", 60), 0.005)
    with pytest.raises(InputError, match=r"the source ended after \d+ frames: Input/output.*kept"):
        segment_video(predictor, camera, tmp_path / "out.mp4", live=True)
    assert play(tmp_path / "out.partial.mp4").times


def test_no_encoder(tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_clip(tmp_path / "in.mp4", 2)
    monkeypatch.setattr(av, "codecs_available", {"h264"})
    with pytest.raises(ConfigError, match="needs the encoder libx264 or libopenh264"):
        segment_video(predictor, source, tmp_path / "out.mp4")
