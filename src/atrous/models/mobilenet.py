"""MobileNetV2 as a feature extractor (Sandler et al., arXiv:1801.04381)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

# Expansion, channels, blocks, stride of each stage (table 2 of the paper).
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LOW_LEVEL_BLOCKS = 4


def _conv_bn_relu6(
    inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    # Unpadded: the block pads its input instead, and the first convolution not at all.
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, 0, dilation, groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; add the input where the shapes allow it.

    The zero padding for the depthwise convolution comes before the expansion, as in the
    reference, so that border values are those of an expanded zero and not zero.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, dilation: int, expansion: int
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [_conv_bn_relu6(inputs, hidden, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            _conv_bn_relu6(hidden, hidden, 3, stride, dilation, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.padding = [dilation] * 4
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, outputs, ceil(H / stride), ceil(W / stride))`."""
        y: Tensor = self.conv(functional.pad(x, self.padding))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1 without its classifier, dilated to the output stride.

    Parameters are named as in the reference: `low_level_features` holds torchvision's
    `features.0` to `features.3`, `high_level_features` the others up to `features.17`.
    """

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = [_conv_bn_relu6(3, 32, 3, stride=2)]
        inputs, reached, dilation = 32, 2, 1
        for expansion, outputs, count, step in STAGES:
            # The first block still filters what came before it, at the rate of what came before.
            first_dilation, stride = dilation, step
            if reached == output_stride:
                stride = 1
                dilation *= step
            else:
                reached *= step
            for index in range(count):
                first = index == 0
                blocks.append(
                    InvertedResidual(
                        inputs,
                        outputs,
                        stride if first else 1,
                        first_dilation if first else dilation,
                        expansion,
                    )
                )
                inputs = outputs
        named = [(str(index), block) for index, block in enumerate(blocks)]
        self.low_level_features = nn.Sequential(OrderedDict(named[:LOW_LEVEL_BLOCKS]))
        self.high_level_features = nn.Sequential(OrderedDict(named[LOW_LEVEL_BLOCKS:]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the low-level and the high-level features.

        Args:
            x: `(N, 3, H, W)` normalised RGB.

        Returns:
            `(N, 24, ~H/4, ~W/4)` and `(N, 320, ~H/output_stride, ~W/output_stride)`. The first
            convolution is unpadded, so 513 pixels become 128 and, at output stride 16, 32.
        """
        low: Tensor = self.low_level_features(x)
        return low, self.high_level_features(low)
