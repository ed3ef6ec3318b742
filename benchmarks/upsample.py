"""How long the enlargement of logits to a class map takes, beside the common ways to do it.

    python benchmarks/upsample.py                  # seeded synthetic logits, 32x32 and 128x128
    python benchmarks/upsample.py logits.npy ...   # float32 (C, h, w) arrays that a model wrote

Method: per case and thread count all ways run in turn, one call each, 5 rounds unmeasured and
`--rounds` measured, in one process; shown are the median and the 10th and 90th percentile in ms.
Interleaved, the ways meet the same clock, neighbours and caches; but torch runs after the others,
since its idle threads spin for some milliseconds and slow down whatever comes next. The ratio is
the median of the fastest common way over ours. Ours runs on one thread always, "threads" is
OpenCV's and torch's. Every common way starts from the layout that suits it best; the transposition
to it is not timed, but for the way that says so. "equal" is the share of pixels on which a way
agrees with ours.

Control: the last two cases are Gaussian noise, where no cell is uniform and nothing can be skipped.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous import upsample
from atrous.geometry import Axis

Logits = NDArray[np.float32]
ClassMap = NDArray[np.uint8]

KERNELS = ("c", "numpy") if upsample.KERNEL == "c" else ("numpy",)
TARGETS = ((513, 513), (375, 500))
TORCH = "torch interpolate, argmax"
WARMUP = 5


def synthetic(grid: int, classes: int = 21, seed: int = 0) -> Logits:
    """Logits like a network's: five blobs on background, blurred, plus smooth noise."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((513, 513), np.uint8)
    for _ in range(5):
        centre, axes = rng.integers(60, 450, 2).tolist(), rng.integers(30, 140, 2).tolist()
        angle, label = float(rng.uniform(0, 180)), int(rng.integers(1, classes))
        cv2.ellipse(labels, centre, axes, angle, 0, 360, label, -1)
    planes = []
    for c in range(classes):
        soft = cv2.GaussianBlur((labels == c).astype(np.float32), (0, 0), 12)
        noise = cv2.resize(rng.standard_normal((9, 9)), (grid, grid), interpolation=cv2.INTER_CUBIC)
        planes.append(10 * cv2.resize(soft, (grid, grid), interpolation=cv2.INTER_AREA) + noise)
    return np.stack(planes).astype(np.float32)


def common_ways(logits: Logits, height: int, width: int) -> dict[str, Callable[[], ClassMap]]:
    """What one would write otherwise."""
    size, last = (width, height), np.ascontiguousarray(logits.transpose(1, 2, 0))

    def channels_last() -> ClassMap:
        return np.asarray(cv2.resize(last, size).argmax(-1), np.uint8)

    def transposed() -> ClassMap:
        image = np.ascontiguousarray(logits.transpose(1, 2, 0))
        return np.asarray(cv2.resize(image, size).argmax(-1), np.uint8)

    def planes() -> ClassMap:
        large = [cv2.resize(plane, size) for plane in logits]
        best = large[0].copy()
        for plane in large[1:]:
            cv2.max(best, plane, best)
        marks = np.zeros((height, width), np.uint8)
        for c, plane in enumerate(large):
            mark = np.full_like(marks, len(large) - 1 - c)
            cv2.max(marks, cv2.bitwise_and(cv2.compare(plane, best, cv2.CMP_EQ), mark), marks)
        return np.asarray(len(large) - 1 - marks, np.uint8)

    ways = {
        "resize channels-last, argmax(-1)": channels_last,
        "transpose, resize, argmax(-1)": transposed,
        "resize planes, cv2.max and compare": planes,
    }
    try:
        import torch
        from torch.nn.functional import interpolate
    except ImportError:
        return ways
    tensor = torch.from_numpy(logits)[None]

    def torch_way() -> ClassMap:
        large = interpolate(tensor, (height, width), mode="bilinear", align_corners=False)
        return large.argmax(1)[0].numpy().astype(np.uint8)

    return {**ways, TORCH: torch_way}


def our_ways(logits: Logits, height: int, width: int) -> dict[str, Callable[[], ClassMap]]:
    """Ours by each implementation that is there."""
    rows, columns = Axis.resized(logits.shape[1], height), Axis.resized(logits.shape[2], width)

    def run(kernel: str) -> ClassMap:
        upsample.KERNEL = "c" if kernel == "c" else "numpy"
        return upsample.argmax(logits, rows, columns)

    return {f"ours, {kernel}": partial(run, kernel) for kernel in KERNELS}


def set_threads(count: int) -> None:
    """Tell everything that has threads."""
    cv2.setNumThreads(count)
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(count)


def compare(logits: Logits, height: int, width: int, rounds: int) -> None:
    """Measure and print one case."""
    common = common_ways(logits, height, width)
    ways = {**common, **our_ways(logits, height, width)}
    maps = {name: way() for name, way in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for group in (
        [name for name in ways if name != TORCH],
        [name for name in ways if name == TORCH],
    ):
        for n in range(WARMUP + rounds):
            for name in group:
                start = time.perf_counter()
                ways[name]()
                if n >= WARMUP:
                    times[name].append(1e3 * (time.perf_counter() - start))
    fastest = min(float(np.median(times[name])) for name in common)
    for name in ways:
        low, median, high = np.percentile(times[name], [10, 50, 90])
        ratio = f"{fastest / median:6.1f}x" if name not in common else "       "
        equal = 100 * float((maps[name] == maps["ours, numpy"]).mean())
        print(f"  {name:36}{median:8.3f}  ({low:.3f} .. {high:.3f}) {ratio}  equal {equal:.4f} %")


def main() -> None:
    """Run every case."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("logits", nargs="*", type=Path, help=".npy of float32 (C, h, w) logits")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    arguments = parser.parse_args()
    cases = [(str(path), np.load(path)) for path in arguments.logits] or [
        (f"synthetic blobs, seed 0, {grid}x{grid}", synthetic(grid)) for grid in (32, 128)
    ]
    for grid in (32, 128):
        noise = np.random.default_rng(0).standard_normal((21, grid, grid)).astype(np.float32)
        cases.append((f"noise, {grid}x{grid}", noise))
    print(f"numpy {np.__version__}, OpenCV {cv2.__version__}, {platform.machine()}; ", end="")
    print(f"kernels of ours: {', '.join(KERNELS)}")
    for threads in arguments.threads:
        set_threads(threads)
        for name, logits in cases:
            for height, width in TARGETS:
                print(f"{name} {logits.shape} -> {height}x{width}, threads {threads}")
                compare(logits, height, width, arguments.rounds)


if __name__ == "__main__":
    main()
