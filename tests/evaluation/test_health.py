import numpy as np
import pytest

from atrous.evaluation.health import check_agreement, check_predictions, total_variation
from atrous.labels import VOC
from atrous.metrics import ConfusionMatrix


def matrix(rows: dict[int, dict[int, int]]) -> ConfusionMatrix:
    made = ConfusionMatrix(21)
    for truth, predicted in rows.items():
        for class_id, count in predicted.items():
            made.counts[truth, class_id] = count
    return made


HEALTHY = {0: {0: 700, 15: 30}, 15: {15: 150, 0: 20}, 8: {8: 100}}


def test_a_healthy_model() -> None:
    assert check_predictions(matrix(HEALTHY), VOC.names, 0) == []


def test_the_seeds_broken_row_is_caught() -> None:
    """Its table prints 3.589 mIoU: what a class map of nothing but background scores."""
    shares = {0: 733, 15: 49, 8: 24, 7: 20, 19: 15, **dict.fromkeys((1, 2, 3, 4, 5, 6), 10)}
    broken = matrix({class_id: {0: count} for class_id, count in shares.items()})
    broken.absent = "zero"
    assert 3.0 < 100 * broken.mean_iou < 4.5
    [finding] = check_predictions(broken, VOC.names, 0)
    assert "100.0% of the pixels are predicted as 'background'" in finding
    assert "the head is broken, or the preprocessing" in finding


def test_one_favoured_class() -> None:
    favoured = matrix({0: {9: 500, 0: 230}, 15: {15: 170}, 8: {9: 100}})
    [finding] = check_predictions(favoured, VOC.names, 0)
    assert "far from the true ones" in finding
    assert "'chair' is 60.0% of the prediction and 0.0% of the truth" in finding


def test_a_set_that_really_has_one_class() -> None:
    assert check_predictions(matrix({0: {0: 1000}}), VOC.names, 0) == []


def test_not_a_number() -> None:
    [finding] = check_predictions(matrix(HEALTHY), VOC.names, 3)
    assert "NaN or infinite on 3 images" in finding


def test_nothing_scored() -> None:
    assert check_predictions(matrix({}), VOC.names, 0) == [
        "no pixel was scored: no image could be read, or all is ignored"
    ]


@pytest.mark.parametrize(("same", "wrong"), [(900, False), (899, True), (0, True)])
def test_agreement(same: int, wrong: bool) -> None:
    assert bool(check_agreement(same, 1000, "fp32")) == wrong


def test_total_variation_by_hand() -> None:
    assert total_variation(np.array([0.5, 0.5, 0]), np.array([0.25, 0.25, 0.5])) == 0.5
