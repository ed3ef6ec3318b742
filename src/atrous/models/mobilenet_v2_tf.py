"""MobileNetV2 and its DeepLab head as Hugging Face's transformers have them (5.24.0).

They follow TensorFlow, whose weights they hold: padding at the bottom and at the right first. The
head is DeepLabV3 without its atrous branches, as Google trained it for MobileNetV2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from atrous.models.mobilenet import STAGES

WIDTH = 256
LOW_LEVEL_LAYER = 1
"""The layer whose output, at stride 4, is the low-level features; this head does not use them."""


class ConvLayer(nn.Module):
    """A convolution, batch norm and activation, padded as TensorFlow does it."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        *,
        groups: int = 1,
        activation: nn.Module | None = None,
        eps: float = 0.001,
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            inputs, outputs, kernel, stride, 0, dilation, groups, bias=False
        )
        self.normalization = nn.BatchNorm2d(outputs, eps=eps)
        self.activation = activation or nn.Identity()
        # Its own, as training with frozen batch norms puts another in the convolution's place.
        self.kernel, self.stride, self.dilation = kernel, stride, dilation

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, outputs, ceil(H / stride), ceil(W / stride))`."""
        if self.kernel > 1:
            x = functional.pad(x, self._margins(x))
        y: Tensor = self.activation(self.normalization(self.convolution(x)))
        return y

    def _margins(self, x: Tensor) -> list[int]:
        """Left, right, top, bottom: 1 and 1 times the rate; of an even size that is halved 0, 1."""
        if self.stride == 1:
            return [self.dilation] * 4
        return [x.shape[-1] % 2, 1, x.shape[-2] % 2, 1]


class Residual(nn.Module):
    """Expand, filter each channel, project; add the input where the shapes allow it."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, dilation: int, expansion: int
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand_1x1 = ConvLayer(inputs, hidden, activation=nn.ReLU6())
        self.conv_3x3 = ConvLayer(
            hidden, hidden, 3, stride, dilation, groups=hidden, activation=nn.ReLU6()
        )
        self.reduce_1x1 = ConvLayer(hidden, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, outputs, ceil(H / stride), ceil(W / stride))`."""
        y: Tensor = self.reduce_1x1(self.conv_3x3(self.expand_1x1(x)))
        return x + y if self.residual else y


class Stem(nn.Module):
    """The first convolution, and the first block without its expansion."""

    def __init__(self) -> None:
        super().__init__()
        self.first_conv = ConvLayer(3, 32, 3, 2, activation=nn.ReLU6())
        self.conv_3x3 = ConvLayer(32, 32, 3, groups=32, activation=nn.ReLU6())
        self.reduce_1x1 = ConvLayer(32, STAGES[0][1])

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, 3, H, W)` to `(N, 16, ceil(H / 2), ceil(W / 2))`."""
        y: Tensor = self.reduce_1x1(self.conv_3x3(self.first_conv(x)))
        return y


class MobileNetV2Tf(nn.Module):
    """MobileNetV2 of width 1 without its classifier, dilated to the output stride.

    Args:
        output_stride: 8, 16 or 32.
    """

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.conv_stem = Stem()
        self.layer = nn.ModuleList()
        inputs, reached, rate = STAGES[0][1], 2, 1
        for expansion, outputs, count, step in STAGES[1:]:
            for index in range(count):
                stride, dilation, wanted = 1, 1, step if index == 0 else 1
                if reached == output_stride:
                    # A block that does not stride any more still filters at the rate before it.
                    dilation, rate = rate, rate * wanted
                else:
                    stride, reached = wanted, reached * wanted
                self.layer.append(Residual(inputs, outputs, stride, dilation, expansion))
                inputs = outputs

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the low-level and the high-level features.

        Args:
            x: `(N, 3, H, W)` normalised RGB.

        Returns:
            `(N, 24, H/4, W/4)` and `(N, 320, H/output_stride, W/output_stride)`, rounded up.
        """
        x = self.conv_stem(x)
        low = x
        for index, layer in enumerate(self.layer):
            x = layer(x)
            if index == LOW_LEVEL_LAYER:
                low = x
        return low, x


class Classifier(nn.Module):
    """A 1x1 convolution to the class scores, under the name that the others have."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(WIDTH, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, 256, h, w)` to `(N, num_classes, h, w)`."""
        y: Tensor = self.convolution(x)
        return y


class PooledHead(nn.Module):
    """Look at each place and at the mean of the picture."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv_pool = ConvLayer(channels, WIDTH, activation=nn.ReLU(), eps=1e-5)
        self.conv_aspp = ConvLayer(channels, WIDTH, activation=nn.ReLU(), eps=1e-5)
        self.conv_projection = ConvLayer(2 * WIDTH, WIDTH, activation=nn.ReLU(), eps=1e-5)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = Classifier(num_classes)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Map the high-level features `(N, C, h, w)` to logits `(N, num_classes, h, w)`."""
        # One value enlarged is that value everywhere.
        pooled = functional.interpolate(
            self.conv_pool(self.pool(high)), size=high.shape[-2:], mode="bilinear"
        )
        joined = torch.cat([pooled, self.conv_aspp(high)], dim=1)
        logits: Tensor = self.classifier(self.dropout(self.conv_projection(joined)))
        return logits
