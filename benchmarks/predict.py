"""How long a class map takes with the model in the package, beside the plain way to make it.

    python benchmarks/predict.py                       # the photographs of scikit-image
    python benchmarks/predict.py --images FOLDER       # the first 8 images of a folder
    python benchmarks/predict.py --against CHECKOUT    # reading, beside another version of Atrous

First table: decoded RGB image in memory → class map at the image's own size, on ONNX Runtime. The
plain way is what one would write around the same file: OpenCV resize, normalise in NumPy,
`session.run`, OpenCV resize of the channels-last logits to the original size, argmax.

Second table: reading files as JPEG and PNG, beside Pillow alone and, with --against, beside
another checkout of Atrous. Every way is a process of its own; they take turns picture by picture,
and their processor time counts, which others on the machine disturb less.

Third table: the step from logits to the class map alone, on real logits: those of the model (a
128×128 grid), and the same averaged to 32×32, the grid of DeepLabV3. See `upsample.py`, which also
measures noise and synthetic logits.

Method: both ways run in turn on the same images, in one process, with the same number of threads; 2
rounds unmeasured, `--rounds` measured; shown are the median, the 10th and the 90th percentile, and
the median of the ratios of each pair. Equal is the share of pixels on which the ways agree: the
plain way enlarges twice, to 513×513 inside the network and then to the image.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import onnxruntime
import upsample as kernel
from numpy.typing import NDArray
from PIL import Image

from atrous import artifact, image
from atrous.engines.base import Options
from atrous.jobs.sources import find
from atrous.runtime.predictor import Predictor

Pixels = NDArray[np.uint8]
WARMUP = 2


def photographs() -> list[Pixels]:
    """Photographs with people, animals and things, of several sizes."""
    try:
        from skimage import data
    except ImportError:
        return [image.photograph()]
    return [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]


class PlainWay:
    """ONNX Runtime on the whole file, OpenCV and NumPy around it."""

    def __init__(self, threads: int) -> None:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            artifact.DEFAULT, settings, providers=["CPUExecutionProvider"]
        )
        self.mean = np.array([0.485, 0.456, 0.406], np.float32)
        self.std = np.array([0.229, 0.224, 0.225], np.float32)

    def __call__(self, pixels: Pixels) -> Pixels:
        """`(H, W, 3)` RGB → `(H, W)` class ids."""
        resized = cv2.resize(pixels, (513, 513), interpolation=cv2.INTER_LINEAR)
        scaled = (resized.astype(np.float32) / 255 - self.mean) / self.std
        batch = np.ascontiguousarray(scaled.transpose(2, 0, 1))[None]
        [logits] = self.session.run(None, {"input": batch})
        last = np.ascontiguousarray(logits[0].transpose(1, 2, 0))
        size = (pixels.shape[1], pixels.shape[0])
        return cv2.resize(last, size, interpolation=cv2.INTER_LINEAR).argmax(-1).astype(np.uint8)


def compare(images: list[Pixels], threads: int, rounds: int) -> None:
    """Measure and print the first table."""
    plain = PlainWay(threads)
    # The very file and runtime of the plain way: only what is around them differs.
    options = Options(threads=threads)
    with Predictor.open(artifact.DEFAULT, engine="onnxruntime", options=options) as predictor:

        def ours(pixels: Pixels) -> Pixels:
            return predictor(pixels).class_map()

        ways = {"plain": plain, "atrous": ours}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(WARMUP + rounds):
            for pixels in images:
                for name, way in ways.items():
                    start = time.perf_counter()
                    way(pixels)
                    if number >= WARMUP:
                        times[name].append(1e3 * (time.perf_counter() - start))
        equal = np.mean([(plain(pixels) == ours(pixels)).mean() for pixels in images])
    print(f"RGB image → class map, {len(images)} images, {threads} threads, ms")
    for name, values in times.items():
        low, median, high = np.percentile(values, [10, 50, 90])
        print(f"  {name:8}{median:8.1f}  ({low:.1f} .. {high:.1f})")
    ratio = np.median(np.array(times["plain"]) / np.array(times["atrous"]))
    print(f"  atrous is {ratio:.2f}x as fast; equal on {equal:.3%} of the pixels\n")


class Reader:
    """A process that reads picture files and says how long each took.

    Args:
        code: defines `read`, which takes a path.
        source: folder that `atrous` is imported from.
    """

    LOOP = """
import sys
from time import process_time as now
for line in sys.stdin:
    start = now()
    read(line.rstrip())
    print(now() - start, flush=True)
"""

    def __init__(self, code: str, source: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code + self.LOOP],
            env={**os.environ, "PYTHONPATH": str(source)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, path: Path) -> float:
        """Milliseconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(path, file=self.process.stdin, flush=True)
        return 1e3 * float(self.process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


PILLOW = """
import numpy as np
from PIL import Image
def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
"""
ATROUS = """
from pathlib import Path
from atrous import image
def read(path):
    return image.read(Path(path))
"""


def decode(images: list[Pixels], against: Path | None, rounds: int) -> None:
    """Measure and print the second table."""
    ours = Path(__file__).parents[1] / "src"
    ways = {"pillow": (PILLOW, ours), "atrous": (ATROUS, ours)}
    if against is not None:
        ways["against"] = (ATROUS, against / "src")
    readers = {name: Reader(*way) for name, way in ways.items()}
    print(f"file → RGB image, {len(images)} images, ms of processor time")
    with TemporaryDirectory() as folder:
        for kind, options in (("jpg", {"quality": 90}), ("png", {})):
            paths = [Path(folder, f"{number}.{kind}") for number in range(len(images))]
            for pixels, path in zip(images, paths, strict=True):
                Image.fromarray(pixels).save(path, **options)
            found: dict[str, list[float]] = {name: [] for name in readers}
            for number in range(WARMUP + rounds):
                times = dict.fromkeys(readers, 0.0)
                order = list(readers)[number % len(readers) :] + list(readers)
                for path in paths:
                    for name in order[: len(readers)]:
                        times[name] += readers[name](path)
                if number >= WARMUP:
                    for name, value in times.items():
                        found[name].append(value)
            for name, values in found.items():
                low, median, high = np.percentile(values, [10, 50, 90])
                ratio = np.median(np.array(found["atrous"]) / np.array(values))
                print(
                    f"  {kind} {name:8}{median:8.2f}  ({low:.2f} .. {high:.2f})  "
                    f"atrous takes {ratio:.3f} of it"
                )
    for reader in readers.values():
        reader.close()
    print()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, help="folder to take images from")
    parser.add_argument("--against", type=Path, help="checkout to compare reading with, alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    if arguments.images:
        images = [image.read(source.path) for source in find([arguments.images])[:8]]
    else:
        images = photographs()
    kernel.set_threads(arguments.threads)
    if arguments.against is not None:
        decode(images, arguments.against.resolve(), arguments.rounds * 5)
        return
    compare(images, arguments.threads, arguments.rounds)
    decode(images, None, arguments.rounds)

    print("logits → class map, the first of the images, ms")
    with Predictor.open(artifact.DEFAULT, engine="onnxruntime") as predictor:
        fine = predictor(images[0]).grid
    coarse = fine.reshape(len(fine), 32, 4, 32, 4).mean((2, 4))
    for logits in (coarse, fine):
        for height, width in kernel.TARGETS:
            print(f"real logits {logits.shape} → {height}×{width}, {arguments.threads} threads")
            kernel.compare(logits, height, width, arguments.rounds * 5)


if __name__ == "__main__":
    main()
