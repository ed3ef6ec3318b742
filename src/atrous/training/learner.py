"""One step of the optimizer, the same whether its batch is whole or spread over processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from atrous.models import DeepLab
from atrous.training.config import Recipe
from atrous.training.loader import Piece
from atrous.training.loss import Loss
from atrous.training.schedule import factor, make_optimizer, set_rates
from atrous.training.teacher import Teacher
from atrous.training.trainee import Average, prepare


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step did.

    Attributes:
        loss: of the whole batch.
        rate: learning rate of the head.
        learnt: false if it was skipped, as the loss or the gradient was NaN or infinite.
        stop: a process was asked to stop.
    """

    loss: float
    rate: float
    learnt: bool
    stop: bool


class Learner:
    """A network, its optimizer and its average.

    Args:
        recipe: how to learn.
        network: with its first weights.
        loss: what is minimised.
        teacher: what is imitated beside it, if anything.
        accelerator: processes, device and precision.

    Raises:
        ConfigError: see `atrous.training.trainee.prepare`.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: DeepLab,
        loss: Loss,
        accelerator: Accelerator,
        teacher: Teacher | None = None,
    ) -> None:
        self.recipe, self.loss, self.accelerator = recipe, loss, accelerator
        self.teacher = teacher
        self.trainee = prepare(network, recipe.train, accelerator.num_processes, accelerator.device)
        self.network = self.trainee.network
        self.average = Average(self.network, recipe.train.ema) if recipe.train.ema else None
        self.optimizer = make_optimizer(self.network, recipe.optimizer)
        self._model, self._stepping = accelerator.prepare(self.trainee, self.optimizer)

    @property
    def shipped(self) -> DeepLab:
        """The network that is scored and saved: the average, if there is one."""
        return self.average.network if self.average else self.network

    def learn(self, pieces: Sequence[Piece], iteration: int, *, stop: bool = False) -> StepResult:
        """Do one step.

        Args:
            pieces: this process's share of the batch.
            iteration: its number, from 0; decides learning rate and dropout.
            stop: this process was asked to stop, which all of them will hear.
        """
        accelerator, device = self.accelerator, self.accelerator.device
        self._seed(iteration)
        labels = [piece.labels.to(device, torch.int64) for piece in pieces]
        masses = torch.stack([self.loss.mass(label) for label in labels])
        taught = self._taught(pieces).to(masses)
        asked = masses.new_tensor(float(stop))
        sums = torch.stack([masses.sum(), taught.sum(), asked])
        total, total_taught, asked = accelerator.reduce(sums).unbind()
        scale = factor(self.recipe.schedule, iteration, self.recipe.train.iterations)
        rate = set_rates(self.optimizer, scale)
        statistics = [buffer.clone() for buffer in self.network.buffers()]
        shares = (masses / total.clamp(min=1e-12)).float()
        taught = (taught / total_taught.clamp(min=1e-12)).float()
        value = shares.new_zeros(())
        for index, piece in enumerate(pieces):
            whole = index == len(pieces) - 1
            with nullcontext() if whole else accelerator.no_sync(self._model):
                images = piece.images.to(device)
                logits = self._model(images).float()
                loss = self.loss(logits, labels[index]) * shares[index]
                if self.teacher is not None:
                    part = self.teacher.settings.weight
                    own = self.teacher.distance(logits, images, piece.soft.to(device))
                    loss = (1 - part) * loss + part * own * taught[index]
                # Gradients are averaged over the processes, and are to be summed.
                accelerator.backward(loss * accelerator.num_processes)
            value += loss.detach()
        value = accelerator.reduce(value)
        learnt = bool(value.isfinite()) and self._follow()
        if not learnt:
            for buffer, before in zip(self.network.buffers(), statistics, strict=True):
                buffer.copy_(before)
        self.optimizer.zero_grad()
        return StepResult(float(value), rate, learnt, bool(asked))

    def _taught(self, pieces: Sequence[Piece]) -> Tensor:
        """How many pixels of each piece there is something to imitate for."""
        if self.teacher is None:
            return torch.zeros(len(pieces))
        return torch.tensor([self.teacher.pixels(piece.images, piece.soft) for piece in pieces])

    def _follow(self) -> bool:
        """Step down the gradient; `False` if it is not a number."""
        limit = self.recipe.optimizer.clip or math.inf
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), limit)
        # With fp16 an overflow is for the loss scale to answer, and steps nowhere.
        if self.accelerator.scaler is None and not norm.isfinite():
            return False
        self._stepping.step()
        if self.average is not None:
            self.average.update(self.network)
        return True

    def _seed(self, iteration: int) -> None:
        rank = self.accelerator.process_index
        sequence = np.random.SeedSequence([self.recipe.train.seed, iteration, rank])
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
