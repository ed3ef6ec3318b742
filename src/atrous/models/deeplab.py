"""DeepLabV3 (arXiv:1706.05587) and DeepLabV3+ (arXiv:1802.02611), and their one builder.

Names and numbers of what the reference has (VainF/DeepLabV3Plus-Pytorch at 4e1087d) equal its own,
and its checkpoints load as they are. Xception-65 and the cascaded head are from the papers. What
other libraries define otherwise, in numbers or in names, are variants of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from atrous import zoo
from atrous.errors import ConfigError
from atrous.geometry import CoordinateRule
from atrous.models.aligned_xception import AlignedXception
from atrous.models.aspp import (
    ASPP,
    ATROUS_RATES,
    HEAD_CHANNELS,
    LOW_LEVEL_CHANNELS,
    conv1x1,
    conv3x3,
)
from atrous.models.cascade import CascadeHead, base_rate, dilate
from atrous.models.hrnet import HRNetV2
from atrous.models.lraspp import LRASPPHead
from atrous.models.mobilenet import MobileNetV2
from atrous.models.mobilenet_v2 import WholeMobileNetV2
from atrous.models.mobilenet_v2_tf import MobileNetV2Tf, PooledHead
from atrous.models.mobilenet_v3 import MobileNetV3Large
from atrous.models.resnet import ResNet
from atrous.models.smp import SmpDeepLabV3Head, SmpDeepLabV3PlusHead, SmpResNet
from atrous.models.xception import Xception


class DeepLabV3Head(nn.Module):
    """ASPP, one 3x3 convolution and the class scores. The low-level features are not used."""

    def __init__(
        self, channels: int, num_classes: int, rates: Sequence[int], *, separable: bool
    ) -> None:
        super().__init__()
        self.classifier = nn.Sequential(
            ASPP(channels, rates, separable=separable),
            *conv3x3(HEAD_CHANNELS, HEAD_CHANNELS, separable=separable),
            nn.Conv2d(HEAD_CHANNELS, num_classes, 1),
        )

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Map the high-level features `(N, C, h, w)` to logits `(N, num_classes, h, w)`."""
        logits: Tensor = self.classifier(high)
        return logits


