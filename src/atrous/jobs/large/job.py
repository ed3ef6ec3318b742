"""Segment image files of any size into masks, in memory that does not grow with their height."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous import image
from atrous.errors import AtrousError, InputError
from atrous.jobs.folder import Result, stamp_of
from atrous.jobs.large import raster, tiles
from atrous.jobs.large.raster import FileRaster, shrunk
from atrous.jobs.sources import Source
from atrous.runtime.predictor import Predictor

Pixels = NDArray[np.uint8]
TIFF = (".tif", ".tiff")


def segment(
    predictor: Predictor,
    sources: Iterable[Source],
    output: Path,
    *,
    side: int,
    overlap: float = tiles.OVERLAP,
    overlays: bool = True,
    opacity: float = 0.5,
    force: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Generator[Result]:
    """Segment images one after the other, each tile by tile.

    A file that fails becomes a result that says why, and the others go on.

    Args:
        predictor: the network.
        sources: see `atrous.jobs.sources.find`.
        output: gets `masks/STEM.tif` for TIFF files that say where on Earth they lie, with their
            tags, else `masks/STEM.png`; and `overlays/STEM.jpg`, at most 2048 pixels.
        side: of a tile, pixels.
        overlap: share of a tile that it has in common with its neighbour.
        overlays: whether to draw overlays.
        opacity: of the overlays' paint, 0–1.
        force: make results again that are there already.
        progress: called with the rows of an image that are done, and all of them.

    Raises:
        ConfigError: the network takes tiles of another size, or the overlap is out of range.
        InputError: `output` cannot be a folder.
    """
    tiles.check(side, overlap)
    seeing = tiles.tiled(predictor, side)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output}: cannot be made a folder: {error.strerror}") from None
    job = _Job(seeing, output, side, overlap, opacity if overlays else None, force, progress)
    for source in sources:
        try:
            with FileRaster(source.path) as file:
                yield job.do(source, file)
        except AtrousError as error:
            text = str(error)
            named = text if str(source.path) in text else f"{source.path}: {text}"
            yield Result(source.path, "failed", error=named)
        except (OSError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            yield Result(source.path, "failed", error=f"{source.path}: {reason}")


@dataclass(frozen=True, slots=True)
class _Job:
    """What is done to each image; without `opacity` no overlay."""

    predictor: Predictor
    output: Path
    side: int
    overlap: float
    opacity: float | None
    force: bool
    progress: Callable[[int, int], object] | None

    def do(self, source: Source, file: FileRaster) -> Result:
        overlay = None
        if self.opacity is not None:
            overlay = self.output / "overlays" / f"{source.stem}.jpg"
        geographic = file.georeferenced and source.path.suffix.lower() in TIFF
        mask = self.output / "masks" / f"{source.stem}{'.tif' if geographic else '.png'}"
        stamp = f"{stamp_of(source.path, self.predictor)} {self.overlap:g}"
        if not self.force and mask.exists() and (overlay is None or overlay.exists()):
            same = raster.stamp_of(mask) == stamp
            return Result(source.path, "kept" if same else "stale", mask, overlay)
        sums = _Sums(file.height, file.width)
        labels = self.predictor.labels

        def bands() -> Iterator[Pixels]:
            found = tiles.segment(self.predictor, file, side=self.side, overlap=self.overlap)
            with closing(found):
                for band in found:
                    sums.add(band)
                    yield band
                    if self.progress is not None:
                        self.progress(sums.done, file.height)
            # Before the mask is renamed: where it is, the rest is too.
            if overlay is not None and self.opacity is not None:
                pixels = file.small(image.OVERLAY_SIDE)
                small = sums.small
                image.write_overlay(overlay, pixels, small, labels, self.opacity, sums.shares)

        raster.write_mask(mask, bands(), file, labels, stamp)
        size = (file.width, file.height)
        return Result(source.path, "written", mask, overlay, size, sums.shares)


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

    def add(self, band: Pixels) -> None:
        """The next band, `(h, width)`."""
        first, last = np.searchsorted(self._rows, (self.done, self.done + len(band)))
        rows = self._rows[first:last] - self.done
        self.small[first:last] = band[rows][:, self._columns]
        self._counts += np.bincount(band.reshape(-1), minlength=256)
        self.done += len(band)

    @property
    def shares(self) -> dict[int, float]:
        """As `atrous.image.class_shares`."""
        order = np.argsort(-self._counts, kind="stable")
        total = self._counts.sum()
        return {int(i): float(self._counts[i] / total) for i in order if self._counts[i]}
