"""The networks against the reference: names, numbers, sizes. See tests/golden/README.md."""

from __future__ import annotations

import json
import runpy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from atrous import models, zoo
from atrous.errors import ConfigError
from atrous.models.aligned_xception import AlignedXception
from atrous.models.aspp import SeparableConv
from atrous.models.hrnet import Exchange
from atrous.models.mobilenet import MobileNetV2
from atrous.models.xception import Xception

GOLDEN = Path(__file__).parents[1] / "golden"
REFERENCE = runpy.run_path(str(GOLDEN / "fill.py"))
LOGITS = np.load(GOLDEN / "golden_logits.npz")
STATE_KEYS: dict[str, dict[str, list[int]]] = json.loads((GOLDEN / "state_keys.json").read_text())


def made_on_meta(variant: str, output_stride: int, *, separable: bool = False) -> models.DeepLab:
    with torch.device("meta"):
        return models.build(variant, output_stride=output_stride, separable=separable)


@cache
def on_meta(variant: str, output_stride: int = 16, *, separable: bool = False) -> models.DeepLab:
    """Made once and left as it is."""
    return made_on_meta(variant, output_stride, separable=separable)


STRIDES = [
    (name, stride)
    for name, row in zoo.VARIANTS.items()
    if name in STATE_KEYS
    for stride in zoo.backbone(row.backbone).output_strides
]


# More blocks, or wider ones, than another has: names and shapes are compared in any case.
LARGER = ("_resnet101", "_hrnetv2_48")
GOLDENS = [
    pytest.param(variant, marks=[pytest.mark.slow] * variant.endswith(LARGER))
    for variant in dict.fromkeys(variant for variant, _ in STRIDES)
]


@pytest.mark.heavy
@pytest.mark.parametrize("variant", GOLDENS)
def test_golden(variant: str) -> None:
    """At every output stride, of weights that are drawn once, which takes longest."""
    state = {name: torch.empty(shape) for name, shape in STATE_KEYS[variant].items()}
    REFERENCE["fill_state"](state)
    strides = [stride for name, stride in STRIDES if name == variant]
    assert strides
    for output_stride in strides:
        compare_with_golden(variant, output_stride, state)


def compare_with_golden(variant: str, output_stride: int, state: dict[str, Tensor]) -> None:
    # The reference's HRNet takes multiples of 32 alone.
    size = 256 if "hrnet" in variant else 257
    model = made_on_meta(variant, output_stride).eval()
    models.fill(model, dict(state))
    with torch.inference_mode():
        x = torch.from_numpy(REFERENCE["golden_input"](size))
        low, high = model.backbone(x)
        logits = functional.interpolate(
            model.classifier(low, high), size=size, mode="bilinear", align_corners=False
        )
    golden = {
        key: LOGITS[f"{variant}/os{output_stride}/{key}"]
        for key in ("logits_grid", "features", "argmax_sum")
    }
    shapes = [list(level.shape[1:]) for level in (low, high)]
    assert shapes[-len(golden["features"]) :] == golden["features"].tolist()
    span = np.ptp(golden["logits_grid"])
    np.testing.assert_allclose(
        logits[:, :, ::32, ::32].numpy(),
        golden["logits_grid"],
        rtol=0,
        atol=1e-5 * span,
        err_msg=f"output stride {output_stride}",
    )
    # A tie may fall the other way in a few pixels.
    assert abs(int(logits.argmax(1).sum()) - int(golden["argmax_sum"])) <= 3 * 20


@pytest.mark.parametrize("separable", [False, True], ids=["plain", "separable"])
@pytest.mark.parametrize("variant", STATE_KEYS)
def test_state_dict_is_the_references(variant: str, separable: bool) -> None:
    expected: list[tuple[str, list[int]]] = []
    for name, shape in STATE_KEYS[variant].items():
        if separable and name.startswith("classifier.") and shape[2:] == [3, 3]:
            stem = name.removesuffix("weight")
            expected += [
                (f"{stem}body.0.weight", [shape[1], 1, 3, 3]),
                (f"{stem}body.1.weight", [shape[0], shape[1], 1, 1]),
            ]
        else:
            expected.append((name, shape))
    state = on_meta(variant, separable=separable).state_dict()
    assert [(name, list(tensor.shape)) for name, tensor in state.items()] == expected


