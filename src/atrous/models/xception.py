"""Xception (Chollet, arXiv:1610.02357) as a feature extractor, dilated as the reference does it.

This is not the Modified Aligned Xception of arXiv:1802.02611: it pools where that one strides, and
has one normalisation per separable convolution.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

# Channels before, between and after the separable convolutions, and the stride, of each block.
BLOCKS: tuple[tuple[tuple[int, ...], int], ...] = (
    ((64, 128, 128), 2),
    ((128, 256, 256), 2),
    ((256, 728, 728), 2),
    *[((728, 728, 728, 728), 1)] * 8,
    ((728, 728, 1024), 2),
)


class SeparableConv(nn.Module):
    """3x3 on each channel, then 1x1, with nothing in between."""

    def __init__(self, inputs: int, outputs: int, padding: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, 1, padding, dilation, inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, outputs, H + d, W + d)`, d = 2 * (padding - dilation)."""
        out: Tensor = self.pointwise(self.conv1(x))
        return out


class Block(nn.Module):
    """Separable convolutions, each after a ReLU, around a shortcut; a max pool strides."""

    def __init__(
        self, widths: tuple[int, ...], stride: int, dilation: int, *, starts_with_relu: bool
    ) -> None:
        """Build the block.

        Args:
            widths: channels before, between and after the convolutions.
            stride: 1 or 2.
            dilation: atrous rate of every convolution.
            starts_with_relu: whether the first convolution sees the input through a ReLU.
        """
        super().__init__()
        self.skip: nn.Module | None = None
        self.skipbn: nn.Module | None = None
        if widths[0] != widths[-1] or stride != 1:
            self.skip = nn.Conv2d(widths[0], widths[-1], 1, stride, bias=False)
            self.skipbn = nn.BatchNorm2d(widths[-1])
        parts: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            # The first one must leave the input to the shortcut as it is.
            parts += [
                nn.ReLU(inplace=bool(parts)),
                SeparableConv(inputs, outputs, dilation, dilation),
                nn.BatchNorm2d(outputs),
            ]
        pool = [nn.MaxPool2d(3, stride, 1)] if stride != 1 else []
        self.rep = nn.Sequential(*parts[0 if starts_with_relu else 1 :], *pool)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, widths[0], H, W)` to `(N, widths[-1], ceil(H / stride), ceil(W / stride))`."""
        y: Tensor = self.rep(x)
        shortcut = x if self.skip is None or self.skipbn is None else self.skipbn(self.skip(x))
        return y + shortcut


class Xception(nn.Module):
    """Xception without its classifier, dilated to the output stride, in the reference's names.

    As in the reference, the last two convolutions are padded by 1 whatever their rate, so that the
    map loses a border, and the features are those of the very last convolution, without its batch
    norm and ReLU.
    """

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        reached, dilation = 2, 1
        self.block_names = []
        for number, (widths, step) in enumerate(BLOCKS, start=1):
            stride = step
            if reached == output_stride:
                stride = 1
                dilation *= step
            else:
                reached *= step
            name = f"block{number}"
            self.block_names.append(name)
            self.add_module(name, Block(widths, stride, dilation, starts_with_relu=number > 1))
        self.conv3 = SeparableConv(1024, 1536, 1, dilation)
        self.bn3 = nn.BatchNorm2d(1536)
        self.conv4 = SeparableConv(1536, 2048, 1, dilation)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the low-level and the high-level features.

        Args:
            x: `(N, 3, H, W)` normalised RGB, at least 71 pixels each way at output stride 16 and
                103 at 8: below that the unpadded borders leave nothing.

        Returns:
            `(N, 128, ~H/4, ~W/4)` of the first block and
            `(N, 2048, ~H/output_stride, ~W/output_stride)`: 513 pixels become 127 and 28 at output
            stride 16, 52 at 8.
        """
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        first, *others = (self.get_submodule(name) for name in self.block_names)
        low: Tensor = first(x)
        y = low
        for block in others:
            y = block(y)
        return low, self.conv4(self.relu(self.bn3(self.conv3(y))))
