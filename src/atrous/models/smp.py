"""DeepLabV3 and DeepLabV3+ as segmentation_models.pytorch builds them (0.6.0).

They differ from the papers and the reference: a stage that is dilated is so from its first
convolution on, rates are those of output stride 8 at both strides, and what is enlarged is
enlarged with aligned corners.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from atrous.models.aspp import ASPP, HEAD_CHANNELS, LOW_LEVEL_CHANNELS, conv1x1, conv3x3
from atrous.models.mobilenet_v2 import dilate
from atrous.models.resnet import ResNet


class SmpResNet(ResNet):
    """ResNet whose dilated layers are so from their first block on."""

    def __init__(self, blocks: Sequence[int], output_stride: int) -> None:
        super().__init__(blocks, output_stride)
        for layer, stride in ((self.layer3, 16), (self.layer4, 32)):
            if stride > output_stride:
                dilate(layer, stride // output_stride)


class SmpDeepLabV3Head(nn.Module):
    """ASPP, a 3x3 convolution, the class scores."""

    def __init__(
        self, channels: int, num_classes: int, rates: Sequence[int], *, separable: bool
    ) -> None:
        super().__init__()
        convolution, norm, relu = conv3x3(HEAD_CHANNELS, HEAD_CHANNELS)
        aspp = ASPP(channels, rates, separable=separable)
        self.decoder = nn.Sequential(OrderedDict(aspp=aspp, conv=convolution, bn=norm, relu=relu))
        self.segmentation_head = nn.Sequential(nn.Conv2d(HEAD_CHANNELS, num_classes, 1))

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Map the high-level features `(N, C, h, w)` to logits `(N, num_classes, h, w)`."""
        logits: Tensor = self.segmentation_head(self.decoder(high))
        return logits


class SmpDecoder(nn.Module):
    """ASPP and a separable convolution, enlarged and joined with the low-level features."""

    def __init__(
        self, low_channels: int, channels: int, rates: Sequence[int], *, separable: bool
    ) -> None:
        super().__init__()
        self.aspp = nn.Sequential(
            ASPP(channels, rates, separable=separable),
            *conv3x3(HEAD_CHANNELS, HEAD_CHANNELS, separable=True),
        )
        self.block1 = nn.Sequential(*conv1x1(low_channels, LOW_LEVEL_CHANNELS))
        self.block2 = nn.Sequential(
            *conv3x3(HEAD_CHANNELS + LOW_LEVEL_CHANNELS, HEAD_CHANNELS, separable=True)
        )

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Map the features `(N, L, H, W)` and `(N, C, h, w)` to `(N, 256, H, W)`."""
        fine = self.block1(low)
        coarse = functional.interpolate(
            self.aspp(high), size=fine.shape[-2:], mode="bilinear", align_corners=True
        )
        out: Tensor = self.block2(torch.cat([coarse, fine], dim=1))
        return out


class SmpDeepLabV3PlusHead(nn.Module):
    """Its decoder, the class scores."""

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
        self.decoder = SmpDecoder(low_channels, channels, rates, separable=separable)
        self.segmentation_head = nn.Sequential(nn.Conv2d(HEAD_CHANNELS, num_classes, 1))

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Map the features `(N, L, H, W)` and `(N, C, h, w)` to logits `(N, num_classes, H, W)`."""
        logits: Tensor = self.segmentation_head(self.decoder(low, high))
        return logits
