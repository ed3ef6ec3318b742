"""Lite R-ASPP (Howard et al., arXiv:1905.02244), the light head over MobileNetV3."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

WIDTH = 128


class LRASPPHead(nn.Module):
    """Scores of the low-level features, and of the high-level ones weighed by their mean.

    Args:
        low_channels: of the low-level features.
        channels: of the high-level features.
        num_classes: number of classes.
    """

    def __init__(self, low_channels: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.cbr = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True)
        )
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, WIDTH, 1, bias=False), nn.Sigmoid()
        )
        self.low_classifier = nn.Conv2d(low_channels, num_classes, 1)
        self.high_classifier = nn.Conv2d(WIDTH, num_classes, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Map the features `(N, L, H, W)` and `(N, C, h, w)` to logits `(N, num_classes, H, W)`."""
        x = self.cbr(high) * self.scale(high)
        x = functional.interpolate(x, size=low.shape[-2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.low_classifier(low) + self.high_classifier(x)
        return logits
