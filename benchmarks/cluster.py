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
that is not shown. Printed are all rounds, and of the ratios median, least and greatest.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from atrous import engines, image
from atrous.engines.base import Options
from atrous.runtime import cluster, folder, remote
from atrous.runtime.predictor import Predictor
from atrous.runtime.sources import find


def make_images(target: Path, count: int) -> None:
    """Windows of the photograph, as large as those of Pascal VOC."""
    scene = cv2.resize(image.photograph(), (1000, 750), interpolation=cv2.INTER_CUBIC)
    target.mkdir()
    for number in range(count):
        top, left = (number * 37) % 375, (number * 61) % 500
        window = np.ascontiguousarray(scene[top : top + 375, left : left + 500])
        Image.fromarray(window).save(target / f"{number:05}.jpg", quality=90)


def rate(results: Generator[folder.Result]) -> tuple[float, float]:
    """Images a second after the first fifth, and seconds until the first image."""
    began, times = time.perf_counter(), []
    for result in results:
        assert result.status == "written", result
        times.append(time.perf_counter())
    start = times[len(times) // 5]
    # Results of a cluster come by the batch: those that came together took no time of their own.
    after = [moment for moment in times if moment - start > 0.02]
    return len(after) / (times[-1] - start), times[0] - began


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

    def run(workers: int, count: int) -> tuple[float, float]:
        threads = 1 if workers else 2
        options = Options(threads=threads, streams=threads)
        with Predictor.open(model, engine=arguments.engine, options=options) as predictor:
            if workers:
                images = remote.find([str(source)], str(output))[:count]
                made = cluster.segment(
                    predictor, model, images, str(output), workers=workers, options=options
                )
            else:
                made = folder.segment(predictor, find([source])[:count], output)
            measured = rate(made)
        shutil.rmtree(output)
        return measured

    with cluster.joined("local"):
        for workers in (1, 2, 0):
            run(workers, arguments.warm_up)
        print(f"{arguments.images} images of 500×375, {model.name}; images/s (start in s)")
        scaling, overhead = [], []
        for number in range(arguments.rounds):
            # In turn, so that what else the machine does falls on all.
            order = (1, 2, 0) if number % 2 else (0, 2, 1)
            found = {workers: run(workers, arguments.images) for workers in order}
            (plain, _), (one, start_one), (two, start_two) = found[0], found[1], found[2]
            scaling.append(two / one)
            overhead.append(two / plain)
            print(
                f"  one worker {one:6.2f} ({start_one:.1f})   two {two:6.2f} ({start_two:.1f})   "
                f"without a cluster {plain:6.2f}   two/one {scaling[-1]:.3f}   "
                f"two/without {overhead[-1]:.3f}"
            )
    for name, ratios in (("two/one", scaling), ("two/without", overhead)):
        print(
            f"{name}: median {statistics.median(ratios):.3f}, {min(ratios):.3f}–{max(ratios):.3f}"
        )
    shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
