import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from atrous.artifact import Metadata, save
from atrous.engines.fake import FakeEngine
from atrous.errors import ConfigError, EngineError, InputError
from atrous.labels import VOC, generic
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor

Model = Callable[..., onnx.ModelProto]
Pixels = NDArray[np.uint8]


def brightest_channel(preprocess: Preprocess, grid: int = 4) -> Predictor:
    """The class of a pixel is its brightest channel, seen on a grid `grid` times smaller."""
    engine = FakeEngine(
        lambda x: x.reshape(*x.shape[:2], x.shape[2] // grid, grid, -1, grid).mean((3, 5)), 3
    )
    return Predictor(engine, preprocess, generic(3))


@pytest.mark.parametrize("shape", [(40, 60), (64, 64), (200, 90), (1, 20)])
@pytest.mark.parametrize("fit", ["squash", "letterbox", "pad", "crop"])
def test_the_class_map_lies_on_the_image(fit: str, shape: tuple[int, int]) -> None:
    """Left half red, right half green: the border comes out where it is, whatever the fit."""
    height, width = shape
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 200
    image[:, width // 2 :, 1] = 200
    preprocess = Preprocess.from_dict({"size": (64, 64), "fit": fit, "normalisation": "div255"})
    prediction = brightest_channel(preprocess)(image)
    class_map = prediction.class_map()
    assert class_map.shape == (height, width)
    top, bottom, left, right = prediction.seen
    expected = np.repeat((np.arange(width) >= width // 2)[None], height, 0).astype(np.uint8)
    outside = np.ones(shape, bool)
    outside[top:bottom, left:right] = False
    assert (class_map[outside] == 255).all()
    assert (fit == "crop") or not outside.any()
    wrong = (class_map != expected) & ~outside
    # One grid cell to each side of the border is as fine as the network sees.
    cell = 1 / prediction.columns.scale  # pixels of the image
    assert wrong.sum() <= height * 2 * np.ceil(cell)


def test_logits_and_probabilities_agree_with_the_class_map(image: Pixels) -> None:
    prediction = brightest_channel(Preprocess(size=(32, 32)))(image)
    class_map = prediction.class_map()
    logits, probabilities = prediction.logits(), prediction.probabilities()
    assert logits.shape == probabilities.shape == (3, 40, 60)
    np.testing.assert_array_equal(logits.argmax(0), class_map)
    np.testing.assert_allclose(probabilities.sum(0), 1, rtol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(0), class_map)


def test_unseen_pixels_have_no_numbers() -> None:
    preprocess = Preprocess(size=(32, 32), fit="crop")
    prediction = brightest_channel(preprocess)(np.full((32, 64, 3), 9, np.uint8))
    class_map, logits = prediction.class_map(), prediction.logits()
    assert prediction.seen == (0, 32, 16, 48)
    assert (class_map[:, :16] == 255).all()
    assert (class_map[:, 16:48] != 255).all()
    assert np.isnan(logits[:, :, :16]).all()
    assert np.isfinite(logits[:, :, 16:48]).all()


def test_a_crop_between_two_pixels_sees_nothing() -> None:
    preprocess = Preprocess(size=(32, 32), fit="crop", resize=100)
    prediction = brightest_channel(preprocess)(np.zeros((1, 2, 3), np.uint8))
    assert (prediction.class_map() == 255).all()
    assert np.isnan(prediction.logits()).all()


def test_opens_an_artefact_with_what_it_says(small_model: Model, tmp_path: Path) -> None:
    preprocess = Preprocess(size=(32, 32), normalisation="div255")
    labels = generic(3)
    path = tmp_path / "m.onnx"
    save(small_model(), Metadata(name="small", labels=labels, preprocess=preprocess), path)
    with Predictor.open(path) as predictor:
        assert predictor.preprocess == preprocess
        assert predictor.labels == labels
        green = np.zeros((10, 20, 3), np.uint8)
        green[:, :, 1] = 255
        assert (predictor(green).class_map() == 1).all()


def test_assumptions_are_said_aloud(
    small_model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    onnx.save(small_model(), tmp_path / "m.onnx")
    with caplog.at_level(logging.WARNING, "atrous"), Predictor.open(tmp_path / "m.onnx") as p:
        assert p.preprocess == Preprocess(size=(32, 32))
    assert "assuming RGB squashed to 32×32" in caplog.text
    assert "does not name its classes" in caplog.text


def test_size_of_a_fixed_model_cannot_change(small_model: Model, tmp_path: Path) -> None:
    onnx.save(small_model(), tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match=r"takes \(32, 32\) pixels but .* makes \(64, 64\)"):
        Predictor.open(tmp_path / "m.onnx", size=(64, 64))


def test_labels_must_fit(small_model: Model, tmp_path: Path) -> None:
    onnx.save(small_model(), tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="3 classes but label set 'voc' has 21"):
        Predictor.open(tmp_path / "m.onnx", labels=VOC)


def test_an_engine_that_makes_something_else() -> None:
    predictor = Predictor(FakeEngine(lambda x: x[:, :2], 3), Preprocess(size=(8, 8)), generic(3))
    with pytest.raises(EngineError, match=r"made scores \(2, 8, 8\), expected 3 classes"):
        predictor(np.zeros((4, 4, 3), np.uint8))


def test_bad_images_are_named() -> None:
    with pytest.raises(InputError, match="image: expected uint8"):
        brightest_channel(Preprocess(size=(8, 8)))(np.zeros((4, 4, 4), np.uint8))


def test_a_prediction_outlives_the_next_one(image: Pixels) -> None:
    memory = np.empty((1, 3, 16, 16), np.float32)

    def into_the_same_memory(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        memory[:] = batch
        return memory

    engine = FakeEngine(into_the_same_memory, 3)
    predictor = Predictor(engine, Preprocess(size=(16, 16)), generic(3))
    first = predictor(image)
    before = first.class_map()
    predictor(np.ascontiguousarray(image[:, ::-1]))
    np.testing.assert_array_equal(first.class_map(), before)


def test_a_network_that_takes_uint8(tmp_path: Path, small_model: Model, image: Pixels) -> None:
    """Normalised in the graph or before it: the same classes."""
    for dtype in ("float32", "uint8"):
        metadata = Metadata(
            name=dtype,
            labels=generic(3),
            preprocess=Preprocess(size=(32, 32), normalisation="none"),
        )
        save(small_model(dtype=dtype), metadata, tmp_path / f"{dtype}.onnx")
    with (
        Predictor.open(tmp_path / "uint8.onnx") as raw,
        Predictor.open(tmp_path / "float32.onnx") as plain,
    ):
        assert raw.engine.signature.dtype == "uint8"
        np.testing.assert_array_equal(raw(image).class_map(), plain(image).class_map())
    with pytest.raises(ConfigError, match="the network takes uint8 and normalises itself"):
        Predictor.open(tmp_path / "uint8.onnx", preprocess=Preprocess(size=(32, 32)))


def test_somebody_elses_uint8_network_gets_the_pixels_as_they_are(
    tmp_path: Path, small_model: Model, image: Pixels, caplog: pytest.LogCaptureFixture
) -> None:
    onnx.save(small_model(dtype="uint8"), tmp_path / "m.onnx")
    with Predictor.open(tmp_path / "m.onnx") as predictor:
        assert predictor.preprocess.normalisation == "none"
        assert predictor(image).class_map()[20, [10, 50]].tolist() == [0, 1]
    assert "assuming RGB squashed to 32×32, 0–255 as uint8" in caplog.text


def test_scores_that_are_no_numbers(image: Pixels) -> None:
    for wrong in (np.nan, np.inf):
        engine = FakeEngine(lambda x, wrong=wrong: np.where(x > 0, x, wrong), 3)
        predictor = Predictor(engine, Preprocess(size=(8, 8)), generic(3))
        with pytest.raises(EngineError, match=r"not all numbers \(NaN or infinite\): its weights"):
            predictor(image)


@pytest.mark.parametrize("shape", [(), (5,), (4, 4), (4, 4, 4), (0, 4, 3)])
def test_prepare_names_what_is_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="image: expected uint8"):
        brightest_channel(Preprocess(size=(8, 8))).prepare(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("image", [[[[1, 2, 3]]], "a.png", object()])
def test_prepare_names_what_is_no_array(image: Any) -> None:
    with pytest.raises(InputError, match=r"image: expected an array.* `atrous.image.read` reads"):
        brightest_channel(Preprocess(size=(8, 8))).prepare(image)


@pytest.mark.parametrize(("batch", "given"), [(None, 1), (None, 3), (1, 1), (4, 1), (4, 3), (4, 4)])
def test_a_network_of_fixed_batch_sees_zeros_in_place_of_the_rest(
    batch: int | None, given: int
) -> None:
    seen = []

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(images.copy())
        return images

    engine = FakeEngine(run, 3, batch=batch)
    predictor = Predictor(engine, Preprocess(size=(8, 8)), generic(3))
    tensors = [np.full((3, 8, 8), 1 + number, np.float32) for number in range(given)]
    logits = predictor.logits(tensors)
    [images] = seen
    assert len(images) == (batch or given)
    assert images.mean((1, 2, 3)).tolist() == [*range(1, given + 1), *[0] * (len(images) - given)]
    np.testing.assert_array_equal(logits, tensors)
    assert not any(np.shares_memory(one, two) for one in logits for two in tensors)


def test_more_images_than_the_network_takes_are_seen_in_turn() -> None:
    seen: list[int] = []

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(len(images))
        return images

    predictor = Predictor(FakeEngine(run, 3, batch=2), Preprocess(size=(8, 8)), generic(3))
    tensors = [np.full((3, 8, 8), number, np.float32) for number in range(5)]
    np.testing.assert_array_equal(predictor.logits(tensors), tensors)
    assert seen == [2, 2, 2]
