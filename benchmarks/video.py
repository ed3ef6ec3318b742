"""What a video costs beside its segmentation: frames a second of a clip, and of its pixels alone.

    python benchmarks/video.py
    python benchmarks/video.py --frames 100 --rounds 2 --size 1280 720

The clip is made here: a window that moves over the package's photograph, 25 frames a second, H.264,
with a tone. Subject: `segment_video`, which decodes it, segments every frame, paints it and encodes
the result. Control: the same frames, decoded beforehand, as arrays through `Stream.run_batch`.

Method: one process, one engine, one round that is not counted, then control and subject in turn.
Shown are the wall and CPU time per frame of each round (CPU of all threads of the process) and the
ratio of each pair, at last the median of the ratios. On a machine that does other things as well,
the ratio of CPU times says more than that of wall times.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from atrous import image
from atrous.engines.base import Options
from atrous.jobs.video.job import segment_video
from atrous.runtime.predictor import Predictor
from atrous.runtime.stream import Stream


def make_clip(path: Path, frames: int, width: int, height: int) -> None:
    """A window that moves over the photograph, and a tone."""
    scene = cv2.resize(image.photograph(), (width * 5 // 4, height * 5 // 4))
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        video.width, video.height = width, height
        audio: Any = container.add_stream("aac", rate=48000)
        for number in range(frames):
            left = int((1 + np.sin(number / 20)) * width / 8)
            top = int((1 + np.cos(number / 30)) * height / 8)
            window = np.ascontiguousarray(scene[top : top + height, left : left + width])
            container.mux(video.encode(av.VideoFrame.from_ndarray(window)))
            wave = np.sin((np.arange(1920) + 1920 * number) * 0.05).astype(np.float32)
            tone = av.AudioFrame.from_ndarray(np.stack([wave, wave]), "fltp", "stereo")
            tone.sample_rate, tone.pts = 48000, 1920 * number
            container.mux(audio.encode(tone))
        container.mux([*video.encode(None), *audio.encode(None)])


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall and of CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 360))
    parser.add_argument("--model")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="atrous-video-"))
    clip, output = folder / "clip.mp4", folder / "out.mp4"
    make_clip(clip, arguments.frames, *arguments.size)
    with av.open(str(clip)) as container:
        pixels: Any = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    options = Options(threads=arguments.threads)
    with Predictor.open(arguments.model, engine=arguments.engine, options=options) as predictor:

        def control() -> None:
            with Stream(predictor) as stream:
                deque(stream.run_batch(pixels), maxlen=0)

        def subject() -> None:
            assert segment_video(predictor, clip, output, force=True).frames == arguments.frames

        size = "×".join(map(str, arguments.size))
        print(f"{arguments.frames} frames of {size}, {predictor.engine.name}; ms per frame")
        ratios, scale = [], 1000 / arguments.frames
        for number in range(arguments.rounds + 1):
            bare, whole = timed(control), timed(subject)
            if not number:
                continue
            ratios.append((bare[0] / whole[0], bare[1] / whole[1]))
            print(
                f"  stream: wall {bare[0] * scale:6.1f}, CPU {bare[1] * scale:6.1f}   "
                f"video: wall {whole[0] * scale:6.1f}, CPU {whole[1] * scale:6.1f}   "
                f"throughput of the video: {ratios[-1][0]:.3f} by wall, {ratios[-1][1]:.3f} by CPU"
            )
    wall, cpu = (statistics.median(ratio) for ratio in zip(*ratios, strict=True))
    print(f"median: {wall:.3f} by wall, {cpu:.3f} by CPU (target 0.9)")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


if __name__ == "__main__":
    main()
