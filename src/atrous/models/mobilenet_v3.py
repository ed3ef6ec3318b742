"""MobileNetV3-Large (Howard et al., arXiv:1905.02244) as torchvision segments with it.

Parameters are named by the place of each block, as below `backbone.` in torchvision's checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

# Kernel, expanded channels, channels, squeeze and excite, hard swish, stride, dilation (table 1 of
# the paper; the last stage dilated, so that the output stride is 16).
BLOCKS = (
    (3, 16, 16, False, False, 1, 1),
    (3, 64, 24, False, False, 2, 1),
    (3, 72, 24, False, False, 1, 1),
    (5, 72, 40, True, False, 2, 1),
    (5, 120, 40, True, False, 1, 1),
    (5, 120, 40, True, False, 1, 1),
    (3, 240, 80, False, True, 2, 1),
    (3, 200, 80, False, True, 1, 1),
    (3, 184, 80, False, True, 1, 1),
    (3, 184, 80, False, True, 1, 1),
    (3, 480, 112, True, True, 1, 1),
    (3, 672, 112, True, True, 1, 1),
    (5, 672, 160, True, True, 1, 2),
    (5, 960, 160, True, True, 1, 2),
    (5, 960, 160, True, True, 1, 2),
)
LOW_LEVEL = 4
"""The block whose output, at stride 8, is the low-level features."""


def _conv_bn(
    inputs: int,
    outputs: int,
    kernel: int,
    activation: Callable[[], nn.Module] | None,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    padding = kernel // 2 * dilation
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False),
        nn.BatchNorm2d(outputs, eps=0.001, momentum=0.01),
        *([activation()] if activation else []),
    )


class SqueezeExcitation(nn.Module):
    """Scale every channel by what its mean over the picture says (arXiv:1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _divisible(channels // 4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.scale = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to the same shape."""
        y: Tensor = x * self.scale(self.fc2(self.relu(self.fc1(self.pool(x)))))
        return y


class InvertedResidual(nn.Module):
    """Expand, filter each channel, weigh the channels, project; add the input where it fits."""

    def __init__(
        self,
        inputs: int,
        kernel: int,
        hidden: int,
        outputs: int,
        squeeze: bool,
        swish: bool,
        stride: int,
        dilation: int,
    ) -> None:
        super().__init__()
        kind = nn.Hardswish if swish else nn.ReLU
        self.block = nn.Sequential(
            *([_conv_bn(inputs, hidden, 1, kind)] if hidden != inputs else []),
            _conv_bn(hidden, hidden, kernel, kind, stride, dilation, groups=hidden),
            *([SqueezeExcitation(hidden)] if squeeze else []),
            _conv_bn(hidden, outputs, 1, None),
        )
        # The dilated block would have strode, so it has no shortcut; the channels differ there too.
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, outputs, ceil(H / stride), ceil(W / stride))`."""
        y: Tensor = self.block(x)
        return y + x if self.residual else y


class MobileNetV3Large(nn.Sequential):
    """MobileNetV3-Large of width 1 without its classifier; its only output stride is 16."""

    def __init__(self, output_stride: int = 16) -> None:
        assert output_stride == 16
        blocks: list[nn.Module] = [_conv_bn(3, 16, 3, nn.Hardswish, stride=2)]
        inputs = 16
        for kernel, hidden, outputs, squeeze, swish, stride, dilation in BLOCKS:
            blocks.append(
                InvertedResidual(inputs, kernel, hidden, outputs, squeeze, swish, stride, dilation)
            )
            inputs = outputs
        blocks.append(_conv_bn(inputs, 6 * inputs, 1, nn.Hardswish))
        super().__init__(*blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the low-level and the high-level features.

        Args:
            x: `(N, 3, H, W)` normalised RGB.

        Returns:
            `(N, 40, H/8, W/8)` and `(N, 960, H/16, W/16)`, sizes rounded up.
        """
        low = x
        for index, block in enumerate(self):
            x = block(x)
            if index == LOW_LEVEL:
                low = x
        return low, x


def _divisible(channels: int) -> int:
    """The nearest multiple of 8 that is not below 90 % of `channels`."""
    rounded = max(8, (channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
