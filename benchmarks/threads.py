"""Whether threads are enough: how much more two of them do than one, step by step of a stream.

    python benchmarks/threads.py
    python benchmarks/threads.py --images FOLDER --seconds 4

Two threads of one process do twice the work of one where a step releases the GIL, and two processes
do anyway; the difference is what processes would win, before they pay for copying images to each
other. `copy` is that price: one 513×513 network input through a pipe between processes. The network
runs on one engine with two streams of one thread each, and on an engine of one thread in either
process.

Method: a step on one image, over and over, for `--seconds`, by one thread, by two threads, by two
processes; calls per second; `--rounds` times in turn. Shown are the medians and the medians of the
ratios of a round.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np

from atrous import image
from atrous.engines.base import Options
from atrous.jobs.sources import find
from atrous.runtime.predictor import Predictor

STEPS = ("decode", "preprocess", "infer", "postprocess", "write mask", "write overlay")


def make(step: str, photograph: Path, predictor: Predictor) -> Callable[[], object]:
    """One step of a stream, ready to be called again and again; each caller needs its own."""
    cv2.setNumThreads(1)
    pixels = image.read(photograph)
    tensor, placement = predictor.prepare(pixels)
    prediction = predictor.prediction(predictor.logits([tensor])[0], placement)
    class_map, labels = prediction.class_map(), predictor.labels
    folder = Path(tempfile.mkdtemp())
    return {
        "decode": lambda: image.read(photograph),
        "preprocess": lambda: predictor.prepare(pixels),
        "infer": lambda: predictor.logits([tensor]),
        "postprocess": prediction.class_map,
        "write mask": lambda: image.write_mask(folder / "m.png", class_map, labels),
        "write overlay": lambda: image.write_overlay(folder / "o.jpg", pixels, class_map, labels),
    }[step]


def rate(work: Callable[[], object], seconds: float) -> float:
    """Calls per second."""
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work()
        calls += 1
    return calls / (time.perf_counter() - start)


def by_threads(works: list[Callable[[], object]], seconds: float) -> float:
    """Calls per second of all threads together."""
    rates = [0.0] * len(works)

    def run(index: int) -> None:
        rates[index] = rate(works[index], seconds)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)


def worker(pipe: Connection, number: int, step: str, photograph: Path, seconds: float) -> None:
    """Do a step whenever asked to, on a core of its own."""
    # OpenVINO would pin the one thread of either process to the first core.
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[number]})
    work = make(step, photograph, Predictor.open(options=Options(threads=1)))
    pipe.send(0.0)
    while pipe.recv():
        pipe.send(rate(work, seconds))


def echo(pipe: Connection) -> None:
    """Take arrays, answer with a byte."""
    while (array := pipe.recv()) is not None:
        pipe.send(bool(array.size))


def copying(rounds: int) -> float:
    """Milliseconds to hand a network input to another process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    context.Process(target=echo, args=(theirs,), daemon=True).start()
    array = np.zeros((3, 513, 513), np.float32)
    times = []
    for _ in range(20 * rounds):
        start = time.perf_counter()
        ours.send(array)
        ours.recv()
        times.append(1e3 * (time.perf_counter() - start))
    ours.send(None)
    return float(np.median(times))


def main() -> None:
    """Print a line per step."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    photograph = Path(image.__file__).parent / "assets" / "photograph.jpg"
    if arguments.images:
        photograph = find([arguments.images])[0].path
    context = multiprocessing.get_context("spawn")
    predictor = Predictor.open(options=Options(threads=2, streams=2))
    print(f"{'':14}{'one thread':>12}{'two threads':>14}{'two processes':>16}")
    for step in STEPS:
        works = [make(step, photograph, predictor) for _ in range(2)]
        pipes = []
        for number in range(2):
            ours, theirs = context.Pipe()
            settings = (theirs, number, step, photograph, arguments.seconds)
            context.Process(target=worker, args=settings, daemon=True).start()
            ours.recv()
            pipes.append(ours)
        rounds = []
        for _ in range(arguments.rounds):
            one = rate(works[0], arguments.seconds)
            threads = by_threads(works, arguments.seconds)
            for pipe in pipes:
                pipe.send(True)
            rounds.append((one, threads, sum(pipe.recv() for pipe in pipes)))
        for pipe in pipes:
            pipe.send(False)
        found = np.array(rounds)
        one, threads, processes = np.median(found, axis=0)
        twice, apart = (np.median(found[:, column] / found[:, 0]) for column in (1, 2))
        print(
            f"{step:14}{one:10.1f}/s{threads:10.1f}/s {twice:.2f}x{processes:11.1f}/s {apart:.2f}x"
        )
    print(f"copy: {copying(arguments.rounds):.2f} ms for a network input through a pipe")


if __name__ == "__main__":
    main()
