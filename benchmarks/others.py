"""Networks that other libraries made, at full width and with random weights, for `compile.py`.

SegFormer and UPerNet are those of transformers (`pip install transformers`). mmsegmentation does
not install beside today's torch: its heads stand here as its source has them, behind this project's
backbones. All take a normalised `(1, 3, 512, 512)` and give logits of that size, as their users
enlarge them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from atrous.models.hrnet import HRNetV2
from atrous.models.resnet import ResNet

SIDE = 512
CLASSES = 150
"""Of ADE20K, which these are mostly trained on."""


class Whole(nn.Module):
    """A network whose logits are enlarged to the size of its input."""

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, H, W)` → logits `(N, C, H, W)`."""
        logits = self.network(x)
        logits = logits if isinstance(logits, Tensor) else logits.logits
        return _enlarge(logits, x)


class PSPNet(nn.Module):
    """PSPNet-R50-D8 (mmseg/models/decode_heads/psp_head.py), at a size whose bins are whole."""

    def __init__(self, width: int = 512, bins: tuple[int, ...] = (1, 2, 4, 8)) -> None:
        super().__init__()
        self.backbone = ResNet((3, 4, 6, 3), 8)
        self.pools = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), _module(2048, width)) for side in bins
        )
        self.bottleneck = _module(2048 + len(bins) * width, width, 3)
        self.classifier = nn.Conv2d(width, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, H, W)` → logits at an eighth."""
        high = self.backbone(x)[1]
        joined = torch.cat([high, *(_enlarge(pool(high), high) for pool in self.pools)], dim=1)
        return self.classifier(self.bottleneck(joined))


class HRNet(nn.Module):
    """HRNet-W18 with mmseg's FCN head over the concatenation of its four levels."""

    def __init__(self, width: int = 18) -> None:
        super().__init__()
        self.backbone = HRNetV2(width)
        self.head = nn.Sequential(
            _module(15 * width, 15 * width), nn.Conv2d(15 * width, CLASSES, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, H, W)` → logits at a quarter."""
        return self.head(self.backbone(x)[1])


def _module(inputs: int, outputs: int, size: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def _segformer() -> nn.Module:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    return SegformerForSemanticSegmentation(SegformerConfig(num_labels=CLASSES))


def _upernet() -> nn.Module:
    from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

    levels = [f"stage{number}" for number in range(1, 5)]
    backbone = ConvNextConfig(hidden_sizes=[96, 192, 384, 768], out_features=levels)
    return UperNetForSemanticSegmentation(
        UperNetConfig(backbone_config=backbone, num_labels=CLASSES, use_auxiliary_head=False)
    )


MAKERS: dict[str, Callable[[], nn.Module]] = {
    "segformer_b0": _segformer,
    "upernet_convnext_tiny": _upernet,
    "pspnet_resnet50": PSPNet,
    "hrnet18_fcn": HRNet,
}


def make(network: str) -> nn.Module:
    """One of `MAKERS`, whole, in inference mode."""
    torch.manual_seed(0)
    return Whole(MAKERS[network]()).eval()


def export(network: str, path: Path) -> None:
    """Write one of `MAKERS` as an ONNX file from `input` to `logits`."""
    torch.onnx.export(
        make(network), (torch.zeros(1, 3, SIDE, SIDE),), path, dynamo=True, verbose=False,
        input_names=["input"], output_names=["logits"], external_data=False,
    )  # fmt: skip
