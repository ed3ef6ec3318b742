"""What a stream costs beside the work itself: seconds per frame that its queues and threads add.

    python benchmarks/stream_overhead.py
    python benchmarks/stream_overhead.py --frames 20000 --batch 4

The engine is a function that returns its input, and the frames are 8×8 pixels in memory, so that
next to nothing is left but the overhead. Control: a loop over the same frames that calls the same
predictor. Order is checked on the way, and memory before and after.

Method: control and stream in turn, ten blocks of each, in one process, all blocks of the stream
through the same one; the first block of each is not counted. Shown are the medians of wall time per
frame and of the differences of the pairs, with 10th and 90th percentile. On a machine that does
other things as well, CPU time (of all threads) says more than wall time. For comparison: empty
steps in three stages, and the same frames handed to one other thread through two bare queues.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

import numpy as np
import psutil
from numpy.typing import NDArray

from atrous.engines.fake import FakeEngine
from atrous.labels import generic
from atrous.preprocess import Preprocess
from atrous.runtime.pipeline import Pipeline
from atrous.runtime.predictor import Predictor
from atrous.runtime.stream import Stream
from atrous.runtime.worker import Stage

BLOCKS = 10


def frames(count: int) -> list[NDArray[np.uint8]]:
    """Frames of 256 shades; their objects are shared, so that memory growth is not theirs."""
    shades = [np.full((8, 8, 3), shade, np.uint8) for shade in range(256)]
    return [shades[number % 256] for number in range(count)]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall and of CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def empty_steps(count: int) -> float:
    """Microseconds per value of a pipeline of three stages that do nothing."""
    stages: list[Stage[int]] = [Stage({name: lambda value: None}) for name in "abc"]
    with Pipeline(stages, capacity=8) as pipeline:
        wall, _ = timed(lambda: deque(pipeline.map(range(count)), maxlen=0))
    return wall / count * 1e6


def handed_over(predictor: Predictor, images: list[NDArray[np.uint8]], under_way: int) -> float:
    """Microseconds per frame where one other thread does all the work, and this one hands over."""
    come: SimpleQueue[NDArray[np.uint8] | None] = SimpleQueue()
    out: SimpleQueue[object] = SimpleQueue()

    def work() -> None:
        while (image := come.get()) is not None:
            out.put(predictor(image).class_map())

    def hand_over() -> None:
        for number, image in enumerate(images):
            if number >= under_way:
                out.get()
            come.put(image)
        for _ in range(under_way):
            out.get()

    thread = threading.Thread(target=work)
    thread.start()
    wall, _ = timed(hand_over)
    come.put(None)
    thread.join()
    return wall / len(images) * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Overhead of a stream per frame.")
    parser.add_argument("--frames", type=int, default=100_000, help="through the stream, in all")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--helpers", type=int, default=None, help="threads beside the network")
    given = parser.parse_args()
    engine = FakeEngine(np.copy, num_classes=3)
    predictor = Predictor(engine, Preprocess(size=(8, 8), normalisation="div255"), generic(3))
    images = frames(given.frames // BLOCKS)

    def plain() -> None:
        for image in images:
            predictor(image).class_map()

    process, next_index = psutil.Process(), 0
    with Stream(predictor, batch=given.batch, helpers=given.helpers) as stream:

        def streamed() -> None:
            nonlocal next_index
            for result in stream.run_batch(images):
                assert result.error is None
                assert result.index == next_index
                next_index += 1

        pairs = [(timed(plain), timed(streamed))]
        before = process.memory_info().rss
        pairs += [(timed(plain), timed(streamed)) for _ in range(BLOCKS - 1)]
        growth = process.memory_info().rss - before
    # pair × (plain, stream) × (wall, CPU), in microseconds per frame
    times = np.array(pairs[1:]) / len(images) * 1e6
    print(f"{next_index} frames, batch {given.batch}; microseconds per frame, median (p10-p90)")
    for column, name in enumerate(("wall", "CPU")):
        table = times[:, :, column].T
        for row, values in zip(
            ("plain loop", "stream", "overhead"), (*table, table[1] - table[0]), strict=True
        ):
            low, middle, high = np.percentile(values, [10, 50, 90])
            print(f"  {name:4}  {row:10}  {middle:7.1f}  ({low:.1f} to {high:.1f})")
    print(f"empty steps in three stages: {empty_steps(given.frames):.1f}")
    for under_way in (1, 8):
        added = handed_over(predictor, images, under_way) - float(np.median(times[:, 0, 0]))
        print(
            f"two threads and two bare queues, {under_way} under way: {added:.1f} more than alone"
        )
    print(f"memory growth after the first block: {growth / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
