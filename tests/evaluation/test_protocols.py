import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.engines.fake import FakeEngine
from atrous.errors import ConfigError
from atrous.evaluation.protocols import Protocol, starts
from atrous.labels import generic
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor

Pixels = NDArray[np.uint8]
OWN = Preprocess(size=(64, 64), normalisation="div255")


def pooled(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """The brightest channel on a grid 4 times smaller."""
    n, c, h, w = batch.shape
    return batch[:, :, : h // 4 * 4, : w // 4 * 4].reshape(n, c, h // 4, 4, w // 4, 4).mean((3, 5))


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(pooled, num_classes=3)


def seen_by(engine: FakeEngine, own: Preprocess = OWN) -> Predictor:
    return Predictor(engine, own, generic(3))


def halves(height: int, width: int) -> tuple[Pixels, Pixels]:
    """A red left and a green right half, and their labels 0 and 1."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 200
    image[:, width // 2 :, 1] = 200
    label = np.zeros((height, width), np.uint8)
    label[:, width // 2 :] = 1
    return image, label


@pytest.mark.parametrize(
    "name", ["center-crop-64", "squash-64", "pad-64", "native", "slide-64", "tile-64-0.25", "whole"]
)
@pytest.mark.parametrize("shape", [(48, 60), (100, 160), (64, 64), (30, 200)])
def test_truth_and_prediction_lie_on_each_other(
    name: str, shape: tuple[int, int], engine: FakeEngine
) -> None:
    image, label = halves(*shape)
    protocol = Protocol.parse(name)
    preprocess = protocol.preprocess(OWN)
    truth = protocol.truth(label, preprocess)
    scored = protocol.predict(seen_by(engine), image)
    assert scored.finite
    assert truth.shape == scored.class_map.shape
    # Only a grid cell to each side of the border may be wrong.
    assert (truth == scored.class_map).mean() > 0.85


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("center-crop-64", (100, 160), (64, 64)),
        ("squash-64", (100, 160), (64, 64)),
        ("pad-64", (48, 60), (48, 60)),
        ("pad-64", (100, 160), (40, 64)),
        ("native", (100, 160), (100, 160)),
        ("slide-64", (100, 160), (100, 160)),
        ("tile-64-0.25", (100, 160), (100, 160)),
        ("whole", (100, 160), (100, 160)),
    ],
)
def test_what_is_scored(name: str, shape: tuple[int, int], expected: tuple[int, int]) -> None:
    protocol = Protocol.parse(name)
    truth = protocol.truth(halves(*shape)[1], protocol.preprocess(OWN))
    assert truth.shape == expected


def test_labels_are_resized_by_pillow() -> None:
    label = np.random.default_rng(0).integers(0, 3, (37, 53), np.uint8)
    protocol = Protocol.parse("squash-64")
    truth = protocol.truth(label, protocol.preprocess(OWN))
    expected = Image.fromarray(label).resize((64, 64), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(truth, np.asarray(expected))


def test_center_crop_is_the_references() -> None:
    # 375×500, short side to 513: 513×684, the crop begins at round((684 - 513) / 2) = 86.
    label = np.random.default_rng(0).integers(0, 3, (375, 500), np.uint8)
    protocol = Protocol.parse("center-crop-513")
    truth = protocol.truth(label, protocol.preprocess(OWN))
    resized = Image.fromarray(label).resize((684, 513), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(truth, np.asarray(resized)[:, 86 : 86 + 513])


def test_geometry_is_the_protocols_and_normalisation_the_models() -> None:
    own = Preprocess(size=(64, 64), fit="letterbox", colour="bgr", padding=(1, 2, 3))
    made = Protocol.parse("center-crop-32").preprocess(own)
    assert (made.fit, made.size, made.interpolation) == ("crop", (32, 32), "pillow-bilinear")
    assert (made.colour, made.padding, made.origin) == ("bgr", None, None)


@pytest.mark.parametrize(
    ("extent", "side", "expected"),
    [
        (40, 64, [0]),
        (64, 64, [0]),
        (65, 64, [0, 1]),
        (160, 64, [0, 43, 86, 96]),
        (1000, 513, [0, 342, 487]),
    ],
)
def test_windows(extent: int, side: int, expected: list[int]) -> None:
    assert starts(extent, side) == expected


def test_windows_average_their_logits() -> None:
    """Each window scores class 1 by how far right it begins; where two meet, the mean decides."""
    seen: list[float] = []

    def by_window(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        first = float(batch[0, 0, 0, 0])
        seen.append(first)
        logits = np.zeros((1, 3, *batch.shape[2:]), np.float32)
        logits[:, 0], logits[:, 1] = 0.5, 1.0 if first > 0.5 else 0.2
        return logits

    image = np.zeros((8, 12, 3), np.uint8)
    image[:, 4:] = 255
    protocol = Protocol.parse("slide-8")
    scored = protocol.predict(seen_by(FakeEngine(by_window, 3)), image)
    assert seen == [0.0, 1.0]
    # Columns 0-3: 0.2 < 0.5. Columns 4-7: (0.2 + 1) / 2 > 0.5. Columns 8-11: 1.
    assert scored.class_map[0].tolist() == [0] * 4 + [1] * 8


@pytest.mark.parametrize("name", ["tile-64-0.25", "tile-64-0", "tile-64-0.5"])
def test_tiles_have_their_overlap_in_their_name(name: str) -> None:
    assert Protocol.parse(name).name == name
    with pytest.raises(ConfigError, match="flip does not belong to tile-64"):
        Protocol.parse(name, flip=True)


@pytest.mark.parametrize("name", ["tile-64", "tile-0-0.25", "tile-64-0.9", "tile-64-x"])
def test_what_are_no_tiles(name: str) -> None:
    with pytest.raises(ConfigError, match=r"expected (0 to 0\.75|center-crop-N)"):
        Protocol.parse(name)


def test_flip_averages_the_mirror_image() -> None:
    """An engine that always prefers the left: flipped and averaged it prefers nothing."""

    def leftish(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = np.zeros((1, 3, *batch.shape[2:]), np.float32)
        logits[:, 2, :, : batch.shape[3] // 2] = 1.0
        logits[:, 1] = 0.6
        return logits

    image = np.zeros((64, 64, 3), np.uint8)
    for flip, expected in ((False, [2, 1]), (True, [1, 1])):
        protocol = Protocol.parse("native", flip=flip)
        scored = protocol.predict(seen_by(FakeEngine(leftish, 3)), image)
        assert scored.class_map[0, [10, 50]].tolist() == expected


@pytest.mark.parametrize("name", ["squash-64", "slide-64", "tile-64-0.25", "native+flip"])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_network_of_fixed_batch_scores_the_same(
    name: str, batch: int, engine: FakeEngine
) -> None:
    image, _ = halves(100, 160)
    protocol = Protocol.parse(name.removesuffix("+flip"), flip=name.endswith("+flip"))
    fixed = protocol.predict(seen_by(FakeEngine(pooled, 3, batch=batch)), image)
    free = protocol.predict(seen_by(engine), image)
    np.testing.assert_array_equal(fixed.class_map, free.class_map)


def test_several_scales(engine: FakeEngine) -> None:
    image, label = halves(100, 160)
    protocol = Protocol.parse("whole", scales=(0.5, 1.0, 1.5), flip=True)
    assert protocol.name == "whole+scales-0.5-1-1.5+flip"
    scored = protocol.predict(seen_by(engine), image)
    assert (scored.class_map == label).mean() > 0.95


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_noticed(value: float) -> None:
    engine = FakeEngine(lambda x: np.full_like(x, value), 3)
    protocol = Protocol.parse("squash-64")
    image, _ = halves(20, 20)
    assert not protocol.predict(seen_by(engine), image).finite


@pytest.mark.parametrize("name", ["squash", "squash-0", "squash-513px", "native-513", "crop-513"])
def test_unknown_protocols(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"protocol '{name}': expected center-crop-N"):
        Protocol.parse(name)


def test_scales_need_a_protocol_without_a_size() -> None:
    with pytest.raises(ConfigError, match="several scales belong to native or whole"):
        Protocol.parse("squash-513", scales=(0.5, 1.0))
    with pytest.raises(ConfigError, match="expected numbers over 0"):
        Protocol.parse("whole", scales=(0.0,))


@pytest.mark.parametrize(
    "name", ["center-crop-64", "squash-64", "pad-64", "native", "slide-64", "whole", "whole+flip"]
)
def test_a_model_that_takes_uint8_is_fed_uint8_and_padded_as_it_says(name: str) -> None:
    """With whole padding both kinds see the same values, so they score the same."""
    image, _ = halves(40, 100)
    own = Preprocess(size=(64, 64), normalisation="none", padding=(124, 116, 104))
    seen: list[NDArray[np.uint8]] = []

    def raw(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(batch)
        return pooled(batch.astype(np.float32))

    protocol = Protocol.parse(name.removesuffix("+flip"), flip=name.endswith("+flip"))
    found = protocol.predict(seen_by(FakeEngine(raw, 3, dtype="uint8"), own), image)
    expected = protocol.predict(seen_by(FakeEngine(pooled, 3), own), image)
    np.testing.assert_array_equal(found.class_map, expected.class_map)
    assert {batch.dtype for batch in seen} == {np.dtype(np.uint8)}
    if name in ("pad-64", "slide-64"):
        assert seen[0][0, :, -1, -1].tolist() == [124, 116, 104]
    assert Protocol.parse("pad-64").preprocess(OWN).padding is None
