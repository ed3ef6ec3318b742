"""Going deeper with atrous convolution: the cascaded modules of arXiv:1706.05587, section 3.2."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from atrous.models.resnet import EXPANSION, Bottleneck

MULTI_GRID = (1, 2, 1)
"""Rates of the three convolutions of a block relative to the block's own (section 3.2.1)."""

BLOCKS = (5, 6, 7)
WIDTH = 512


class CascadeHead(nn.Module):
    """Copies of ResNet's last block in a row, each at twice the rate of the one before.

    Block 4 has rate 2 at output stride 16 and 4 at 8, so block 7 has 16 or 32. The shortcuts are
    the identity, as no block changes the number of channels.

    Args:
        num_classes: number of classes.
        output_stride: 8 or 16, of the features.
    """

    def __init__(self, num_classes: int, output_stride: int) -> None:
        super().__init__()
        channels, rate = WIDTH * EXPANSION, base_rate(output_stride)
        for number in BLOCKS:
            rate *= 2
            block = nn.Sequential(*(Bottleneck(channels, WIDTH, 1, 1, None) for _ in MULTI_GRID))
            dilate(block, rate)
            self.add_module(f"block{number}", block)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Map the high-level features `(N, 2048, h, w)` to logits `(N, num_classes, h, w)`."""
        for number in BLOCKS:
            high = self.get_submodule(f"block{number}")(high)
        logits: Tensor = self.classifier(high)
        return logits


def base_rate(output_stride: int) -> int:
    """Atrous rate of ResNet's last block, which strides by 32 without it."""
    return 32 // output_stride


def dilate(block: Iterable[nn.Module], rate: int) -> None:
    """Give the 3x3 convolutions of a block the rates of the multi-grid times its own."""
    for bottleneck, share in zip(block, MULTI_GRID, strict=True):
        assert isinstance(bottleneck, Bottleneck)
        bottleneck.conv2.dilation = bottleneck.conv2.padding = (rate * share, rate * share)
