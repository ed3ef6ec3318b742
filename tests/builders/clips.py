"""Clips of known pictures, what a player would find in a file, and a network that knows them."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from atrous.engines.fake import FakeEngine
from atrous.labels import generic
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor

BASE = Fraction(1, 12800)
STEP = 512  # 25 frames per second
LABELS = generic(3)


def predictor_of(work: Callable[[NDArray[Any]], NDArray[Any]] = lambda x: x) -> Predictor:
    """The class of a pixel is its brightest channel."""
    return Predictor(FakeEngine(work, 3), Preprocess(size=(16, 16)), LABELS)


def picture(number: int, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """A third of each channel; a white square of 8 pixels says in which frame we are."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for channel in range(3):
        pixels[:, channel * width // 3 : (channel + 1) * width // 3, channel] = 200
    left = number * 4 % (width - 8)
    pixels[:8, left : left + 8] = 255
    return pixels


def make_clip(
    path: Path,
    frames: int = 30,
    *,
    size: tuple[int, int] = (64, 48),
    times: Callable[[int], int] = lambda number: number * STEP,
    sound: bool = True,
    rotation: int = 0,
    shape: Fraction | None = None,
    tags: tuple[int, int] | None = None,
    codec: str = "libx264",
    pixels: Callable[..., NDArray[np.uint8]] = picture,
    options: dict[str, str] | None = None,
) -> Path:
    layout = "yuv420p" if size[0] % 2 == size[1] % 2 == 0 else "yuv444p"
    with av.open(str(path), "w", options=options or {}) as container:
        video: Any = container.add_stream(codec, rate=25, options={"g": "5", "crf": "10"})
        video.width, video.height, video.pix_fmt = *size, layout
        video.time_base = video.codec_context.time_base = BASE
        if rotation:
            video.set_display_rotation(rotation)
        if shape:
            video.codec_context.sample_aspect_ratio = shape
        if tags:
            video.codec_context.colorspace, video.codec_context.color_range = tags
        audio: Any = container.add_stream("aac", rate=16000) if sound else None
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(pixels(number, *size), format="rgb24")
            frame.color_range = 2
            colorspace, color_range = tags or (5, 1)
            frame = frame.reformat(
                format=layout, dst_colorspace=colorspace, dst_color_range=color_range
            )
            frame.pts, frame.time_base, frame.duration = times(number), BASE, STEP
            container.mux(video.encode(frame))
            if audio:
                wave = np.sin((np.arange(640) + 640 * number) * 0.1).astype(np.float32)[None]
                tone = av.AudioFrame.from_ndarray(np.vstack([wave, wave]), "fltp", "stereo")
                tone.sample_rate, tone.pts = 16000, 640 * number
                container.mux(audio.encode(tone))
        container.mux(video.encode(None))
        if audio:
            container.mux(audio.encode(None))
    return path


@dataclass
class Seen:
    """What a player would find in a file."""

    times: list[Fraction]
    pixels: list[NDArray[np.uint8]]
    sound: list[tuple[Fraction, bytes]]
    rotations: set[int]
    shape: Fraction | None
    end: Fraction
    tags: tuple[int, int]
    codec: str


def play(path: Path) -> Seen:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        sound, frames = [], []
        for packet in container.demux():
            if packet.stream is not video:
                if packet.dts is not None:
                    sound.append((packet.pts * packet.time_base, bytes(packet)))
            else:
                frames += packet.decode()
        return Seen(
            [frame.pts * frame.time_base for frame in frames],
            [frame.to_ndarray(format="rgb24") for frame in frames],
            sound,
            {frame.rotation for frame in frames},
            video.sample_aspect_ratio,
            video.duration * video.time_base if video.duration else Fraction(0),
            (frames[0].colorspace, frames[0].color_range),
            video.codec_context.name,
        )


def marker(pixels: NDArray[np.uint8]) -> int:
    """Where the white square begins, in steps of 4 pixels."""
    row = pixels[2:6].min(axis=(0, 2))
    return round(int(np.argmax(row > 128)) / 4)