@pytest.fixture
def no_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where shapes are all that counts: without numbers, each takes as long as 15 convolutions."""
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda _, x: x)


@pytest.mark.heavy
@pytest.mark.usefixtures("no_norms")
@pytest.mark.parametrize("row", zoo.VARIANTS.values(), ids=lambda row: row.name)
def test_the_table_holds_true_costs(row: zoo.Variant) -> None:
    model = on_meta(row.name)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(row.params_m, abs=5e-4)
    assert costs(model) == pytest.approx(row.gmacs, abs=5e-3)


@pytest.mark.heavy
@pytest.mark.usefixtures("no_norms")
@pytest.mark.parametrize(
    ("variant", "height", "width", "classes"),
    [
        *((variant, 65, 97, 150) for variant in zoo.VARIANTS),
        *(
            (variant, 33, 32, 2)
            for variant in ("deeplabv3plus_mobilenet", "lraspp_mobilenet_v3_large")
        ),
        *(
            (variant, 512, 7, 1)
            for variant in ("deeplabv3plus_mobilenet", "deeplabv3plus_hrnetv2_32")
        ),
    ],
)
def test_any_size_and_number_of_classes(
    variant: str, height: int, width: int, classes: int
) -> None:
    if "xception" in variant:
        height, width = max(height, 71), max(width, 71)
    with torch.device("meta"):
        model = models.build(variant, classes).eval()
        assert model(torch.empty(2, 3, height, width)).shape == (2, classes, height, width)


@pytest.mark.heavy
def test_forward_enlarges_the_grid() -> None:
    model = models.build("deeplabv3plus_mobilenet", 3).eval()
    x = torch.randn(1, 3, 66, 97, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        grid = model.logits_grid(x)
        assert grid.shape == (1, 3, 16, 24)
        enlarged = functional.interpolate(grid, (66, 97), mode="bilinear", align_corners=False)
        torch.testing.assert_close(model(x), enlarged)


# On the small maps of the goldens the outer taps of the larger rates fall outside.
@pytest.mark.parametrize("separable", [False, True], ids=["plain", "separable"])
@pytest.mark.parametrize(("variant", "output_stride"), STRIDES)
def test_atrous_rates(variant: str, output_stride: int, separable: bool) -> None:
    rates = {4: (12, 24, 36), 8: (12, 24, 36), 16: (6, 12, 18)}[output_stride]
    head = on_meta(variant, output_stride, separable=separable).classifier
    convolutions = [part for part in head.modules() if isinstance(part, nn.Conv2d)]
    atrous = [part for part in convolutions if part.dilation != (1, 1)]
    assert [part.dilation for part in atrous] == [(rate, rate) for rate in rates]
    assert [part.padding for part in atrous] == [(rate, rate) for rate in rates]


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("size", "output_stride", "low", "high"), [(513, 16, 128, 32), (513, 8, 128, 64)]
)
def test_mobilenet_starts_unpadded(size: int, output_stride: int, low: int, high: int) -> None:
    with torch.device("meta"):
        levels = MobileNetV2(output_stride)(torch.empty(1, 3, size, size))
    assert [tuple(level.shape[1:]) for level in levels] == [(24, low, low), (320, high, high)]


@pytest.mark.heavy
@pytest.mark.parametrize(("output_stride", "smallest"), [(8, 103), (16, 71)])
def test_xception_loses_its_borders(output_stride: int, smallest: int) -> None:
    with torch.device("meta"):
        backbone = Xception(output_stride)
        for size, high in ((smallest, 1), (513, {8: 52, 16: 28}[output_stride])):
            levels = backbone(torch.empty(1, 3, size, size))
            assert levels[1].shape[1:] == (2048, high, high)
        with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
            backbone(torch.empty(1, 3, smallest - 1, smallest - 1))


def costs(model: models.DeepLab) -> float:
    """Multiply-accumulates of the convolutions for one 3x513x513 image, in 10⁹."""
    total = 0

    def count(module: nn.Conv2d, _: object, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    hooks = [
        part.register_forward_hook(count)  # type: ignore[arg-type]
        for part in model.modules()
        if isinstance(part, nn.Conv2d)
    ]
    with torch.inference_mode():
        model.eval()(torch.empty(1, 3, 513, 513, device="meta"))
    for hook in hooks:
        hook.remove()
    return total / 1e9


@pytest.mark.heavy
def test_xception65_costs_what_its_authors_say() -> None:
    # Their model zoo: 54.17 for xception65_coco_voc_trainaug, whose decoder has one separable
    # convolution more than the reference's: 256 channels on 129 by 129 pixels.
    model = on_meta("deeplabv3plus_xception65", separable=True)
    second = 129 * 129 * (256 * 9 + 256 * 256) / 1e9
    assert costs(model) + second == pytest.approx(54.17, rel=5e-3)


@pytest.mark.heavy
@pytest.mark.parametrize("output_stride", [8, 16])
def test_xception65_keeps_strides_and_dilates_instead(output_stride: int) -> None:
    backbone = AlignedXception(output_stride).eval()
    with torch.inference_mode():
        low, high = backbone(torch.randn(1, 3, 65, 97))
    assert low.shape == (1, 256, 17, 25)
    assert high.shape == (1, 2048, -(-65 // output_stride), -(-97 // output_stride))
    found = [
        (part.stride[0], part.dilation[0])
        for part in backbone.modules()
        if isinstance(part, nn.Conv2d) and part.groups > 1
    ]
    assert all(f == (1, 1) for f in found[0:2] + found[3:5] + found[6:8])
    third, rest, end = {16: ((2, 1), 1, 2), 8: ((1, 1), 2, 4)}[output_stride]
    assert [found[2], found[5], found[8]] == [(2, 1), (2, 1), third]
    assert found[9:] == [(1, rest)] * (16 * 3 + 3) + [(1, end)] * 3


@pytest.mark.parametrize(("output_stride", "first"), [(8, 4), (16, 2)])
@pytest.mark.parametrize("variant", ["deeplabv3cascade_resnet50", "deeplabv3cascade_resnet101"])
def test_cascade_doubles_the_rate_of_each_block(
    variant: str, output_stride: int, first: int
) -> None:
    model = on_meta(variant, output_stride)
    blocks = [model.backbone.layer4, *(getattr(model.classifier, f"block{n}") for n in (5, 6, 7))]
    for number, block in enumerate(blocks):
        rates = [bottleneck.conv2.dilation[0] for bottleneck in block]
        assert rates == [first * 2**number * share for share in (1, 2, 1)]
        assert [bottleneck.conv2.padding[0] for bottleneck in block] == rates
    with pytest.raises(ConfigError, match="separable convolutions belong to the heads with ASPP"):
        models.build(variant, separable=True)


@pytest.mark.heavy
@pytest.mark.parametrize("variant", zoo.VARIANTS)
def test_aspp_drops_one_channel_in_ten(variant: str) -> None:
    found = [part.p for part in on_meta(variant).modules() if isinstance(part, nn.Dropout)]
    without = "cascade" in variant or variant.startswith(("lraspp", "hf_"))
    assert found == ([] if without else [0.1])


def test_hrnet_has_one_stride_whatever_is_asked() -> None:
    for asked in (4, 16):
        model = on_meta("deeplabv3plus_hrnetv2_32", asked).eval()
        assert model.output_stride == 4
        low, high = model.backbone(torch.empty(1, 3, 129, 65, device="meta"))
        assert (low.shape[1:], high.shape[1:]) == ((256, 33, 17), (480, 33, 17))


def test_hrnet_enlarges_odd_branches_like_even_ones() -> None:
    exchange = Exchange([2, 4]).eval()
    fine, coarse = torch.zeros(1, 2, 6, 6), torch.randn(1, 4, 3, 3)
    with torch.inference_mode():
        even, _ = exchange([fine, coarse])
        odd, _ = exchange([fine[..., :5, :5], coarse])
    assert even.any()
    torch.testing.assert_close(odd, even[..., :5, :5])


def test_separable_convolution_is_a_rank_one_kernel() -> None:
    convolution = SeparableConv(4, 6, dilation=3)
    depthwise, pointwise = convolution.parameters()
    kernel = pointwise * depthwise.transpose(0, 1)
    x = torch.randn(2, 4, 9, 11)
    torch.testing.assert_close(
        convolution(x), functional.conv2d(x, kernel, padding=3, dilation=3), rtol=1e-4, atol=1e-5
    )


def test_random_weights_keep_the_scale() -> None:
    model = models.build("deeplabv3_mobilenet", 5)
    first = model.get_parameter("backbone.low_level_features.0.0.weight")
    # He's rule over outgoing connections: variance 2 / (32 * 3 * 3).
    assert float(first.detach().std()) == pytest.approx((2 / 288) ** 0.5, rel=0.1)
    assert model.training


@pytest.mark.parametrize(
    ("variant", "classes", "output_stride", "message"),
    [
        ("deeplabv3_resnet51", 21, 16, r"'deeplabv3_resnet51'; did you mean 'deeplabv3_resnet50'"),
        ("deeplabv3_resnet50", 21, 32, r"output_stride must be one of \(8, 16\), found 32"),
        ("deeplabv3_resnet50", 0, 16, r"num_classes must be at least 1, found 0"),
    ],
)
def test_bad_requests_are_named(
    variant: str, classes: int, output_stride: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        models.build(variant, classes, output_stride)
