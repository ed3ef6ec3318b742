"""Modified Aligned Xception-65, the backbone of the DeepLabV3+ paper (arXiv:1802.02611, figure 4).

Xception made deeper, its max pools replaced by separable convolutions that stride and every
depthwise convolution followed by a batch norm. Where the figure has a ReLU behind each depthwise
convolution, the network that its authors published has one only in the last block and a ReLU
before each separable convolution elsewhere; so it is here.
"""

from __future__ import annotations

from torch import Tensor, nn

EPSILON = 1e-3
"""Of all batch norms, as published."""

MIDDLE = 16
"""Blocks of the middle flow."""


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON)


class SeparableConv(nn.Sequential):
    """3x3 on each channel and 1x1, a batch norm behind each.

    Args:
        inputs: channels.
        outputs: channels.
        stride: 1 or 2.
        rate: of the 3x3.
        inner: ReLU behind both convolutions instead of one before them.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, rate: int, *, inner: bool) -> None:
        relu = nn.ReLU if inner else nn.Identity
        super().__init__()
        # The input is also the shortcut's, so the ReLU before may not work in its place.
        self.before = nn.Identity() if inner else nn.ReLU()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, rate, rate, inputs, bias=False)
        self.depthwise_norm = _norm(inputs)
        self.depthwise_relu = relu()
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pointwise_norm = _norm(outputs)
        self.pointwise_relu = relu()


class Block(nn.Module):
    """Three separable convolutions, the last of which may stride, and perhaps a shortcut.

    Args:
        inputs: channels.
        widths: channels behind each convolution.
        stride: 1 or 2.
        rate: of each 3x3.
        shortcut: `conv`, a 1x1 convolution; `sum`, the input itself; or `none`.
        inner: see `SeparableConv`.
    """

    def __init__(
        self,
        inputs: int,
        widths: tuple[int, int, int],
        stride: int = 1,
        rate: int = 1,
        shortcut: str = "conv",
        *,
        inner: bool = False,
    ) -> None:
        super().__init__()
        self.first = SeparableConv(inputs, widths[0], 1, rate, inner=inner)
        self.second = SeparableConv(widths[0], widths[1], 1, rate, inner=inner)
        self.third = SeparableConv(widths[1], widths[2], stride, rate, inner=inner)
        self.shortcut: nn.Module | None = nn.Identity()
        if shortcut == "conv":
            convolution = nn.Conv2d(inputs, widths[2], 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, _norm(widths[2]))
        elif shortcut == "none":
            self.shortcut = None

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, widths[2], ceil(H / stride), ceil(W / stride))`."""
        return self.finish(self.begin(x), x)

    def begin(self, x: Tensor) -> Tensor:
        """The first two convolutions, before anything strides."""
        y: Tensor = self.second(self.first(x))
        return y

    def finish(self, y: Tensor, x: Tensor) -> Tensor:
        """The third convolution of what `begin` made of `x`, and the shortcut."""
        y = self.third(y)
        return y if self.shortcut is None else y + self.shortcut(x)


class AlignedXception(nn.Module):
    """Modified Aligned Xception-65 without its classifier, dilated to the output stride."""

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1, bias=False), _norm(32), nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, 3, 1, 1, bias=False), _norm(64), nn.ReLU(inplace=True),
        )  # fmt: skip
        reached, rate = 2, 1

        def step() -> tuple[int, int]:
            """Stride and rate of a block that strides, and the rate of those behind it."""
            nonlocal reached, rate
            own = rate
            if reached == output_stride:
                rate *= 2
                return 1, own
            reached *= 2
            return 2, own

        self.first = Block(64, (128, 128, 128), *step())
        self.second = Block(128, (256, 256, 256), *step())
        self.third = Block(256, (728, 728, 728), *step())
        middle = (Block(728, (728, 728, 728), 1, rate, "sum") for _ in range(MIDDLE))
        self.middle = nn.Sequential(*middle)
        self.exit = nn.Sequential(
            Block(728, (728, 1024, 1024), *step()),
            Block(1024, (1536, 1536, 2048), 1, rate, "none", inner=True),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the low-level and the high-level features.

        Args:
            x: `(N, 3, H, W)` normalised RGB.

        Returns:
            `(N, 256, H/4, W/4)`, from inside the second block, and
            `(N, 2048, H/output_stride, W/output_stride)`, sizes rounded up.
        """
        x = self.first(self.stem(x))
        low = self.second.begin(x)
        return low, self.exit(self.middle(self.third(self.second.finish(low, x))))
