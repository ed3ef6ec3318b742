import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.engines.fake import FakeEngine
from atrous.errors import InputError
from atrous.labels import LabelSet, named
from atrous.pictures.samples import Picture
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor

PETS = named(("background", "cat", "sky"))


def brightest(labels: LabelSet = PETS) -> Predictor:
    """Its class is the brightest channel of a pixel: red is background, green cat, blue sky."""
    preprocess = Preprocess(size=(8, 16), normalisation="none")
    return Predictor(FakeEngine(lambda batch: batch[:, :, ::2, ::2] / 25, 3), preprocess, labels)


@pytest.fixture
def quarters() -> NDArray[np.uint8]:
    """Left half red, the right half green above and blue below: `(8, 16, 3)`."""
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8, 0] = pixels[:4, 8:, 1] = pixels[4:, 8:, 2] = 200
    return pixels


def test_shares_and_regions(quarters: NDArray[np.uint8]) -> None:
    prediction = brightest()(quarters)
    assert prediction.shares() == {"background": 0.5, "cat": 0.25, "sky": 0.25}
    cat, sky = prediction.regions()
    assert (cat.name, cat.area, cat.box) == ("cat", 32, (8, 0, 16, 4))
    assert (sky.name, sky.area, sky.box) == ("sky", 32, (8, 4, 16, 8))
    assert cat.score is not None
    assert 0.8 < cat.score < 1
    assert prediction.regions(min_area=33) == []
    assert repr(prediction) == "<Prediction 16×8: background 50.0 %, cat 25.0 %, sky 25.0 %>"


def test_scores_are_the_probabilities_of_the_classes(quarters: NDArray[np.uint8]) -> None:
    prediction = brightest()(quarters)
    highest = prediction.probabilities().max(0)
    np.testing.assert_allclose(prediction.certainty(), highest, rtol=1e-5)
    unseen = replace(prediction, seen=(0, 8, 2, 16))
    assert np.isnan(unseen.certainty()[:, :2]).all()
    assert unseen.shares()["ignored"] == 0.125


def test_pixels_without_data_are_in_no_share(quarters: NDArray[np.uint8]) -> None:
    prediction = brightest()(quarters)
    valid = np.ones((8, 16), bool)
    valid[:, :8] = False
    empty = replace(prediction, picture=Picture(quarters, valid))
    assert (empty.class_map()[:, :8] == 255).all()
    assert empty.shares() == {"cat": 0.5, "sky": 0.5}


def test_a_picture_of_no_data_says_so(quarters: NDArray[np.uint8]) -> None:
    empty = replace(brightest()(quarters), picture=Picture(quarters, np.zeros((8, 16), bool)))
    assert empty.shares() == {}
    assert empty.regions() == []
    assert repr(empty) == "<Prediction 16×8: no data>"


@pytest.mark.parametrize("seen", [(8, 8, 0, 16), (0, 8, 5, 5)])
def test_what_the_network_saw_nothing_of_is_ignored(
    seen: tuple[int, int, int, int], quarters: NDArray[np.uint8]
) -> None:
    unseen = replace(brightest()(quarters), seen=seen)
    assert unseen.shares() == {"ignored": 1.0}
    assert np.isnan(unseen.certainty()).all()
    assert np.isnan(unseen.probabilities()).all()
    assert repr(unseen) == "<Prediction 16×8: ignored 100.0 %>"


def test_classes_that_do_not_exclude_each_other_have_each_their_probability(
    quarters: NDArray[np.uint8],
) -> None:
    prediction = brightest()(quarters)
    logits = np.zeros_like(prediction.grid)
    logits[0], logits[1] = 200, -200  # beyond what exp of float32 holds
    found = replace(prediction, grid=logits, activation="sigmoid").probabilities()
    np.testing.assert_array_equal(found[:, 0, 0], np.array([1, 0, 0.5], np.float32))
    same = replace(prediction, grid=logits, activation="none")
    np.testing.assert_array_equal(same.probabilities(), same.logits())
    assert (same.certainty() == 200).all()


def test_masks_and_overlays_are_saved(tmp_path: Path, quarters: NDArray[np.uint8]) -> None:
    prediction = brightest()(quarters)
    with Image.open(prediction.save(tmp_path / "mask.png")) as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), prediction.class_map())
    with Image.open(prediction.save(str(tmp_path / "seen.jpg"))) as seen:
        assert seen.size == (16, prediction.overlay().shape[0])
    assert prediction.save(tmp_path / "new" / "mask.png").is_file()
    for name, said in (("a.tif", "expected NAME.png"), ("mask.png/a.png", "cannot be written")):
        with pytest.raises(InputError, match=said):
            prediction.save(tmp_path / name)


def test_an_image_is_never_replaced_by_its_result(
    tmp_path: Path, quarters: NDArray[np.uint8]
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(quarters).save(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=re.escape("a.png: is the image itself")):
        brightest()(path).save(path)
    assert path.read_bytes() == before


def test_a_notebook_shows_the_overlay(quarters: NDArray[np.uint8]) -> None:
    prediction = brightest()(quarters)
    with Image.open(BytesIO(prediction._repr_png_())) as shown:
        np.testing.assert_array_equal(np.asarray(shown), prediction.overlay())
    bare = replace(prediction, picture=None)
    with Image.open(BytesIO(bare._repr_png_())) as shown:
        assert shown.size == (16, 8)
    with pytest.raises(InputError, match="the image was not kept"):
        bare.overlay()
    with pytest.raises(InputError, match="`opacity`: expected 0 to 1, got 2"):
        prediction.overlay(2)


def test_a_list_gives_a_list(tmp_path: Path, quarters: NDArray[np.uint8]) -> None:
    Image.fromarray(quarters).save(tmp_path / "a.png")
    first, second = brightest()([tmp_path / "a.png", Image.fromarray(quarters)])
    np.testing.assert_array_equal(first.class_map(), second.class_map())
    assert brightest()([]) == []
    with pytest.raises(InputError, match=r"picture 1: .*b\.png: cannot be read"):
        brightest()([quarters, tmp_path / "b.png"])
