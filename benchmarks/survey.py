"""How long `atrous train` looks at every image and mask before its first step, and the time after.

    python benchmarks/survey.py                       # 10,000 images of 500×375, made in a folder
    python benchmarks/survey.py --count 1000 --keep FOLDER

Work: JPEG files and PNG masks of ids, as `atrous.training.survey` opens them: the whole of each is
decoded, so that a file that was cut off is found before anything is spent, and the pixels of each
class are counted. The second pass knows all files by their content.

The photographs are drawn: noise whose amplitude falls with its frequency, as in pictures of the
world, so that a JPEG of them takes as long to decode as one from a camera (the mean of their bytes
is printed), with regions of other noise where the masks have other classes.

Method: each pass once, in this process; wall clock and processor time of all threads. The files
are in the page cache, as they have just been written.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.cores import cores
from atrous.data import open_dataset
from atrous.training.survey import survey

SIZE = (375, 500)
CLASSES = ("background", "one", "two", "three")
OWN = "images: images\nmasks: masks\nclasses: [background, one, two, three]\nmask_type: ids\n"
QUALITY = 92


def photograph(random: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A picture `(H, W, 3)` and a mask `(H, W)` of ids, its shapes smooth as drawn outlines."""
    height, width = SIZE
    smooth = _noise(random, -2.5, 1)[..., 0]
    levels = np.quantile(smooth, [0.7, 0.85, 0.95])
    mask = np.digitize(smooth, levels).astype(np.uint8)
    picture = 120 + 50 * _noise(random, -1.1, 3) + 15 * mask[..., None]
    assert picture.shape == (height, width, 3)
    return np.clip(picture, 0, 255).astype(np.uint8), mask


def _noise(random: np.random.Generator, power: float, channels: int) -> NDArray[np.float64]:
    """`(H, W, channels)` noise of mean 0 and deviation 1, its amplitude frequency to a power."""
    height, width = SIZE
    vertical, horizontal = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(vertical, horizontal), 1 / width)
    shape = (channels, height, width // 2 + 1)
    spectrum = random.normal(size=shape) + 1j * random.normal(size=shape)
    noise = np.fft.irfft2(spectrum * frequency**power, s=SIZE)
    noise /= noise.std(axis=(1, 2), keepdims=True)
    return np.asarray(noise.transpose(1, 2, 0))


def make(folder: Path, count: int, drawn: int = 200) -> None:
    """Write `count` pictures and masks: `drawn` ones, each again in other quarters and mirrored."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    (folder / "own.yaml").write_text(OWN)
    random = np.random.default_rng(0)
    pairs = [photograph(random) for _ in range(min(count, drawn))]

    def write(number: int) -> None:
        (picture, mask), turn = pairs[number % len(pairs)], number // len(pairs)
        shift = (turn * 37 % SIZE[0], turn * 53 % SIZE[1])
        picture, mask = (np.roll(one, shift, axis=(0, 1)) for one in (picture, mask))
        Image.fromarray(picture).save(folder / f"images/{number:05}.jpg", quality=QUALITY)
        cv2.imwrite(str(folder / f"masks/{number:05}.png"), mask)

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(write, range(count)))


def main() -> None:
    """Parse the command line, make the files, time two passes."""
    parser = argparse.ArgumentParser(description="Time the survey of a data set.")
    parser.add_argument("--count", type=int, default=10_000, help="images (default: 10000)")
    parser.add_argument("--keep", type=Path, help="make the files here, and use them if there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary, "data")
        if not (folder / "own.yaml").exists():
            make(folder, arguments.count)
        os.environ["ATROUS_CACHE"] = str(Path(temporary, "cache"))
        sizes = [path.stat().st_size for path in (folder / "images").iterdir()]
        print(f"{len(sizes)} images of {np.mean(sizes) / 1000:.0f} KB, {cores()} cores")
        for name in ("first", "cached"):
            began, used = time.monotonic(), time.process_time()
            dataset = open_dataset(f"folder:{folder / 'own.yaml'}:all")
            found = survey(dataset)
            wall, cpu = time.monotonic() - began, time.process_time() - used
            print(f"{name}: {wall:.1f} s, {cpu:.1f} s of the processors, {len(found.pixels)} pairs")


if __name__ == "__main__":
    main()
