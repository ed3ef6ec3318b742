"""Whether tiles show: how dense class boundaries are along tile borders, and how dense elsewhere.

    python benchmarks/seams.py PHOTOGRAPHS
    python benchmarks/seams.py PHOTOGRAPHS --overlap 0 0.25 --photographs 60

Photographs are put together into one large image, which `atrous.jobs.large.tiles.segment` segments
twice, as `atrous predict --tile` does: as it is, and with half a tile's step of mirrored pixels
around it, which moves every tile border. So the pixels along the borders of one run lie inside the
tiles of the other: what is compared is the same content.

Boundary: two neighbouring pixels of different class, counted across the border, at most `--within`
pixels from where a tile begins or ends. Shown is the ratio of both densities (1: tiles do not show)
with an interval in which it lies with 95 %, from 2000 draws of the borders with replacement, and on
how many pixels both runs differ.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous import image
from atrous.jobs.large.tiles import ArrayRaster, Tiling, segment
from atrous.jobs.sources import find
from atrous.runtime.predictor import Predictor

Pixels = NDArray[np.uint8]
WIDTH, HEIGHT = 500, 375


def put_together(paths: list[Path]) -> Pixels:
    """A nearly square mosaic of photographs, each scaled to 500×375."""
    columns = max(1, round(math.sqrt(len(paths) * HEIGHT / WIDTH)))
    read = [cv2.resize(image.read(path), (WIDTH, HEIGHT)) for path in paths]
    rows = [np.hstack(read[i : i + columns]) for i in range(0, len(read) - columns + 1, columns)]
    return np.vstack(rows)


def whole_steps(length: int, side: int, step: int) -> int:
    """The largest length up to this one that tiles fill without a rest."""
    if length < side + step:
        sys.exit(f"the mosaic is too small: expected {side + step} pixels, found {length}")
    return side + (length - side) // step * step


def changes(classes: Pixels, cuts: list[int], within: int) -> tuple[list[float], int]:
    """Boundaries between rows near each cut, and the neighbouring pixels looked at per cut."""
    differ = classes[1:] != classes[:-1]
    near = [differ[max(0, cut - within) : cut + within - 1] for cut in cuts]
    return [float(rows.sum()) for rows in near], (2 * within - 1) * classes.shape[1]


def cuts_of(length: int, side: int, overlap: float) -> list[int]:
    """Rows at which a tile begins or ends."""
    return [part.start for part in Tiling(length, side, overlap).segments()][1:]


def compare(mosaic: Pixels, side: int, overlap: float, within: int, predictor: Predictor) -> str:
    """Segment twice and count."""
    step = math.floor(side * (1 - overlap))
    height, width = (whole_steps(length, side, step) for length in mosaic.shape[:2])
    mosaic = mosaic[:height, :width]
    before, after = step // 2, step - step // 2
    around = cv2.copyMakeBorder(mosaic, before, after, before, after, cv2.BORDER_REFLECT_101)

    def classes(pixels: Pixels) -> Pixels:
        bands = segment(predictor, ArrayRaster(pixels), side=side, overlap=overlap)
        return np.concatenate(list(bands))

    first = classes(np.ascontiguousarray(mosaic))
    second = classes(around)[before : before + height, before : before + width]
    at, elsewhere = [], []
    pixels = 0
    for one, other in ((first, second), (first.T, second.T)):
        length = len(one)
        inside = range(within, length - within)
        own = [cut for cut in cuts_of(length, side, overlap) if cut in inside]
        moved = [cut - before for cut in cuts_of(length + step, side, overlap)]
        moved = [cut for cut in moved if cut in inside]
        for cuts, seams, plain in ((own, one, other), (moved, other, one)):
            found, pixels = changes(seams, cuts, within)
            at += found
            elsewhere += changes(plain, cuts, within)[0]
    ratio = sum(at) / sum(elsewhere)
    drawn = np.random.default_rng(0).integers(len(at), size=(2000, len(at)))
    ratios = np.array(at)[drawn].sum(1) / np.array(elsewhere)[drawn].sum(1)
    low, high = np.percentile(ratios, (2.5, 97.5))
    return (
        f"overlap {overlap:<6g} {len(at):4} borders, {sum(at) / len(at) / pixels:.3%} of pairs "
        f"along them are boundaries, {sum(elsewhere) / len(at) / pixels:.3%} elsewhere; ratio "
        f"{ratio:.3f} ({low:.3f} to {high:.3f}); {np.mean(first != second):.2%} of pixels differ"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="PHOTOGRAPHS")
    parser.add_argument("--photographs", type=int, default=300, help="how many")
    parser.add_argument("--overlap", type=float, nargs="+", default=(0, 0.125, 0.25, 0.5))
    parser.add_argument("--side", type=int, default=513)
    parser.add_argument("--within", type=int, default=4)
    parser.add_argument("--model")
    arguments = parser.parse_args()
    found = find([str(arguments.folder)])[: arguments.photographs]
    paths = [source.path for source in found]
    mosaic = put_together(paths)
    with Predictor.open(arguments.model) as predictor:
        height, width = mosaic.shape[:2]
        print(f"{len(paths)} photographs, {width}×{height} pixels; {predictor.engine.name}")
        for overlap in arguments.overlap:
            print(compare(mosaic, arguments.side, overlap, arguments.within, predictor), flush=True)


if __name__ == "__main__":
    main()
