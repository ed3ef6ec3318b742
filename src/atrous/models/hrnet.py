"""HRNetV2 (Wang et al., arXiv:1908.07919) as a feature extractor that never leaves stride 4."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from atrous.models.resnet import bottlenecks

OUTPUT_STRIDE = 4
BLOCKS_PER_BRANCH = 4


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to the same shape."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x
        out: Tensor = self.relu(y)
        return out


class Exchange(nn.Module):
    """Four blocks on each branch, then each branch takes in what the others found."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(BLOCKS_PER_BRANCH)))
            for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_path(widths, source, target) for source in range(len(widths)))
            for target in range(len(widths))
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        """Map one `(N, width, H / 2^i, W / 2^i)` for each branch i to the same shapes."""
        x = [branch(level) for branch, level in zip(self.branches, x, strict=True)]
        fused = []
        for target, paths in enumerate(self.fuse_layers):
            assert isinstance(paths, nn.ModuleList)
            mapped = [path(level) for path, level in zip(paths, x, strict=True)]
            size = x[target].shape[-2:]
            y = mapped[0]
            for source, other in enumerate(mapped[1:], start=1):
                if source > target:
                    other = functional.interpolate(other, size=size, mode="nearest")
                y = y + other
            fused.append(self.relu(y))
        return fused


class HRNetV2(nn.Module):
    """HRNetV2 without its classifier, in the reference's names.

    As in the reference, the stem has one ReLU, after its second convolution, and branches are
    enlarged to nearest pixels where they meet.
    """

    def __init__(self, width: int, output_stride: int = OUTPUT_STRIDE) -> None:
        """Build the network.

        Args:
            width: channels of the branch at stride 4; each further branch has twice as many.
            output_stride: 4, the only one.
        """
        super().__init__()
        assert output_stride == OUTPUT_STRIDE
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = bottlenecks(64, 64, 4)
        # One list deeper than needed, for the names of the published weights.
        self.transition1 = nn.ModuleList(
            [_conv_bn_relu(256, width, 1), nn.Sequential(_conv_bn_relu(256, 2 * width, 2))]
        )
        widths = [width * 2**branch for branch in range(4)]
        self.stage2 = _stage(widths[:2], 1)
        self.transition2 = _conv_bn_relu(widths[1], widths[2], 2)
        self.stage3 = _stage(widths[:3], 4)
        self.transition3 = _conv_bn_relu(widths[2], widths[3], 2)
        self.stage4 = _stage(widths, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the low-level and the high-level features.

        Args:
            x: `(N, 3, H, W)` normalised RGB.

        Returns:
            `(N, 256, H/4, W/4)` of `layer1` and `(N, 15 * width, H/4, W/4)`, all branches at the
            size of the first, sizes rounded up.
        """
        x = self.bn1(self.conv1(x))
        low: Tensor = self.layer1(self.relu(self.bn2(self.conv2(x))))
        levels = [transition(low) for transition in self.transition1]
        levels = self.stage2(levels)
        levels = self.stage3([*levels, self.transition2(levels[-1])])
        levels = self.stage4([*levels, self.transition3(levels[-1])])
        first, *others = levels
        size = first.shape[-2:]
        enlarged = (
            functional.interpolate(y, size=size, mode="bilinear", align_corners=False)
            for y in others
        )
        return low, torch.cat([first, *enlarged], dim=1)


def _conv_bn_relu(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _stage(widths: list[int], count: int) -> nn.Sequential:
    return nn.Sequential(*(Exchange(widths) for _ in range(count)))


def _path(widths: list[int], source: int, target: int) -> nn.Sequential:
    """What leads from one branch to another, short of the enlargement to a finer one."""
    inputs, outputs = widths[source], widths[target]
    if source == target:
        return nn.Sequential()
    if source > target:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
    halvings = (_conv_bn_relu(inputs, inputs, 2) for _ in range(target - source - 1))
    last = nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs))
    return nn.Sequential(*halvings, last)
