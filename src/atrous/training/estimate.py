"""How long the steps of a recipe take on this machine."""

from __future__ import annotations

import time
from statistics import median

import torch
from accelerate import Accelerator

from atrous.data import Dataset
from atrous.data.augment import Augment
from atrous.preprocess import Preprocess
from atrous.training.config import Recipe
from atrous.training.learner import Learner
from atrous.training.loader import Crops, Positions, load
from atrous.training.loss import Loss
from atrous.training.trainee import make_network

STEPS = 3


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
