from pathlib import Path

import numpy as np
import pytest

from atrous.errors import InputError
from atrous.metrics import ConfusionMatrix, near_borders


@pytest.mark.parametrize(
    ("truth", "prediction", "iou", "mean"),
    [
        pytest.param([0, 0, 1, 1], [0, 0, 1, 1], [1, 1, np.nan], 1.0, id="perfect, class 2 absent"),
        pytest.param([0, 0, 1, 1], [1, 1, 0, 0], [0, 0, np.nan], 0.0, id="all wrong"),
        pytest.param([0, 0, 1, 2], [0, 1, 1, 2], [1 / 2, 1 / 2, 1], 2 / 3, id="one pixel wrong"),
        pytest.param(
            [0, 255, 1, 255], [0, 1, 1, 0], [1, 1, np.nan], 1.0, id="ignored pixels do not count"
        ),
        pytest.param(
            [0, 0, 0, 0], [0, 0, 0, 2], [3 / 4, np.nan, 0], 3 / 8, id="false positive class"
        ),
        pytest.param([255, 255], [0, 1], [np.nan] * 3, np.nan, id="nothing left to count"),
    ],
)
def test_iou(truth: list[int], prediction: list[int], iou: list[float], mean: float) -> None:
    matrix = ConfusionMatrix(num_classes=3)
    matrix.update(np.array(truth, np.uint8), np.array(prediction, np.uint8))
    np.testing.assert_allclose(matrix.iou, iou)
    assert matrix.mean_iou == pytest.approx(mean, nan_ok=True)


def test_rows_are_truth() -> None:
    matrix = ConfusionMatrix(num_classes=2)
    matrix.update(np.array([0, 0, 0, 1]), np.array([0, 1, 1, 1]))
    assert matrix.counts.tolist() == [[1, 2], [0, 1]]


def test_update_adds_up() -> None:
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 3, (2, 8, 16, 16))
    whole, parts = ConfusionMatrix(3), ConfusionMatrix(3)
    whole.update(truth, prediction)
    for t, p in zip(truth, prediction, strict=True):
        parts.update(t, p)
    np.testing.assert_array_equal(whole.counts, parts.counts)


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([0, 1], [0], r"truth is \(2,\) but prediction is \(1,\)"),
        ([0, 3], [0, 0], r"truth holds class id 0\.\.3, expected 0\.\.2"),
    ],
)
def test_bad_input_is_named(truth: list[int], prediction: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ConfusionMatrix(3).update(np.array(truth), np.array(prediction))


GOLDEN = Path(__file__).parent / "golden" / "golden_metrics.npz"


@pytest.mark.parametrize("case", ["all_present", "absent_classes"])
def test_equals_both_references(case: str) -> None:
    with np.load(GOLDEN) as golden:
        matrices = {}
        for absent in ("skip", "zero"):
            matrices[absent] = ConfusionMatrix(21, absent=absent)  # type: ignore[arg-type]
            matrices[absent].update(golden[f"{case}/truth"], golden[f"{case}/prediction"])
        ours = matrices["skip"]
        found = [
            ours.pixel_accuracy,
            ours.mean_accuracy,
            ours.frequency_weighted_iou,
            ours.mean_iou,
        ]
        np.testing.assert_allclose(found, golden[f"{case}/vainf"], atol=1e-7)
        np.testing.assert_allclose(ours.iou, golden[f"{case}/vainf_class_iou"], atol=1e-7)
        seed = matrices["zero"]
        found = [seed.pixel_accuracy, seed.mean_iou]
        np.testing.assert_allclose(found, golden[f"{case}/vastai"], atol=1e-7)


def test_by_hand() -> None:
    matrix = ConfusionMatrix(num_classes=3)
    matrix.update(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))
    assert matrix.pixel_accuracy == 3 / 4
    assert matrix.mean_accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert matrix.frequency_weighted_iou == pytest.approx(3 / 4 * 2 / 3 + 1 / 4 * 1 / 2)
    matrix.absent = "zero"
    assert matrix.mean_iou == pytest.approx((2 / 3 + 1 / 2) / 3)


def test_nothing_counted_is_no_number() -> None:
    matrix = ConfusionMatrix(num_classes=2)
    for value in (matrix.pixel_accuracy, matrix.mean_accuracy, matrix.frequency_weighted_iou):
        assert np.isnan(value)


def test_near_borders() -> None:
    label = np.zeros((3, 9), np.uint8)
    label[:, 4:] = 1
    ignored = 255
    for pixels, kept in ((1, [3, 4]), (2, [2, 3, 4, 5]), (4, [0, 1, 2, 3, 4, 5, 6, 7])):
        expected = np.full_like(label, ignored)
        expected[:, kept] = label[:, kept]
        np.testing.assert_array_equal(near_borders(label, pixels, ignored), expected)


def test_an_ignored_outline_is_a_border() -> None:
    label = np.array([[7, 7, 7, 200, 200, 5, 5, 5]], np.uint8)
    wanted = [200, 7, 7, 200, 200, 5, 5, 200]
    assert near_borders(label, 2, 200).tolist() == [wanted]


def test_without_borders_nothing_is_near_one() -> None:
    assert (near_borders(np.ones((4, 4), np.uint8), 3, 255) == 255).all()
