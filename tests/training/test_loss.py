"""Losses against values computed by hand."""

import math

import pytest
import torch

from atrous.training.config import LossSettings
from atrous.training.loss import Loss

IGNORED = 255
# Two pixels of two classes: the true class has the odds 3 : 1 in the first and 1 : 1 in the second.
LOGITS = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]]).T.reshape(1, 2, 1, 2)
LABEL = torch.tensor([[[0, 1]]])


def value(
    settings: LossSettings, weights: list[float] | None = None, label: torch.Tensor = LABEL
) -> float:
    return float(Loss(settings, weights, IGNORED)(LOGITS, label))


def test_cross_entropy() -> None:
    ln = math.log
    assert value(LossSettings()) == pytest.approx((ln(4 / 3) + ln(2)) / 2)
    weighted = (3 * ln(4 / 3) + 1 * ln(2)) / 4
    assert value(LossSettings(), [3.0, 1.0]) == pytest.approx(weighted)
    smooth = LossSettings(label_smoothing=0.2)
    first, second = 0.9 * ln(4 / 3) + 0.1 * ln(4), ln(2)
    assert value(smooth) == pytest.approx((first + second) / 2)


def test_focal_weighs_by_what_is_missing() -> None:
    ln = math.log
    first, second = (1 / 4) ** 2 * ln(4 / 3), (1 / 2) ** 2 * ln(2)
    assert value(LossSettings(type="focal")) == pytest.approx((first + second) / 2)
    assert value(LossSettings(type="focal"), [3.0, 1.0]) == pytest.approx((3 * first + second) / 4)
    plain = value(LossSettings(type="focal", gamma=0))
    assert plain == pytest.approx(value(LossSettings()))


def test_ohem_keeps_the_hard_pixels() -> None:
    hard = LossSettings(type="ohem", threshold=0.7, keep=0)
    assert value(hard) == pytest.approx(math.log(2))  # 3/4 is over the threshold
    both = LossSettings(type="ohem", threshold=0.8, keep=0)
    assert value(both) == pytest.approx(value(LossSettings()))
    none = LossSettings(type="ohem", threshold=0.1, keep=0.5)
    assert value(none) == pytest.approx(math.log(2))  # the hardest half


def test_dice_of_each_class_in_the_label() -> None:
    first = 2 * 0.75 / (1 + 0.75 + 0.5)
    second = 2 * 0.5 / (1 + 0.25 + 0.5)
    assert value(LossSettings(type="dice")) == pytest.approx(1 - (first + second) / 2)
    only = torch.tensor([[[0, IGNORED]]])
    assert value(LossSettings(type="dice"), label=only) == pytest.approx(1 - 2 * 0.75 / 1.75)
    mixed = value(LossSettings(dice=0.5))
    expected = value(LossSettings()) + 0.5 * value(LossSettings(type="dice"))
    assert mixed == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["cross_entropy", "focal", "ohem", "dice"])
@pytest.mark.parametrize("weights", [None, [2.0, 0.5, 1.0]])
def test_ignored_pixels_count_nowhere(kind: str, weights: list[float] | None) -> None:
    torch.manual_seed(0)
    loss = Loss(LossSettings(type=kind), weights, IGNORED)  # type: ignore[arg-type]
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    label = torch.randint(0, 3, (2, 4, 4))
    label[:, 2:] = IGNORED
    whole = loss(logits, label)
    part = loss(logits[:, :, :2], label[:, :2])
    torch.testing.assert_close(whole, part)
    whole.backward()
    assert logits.grad is not None
    assert not logits.grad[:, :, 2:].any()
    assert logits.grad[:, :, :2].any()
    nothing = torch.full_like(label, IGNORED)
    logits.grad = None
    empty = loss(logits, nothing)
    empty.backward()
    assert empty == 0
    assert loss.mass(nothing) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("kind", ["cross_entropy", "focal"])
@pytest.mark.parametrize("weights", [None, [2.0, 0.5, 1.0]])
def test_pieces_by_their_mass_make_the_whole(kind: str, weights: list[float] | None) -> None:
    torch.manual_seed(0)
    loss = Loss(LossSettings(type=kind), weights, IGNORED)  # type: ignore[arg-type]
    logits, label = torch.randn(4, 3, 5, 5), torch.randint(0, 3, (4, 5, 5))
    label[0, :4] = IGNORED
    label[3] = IGNORED
    pieces = list(zip(logits.split(1), label.split(1), strict=True))
    total = sum(loss.mass(y) for _, y in pieces)
    summed = sum(loss(x, y) * loss.mass(y) / total for x, y in pieces)
    torch.testing.assert_close(summed, loss(logits, label), check_dtype=False)


def test_a_class_of_no_weight_is_no_division_by_zero() -> None:
    loss = Loss(LossSettings(type="ohem"), [0.0, 0.0, 1.0], IGNORED)
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    value = loss(logits, torch.zeros(1, 4, 4, dtype=torch.int64))
    value.backward()
    assert value == 0
