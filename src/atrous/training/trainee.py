"""A network in training: its batch norms, its fastest exact forward, and its average."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.geometry import CoordinateRule
from atrous.models import DeepLab, build, commute
from atrous.strict_yaml import nearest
from atrous.training.config import SCRATCH, Recipe, TrainSettings
from atrous.training.folded import folded

MOST_LEFT = 0.05
"""From this share on, statistics of the start that are left in running ones make scores worse."""


class Trainee(nn.Module):
    """A network as it is trained: full-size logits, batch norms in the mode of the recipe.

    Its forward computes what the network's does, up to rounding, with less work: the decoder of
    DeepLabV3+ is convolved before it is enlarged, and batch norms that are frozen are folded into
    the convolutions before them.

    Attributes:
        network: what is trained.
        num_classes: number of classes.
        frozen: batch norms keep their statistics.
    """

    def __init__(self, network: DeepLab, *, frozen: bool) -> None:
        super().__init__()
        self.network, self.num_classes = network, network.num_classes
        self.frozen = frozen
        self._commuted = commute.applies(network)
        # In a tuple, as it is no module of its own: it shares every tensor of the network.
        self._fast = (folded(network) if frozen else network,)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, 3, H, W)` normalised images to float32 logits `(N, num_classes, H, W)`."""
        grid, size = self.logits_grid(x), (x.shape[2], x.shape[3])
        with torch.autocast(x.device.type, enabled=False):
            if self.coordinates == "half_pixel":
                return commute.enlarge(grid.float(), size)
            return self.network.enlarge(grid.float(), size)

    @property
    def coordinates(self) -> CoordinateRule:
        """How the grid of the logits lies on the images."""
        return self.network.coordinates

    def logits_grid(self, x: Tensor) -> Tensor:
        """Map `(N, 3, H, W)` normalised images to logits before their last enlargement."""
        [network] = self._fast
        x = x.contiguous(memory_format=torch.channels_last)
        return commute.logits_grid(network, x) if self._commuted else network.logits_grid(x)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen batch norms stay as they are in evaluation."""
        super().train(mode)
        self._fast[0].train(mode)
        if self.frozen:
            for norm in norms(self._fast[0]):
                norm.eval()
        return self


def make_network(recipe: Recipe, num_classes: int) -> DeepLab:
    """Build the network of a recipe with random weights that its seed decides."""
    torch.manual_seed(recipe.train.seed)
    network = build(recipe.network, num_classes, recipe.output_stride, separable=recipe.separable)
    for norm in norms(network.backbone):
        norm.momentum = recipe.train.backbone_momentum
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = recipe.train.dropout
    return network


def prepare(
    network: DeepLab, settings: TrainSettings, processes: int, device: torch.device
) -> Trainee:
    """Make a network ready to be trained.

    Raises:
        ConfigError: its batch norms would have nothing to average over, or cannot be synchronised
            on this device; or what is to be frozen is not there, or is everything.
    """
    freeze(network, settings.freeze)
    together = processes if settings.batch_norm == "sync" else 1
    share = settings.batch // (settings.accumulate * processes)
    if settings.batch_norm != "frozen" and share * together < 2:
        raise ConfigError(
            f"train.batch_norm: {settings.batch_norm} needs at least two images at a time, as the "
            f"pooled branch has one value per image; found batch {settings.batch} in "
            f"{processes} processes and {settings.accumulate} pieces; raise train.batch, or set "
            "train.batch_norm=frozen"
        )
    if settings.batch_norm == "sync" and processes > 1:
        if device.type != "cuda":
            raise ConfigError("train.batch_norm: sync needs GPUs; found cpu; take frozen or train")
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Trainee(network, frozen=settings.batch_norm == "frozen")


def doubtful_norms(recipe: Recipe) -> list[str]:
    """What is to be said of statistics that will not fit the weights, one sentence each."""
    own = recipe.train
    if own.batch_norm == "frozen":
        if recipe.start != SCRATCH:
            return []
        return [
            "train.batch_norm: frozen keeps the statistics of the start, and start: scratch has "
            "none: little can be learnt; set train.batch_norm=train train.backbone_momentum=0.1"
        ]
    left = (1 - own.backbone_momentum) ** own.iterations
    if left < MOST_LEFT:
        return []
    helps = "backbone_momentum=0.1" if recipe.start == SCRATCH else "batch_norm=frozen"
    return [
        f"train.backbone_momentum: by {own.backbone_momentum:g} in {own.iterations} iterations, "
        f"{left:.0%} of the backbone's statistics are still those of the start, so scores lag "
        f"behind the weights; set train.{helps}, or train longer"
    ]


def freeze(network: nn.Module, parts: Sequence[str]) -> None:
    """Keep the weights of some parts of a network as they are.

    Args:
        network: changed.
        parts: each a module's name, `backbone.low_level_features` for example.

    Raises:
        ConfigError: there is no such part, or nothing is left to learn.
    """
    known = dict(network.named_modules())
    for part in parts:
        if part not in known:
            beside = [name for name in known if name.count(".") == part.count(".")]
            raise ConfigError(f"train.freeze: no part {part!r}{nearest(part, beside)}")
        known[part].requires_grad_(False)
    if not any(weight.requires_grad for weight in network.parameters()):
        raise ConfigError("train.freeze: nothing is left to learn; leave the classifier out")


def norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The batch norms below a module."""
    kind = nn.modules.batchnorm._BatchNorm
    return [part for part in module.modules() if isinstance(part, kind)]


class Average:
    """An exponential moving average of all weights and statistics of a network.

    Args:
        network: followed.
        keep: share that the average keeps at each update.
    """

    def __init__(self, network: DeepLab, keep: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.keep = keep

    @torch.no_grad()
    def update(self, network: DeepLab) -> None:
        """Follow the network by one step."""
        own, new = self.network.state_dict(), network.state_dict()
        floats = [name for name, tensor in own.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [own[name] for name in floats], [new[name] for name in floats], 1 - self.keep
        )
        for name in own.keys() - floats:
            own[name].copy_(new[name])
