"""Networks with every kind of block, and each but once or twice, and a narrow head: what export and
training cost grows with both, and a fifth block like the fourth has nothing new to show.
"""

from functools import partial

import pytest
from torch import nn

from atrous.cli import main
from atrous.exporters.onnx import export_onnx
from atrous.models import (
    aligned_xception,
    aspp,
    cascade,
    deeplab,
    hrnet,
    mobilenet,
    mobilenet_v2,
    mobilenet_v2_tf,
    resnet,
    smp,
    xception,
)
from atrous.models.resnet import EXPANSION, Bottleneck, ResNet
from atrous.models.smp import SmpResNet

# Two blocks where the first dilates unlike the others, three where each has a rate of its own.
RESNET = (1, 1, 2, 3)
HEAD_CHANNELS = 32
MOBILENET = {16: 1, 24: 2, 32: 1, 64: 1, 320: 2}


class Narrow(Bottleneck):
    """A bottleneck with an eighth of the channels inside, and as many outside."""

    def __init__(
        self, inputs: int, width: int, stride: int, dilation: int, downsample: nn.Module | None
    ) -> None:
        super().__init__(inputs, width // 8, stride, dilation, downsample)
        self.conv3 = nn.Conv2d(width // 8, width * EXPANSION, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * EXPANSION)


def make_shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, `models.build` makes shallow networks, of the variant that is asked for."""
    for name in ("resnet50", "resnet101"):
        monkeypatch.setitem(deeplab._BACKBONES, name, partial(ResNet, RESNET))
        monkeypatch.setitem(deeplab._BACKBONES, f"smp_{name}", partial(SmpResNet, RESNET))
    for module in (resnet, cascade):
        monkeypatch.setattr(module, "Bottleneck", Narrow)
    for module in (aspp, deeplab, smp):
        monkeypatch.setattr(module, "HEAD_CHANNELS", HEAD_CHANNELS)
    monkeypatch.setattr(xception, "BLOCKS", tuple(dict.fromkeys(xception.BLOCKS)))
    monkeypatch.setattr(aligned_xception, "MIDDLE", 1)
    monkeypatch.setattr(hrnet, "BLOCKS_PER_BRANCH", 1)
    stage = hrnet._stage
    monkeypatch.setattr(hrnet, "_stage", lambda widths, count: stage(widths, 1))
    stages = [
        (expansion, channels, MOBILENET[channels], 2 if channels == 320 else stride)
        for expansion, channels, _, stride in mobilenet.STAGES
        if channels in MOBILENET
    ]
    for inverted in (mobilenet, mobilenet_v2, mobilenet_v2_tf):
        monkeypatch.setattr(inverted, "STAGES", tuple(stages))


def make_exports_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, an export that names no operator set is one of the older exporter: the same
    numbers in a tenth of the time. What the newer one writes, `tests/exporters` has.
    """
    monkeypatch.setitem(export_onnx.__kwdefaults__, "opset", 17)


if __name__ == "__main__":  # python -m tests.builders.shallow train …: in a process of its own
    make_shallow(pytest.MonkeyPatch())
    main()
