"""MobileNetV2 (Sandler et al., arXiv:1801.04381) as torchvision has it, up to its 1280 channels."""

from __future__ import annotations

from torch import Tensor, nn

from atrous.models.mobilenet import LOW_LEVEL_BLOCKS, STAGES

CHANNELS = 1280


def _conv_bn_relu6(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class PaddedResidual(nn.Module):
    """Expand, filter each channel, project; add the input where the shapes allow it.

    Unlike in the reference the padding belongs to the depthwise convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.conv = nn.Sequential(
            *([_conv_bn_relu6(inputs, hidden, 1)] if expansion != 1 else []),
            _conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, outputs, ceil(H / stride), ceil(W / stride))`."""
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class WholeMobileNetV2(nn.Module):
    """MobileNetV2 of width 1 without its classifier, in torchvision's names.

    A stage that would stride below `output_stride` is dilated from its first convolution on.
    """

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = [_conv_bn_relu6(3, 32, 3, stride=2)]
        inputs, stride = 32, 2
        for expansion, outputs, count, step in STAGES:
            stride *= step
            for index in range(count):
                block = PaddedResidual(inputs, outputs, step if index == 0 else 1, expansion)
                # The shortcut is where the shapes were before the stage was dilated.
                if stride > output_stride:
                    dilate(block, stride // output_stride)
                blocks.append(block)
                inputs = outputs
        blocks.append(_conv_bn_relu6(inputs, CHANNELS, 1))
        self.features = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the low-level and the high-level features.

        Args:
            x: `(N, 3, H, W)` normalised RGB.

        Returns:
            `(N, 24, H/4, W/4)` and `(N, 1280, H/output_stride, W/output_stride)`, rounded up.
        """
        low: Tensor = self.features[:LOW_LEVEL_BLOCKS](x)
        return low, self.features[LOW_LEVEL_BLOCKS:](low)


def dilate(stage: nn.Module, rate: int) -> None:
    """Put an atrous rate in place of the strides of every convolution below `stage`."""
    for part in stage.modules():
        if isinstance(part, nn.Conv2d):
            reach = part.kernel_size[0] // 2 * rate
            part.stride, part.dilation, part.padding = (1, 1), (rate, rate), (reach, reach)
