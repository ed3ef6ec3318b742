"""Segment image files of any size into masks, in memory that does not grow with their height."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atrous import image
from atrous.errors import InputError
from atrous.files import unfinished
from atrous.image import Reading
from atrous.jobs.large import raster, tiles
from atrous.jobs.large.raster import FileRaster
from atrous.jobs.output import FAILURES, ImageResult, Output, Results
from atrous.jobs.renaming import follow_names
from atrous.jobs.sources import Source
from atrous.pictures.geotiff import shrunk
from atrous.runtime.predictor import Predictor

Pixels = NDArray[np.uint8]
TIFF = (".tif", ".tiff")


def segment(
    predictor: Predictor,
    sources: Iterable[Source],
    output: Output,
    *,
    side: int,
    overlap: float = tiles.OVERLAP,
    reading: Reading | None = None,
    max_pixels: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Generator[ImageResult]:
    """Segment images one after the other, each tile by tile.

    A file that fails becomes a result that says why, and the others go on.

    Args:
        predictor: the network.
        sources: see `atrous.jobs.sources.find`.
        output: where the results go. Masks of TIFF files that say where on Earth they lie are TIFF
            files with their tags.
        side: of a tile, pixels.
        overlap: share of a tile that it has in common with its neighbour.
        reading: how images are read; its limit on pixels holds for those that are read at once.
        max_pixels: refuse larger images whichever way they are read.
        progress: called with the rows of an image that are done, and all of them.

    Raises:
        ConfigError: the network takes tiles of another size, or the overlap is out of range.
        InputError: `output` cannot be a folder.
    """
    tiles.check(side, overlap)
    seeing = tiles.tiled(predictor, side)
    reading = (reading or Reading()).by_default(predictor.preprocess.value_range)
    sources, setting = list(sources), f"{overlap:g} {reading.taking}".strip()
    results = Results(output, seeing, setting, raster.stamp_of)
    follow_names(results, ((source.path, source.stem) for source in sources))
    job = _Job(seeing, results, side, overlap, progress)
    for source in sources:
        try:
            source.check()
            with FileRaster(source.path, reading, max_pixels) as file:
                _check_width(file, side, max_pixels or reading.max_pixels)
                yield job.do(source, file)
        except FAILURES as error:
            yield ImageResult.failure(source.path, error)


def _check_width(file: FileRaster, side: int, most: int) -> None:
    """Refuse an image of which there is no room for a row of tiles.

    Raises:
        InputError: it is too wide.
    """
    rows = min(side, file.height)
    if file.width * rows > most:
        raise InputError(
            f"{file.path}: it is {file.width} pixels wide, and {rows} rows are read at once: more "
            f"than the limit of {most} pixels; take smaller tiles, or raise `max_pixels`"
        )


@dataclass(frozen=True, slots=True)
class _Job:
    """What is done to each image."""

    predictor: Predictor
    results: Results
    side: int
    overlap: float
    progress: Callable[[int, int], object] | None

    def do(self, source: Source, file: FileRaster) -> ImageResult:
        geographic = file.georeferenced and source.path.suffix.lower() in TIFF
        suffix = ".tif" if geographic else ".png"
        target = self.results.claim(self.results.target(source.path, source.stem, suffix))
        if isinstance(target, ImageResult):
            return target
        sums = _Sums(file.height, file.width)
        with ExitStack() as files:
            bands = self._bands(file, sums)
            if target.mask is None:
                deque(bands, maxlen=0)
            else:
                mask = files.enter_context(unfinished(target.mask))
                geographic = target.mask.suffix.lower() in TIFF
                labels = self.predictor.labels
                raster.write_mask(mask, bands, file, labels, target.made_from, geographic)
            if target.overlay is not None:
                pixels = file.small(image.OVERLAY_SIDE)
                self.results.draw(target, pixels, sums.small, sums.shares)
        return self.results.written(target, file.width, file.height, sums.shares)

    def _bands(self, file: FileRaster, sums: _Sums) -> Iterator[Pixels]:
        found = tiles.segment(self.predictor, file, side=self.side, overlap=self.overlap)
        with closing(found):
            for band in found:
                empty = file.without_data(len(band))
                band[empty] = self.predictor.labels.ignore_index
                sums.add(band, empty)
                yield band
                if self.progress is not None:
                    self.progress(sums.done, file.height)


class _Sums:
    """What is kept of a class map that goes by in bands: a small one, and how much of each class.

    Attributes:
        small: `(h, w)` uint8, every so many pixels.
        done: rows that went by.
    """

    def __init__(self, height: int, width: int) -> None:
        tall, wide = shrunk(height, width, image.OVERLAY_SIDE)
        self.small = np.zeros((tall, wide), np.uint8)
        self._rows = (np.arange(tall) * 2 + 1) * height // (2 * tall)
        self._columns = (np.arange(wide) * 2 + 1) * width // (2 * wide)
        self._counts = np.zeros(256, np.int64)
        self.done = 0

    def add(self, band: Pixels, empty: NDArray[np.bool_]) -> None:
        """The next band, `(h, width)`, and where it has no data."""
        first, last = np.searchsorted(self._rows, (self.done, self.done + len(band)))
        rows = self._rows[first:last] - self.done
        self.small[first:last] = band[rows][:, self._columns]
        self._counts += np.bincount(
            band[~empty] if empty.any() else band.reshape(-1), minlength=256
        )
        self.done += len(band)

    @property
    def shares(self) -> dict[int, float]:
        """As `atrous.image.class_shares`."""
        order = np.argsort(-self._counts, kind="stable")
        total = self._counts.sum()
        return {int(i): float(self._counts[i] / total) for i in order if self._counts[i]}
