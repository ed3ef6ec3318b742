"""What a second worker of a cluster brings, and what the cluster costs: images a second.

    python benchmarks/cluster.py
    python benchmarks/cluster.py --images 400 --rounds 5 --model x.onnx

The images are windows of 500×375 of the package's photograph, enlarged, as JPEG. A Ray cluster is
started on this machine. Subject: `cluster.segment` with two workers of one thread, each on a core
of its own. Control: the same with one. For comparison the same images through `folder.segment`, in
this process, two threads and two instances, as `atrous predict` does by default on two cores.

Method: a round is each of the three once, with new workers and a new folder. Counted are the images
between the first fifth, by which all workers are at work, and the last image, over the time that
they take; what starting takes is shown, not counted. Before the first round one of each is done
that is not shown. Printed are all rounds, of the ratios median, least and greatest, the CPU time of
the command itself with two workers, and the bytes of an image and of its results.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from atrous import engines, image
from atrous.engines.base import Options
from atrous.jobs import folder
from atrous.jobs.cluster import job as cluster
from atrous.jobs.cluster import remote
from atrous.jobs.output import FOLDERS, ImageResult, Output
from atrous.jobs.sources import find
from atrous.runtime.predictor import Predictor


def make_images(target: Path, count: int) -> None:
    """Windows of the photograph, as large as those of Pascal VOC."""
    scene = cv2.resize(image.photograph(), (1000, 750), interpolation=cv2.INTER_CUBIC)
    target.mkdir()
    for number in range(count):
        top, left = (number * 37) % 375, (number * 61) % 500
        window = np.ascontiguousarray(scene[top : top + 375, left : left + 500])
        Image.fromarray(window).save(target / f"{number:05}.jpg", quality=90)


class Measured(NamedTuple):
    """Of one run: images a second after the first fifth, seconds until the first, CPU per image."""

    rate: float
    start: float
    cpu: float


def measure(results: Generator[ImageResult]) -> Measured:
    """Take all results, and the time."""
    began, before, times = time.perf_counter(), time.process_time(), []
    for result in results:
        assert result.status == "written", result
        times.append(time.perf_counter())
    start = times[len(times) // 5]
    # Results of a cluster come by the batch: those that came together took no time of their own.
    after = [moment for moment in times if moment - start > 0.02]
    cpu = (time.process_time() - before) / len(times)
    return Measured(len(after) / (times[-1] - start), times[0] - began, cpu)


def size(files: Iterable[Path]) -> float:
    """Mean kilobytes."""
    return statistics.mean(file.stat().st_size for file in files) / 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--warm-up", type=int, default=16, help="images before the first round")
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="atrous-cluster-"))
    source, output = scratch / "in", scratch / "out"
    make_images(source, arguments.images)
    model = engines.find_model(arguments.model)
    written: list[float] = []

    def run(workers: int, count: int) -> Measured:
        threads = 1 if workers else 2
        options = Options(threads=threads, streams=threads)
        with Predictor.open(model, engine=arguments.engine, options=options) as predictor:
            if workers:
                images = remote.find([str(source)], str(output))[:count]
                made = cluster.segment(
                    predictor, model, images, Output(output), workers=workers, options=options
                )
            else:
                made = folder.segment(predictor, find([source])[:count], Output(output))
            measured = measure(made)
        written[:] = [size((output / kind).iterdir()) for kind in FOLDERS]
        shutil.rmtree(output)
        return measured

    with cluster.joined("local"):
        for workers in (1, 2, 0):
            run(workers, arguments.warm_up)
        print(f"{arguments.images} images of 500×375, {model.name}; images/s (start in s)")
        scaling, overhead, cpu = [], [], []
        for number in range(arguments.rounds):
            # In turn, so that what else the machine does falls on all.
            order = (1, 2, 0) if number % 2 else (0, 2, 1)
            found = {workers: run(workers, arguments.images) for workers in order}
            plain, one, two = found[0], found[1], found[2]
            scaling.append(two.rate / one.rate)
            overhead.append(two.rate / plain.rate)
            cpu.append(1000 * two.cpu)
            print(
                f"  one worker {one.rate:6.2f} ({one.start:.1f})   two {two.rate:6.2f} "
                f"({two.start:.1f})   without a cluster {plain.rate:6.2f}   two/one "
                f"{scaling[-1]:.3f}   two/without {overhead[-1]:.3f}"
            )
    for name, ratios in (("two/one", scaling), ("two/without", overhead)):
        print(
            f"{name}: median {statistics.median(ratios):.3f}, {min(ratios):.3f}–{max(ratios):.3f}"
        )
    print(f"CPU time of the command: {statistics.median(cpu):.2f} ms per image")
    mask, overlay = written
    print(
        f"kB per image: {size(source.iterdir()):.0f} read, mask {mask:.0f}, overlay {overlay:.0f}"
    )
    shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
