"""Tiles of a large image: nothing is lost, nothing shows, little is kept."""

from __future__ import annotations

import gc
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.engines.fake import FakeEngine
from atrous.engines.signature import Signature
from atrous.errors import ConfigError, EngineError
from atrous.jobs.large.tiles import ArrayRaster, Tiling, segment
from atrous.labels import generic
from atrous.preprocess import Preprocess
from atrous.runtime.prediction import Prediction
from atrous.runtime.predictor import Predictor

Pixels = NDArray[np.uint8]
Batch = NDArray[np.float32]


def photograph(height: int, width: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def predictor(function: object, side: int = 16, classes: int = 3) -> Predictor:
    engine = FakeEngine(function, num_classes=classes)  # type: ignore[arg-type]
    return Predictor(engine, Preprocess(size=(side, side), normalisation="none"), generic(classes))


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize(
    ("height", "width"), [(16, 16), (7, 5), (17, 16), (33, 64), (50, 9), (60, 75)]
)
def test_a_network_that_looks_at_single_pixels_sees_no_tiles(
    height: int, width: int, overlap: float
) -> None:
    image = photograph(height, width)
    bands = list(segment(predictor(lambda batch: batch), ArrayRaster(image), side=16,
                         overlap=overlap))  # fmt: skip
    found = np.concatenate(bands)
    np.testing.assert_array_equal(found, image.argmax(2))


@pytest.mark.parametrize(("length", "side", "overlap"), [(5, 8, 0.2), (64, 8, 0.25), (65, 8, 0.7)])
def test_tiles_cover_an_axis_with_the_overlap_that_was_asked(
    length: int, side: int, overlap: float
) -> None:
    tiling = Tiling(length, side, overlap)
    starts = tiling.starts
    assert starts[0] == 0
    assert starts[-1] == max(0, length - side)
    assert all(0 < b - a <= side * (1 - overlap) for a, b in pairwise(starts))
    cuts = tiling.segments()
    assert [cut.start for cut in cuts] == [0, *(cut.stop for cut in cuts[:-1])]
    assert cuts[-1].stop == length
    for cut in cuts:
        assert cut.tiles == tuple(
            i for i, s in enumerate(starts) if s <= cut.start and cut.stop <= s + side
        )
        for tile in cut.tiles:
            weights = tiling.weights(tile, cut)
            assert weights.shape == (cut.stop - cut.start,)
            assert weights.min() > 0
            assert weights.max() <= 1


def test_logits_fade_from_tile_to_tile() -> None:
    """A network that tells tiles apart: half-way between two of them the classes change."""
    calls = iter(range(9))

    def by_turns(batch: Batch) -> Batch:
        scores = np.zeros((len(batch), 2, 4, 4), np.float32)
        for one in scores:
            one[next(calls) % 2] = 1
        return scores

    image = photograph(16, 28)
    [found] = segment(predictor(by_turns, classes=2), ArrayRaster(image), side=16, overlap=0.25)
    np.testing.assert_array_equal(found[0], [0] * 14 + [1] * 14)
    assert (found == found[0]).all()


def test_what_is_bad_at_the_edge_of_a_tile_does_not_show() -> None:
    def edgy(batch: Batch) -> Batch:
        scores = batch.copy()
        bad = np.ones(scores.shape[2:], bool)
        bad[1:-1, 1:-1] = False
        scores[:, :, bad] = [[255], [0], [0]]
        return scores

    image = np.zeros((60, 60, 3), np.uint8)
    image[..., 1] = 255
    found = np.concatenate(list(segment(predictor(edgy), ArrayRaster(image), side=16)))
    assert (found[1:-1, 1:-1] == 1).all()
    assert (found[0] == 0).all()


def test_rows_are_read_once_for_each_row_of_tiles_and_no_earlier_than_needed() -> None:
    class Watched(ArrayRaster):
        asked: list[tuple[int, int]] = []  # noqa: RUF012

        def rows(self, start: int, stop: int) -> Pixels:
            self.asked.append((start, stop))
            return super().rows(start, stop)

    image = photograph(400, 40)
    raster = Watched(image)
    bands = segment(predictor(lambda batch: batch), raster, side=16)
    first = next(bands)
    assert len(first) == 12
    assert len(raster.asked) < 8
    rest = list(bands)
    assert np.concatenate([first, *rest]).shape == (400, 40)
    assert raster.asked == [(s, s + 16) for s in Tiling(400, 16, 0.25).starts]


def test_tiles_that_no_band_needs_any_more_are_not_kept() -> None:
    def kept() -> int:
        return sum(isinstance(one, Prediction) for one in gc.get_objects())

    bands = segment(predictor(lambda batch: batch), ArrayRaster(photograph(400, 16)), side=16)
    assert len(Tiling(400, 16, 0.25).starts) == 33
    gc.collect()
    of_other_tests = kept()
    assert max(kept() for _ in bands) - of_other_tests < 10


def test_several_tiles_at_once() -> None:
    sizes = []

    def count(batch: Batch) -> Batch:
        sizes.append(len(batch))
        return batch

    image = photograph(40, 64)
    found = np.concatenate(list(segment(predictor(count), ArrayRaster(image), side=16, batch=4)))
    np.testing.assert_array_equal(found, image.argmax(2))
    assert max(sizes) == 4


def test_a_network_that_fails_ends_it() -> None:
    def fail(batch: Batch) -> Batch:
        raise EngineError("the device is gone")

    with pytest.raises(EngineError, match="the device is gone"):
        list(segment(predictor(fail), ArrayRaster(photograph(40, 40)), side=16))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"overlap": 0.9}, "`overlap`: expected 0 to 0.75, got 0.9"),
        ({"overlap": float("nan")}, "`overlap`: expected 0 to 0.75"),
        ({"side": 0}, "`side`: expected pixels, 1 or more, got 0"),
    ],
)
def test_wrong_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        next(segment(predictor(lambda b: b), ArrayRaster(photograph(9, 9)), **settings))  # type: ignore[arg-type]


def test_a_network_of_fixed_size_takes_tiles_of_that_size_alone() -> None:
    fixed = predictor(lambda batch: batch)
    fixed.engine.signature = Signature.of(3, size=(16, 16))
    with pytest.raises(ConfigError, match=r"`side` 32: the network takes \(16, 16\) pixels"):
        next(segment(fixed, ArrayRaster(photograph(9, 9)), side=32))
