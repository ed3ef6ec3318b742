"""ResNet with bottleneck blocks as a feature extractor (He et al., arXiv:1512.03385)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

EXPANSION = 4
# Does the stride of layer2, layer3, layer4 become an atrous rate?
DILATED = {8: (False, True, True), 16: (False, False, True)}


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution around a shortcut; the stride sits on the 3x3 (version 1.5)."""

    def __init__(
        self, inputs: int, width: int, stride: int, dilation: int, downsample: nn.Module | None
    ) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, 4 * width, ceil(H / stride), ceil(W / stride))`."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += shortcut
        out: Tensor = self.relu(y)
        return out


class ResNet(nn.Module):
    """ResNet without its classifier, dilated to the output stride, in torchvision's names."""

    def __init__(self, blocks: Sequence[int], output_stride: int) -> None:
        """Build the network.

        Args:
            blocks: bottleneck blocks in each of the four layers.
            output_stride: 8 or 16.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        dilated = DILATED[output_stride]
        rates = [1]
        for step in dilated:
            rates.append(rates[-1] * (2 if step else 1))
        self.layer1 = bottlenecks(64, 64, blocks[0])
        self.layer2 = bottlenecks(256, 128, blocks[1], 1 if dilated[0] else 2, rates[0], rates[1])
        self.layer3 = bottlenecks(512, 256, blocks[2], 1 if dilated[1] else 2, rates[1], rates[2])
        self.layer4 = bottlenecks(1024, 512, blocks[3], 1 if dilated[2] else 2, rates[2], rates[3])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the low-level and the high-level features.

        Args:
            x: `(N, 3, H, W)` normalised RGB.

        Returns:
            `(N, 256, H/4, W/4)` of `layer1` and `(N, 2048, H/output_stride, W/output_stride)` of
            `layer4`, sizes rounded up.
        """
        low: Tensor = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x)))))
        return low, self.layer4(self.layer3(self.layer2(low)))


def bottlenecks(
    inputs: int, width: int, count: int, stride: int = 1, first_dilation: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Return bottleneck blocks in a row: the first strides, and has a projection as shortcut."""
    outputs = width * EXPANSION
    # Every first block of a layer changes the number of channels, so each has a projection.
    downsample = nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
    )
    # Its 3x3 still filters what came before it, at the rate of what came before.
    first = Bottleneck(inputs, width, stride, first_dilation, downsample)
    rest = (Bottleneck(outputs, width, 1, dilation, None) for _ in range(count - 1))
    return nn.Sequential(first, *rest)
