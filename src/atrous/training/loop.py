"""The loop: from a recipe to a trained network, in steps that can be stopped anywhere."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import FrameType

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from atrous import __version__
from atrous.data import Dataset
from atrous.engines.torch import TorchEngine
from atrous.errors import AtrousError, ConfigError
from atrous.evaluation import result as results
from atrous.evaluation.result import Evaluation
from atrous.files import write_whole
from atrous.pages.figures import swatches
from atrous.training import checkpoint
from atrous.training.checkpoint import BEST, LAST, SplitRecord, State
from atrous.training.config import Recipe
from atrous.training.estimate import slow_bf16
from atrous.training.learner import Learner, StepResult
from atrous.training.loader import Piece, Positions, load, spare_workers
from atrous.training.loss import Loss
from atrous.training.progress import Entry, RunMonitor, read_log, under_way
from atrous.training.report import Shown, write_page
from atrous.training.start import fill
from atrous.training.teacher import make_teacher
from atrous.training.trainee import Trainee, doubtful_norms, make_network
from atrous.training.training_data import open_training_data
from atrous.training.validate import measure, pictures, thinned

PATIENCE = timedelta(hours=6)
"""How long the other processes wait for the one that scores."""


class Interrupted(Exception):
    """The run was asked to stop, and everything is saved."""


class Run:
    """One training run; `go` starts it or goes on with it.

    Args:
        recipe: what to do.
        monitor: is told how it goes.
        restart: begin again where there is a run already.

    Raises:
        ConfigError: the recipe does not fit the data, the machine, or the run in its folder.
        AtrousError: the data or the weights to start from cannot be read.
    """

    def __init__(self, recipe: Recipe, monitor: RunMonitor, *, restart: bool = False) -> None:
        self.recipe, self.monitor = recipe, monitor
        self.folder: Path = recipe.folder
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="no" if recipe.train.precision == "fp32" else recipe.train.precision,
            kwargs_handlers=[
                InitProcessGroupKwargs(timeout=PATIENCE),
                DistributedDataParallelKwargs(broadcast_buffers=False),
            ],
        )
        self.main: bool = self.accelerator.is_main_process
        _check_shares(recipe, self.accelerator.num_processes)
        with self.accelerator.main_process_first():
            self.data = open_training_data(recipe, monitor.surveying if self.main else None)
        labels = self.data.train.labels
        loss = Loss(recipe.loss, self.data.class_weights, labels.ignore_index)
        network = make_network(recipe, labels.num_classes)
        self.state = State(
            atrous=__version__,
            recipe=recipe.values(),
            train=SplitRecord.of(self.data.train),
            val=SplitRecord.of(self.data.val) if self.data.val else None,
        )
        self._restart = restart
        found = None if restart else checkpoint.read_state(self.folder)
        if found is not None:
            checkpoint.check_same(self.folder, found, self.state)
            self.state = found
        else:
            with self.accelerator.main_process_first():
                self.state.start = fill(
                    network, recipe.start, frozen=recipe.train.batch_norm == "frozen"
                ).lines()
        teacher = make_teacher(recipe, labels, self.accelerator.device)
        self.learner = Learner(recipe, network, loss, self.accelerator, teacher)
        if found is not None:
            checkpoint.restore(self.folder, self.learner)
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(found.scaler)
        self._seen = Shown()
        self._stop = False

    def go(self) -> Evaluation | None:
        """Train to the end, and score the network of the last iteration on all images.

        Returns:
            The score, `None` without a validation set or in a process that is not the first.

        Raises:
            Interrupted: a signal asked to stop; everything is saved.
            AtrousError: the loss is not a number, again and again.
        """
        recipe, state = self.recipe, self.state
        with self._listening():
            self._begin()
            if self._due():
                self._validate()  # it was stopped before its score
            batches = self._batches()
            began, seen = time.monotonic(), 0
            while state.iteration < recipe.train.iterations:
                self.learner.trainee.train()
                started = time.monotonic()
                step = self.learner.learn(next(batches), state.iteration, stop=self._stop)
                state.iteration += 1
                state.seconds += time.monotonic() - started
                seen += recipe.train.batch
                self._note(step, seen / (time.monotonic() - began))
                ended = state.iteration == recipe.train.iterations
                if ended or step.stop or self._due() or not state.iteration % recipe.save_every:
                    self._save()
                if step.stop:
                    raise Interrupted
                if self._due():
                    paused = time.monotonic()
                    self._validate()
                    began += time.monotonic() - paused
            return self._finish()

    def _begin(self) -> None:
        if not self.main:
            return
        if self._restart:  # nothing that could still refuse to begin comes after this
            checkpoint.forget(self.folder)
        write_whole(self.folder / "recipe.yaml", self.recipe.to_yaml())
        said = [*self.state.start, *self.data.notes, *doubtful_norms(self.recipe)]
        if self.state.iteration:
            said = [f"continues after iteration {self.state.iteration}"]
        said += slow_bf16(self.recipe, self.accelerator.device)
        self.monitor.begin(self.state.iteration, said)

    def _batches(self) -> Iterator[list[Piece]]:
        own, processes = self.recipe.train, self.accelerator.num_processes
        positions = Positions(
            range(self.state.iteration, own.iterations),
            own.batch,
            self.accelerator.process_index,
            processes,
            own.accumulate,
        )
        workers = self.recipe.data.workers
        workers = spare_workers(processes) if workers is None else workers
        pieces = iter(load(self.data.crops, positions, workers))
        while True:
            yield [next(pieces) for _ in range(own.accumulate)]

    def _note(self, step: StepResult, speed: float) -> None:
        """Count a step, and log it if it is time."""
        state, recipe = self.state, self.recipe
        if step.learnt:
            state.losses = (state.losses[0] + step.loss, state.losses[1] + 1)
            state.bad_losses = 0
        else:
            state.bad_losses += 1
            state.skipped += 1
            if state.bad_losses > recipe.train.bad_losses:
                raise AtrousError(
                    f"the loss was {step.loss} for {state.bad_losses} steps in a row, up to "
                    f"iteration {state.iteration}; the state in {self.folder} is older and sound. "
                    "Take a smaller optimizer.lr, set optimizer.clip or schedule.warmup, or "
                    "train.precision=fp32, with another output"
                )
            if self.main:
                self.monitor.say(
                    f"iteration {state.iteration}: the loss is {step.loss}; this step was skipped "
                    f"({state.bad_losses} in a row)"
                )
        if state.iteration % recipe.log_every:
            return
        total, count = state.losses
        state.losses = (0.0, 0)
        if self.main:
            loss = total / count if count else None
            entry = Entry(
                iteration=state.iteration, loss=loss, rate=step.rate, images_per_second=speed
            )
            self._log(entry)

    def _due(self) -> bool:
        """Whether this iteration is to be scored, and is not yet; the last is scored by the end."""
        state, every = self.state, self.recipe.validation.every
        wanted = 0 < state.iteration < self.recipe.train.iterations and not state.iteration % every
        return wanted and self.data.val is not None and state.iteration not in state.scores

    def _save(self) -> None:
        if not self.main:
            return
        if self.accelerator.scaler is not None:
            self.state.scaler = self.accelerator.scaler.state_dict()
        checkpoint.save_state(self.folder, self.state, self.learner)
        self._save_network(LAST)

    def _save_network(self, name: str) -> None:
        labels = self.data.train.labels
        path = self.folder / name
        checkpoint.save_network(path, self.learner.shipped, labels, self.recipe, self.state)

    def _validate(self) -> None:
        score = 0.0
        if self.main:
            score = self._measure_live()
        # All processes keep the same state, and wait here.
        shared = torch.tensor([score], dtype=torch.float64, device=self.accelerator.device)
        self.state.scores[self.state.iteration] = float(self.accelerator.reduce(shared))

    def _measure_live(self) -> float:
        assert self.data.val is not None
        trainee = Trainee(self.learner.shipped, frozen=True).eval()
        best = self.state.best
        with TorchEngine(trainee) as engine:
            some = thinned(self.data.val, self.recipe.validation.images)
            found = self._score(engine, some, self.folder.name)
        self.state.scores[self.state.iteration] = found.mean_iou
        if best is None or found.mean_iou > best:
            self._save_network(BEST)
            results.save(found, self.folder / BEST.replace(".safetensors", ".json"))
        self._save()
        self._write_page()
        return found.mean_iou

    def _finish(self) -> Evaluation | None:
        if not self.main:
            return None
        found, path = None, self.folder / LAST
        if self.data.val is not None:
            with TorchEngine(path) as engine:
                found = self._score(engine, self.data.val, path.name, self.folder / "evaluation")
            results.save(found, path.with_suffix(".json"))
        self._write_page(found)
        return found

    def _score(
        self, engine: TorchEngine, data: Dataset, name: str, page: Path | None = None
    ) -> Evaluation:
        """Score a network, and show and log what was found."""
        own = self.recipe.validation
        progress = partial(self._scoring, len(data.samples))
        found, rows = measure(engine, data, own, name, progress, page)
        shown = pictures(engine, thinned(data, own.images), own)
        ended = self.state.iteration == self.recipe.train.iterations
        self.monitor.scored(self.state.iteration, found, shown, ended=ended)
        problems = under_way(found, ended=ended)
        self._seen = Shown(rows, swatches(data.labels, range(data.labels.num_classes)), problems)
        entry = Entry(iteration=self.state.iteration, score=found.mean_iou, iou=found.iou)
        self._log(entry)
        return found

    def _scoring(self, images: int, done: int, score: float) -> None:
        self.monitor.scoring(done, images, 100 * score)
        if self._stop:
            raise Interrupted

    def _write_page(self, found: Evaluation | None = None) -> None:
        write_page(self.folder, self.recipe, self.state, read_log(self.folder), found, self._seen)

    def _log(self, entry: Entry) -> None:
        self.monitor.log(entry, self.recipe.train.iterations, self.recipe.train.batch)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM ends the run after its step, the second one at once."""

        def heard(number: int, frame: FrameType | None) -> None:
            if self._stop:
                raise KeyboardInterrupt
            self._stop = True

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _check_shares(recipe: Recipe, processes: int) -> None:
    shares = processes * recipe.train.accumulate
    if recipe.train.batch % shares:
        raise ConfigError(
            f"train.batch: {recipe.train.batch} images cannot be shared evenly by {processes} "
            f"processes in {recipe.train.accumulate} pieces each; take a multiple of {shares}"
        )
