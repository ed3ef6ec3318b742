"""Images larger than the network sees at once: overlapping tiles, blended in logits.

Of every tile the logits on their grid are kept until the rows below have been seen, and nothing at
the size of the image: memory grows with its width alone. Where one tile lies, its class map is
made by the exact kernel; where several overlap, their enlarged logits are added with weights that
fall linearly to zero at a tile's edge.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from atrous import upsample
from atrous.engines import dry_run
from atrous.errors import ConfigError
from atrous.runtime.pipeline import TIMEOUT, Pipeline
from atrous.runtime.prediction import Prediction
from atrous.runtime.predictor import Predictor
from atrous.runtime.stages import Frame, Steps, stages

Pixels = NDArray[np.uint8]

OVERLAP = 0.25
MOST_OVERLAP = 0.75


class Raster(Protocol):
    """An image that is read piece by piece.

    Attributes:
        height: rows.
        width: columns.
    """

    @property
    def height(self) -> int: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102

    def rows(self, start: int, stop: int) -> Pixels:
        """`(stop - start, width, 3)` uint8 RGB; asked for from top to bottom, with overlaps."""
        ...


@dataclass(frozen=True, slots=True)
class ArrayRaster:
    """An image in memory, `(H, W, 3)` uint8 RGB."""

    pixels: Pixels

    @property
    def height(self) -> int:
        """Rows."""
        return len(self.pixels)

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

    def rows(self, start: int, stop: int) -> Pixels:
        """A view of some rows."""
        return self.pixels[start:stop]


@dataclass(frozen=True, slots=True)
class Segment:
    """Pixels along one axis that the same tiles cover.

    Attributes:
        start: the first.
        stop: the one behind the last.
        tiles: numbers of the tiles.
    """

    start: int
    stop: int
    tiles: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tiling:
    """Where tiles lie along one axis: as few as the overlap allows, evenly spread.

    Attributes:
        length: pixels of the image.
        side: pixels of a tile.
        overlap: share of a tile that it has in common with the next one, at least.
    """

    length: int
    side: int
    overlap: float

    @property
    def starts(self) -> tuple[int, ...]:
        """First pixel of each tile."""
        rest = self.length - self.side
        if rest <= 0:
            return (0,)
        steps = math.ceil(rest / max(1, math.floor(self.side * (1 - self.overlap))))
        return tuple(rest * number // steps for number in range(steps + 1))

    def segments(self) -> list[Segment]:
        """The axis cut wherever a tile begins or ends."""
        starts = self.starts
        ends = [min(start + self.side, self.length) for start in starts]
        cuts = sorted({*starts, *ends})
        return [
            Segment(a, b, tuple(i for i, s in enumerate(starts) if s <= a and b <= ends[i]))
            for a, b in pairwise(cuts)
        ]

    def weights(self, tile: int, segment: Segment) -> NDArray[np.float32]:
        """How much a tile counts at the pixels of a segment: 1 inside, falling towards its edges.

        Returns:
            `(stop - start,)`, each above 0.
        """
        inside = np.arange(segment.start, segment.stop, dtype=np.float32) - self.starts[tile]
        edge = np.minimum(inside, self.side - 1 - inside) + np.float32(0.5)
        falls_over = np.float32(max(self.side * self.overlap, 0.5))
        return np.asarray(np.minimum(edge / falls_over, 1), np.float32)


def check(side: int, overlap: float) -> None:
    """Raise `ConfigError` if these are no tiles."""
    if not 0 <= overlap <= MOST_OVERLAP:
        raise ConfigError(f"`overlap`: expected 0 to {MOST_OVERLAP}, got {overlap:g}")
    if side < 1:
        raise ConfigError(f"`side`: expected pixels, 1 or more, got {side}")


def tiled(predictor: Predictor, side: int) -> Predictor:
    """The same network seeing square tiles as they are, padded where the image ends.

    Args:
        predictor: stays the owner of its engine.
        side: of a tile, pixels.

    Raises:
        ConfigError: the network takes images of another size.
    """
    signature = predictor.engine.signature
    if not signature.takes(side, side):
        raise ConfigError(
            f"`side` {side}: the network takes {signature.size} pixels; take a square of that, or "
            "export the network with `dynamic` height,width"
        )
    dry_run.check(
        predictor.engine, "the network", (side, side), lambda fitting: f"`side` {fitting.size[0]}"
    )
    geometry = {"size": (side, side), "fit": "pad", "resize": None, "origin": None}
    return predictor.seeing(predictor.preprocess.model_copy(update=geometry))


def segment(
    predictor: Predictor,
    raster: Raster,
    *,
    side: int = 513,
    overlap: float = OVERLAP,
    batch: int | None = None,
    timeout: float | None = TIMEOUT,
) -> Generator[Pixels]:
    """Segment a large image from top to bottom.

    Args:
        predictor: the network.
        raster: the image.
        side: of a tile, pixels.
        overlap: share of a tile that it has in common with its neighbour, at least.
        batch: tiles that the network sees at once; by default its own number, 1 if it is free.
        timeout: seconds after which a step counts as stuck.

    Yields:
        `(h, width)` uint8 class ids, band after band without gaps.

    Raises:
        ConfigError: the network takes another size, or the overlap is out of range.
        AtrousError: the image cannot be read, or the network failed.
    """
    check(side, overlap)
    sees = tiled(predictor, side)
    down, across = Tiling(raster.height, side, overlap), Tiling(raster.width, side, overlap)
    work = stages(Steps(sees), batch=batch)
    with Pipeline((work.prepare, work.network), timeout=timeout) as pipeline:
        tiles = pipeline.map(_frames(raster, down, across))
        seen: dict[int, list[Prediction]] = {}
        for band in down.segments():
            while band.tiles[-1] not in seen:
                row = []
                for _ in across.starts:
                    item = next(tiles)
                    if item.error is not None:
                        raise item.error
                    assert item.value.prediction is not None
                    row.append(item.value.prediction)
                seen[len(seen)] = row
            for past in range(band.tiles[0]):
                seen[past] = []
            yield _classes(seen, band, down, across)


def _frames(raster: Raster, down: Tiling, across: Tiling) -> Iterator[Frame]:
    for top in down.starts:
        rows = raster.rows(top, min(top + down.side, down.length))
        for left in across.starts:
            yield Frame(rows[:, left : left + across.side])


def _classes(
    seen: dict[int, list[Prediction]], band: Segment, down: Tiling, across: Tiling
) -> Pixels:
    """The class map of one band."""
    result = np.empty((band.stop - band.start, across.length), np.uint8)
    for part in across.segments():
        target = result[:, part.start : part.stop]
        total: NDArray[np.float32] | None = None
        for row in band.tiles:
            for column in part.tiles:
                one = seen[row][column]
                rows = one.rows.part(*_inside(band, down.starts[row]))
                columns = one.columns.part(*_inside(part, across.starts[column]))
                if len(band.tiles) == len(part.tiles) == 1:
                    upsample.argmax(one.grid, rows, columns, out=target)
                    continue
                logits = upsample.enlarge(one.grid, rows, columns)
                logits *= down.weights(row, band)[:, None] * across.weights(column, part)
                total = logits if total is None else np.add(total, logits, out=total)
        if total is not None:
            target[:] = total.argmax(0)
    return result


def _inside(segment: Segment, start: int) -> tuple[int, int]:
    return segment.start - start, segment.stop - start
