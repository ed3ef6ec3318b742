"""What people look at while a network learns: a line, a log, and TensorBoard."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from atrous.evaluation.health import FAR_CAUSE, ONE_CLASS_CAUSE
from atrous.evaluation.result import Evaluation
from atrous.files import naming, write_whole
from atrous.formatting import shown
from atrous.record import Record

LOG = "log.jsonl"


class Entry(Record):
    """One line of the log.

    Attributes:
        iteration: steps done.
        loss: mean since the entry before; `None` for a score, or where all steps were skipped.
        rate: learning rate of the head at this step.
        images_per_second: since the run was started or resumed.
        score: mIoU in percent, `None` where none was measured.
        iou: of each class beside it, `None` for one that does not occur.
    """

    iteration: int
    loss: float | None = None
    rate: float | None = None
    images_per_second: float | None = None
    score: float | None = None
    iou: dict[str, float | None] | None = None


def read_log(folder: Path) -> list[Entry]:
    """The entries of a run, oldest first."""
    path = folder / LOG
    lines = path.read_bytes().splitlines() if path.is_file() else []
    entries = []
    for line in lines:
        try:
            entries.append(Entry.model_validate_json(line))
        except ValueError:
            break  # the line that a killed run was writing, or what a power failure left of it
    return entries


def under_way(result: Evaluation, *, ended: bool) -> list[str]:
    """What is wrong with a network, in words that fit one that is being trained.

    Args:
        result: of a validation.
        ended: the run is over.
    """
    advice = (
        "too little was learnt: take more train.iterations, another optimizer.lr, "
        "loss.class_weights where classes are rare, or look at the masks (atrous doctor)"
        if ended
        else "usual early in a run; if it stays so, look at optimizer.lr, loss.class_weights and "
        "the masks (atrous doctor)"
    )
    said = []
    for problem in result.health:
        for cause in (ONE_CLASS_CAUSE, FAR_CAUSE):
            problem = problem.replace(cause, advice)
        said.append(problem)
    return said


class RunMonitor:
    """Tells how a run goes.

    Args:
        folder: of the run: the log and TensorBoard's files lie there.
        console: where the line is shown; on a terminal it stays in place, in a file there is one
            for each entry of the log.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder, self.console = folder, console
        self._live = console.status("") if console.is_terminal else None
        self._board: Any = None
        self._best: float | None = None

    def surveying(self, done: int, images: int) -> None:
        """Show how many images were looked at before the first step."""
        if self._live is not None:
            self._live.start()
            self._live.update(f"looking at the data: {done}/{images} images")

    def begin(self, iteration: int, notes: list[str]) -> None:
        """Start at an iteration; entries after it, of a run that was killed, are dropped."""
        kept = [entry for entry in read_log(self.folder) if entry.iteration <= iteration]
        write_whole(self.folder / LOG, "".join(self._line(entry) for entry in kept))
        scores = [entry.score for entry in kept if entry.score is not None]
        self._best = max(scores, default=None)
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=iteration + 1)
        for note in notes:
            self.say(note)
        if self._live is not None:
            self._live.start()

    def say(self, text: str) -> None:
        """Print a sentence above the line."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def log(self, entry: Entry, iterations: int, batch: int) -> None:
        """Show an entry, and keep it."""
        path = self.folder / LOG
        with naming(path), path.open("a") as file:
            file.write(self._line(entry))
        for name in ("loss", "rate", "images_per_second", "score"):
            value = getattr(entry, name)
            if self._board is not None and value is not None:
                self._board.add_scalar(f"train/{name}", value, entry.iteration)
        if entry.score is not None:
            self._best = max(entry.score, self._best or 0.0)
            return
        speed = entry.images_per_second or math.nan
        left = (iterations - entry.iteration) * batch / speed
        ends = "" if math.isnan(left) else f", {timedelta(seconds=round(left))} left"
        best = "" if self._best is None else f", best mIoU {self._best:.2f} %"
        loss = "skipped" if entry.loss is None else f"{entry.loss:.4f}"
        self._show(
            f"{entry.iteration}/{iterations}: loss {loss}, lr {entry.rate or 0:.2g}, "
            f"{speed:.2f} images/s{ends}{best}"
        )

    def scoring(self, done: int, images: int, score: float) -> None:
        """Show how far a validation is; `score` in percent."""
        if self._live is not None:
            self._live.update(f"validation: {done}/{images} images, mIoU {score:.2f} %")

    def scored(
        self,
        iteration: int,
        result: Evaluation,
        pictures: dict[str, NDArray[np.uint8]],
        *,
        ended: bool = True,
    ) -> None:
        """Say what a validation gave, and keep its pictures; `ended` with the last one."""
        stamp = result.stamp
        self.say(
            f"iteration {iteration}: mIoU {result.mean_iou:.2f} %, {stamp.protocol} on "
            f"{stamp.images} images of {stamp.data}"
        )
        for problem in (*under_way(result, ended=ended), *result.failed):
            self.say(shown(f"health: {problem}"))
        for name, picture in pictures.items():
            if self._board is not None:
                self._board.add_image(
                    f"validation/{shown(name)}", picture, iteration, dataformats="HWC"
                )

    def close(self) -> None:
        """Write what is not written yet."""
        if self._live is not None:
            self._live.stop()
        if self._board is not None:
            self._board.close()

    def _show(self, text: str) -> None:
        if self._live is not None:
            self._live.update(text)
        else:
            self.say(text)

    @staticmethod
    def _line(entry: Entry) -> str:
        return json.dumps(entry.model_dump(exclude_none=True)) + "\n"
