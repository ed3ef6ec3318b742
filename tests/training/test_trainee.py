"""The forward of training is the network's own, in less work."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from atrous.errors import ConfigError
from atrous.models import DeepLab, build, commute
from atrous.training.config import OptimizerSettings, Recipe, TrainSettings
from atrous.training.folded import Folded
from atrous.training.schedule import make_optimizer
from atrous.training.trainee import Average, Trainee, doubtful_norms, norms, prepare
from tests.builders.shallow import make_shallow

pytestmark = pytest.mark.heavy

CPU = torch.device("cpu")


def shaken(variant: str, **options: bool) -> DeepLab:
    """A float64 network whose batch norms are no identities; without dropout."""
    torch.manual_seed(0)
    network = build(variant, 5, **options).double()
    for norm in norms(network):
        for tensor in (norm.weight, norm.running_var):
            assert tensor is not None
            nn.init.uniform_(tensor, 0.5, 1.5)
        assert norm.running_mean is not None
        for tensor in (norm.bias, norm.running_mean):
            nn.init.normal_(tensor, std=0.1)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def plain_mode(network: DeepLab, frozen: bool) -> None:
    network.train()
    if frozen:
        for norm in norms(network):
            norm.eval()


@pytest.mark.parametrize("frozen", [False, True], ids=["train", "frozen"])
@pytest.mark.parametrize(
    ("variant", "separable"),
    [
        ("deeplabv3plus_mobilenet", False),
        ("deeplabv3plus_mobilenet", True),
        ("deeplabv3_mobilenet", False),
    ],
)
def test_values_gradients_and_statistics_are_those_of_the_network(
    variant: str, separable: bool, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_shallow(monkeypatch)
    assert_same_training(variant, separable, frozen)


@pytest.mark.parametrize(
    "frozen",
    [pytest.param(False, marks=pytest.mark.slow, id="train"), pytest.param(True, id="frozen")],
)
def test_residual_blocks_too(frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    make_shallow(monkeypatch)
    assert_same_training("deeplabv3plus_resnet50", False, frozen)


def assert_same_training(variant: str, separable: bool, frozen: bool) -> None:
    """Values, gradients and statistics are those of the network."""
    network = shaken(variant, separable=separable)
    again = shaken(variant, separable=separable)
    x = torch.randn(2, 3, 41, 50, dtype=torch.float64)
    weight = torch.randn(2, 5, 41, 50, dtype=torch.float64)
    plain_mode(network, frozen)
    expected = network(x)
    (expected * weight).sum().backward()
    trainee = Trainee(again, frozen=frozen).train()
    # Training enlarges in float32, which is not what is compared here.
    grid = trainee.logits_grid(x)
    actual = functional.interpolate(grid, size=(41, 50), mode="bilinear", align_corners=False)
    (actual * weight).sum().backward()
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
    own, names = dict(again.named_parameters()), [name for name, _ in network.named_parameters()]
    assert list(own) == names
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(own[name].grad, parameter.grad, rtol=1e-6, atol=1e-7, msg=name)
    for one, other in zip(network.buffers(), again.buffers(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_work_is_less() -> None:
    trainee = Trainee(build("deeplabv3plus_mobilenet"), frozen=True)
    fast = trainee._fast[0]
    convolutions = sum(isinstance(module, nn.Conv2d) for module in trainee.network.modules())
    folded = sum(isinstance(module, Folded) for module in fast.modules())
    assert folded == convolutions - 1  # the last has no norm
    shared = {id(parameter) for parameter in trainee.network.parameters()}
    assert {id(parameter) for parameter in fast.parameters()} == shared
    assert [n for n, _ in trainee.named_parameters()] == [
        f"network.{name}" for name, _ in trainee.network.named_parameters()
    ]


@pytest.mark.parametrize(
    ("small", "large"), [((3, 4), (9, 11)), ((1, 1), (5, 4)), ((4, 4), (4, 4))]
)
def test_convolving_first_equals_enlarging_first(
    small: tuple[int, int], large: tuple[int, int]
) -> None:
    torch.manual_seed(1)
    fine = torch.randn(2, 5, *large, dtype=torch.float64, requires_grad=True)
    coarse = torch.randn(2, 7, *small, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 12, 3, 3, dtype=torch.float64, requires_grad=True)
    enlarged = functional.interpolate(coarse, size=large, mode="bilinear", align_corners=False)
    expected = functional.conv2d(torch.cat([fine, enlarged], 1), weight, padding=1)
    actual = commute.convolve(fine, coarse, weight)
    torch.testing.assert_close(actual, expected)
    upstream = torch.randn_like(expected)
    inputs = (fine, coarse, weight)
    for mine, theirs in zip(
        torch.autograd.grad(actual, inputs, upstream),
        torch.autograd.grad(expected, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(commute.enlarge(coarse, large), enlarged)


def test_enlarging_first_seen_in_inference_can_be_trained_through() -> None:
    grid = torch.randn(1, 2, 3, 5, dtype=torch.float64)
    with torch.inference_mode():
        commute.enlarge(grid, (13, 17))
    commute.enlarge(grid.requires_grad_(), (13, 17)).sum().backward()
    assert grid.grad is not None


def test_the_average_follows() -> None:
    network = build("deeplabv3_mobilenet", 2)
    average = Average(network, keep=0.75)
    first = network.backbone.low_level_features[0][0].weight.detach().clone()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.add_(1)
    average.update(network)
    followed = average.network.backbone.low_level_features[0][0].weight
    torch.testing.assert_close(followed, first + 0.25)
    assert not followed.requires_grad
    assert average.network.backbone.low_level_features[0][1].num_batches_tracked == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 1}, r"train needs at least two images at a time.*found batch 1 in 1 processes"),
        ({"batch": 4, "accumulate": 4}, r"found batch 4 in 1 processes and 4 pieces"),
    ],
)
def test_batch_norm_over_one_image_is_refused(settings: dict[str, int], message: str) -> None:
    network = build("deeplabv3_mobilenet", 2)
    with pytest.raises(ConfigError, match=message):
        prepare(network, TrainSettings(**settings), 1, CPU)
    prepare(network, TrainSettings(**settings, batch_norm="frozen"), 1, CPU)


def test_synchronised_batch_norm_needs_gpus() -> None:
    with pytest.raises(ConfigError, match="sync needs GPUs; found cpu"):
        prepare(build("deeplabv3_mobilenet", 2), TrainSettings(batch_norm="sync"), 2, CPU)


def test_frozen_parts_keep_their_weights() -> None:
    network = build("deeplabv3plus_mobilenet", 5)
    settings = TrainSettings(
        batch_norm="frozen", freeze=("backbone.low_level_features", "classifier.aspp")
    )
    trainee = prepare(network, settings, 1, CPU)
    before = {name: tensor.clone() for name, tensor in network.named_parameters()}
    optimizer = make_optimizer(network, OptimizerSettings(type="adamw", lr=0.1))
    trainee.train()(torch.randn(2, 3, 41, 41)).square().sum().backward()
    optimizer.step()
    changed = {
        name for name, now in network.named_parameters() if not torch.equal(now, before[name])
    }
    frozen = {name for name in before if name.startswith(settings.freeze)}
    assert frozen
    assert frozen.isdisjoint(changed)
    assert {
        "classifier.classifier.0.weight",
        "backbone.high_level_features.4.conv.0.0.weight",
    } < changed


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            ("backbone.low_level",),
            "no part 'backbone.low_level'; did you mean backbone.low_level_f",
        ),
        (("backbone", "classifier"), "nothing is left to learn"),
    ],
)
def test_what_cannot_be_frozen_is_said(parts: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(build("deeplabv3_mobilenet", 5), TrainSettings(freeze=parts), 1, CPU)


@pytest.mark.parametrize(
    ("start", "settings", "said"),
    [
        ("default", {"batch_norm": "frozen", "iterations": 60}, ""),
        ("scratch", {"batch_norm": "frozen"}, "start: scratch has none"),
        ("scratch", {"iterations": 60}, "set train.backbone_momentum=0.1, or train longer"),
        ("imagenet", {"iterations": 60}, "by 0.01 in 60 iterations, 55% of the backbone's"),
        ("imagenet", {"iterations": 60, "backbone_momentum": 0.1}, ""),
        ("imagenet", {"iterations": 500}, ""),
    ],
)
def test_norms_that_will_not_fit_are_said(start: str, settings: dict[str, Any], said: str) -> None:
    recipe = Recipe.model_validate(
        {"network": "deeplabv3_mobilenet", "start": start, "output": "x", "train": settings}
        | {"data": {"train": "synthetic:0:4"}}
    )
    found = doubtful_norms(recipe)
    assert [said in one for one in found] == [True] * bool(said)
