"""The decoder of DeepLabV3+ convolved before it is enlarged: the same function in less work.

The decoder computes `conv3x3(concat(low, enlarge(high)))`. Split by input channel the convolution
is a sum, and mixing channels commutes with enlarging, so the share of `high` becomes nine 1x1
products on the small grid, enlarged by interpolation matrices whose rows are shifted by one tap
and are zero where the tap falls outside:

    out = Σ_rc  A_r · (W_rc · high) · B_cᵀ

Every step is a matrix product with the channels last, so gradients come from those of products.
`docs/compile.md` has the same for finished models.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from atrous.models.deeplab import DeepLab, DeepLabV3PlusHead


def applies(network: DeepLab) -> bool:
    """Whether it has a decoder to commute: DeepLabV3+ without separable convolutions."""
    return isinstance(network.classifier, DeepLabV3PlusHead) and not network.separable


def logits_grid(network: DeepLab, x: Tensor) -> Tensor:
    """`network.logits_grid(x)` up to rounding, with the same gradients.

    Args:
        network: one that `applies`.
        x: `(N, 3, H, W)` float RGB, normalised.

    Returns:
        `(N, num_classes, h, w)` logits.
    """
    head = network.classifier
    assert isinstance(head, DeepLabV3PlusHead)
    low, high = network.backbone(x)
    fine, coarse = head.project(low), head.aspp(high)
    convolution: Any
    convolution, *rest = head.classifier
    y = convolve(fine, coarse, convolution.weight, convolution.bias)
    for part in rest:
        y = part(y)
    return y


def convolve(fine: Tensor, coarse: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The padded 3x3 convolution of `concat(fine, enlarge(coarse))`.

    Args:
        fine: `(N, F, H, W)`.
        coarse: `(N, C, h, w)`, to be enlarged bilinearly with half-pixel centres.
        weight: `(O, F + C, 3, 3)`.
        bias: `(O,)` or `None`.

    Returns:
        `(N, O, H, W)`, channels last in memory.
    """
    count, channels, h, w = coarse.shape
    tall, wide = fine.shape[-2:]
    outputs, kept = weight.shape[0], fine.shape[1]
    y = functional.conv2d(fine, weight[:, :kept], bias, padding=1)
    # (C, r, c, O): what one 1x1 product needs for the column step to be a product as well.
    mixed = weight[:, kept:].permute(1, 2, 3, 0).reshape(channels, 3, 3 * outputs)
    pixels = coarse.permute(0, 2, 3, 1).reshape(count * h * w, channels)
    columns = taps(w, wide, coarse.dtype, coarse.device)
    rows = taps(h, tall, coarse.dtype, coarse.device)
    enlarged = torch.stack(
        [columns @ (pixels @ mixed[:, row]).view(count * h, w * 3, outputs) for row in range(3)],
        dim=0,
    )
    enlarged = enlarged.view(3, count, h, wide * outputs).permute(1, 2, 0, 3)
    z = rows @ enlarged.reshape(count, h * 3, wide * outputs)
    return y + z.view(count, tall, wide, outputs).permute(0, 3, 1, 2)


def enlarge(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge `(N, C, h, w)` bilinearly with half-pixel centres to `(N, C, *size)`, planes dense.

    Two matrix products, whose gradients are matrix products too: on CPUs about a third faster,
    there and back, than torch's own way.
    """
    rows = between(grid.shape[2], size[0], grid.dtype, grid.device)
    columns = between(grid.shape[3], size[1], grid.dtype, grid.device)
    return rows @ grid.contiguous() @ columns.T


@lru_cache(maxsize=32)
def between(small: int, large: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`(large, small)`: what each of `large` positions takes of each of `small`, bilinearly."""
    # Kept for training too, so not one of the tensors that only inference may use.
    with torch.inference_mode(False), torch.no_grad():
        unit = torch.eye(small, dtype=torch.float64)[None]
        plain = functional.interpolate(unit, size=large, mode="linear", align_corners=False)
        return plain[0].T.to(device, dtype).contiguous()


@lru_cache(maxsize=32)
def taps(small: int, large: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The interpolation from `small` to `large` positions as seen by each tap of a convolution.

    Returns:
        `(large, 3 * small)`: column `3 * s + t` says how much of position `s` the tap `t` of the
        output in that row sees.
    """
    with torch.inference_mode(False), torch.no_grad():
        plain = between(small, large, torch.float64, torch.device("cpu"))
        padded = functional.pad(plain, (0, 0, 1, 1))
        shifted = torch.stack([padded[tap : tap + large] for tap in range(3)], dim=2)
        return shifted.reshape(large, 3 * small).to(device, dtype)
