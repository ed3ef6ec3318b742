"""Atrous spatial pyramid pooling (Chen et al., arXiv:1706.05587) and its convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

ATROUS_RATES = {4: (12, 24, 36), 8: (12, 24, 36), 16: (6, 12, 18)}
"""Rates of the three atrous branches, by output stride; at 4 those that the reference takes."""

HEAD_CHANNELS = 256
"""What ASPP and the convolutions after it give."""

LOW_LEVEL_CHANNELS = 48
"""What the decoder of DeepLabV3+ keeps of the low-level features."""


class SeparableConv(nn.Module):
    """Atrous separable convolution: 3x3 on each channel, then 1x1 (arXiv:1802.02611, section 3.1).

    No normalisation and no activation in between, as in the reference.
    """

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, 1, dilation, dilation, inputs, bias=False),
            nn.Conv2d(inputs, outputs, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, outputs, H, W)`."""
        out: Tensor = self.body(x)
        return out


def conv1x1(inputs: int, outputs: int) -> list[nn.Module]:
    """Return a 1x1 convolution, batch norm and ReLU."""
    return [nn.Conv2d(inputs, outputs, 1, bias=False), *_bn_relu(outputs)]


def conv3x3(
    inputs: int, outputs: int, dilation: int = 1, *, separable: bool = False
) -> list[nn.Module]:
    """Return a size-preserving atrous 3x3 convolution, batch norm and ReLU."""
    if separable:
        return [SeparableConv(inputs, outputs, dilation), *_bn_relu(outputs)]
    plain = nn.Conv2d(inputs, outputs, 3, 1, dilation, dilation, bias=False)
    return [plain, *_bn_relu(outputs)]


def _bn_relu(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


class ASPP(nn.Module):
    """Look at each place through a 1x1, three atrous 3x3 windows and the mean of the image."""

    def __init__(self, inputs: int, rates: Sequence[int], *, separable: bool = False) -> None:
        super().__init__()
        outputs = HEAD_CHANNELS
        self.convs = nn.ModuleList(
            [
                nn.Sequential(*conv1x1(inputs, outputs)),
                *(
                    nn.Sequential(*conv3x3(inputs, outputs, rate, separable=separable))
                    for rate in rates
                ),
                nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv1x1(inputs, outputs)),
            ]
        )
        self.project = nn.Sequential(*conv1x1(len(self.convs) * outputs, outputs), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, h, w)` to `(N, 256, h, w)`."""
        *local, pooled = [branch(x) for branch in self.convs]
        pooled = functional.interpolate(
            pooled, size=x.shape[-2:], mode="bilinear", align_corners=False
        )
        out: Tensor = self.project(torch.cat([*local, pooled], dim=1))
        return out
