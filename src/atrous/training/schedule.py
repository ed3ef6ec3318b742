"""The optimizer, its groups of weights, and how their learning rates fall."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from atrous.models import DeepLab
from atrous.training.config import OptimizerSettings, ScheduleSettings


def make_optimizer(network: DeepLab, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """SGD or AdamW over the weights of the head and of the backbone.

    Args:
        network: on the device it is trained on; weights that need no gradient stay out.
        settings: without `decay_norms`, weights of one dimension (biases, scales and shifts of
            batch norms) do not decay.
    """
    groups: list[dict[str, Any]] = []
    parts: tuple[tuple[nn.Module, float | None], ...] = (
        (network.backbone, settings.backbone_lr),
        (network.classifier, settings.lr),
    )
    for part, rate in parts:
        base = settings.lr if rate is None else rate
        learnt = [p for p in part.parameters() if p.requires_grad]
        decaying = [p for p in learnt if p.ndim > 1 or settings.decay_norms]
        other = [p for p in learnt if p.ndim <= 1 and not settings.decay_norms]
        for parameters, decay in ((decaying, settings.weight_decay), (other, 0.0)):
            if parameters:
                groups.append(
                    {"params": parameters, "lr": base, "base_lr": base, "weight_decay": decay}
                )
    if settings.type == "adamw":
        return torch.optim.AdamW(groups)
    return torch.optim.SGD(
        groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov
    )


def factor(schedule: ScheduleSettings, iteration: int, iterations: int) -> float:
    """What the learning rates are multiplied by.

    Args:
        schedule: see `atrous.training.config.ScheduleSettings`.
        iteration: the one to come, from 0.
        iterations: of the run.
    """
    warm = min(1.0, (iteration + 1) / (schedule.warmup + 1))
    match schedule.type:
        case "poly":
            return float(warm * (1 - iteration / iterations) ** schedule.power)
        case "step":
            passed = sum(iteration >= step for step in schedule.steps)
            return float(warm * schedule.gamma**passed)
        case "constant":
            return warm


def set_rates(optimizer: torch.optim.Optimizer, scale: float) -> float:
    """Set every group to its base rate times `scale`; return the head's."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * scale
    return float(optimizer.param_groups[-1]["lr"])
