"""How long the steps of a recipe take on this machine."""

from __future__ import annotations

import time
from statistics import median

import torch
from accelerate import Accelerator
from torch.nn import functional

from atrous.data import Dataset
from atrous.data.augment import Augment
from atrous.preprocess import Preprocess
from atrous.training.config import Recipe
from atrous.training.learner import Learner
from atrous.training.loader import Crops, Positions, load
from atrous.training.loss import Loss
from atrous.training.trainee import make_network

STEPS = 3

SLOWER = 1.5
"""So many times the time of fp32 is more than noise."""


def step_seconds(recipe: Recipe, dataset: Dataset) -> float:
    """Do three steps of a recipe from random weights, keep nothing, and time them.

    Args:
        recipe: whose network, crops and loss are used.
        dataset: that it learns from.

    Returns:
        Seconds of one step, its images read in this process: the median.
    """
    crop, labels = recipe.augment.crop, dataset.labels
    preprocess = Preprocess(size=(crop, crop))
    augment = Augment(
        **recipe.augment.model_dump(),
        padding=preprocess.padding_value,
        ignore_index=labels.ignore_index,
    )
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    network = make_network(recipe, labels.num_classes)
    loss = Loss(recipe.loss, None, labels.ignore_index)
    learner = Learner(recipe, network, loss, accelerator)
    learner.trainee.train()
    crops = Crops(dataset, augment, preprocess, recipe.train.seed)
    began, times = time.monotonic(), []
    batches = load(crops, Positions(range(STEPS), recipe.train.batch), 0)
    for iteration, piece in enumerate(batches):
        learner.learn([piece], iteration)
        times.append(time.monotonic() - began)
        began = time.monotonic()
    return median(times)


def slow_bf16(recipe: Recipe, device: torch.device) -> list[str]:
    """What is to be said of bf16 that this processor has to imitate, a sentence if it does."""
    if recipe.train.precision != "bf16" or device.type != "cpu":
        return []
    times = _convolution_seconds(torch.bfloat16) / _convolution_seconds(torch.float32)
    if times < SLOWER:
        return []
    return [
        f"train.precision: a convolution in bf16 takes {times:.1f} times as long as one in fp32 on "
        "this processor; set train.precision=fp32"
    ]


def _convolution_seconds(dtype: torch.dtype) -> float:
    """Of one convolution forwards and backwards, the best of three."""
    weight = torch.ones(64, 64, 3, 3, dtype=dtype, requires_grad=True)
    x = torch.ones(1, 64, 33, 33, dtype=dtype)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        torch.autograd.grad(functional.conv2d(x, weight).sum(), weight)
        times.append(time.perf_counter() - began)
    return min(times)
