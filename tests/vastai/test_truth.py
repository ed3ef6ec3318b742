"""Frames scored against masks: small cases whose figures can be counted by hand."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.engines.fake import FakeEngine
from atrous.errors import ConfigError
from atrous.jobs.folder import segment
from atrous.jobs.output import Output
from atrous.jobs.sources import find
from atrous.labels import generic
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from atrous.vastai.truth import FrameScore, Truth


def predictor(**settings: object) -> Predictor:
    """Its class is the brightest channel."""
    preprocess = Preprocess(size=(8, 12), normalisation="div255", **settings)  # type: ignore[arg-type]
    return Predictor(FakeEngine(lambda x: x, 3), preprocess, generic(3))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of 16×24, green in their right half, one of them in a subfolder; no masks yet."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:, :12, 0] = pixels[:, 12:, 1] = 200
    for name in ("in/a.png", "in/sub/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "truth" / "sub").mkdir(parents=True)
    return tmp_path


def halves(left: int = 0, right: int = 1, shape: tuple[int, int] = (16, 24)) -> NDArray[np.uint8]:
    mask = np.full(shape, left, np.uint8)
    mask[:, shape[1] // 2 :] = right
    return mask


def save(path: Path, mask: NDArray[np.uint8]) -> None:
    Image.fromarray(mask).save(path)


def scores(folder: Path, truth: Truth, model: Predictor) -> list[FrameScore]:
    output = Output(folder / "out", overlays=False, force=True)
    results = segment(model, find([folder / "in"]), output, score=truth.score)
    found = [result.score for result in results]
    for score in found:
        truth.add(score)
    return found


def test_pixels_are_counted_at_the_size_of_the_network_input(folder: Path) -> None:
    save(folder / "truth" / "a.png", halves())
    save(folder / "truth" / "sub" / "b.png", halves(right=2))
    model = predictor()
    truth = Truth(folder / "truth", model)
    a, b = scores(folder, truth, model)
    assert a.counts is not None
    assert b.counts is not None
    assert a.counts.tolist() == [[48, 0, 0], [0, 48, 0], [0, 0, 0]]
    assert b.counts.tolist() == [[48, 0, 0], [0, 0, 0], [0, 48, 0]]
    assert (truth.scored, truth.without) == (2, [])
    assert truth.matrix.pixel_accuracy == 0.75
    assert truth.matrix.mean_iou == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert truth.health() == []
    assert truth.protocol == (
        "squash-8x12, opencv-bilinear, truth resized (nearest) to 8×12, 255 ignored, classes that "
        "occur nowhere left out"
    )


def test_absent_classes_count_as_told(folder: Path) -> None:
    save(folder / "truth" / "a.png", halves())
    model = predictor()
    truth = Truth(folder / "truth", model, "zero")
    scores(folder, truth, model)
    assert truth.matrix.mean_iou == pytest.approx(2 / 3)
    assert "counted as 0" in truth.protocol
    assert truth.without == ["b.png"]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (halves(shape=(16, 23)), "a.png: mask is (16, 23), its image (16, 24)"),
        (halves(right=7), "a.png: truth holds class id 0..7, expected 0..2"),
        (np.zeros((16, 24, 3), np.uint8), "a.png: its pixels are RGB"),
        (None, "a.png: not a picture of a known kind"),
    ],
)
def test_masks_that_do_not_fit_are_errors_and_count_nothing(
    mask: NDArray[np.uint8] | None, message: str, folder: Path
) -> None:
    path = folder / "truth" / "a.png"
    if mask is None:
        path.write_bytes(b"no mask")
    else:
        save(path, mask)
    model = predictor()
    truth = Truth(folder / "truth", model)
    a, b = scores(folder, truth, model)
    assert a.counts is b.counts is None
    assert message in a.error
    assert a.error.startswith(str(path))
    assert b.error == ""
    assert (truth.scored, truth.without) == (0, ["b.png"])
    assert (folder / "out" / "masks" / "a.png").exists()


def test_a_model_that_says_one_class_is_not_healthy(folder: Path) -> None:
    save(folder / "truth" / "a.png", halves())
    engine = FakeEngine(lambda x: x + np.array([9, 0, 0], np.float32)[:, None, None], 3)
    model = Predictor(engine, predictor().preprocess, generic(3))
    truth = Truth(folder / "truth", model)
    scores(folder, truth, model)
    assert "100.0% of the pixels are predicted as 'class 0'" in truth.health()[0]


def test_what_cannot_be_scored(folder: Path) -> None:
    with pytest.raises(ConfigError, match="none: no such folder; expected one of masks"):
        Truth(folder / "none", predictor())
    with pytest.raises(ConfigError, match="squash-N, this preprocessing does letterbox"):
        Truth(folder / "truth", predictor(fit="letterbox"))