class DeepLabV3PlusHead(nn.Module):
    """ASPP, enlarged to the low-level features and refined with them."""

    def __init__(
        self,
        low_channels: int,
        channels: int,
        num_classes: int,
        rates: Sequence[int],
        *,
        separable: bool,
    ) -> None:
        super().__init__()
        self.project = nn.Sequential(*conv1x1(low_channels, LOW_LEVEL_CHANNELS))
        self.aspp = ASPP(channels, rates, separable=separable)
        self.classifier = nn.Sequential(
            *conv3x3(LOW_LEVEL_CHANNELS + HEAD_CHANNELS, HEAD_CHANNELS, separable=separable),
            nn.Conv2d(HEAD_CHANNELS, num_classes, 1),
        )

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Map the features `(N, L, H, W)` and `(N, C, h, w)` to logits `(N, num_classes, H, W)`."""
        fine = self.project(low)
        coarse = _enlarge(self.aspp(high), fine)
        logits: Tensor = self.classifier(torch.cat([fine, coarse], dim=1))
        return logits


class DeepLab(nn.Module):
    """A backbone and a head.

    `build` makes one with random weights, for training; `atrous.models.load` one that is ready
    to use.

    Attributes:
        variant: the row of `atrous.zoo.VARIANTS` it was built from.
        num_classes: number of classes.
        output_stride: pixels of the input per pixel of the high-level features.
        separable: whether the head's 3x3 convolutions are atrous separable ones.
    """

    def __init__(
        self,
        backbone: nn.Module,
        classifier: nn.Module,
        *,
        variant: zoo.Variant,
        num_classes: int,
        output_stride: int,
        separable: bool,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier
        self.variant = variant
        self.num_classes = num_classes
        self.output_stride = output_stride
        self.separable = separable

    def forward(self, x: Tensor) -> Tensor:
        """Return the class scores at the size of the input.

        Args:
            x: `(N, 3, H, W)` float RGB, normalised as the weights want it; any H and W.

        Returns:
            `(N, num_classes, H, W)` logits.
        """
        return self.enlarge(self.logits_grid(x), (x.shape[2], x.shape[3]))

    @property
    def coordinates(self) -> CoordinateRule:
        """How the grid of the logits lies on the input."""
        return "align_corners" if self.variant.head in ALIGNED else "half_pixel"

    def enlarge(self, grid: Tensor, size: tuple[int, int]) -> Tensor:
        """Enlarge logits `(N, num_classes, h, w)` bilinearly to `(N, num_classes, *size)`."""
        aligned = self.coordinates == "align_corners"
        return functional.interpolate(grid, size, mode="bilinear", align_corners=aligned)

    def logits_grid(self, x: Tensor) -> Tensor:
        """Return the class scores before the last enlargement, which a runtime can do cheaper.

        Args:
            x: as for `forward`.

        Returns:
            `(N, num_classes, h, w)` logits, at the output stride for DeepLabV3, at stride 4 for
            DeepLabV3+ and at 8 for Lite R-ASPP, for `enlarge`.
        """
        logits: Tensor = self.classifier(*self.backbone(x))
        return logits


def build(
    variant: str | zoo.Variant,
    num_classes: int = 21,
    output_stride: int = 16,
    *,
    separable: bool = False,
) -> DeepLab:
    """Build a network with random weights, in training mode.

    Args:
        variant: a row of `atrous.zoo.VARIANTS` or its name.
        num_classes: number of classes, background included.
        output_stride: 8 or 16; does not change the names or shapes of the weights. A backbone with
            one stride (HRNet, 4) has that one, whatever is asked, as in the reference.
        separable: use atrous separable convolutions in the head; in those of
            segmentation_models.pytorch in its ASPP.

    Raises:
        ConfigError: the variant, its backbone or the output stride is unknown, or its head has no
            separable form.
    """
    row = zoo.variant(variant) if isinstance(variant, str) else variant
    backbone = zoo.backbone(row.backbone)
    if len(backbone.output_strides) == 1:
        [output_stride] = backbone.output_strides
    elif output_stride not in backbone.output_strides:
        raise ConfigError(
            f"{row.name}: output_stride must be one of {backbone.output_strides}, "
            f"found {output_stride}"
        )
    if num_classes < 1:
        raise ConfigError(f"{row.name}: num_classes must be at least 1, found {num_classes}")
    if separable and row.head not in _ASPP_HEADS:
        raise ConfigError(f"{row.name}: separable convolutions belong to the heads with ASPP")
    kind = f"smp_{backbone.name}" if row.head.startswith("smp") else backbone.name
    features = _BACKBONES.get(kind, _BACKBONES[backbone.name])(output_stride=output_stride)
    if row.head == "deeplabv3cascade":
        dilate(features.layer4, base_rate(output_stride))
    head = _head(row, num_classes, output_stride, separable=separable)
    _initialise(features, "fan_out")
    _initialise(head, "fan_in")
    return DeepLab(
        features,
        head,
        variant=row,
        num_classes=num_classes,
        output_stride=output_stride,
        separable=separable,
    )


def _head(row: zoo.Variant, num_classes: int, output_stride: int, *, separable: bool) -> nn.Module:
    backbone = zoo.backbone(row.backbone)
    low, high = backbone.low_channels, backbone.high_channels
    rates = row.atrous_rates or ATROUS_RATES.get(output_stride, ATROUS_RATES[16])
    match row.head:
        case "deeplabv3":
            return DeepLabV3Head(high, num_classes, rates, separable=separable)
        case "deeplabv3plus":
            return DeepLabV3PlusHead(low, high, num_classes, rates, separable=separable)
        case "deeplabv3cascade":
            return CascadeHead(num_classes, output_stride)
        case "lraspp":
            return LRASPPHead(low, high, num_classes)
        case "smp_deeplabv3":
            return SmpDeepLabV3Head(high, num_classes, rates, separable=separable)
        case "smp_deeplabv3plus":
            return SmpDeepLabV3PlusHead(low, high, num_classes, rates, separable=separable)
        case "hf_deeplabv3":
            return PooledHead(high, num_classes)


ALIGNED = ("smp_deeplabv3", "smp_deeplabv3plus")
"""Heads whose logits are enlarged with aligned corners."""

_ASPP_HEADS = ("deeplabv3", "deeplabv3plus", "smp_deeplabv3", "smp_deeplabv3plus")
_BACKBONES: dict[str, Callable[..., Any]] = {
    "mobilenet": MobileNetV2,
    "resnet50": partial(ResNet, (3, 4, 6, 3)),
    "mobilenet_v2": WholeMobileNetV2,
    "mobilenet_v2_tf": MobileNetV2Tf,
    "mobilenet_v3_large": MobileNetV3Large,
    "resnet101": partial(ResNet, (3, 4, 23, 3)),
    "smp_resnet50": partial(SmpResNet, (3, 4, 6, 3)),
    "smp_resnet101": partial(SmpResNet, (3, 4, 23, 3)),
    "xception": Xception,
    "xception65": AlignedXception,
    "hrnetv2_32": partial(HRNetV2, 32),
    "hrnetv2_48": partial(HRNetV2, 48),
}


def _initialise(module: nn.Module, mode: Literal["fan_in", "fan_out"]) -> None:
    # arXiv:1502.01852; batch norms start as identities by torch's own default.
    # A tensor without memory has no values to set, and torch takes two seconds over not doing it.
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and not part.weight.is_meta:
            nn.init.kaiming_normal_(part.weight, mode=mode, nonlinearity="relu")


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
