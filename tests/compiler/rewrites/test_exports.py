"""DeepLabV3+ as the reference writes it, through torch's exporters: all rewrites find their place.

The classes below have the structure of VainF's `network/_deeplab.py`, over a backbone of four
convolutions.
"""

import logging
import warnings
from collections import OrderedDict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import onnx
import pytest
import torch
from onnx import version_converter
from torch import Tensor, nn
from torch.nn import functional

from atrous.compiler import rewrites
from atrous.compiler.graph import macs, opset
from atrous.compiler.graph.graph import Graph
from atrous.compiler.rewrites import REWRITES
from atrous.compiler.rewrites.base import Layout
from tests.builders.sketch import CLOSE, assert_same, feeds, kinds, run

pytestmark = pytest.mark.heavy

SHAPE = (1, 3, 64, 80)
CLASSES = 5
GRIDS = "4×5"


class Backbone(nn.Module):
    """Two levels: 8 channels at a quarter of the size, 16 at a sixteenth."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Sequential(norm_conv(3, 8, 3, stride=2), norm_conv(8, 8, 3, stride=2))
        self.high = nn.Sequential(norm_conv(8, 16, 3, stride=2), norm_conv(16, 16, 3, stride=2))

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        low = self.low(x)
        return OrderedDict(low_level=low, out=self.high(low))


def norm_conv(inputs: int, outputs: int, size: int = 1, **settings: Any) -> nn.Sequential:
    settings = {"padding": settings.get("dilation", 1) * (size // 2), "bias": False, **settings}
    conv = nn.Conv2d(inputs, outputs, size, **settings)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class ASPPPooling(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), norm_conv(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        for module in self:
            x = module(x)
        return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


class ASPP(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        atrous = [norm_conv(inputs, 256, 3, dilation=rate) for rate in (6, 12, 18)]
        self.convs = nn.ModuleList(
            [norm_conv(inputs, 256), *atrous, ASPPPooling(inputs, 256)],
        )
        self.project = nn.Sequential(norm_conv(5 * 256, 256), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([conv(x) for conv in self.convs], dim=1)
        return self.project(joined)  # type: ignore[no-any-return]


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = norm_conv(8, 48)
        self.aspp = ASPP(16)
        self.classifier = nn.Sequential(norm_conv(304, 256, 3), nn.Conv2d(256, CLASSES, 1))

    def forward(self, feature: OrderedDict[str, Tensor]) -> Tensor:
        low_level_feature = self.project(feature["low_level"])
        output_feature = self.aspp(feature["out"])
        output_feature = functional.interpolate(
            output_feature,
            size=low_level_feature.shape[2:],
            mode="bilinear",
            align_corners=False,
        )
        joined = torch.cat([low_level_feature, output_feature], dim=1)
        return self.classifier(joined)  # type: ignore[no-any-return]


class DeepLab(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.classifier = Head()

    def forward(self, x: Tensor) -> Tensor:
        input_shape = x.shape[-2:]
        x = self.classifier(self.backbone(x))
        return functional.interpolate(x, size=input_shape, mode="bilinear", align_corners=False)


@cache
def network() -> DeepLab:
    """Evaluating, with the batch norm statistics of one training step."""
    torch.manual_seed(0)
    built = DeepLab().train()
    with torch.no_grad():
        built(torch.randn(2, *SHAPE[1:]))
    return built.eval()


OLD: dict[str, Any] = {"dynamo": False}
NEW: dict[str, Any] = {"dynamo": True, "verbose": False, "external_data": False}
UNFUSED: dict[str, Any] = {
    **OLD,
    "training": torch.onnx.TrainingMode.PRESERVE,
    "do_constant_folding": False,
}
FREE: dict[str, Any] = {
    **OLD,
    "input_names": ["x"],
    "output_names": ["y"],
    "dynamic_axes": {"x": {0: "n", 2: "h", 3: "w"}, "y": {0: "n", 2: "h", 3: "w"}},
}
NEW_FREE: dict[str, Any] = {
    **NEW,
    "dynamic_shapes": ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},),
}


@cache
def exported(how: str, version: int) -> onnx.ModelProto:
    """What the exporter writes, brought to a recent operator set and a fixed input size."""
    options = {"old": OLD, "unfused": UNFUSED, "free": FREE, "new": NEW, "new free": NEW_FREE}[how]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "net.onnx"
        batch = torch.zeros(SHAPE)
        torch.onnx.export(network(), (batch,), str(path), opset_version=version, **options)
        model = onnx.load(path)
    assert opset.version(model) == version
    if version < opset.OLDEST:
        model = version_converter.convert_version(model, opset.OLDEST)
    return opset.fixed(model, Path("net.onnx"), SHAPE) if "free" in how else model


EXPORTS = [
    *(("old", version) for version in (11, 13, 17)),
    *(("unfused", version) for version in (11, 13, 17)),
    *(("free", version) for version in (11, 13, 17)),
    ("new", 18),
    ("new free", 18),
]


# What exporters write and how products are laid out have nothing to do with each other.
RECOGNISED = [(*export, "planar") for export in EXPORTS] + [
    ("unfused", 17, layout) for layout in get_args(Layout) if layout != "planar"
]


@pytest.mark.parametrize(("how", "version", "layout"), RECOGNISED)
def test_recognised(how: str, version: int, layout: Layout) -> None:
    model = exported(how, version)
    after, changes = rewrites.apply(model, layout=layout)
    found = {change.name: change for change in changes}
    norms = kinds(model).count("BatchNormalization")
    assert norms == (12 if how == "unfused" else norms)
    assert found["batch-norm"].places == ((f"{norms} folded",) if norms else ())
    assert found["batch-norm"].left == ()
    assert len(found["pooled-branch"].places) == 1
    [place] = found["commute-enlargement"].places
    assert place.endswith(f"over maps of {GRIDS}")
    assert all(change.left == () for change in changes if change.name != "winograd")
    # The last resize alone is left.
    assert kinds(after).count("Resize") == 1
    assert not {"BatchNormalization", "Shape", "Constant", "Dropout", "Identity"} & set(
        kinds(after)
    )
    assert_same(model, after)
    with torch.inference_mode():
        [(_, batch)] = feeds(model).items()
        expected = network()(torch.from_numpy(batch)).numpy()
    [logits] = run(after)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=CLOSE * np.ptp(expected))


@pytest.mark.parametrize(("how", "version"), EXPORTS)
def test_arithmetic_by_hand(how: str, version: int) -> None:
    """The counts do not depend on the exporter."""
    after, changes = rewrites.apply(exported(how, version))
    small, large = 4 * 5, 16 * 20
    backbone = 32 * 40 * 3 * 8 * 9 + large * 8 * 8 * 9 + 8 * 10 * 8 * 16 * 9 + small * 16 * 16 * 9
    branches = small * 16 * 256 * (1 + 3 * 9) + 16 * 256
    low, classes = large * 8 * 48, large * 256 * CLASSES
    projection, decoder = small * 5 * 256 * 256, large * 304 * 256 * 9
    before = backbone + branches + projection + low + decoder + classes
    pooled_gain = (small - 1) * 256 * 256
    rest = large * 48 * 256 * 9 + small * 256 * 256 * 9
    enlarging = 256 * (3 * 4 * 20 * 3 * 5 + 16 * 20 * 3 * 4)
    counts = [round(1e9 * change.gmacs_after) for change in changes]
    assert round(1e9 * changes[0].gmacs_before) == before
    assert counts == [
        before,
        before,
        before - pooled_gain,
        before - pooled_gain - decoder + rest + enlarging,
        before - pooled_gain - decoder + rest + enlarging,
    ]
    assert macs.count(Graph(after)) == counts[-1]


@pytest.mark.parametrize("name", REWRITES)
def test_each_can_be_switched_off(name: str) -> None:
    model = exported("unfused", 17)
    after, changes = rewrites.apply(model, skip=[name])
    assert [change.skipped for change in changes] == [change.name == name for change in changes]
    done = {change.name for change in changes if change.places}
    # None waits for another: shape inference follows the sizes even where they are not folded.
    assert done - {"winograd"} == set(REWRITES) - {name, "winograd"}
    assert_same(model, after)
