"""Frozen batch norms folded into the convolutions before them while training goes on.

With fixed statistics a batch norm is a scale and a shift per channel, and

    scale · (weight * x) + shift = (scale · weight) * x + shift

The right side makes one pass over the activations instead of two, forwards and backwards. Weights,
scales and shifts stay parameters of their own: autograd carries the gradients to each of them.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional

Network = TypeVar("Network", bound=nn.Module)


class Folded(nn.Module):
    """A convolution and the frozen batch norm behind it, as one convolution."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = norm

    @property
    def weight(self) -> Tensor:
        """The weight of the one convolution."""
        return self.convolution.weight * self._scale()[:, None, None, None]

    @property
    def bias(self) -> Tensor:
        """Its bias."""
        mean = self.norm.running_mean
        assert mean is not None
        if self.convolution.bias is not None:
            mean = mean - self.convolution.bias
        return self.norm.bias - mean * self._scale()

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` as the convolution and then the batch norm would."""
        own = self.convolution
        return functional.conv2d(
            x, self.weight, self.bias, own.stride, own.padding, own.dilation, own.groups
        )

    def _scale(self) -> Tensor:
        variance = self.norm.running_var
        assert variance is not None
        return self.norm.weight * (variance + self.norm.eps).rsqrt()


def folded(network: Network) -> Network:
    """A network that shares every parameter and statistic of `network`, its batch norms folded.

    A batch norm is folded if the module before it, below the same parent, is a convolution; others
    stay as they are.
    """
    tensors = [*network.parameters(), *network.buffers()]
    twin = copy.deepcopy(network, memo={id(tensor): tensor for tensor in tensors})
    for parent in list(twin.modules()):
        for (name, part), (following, norm) in pairwise(list(parent.named_children())):
            if isinstance(part, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, Folded(part, norm))
                setattr(parent, following, nn.Identity())
    return twin
