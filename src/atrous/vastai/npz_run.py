"""From npz to npz: what a network says of every image of a list."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from atrous import upsample
from atrous.errors import EngineError
from atrous.files import sha256
from atrous.jobs.output import FAILURES, ImageResult, make_folder, model_of, state
from atrous.runtime.pipeline import TIMEOUT, Pipeline
from atrous.runtime.predictor import Predictor
from atrous.runtime.stages import Frame, Steps, stages
from atrous.runtime.worker import SKIP
from atrous.stamp import hashed
from atrous.vastai.npz import OUTPUT, Converted, read_input, stamp_of, write

AnswerKind = Literal["logits", "classmap"]
"""What an answer holds."""


def run(
    predictor: Predictor,
    inputs: Sequence[Path],
    output: Path,
    *,
    kind: AnswerKind,
    force: bool = False,
    batch: int | None = None,
) -> Generator[Converted]:
    """Run a network over npz files as a stream: a few are under way at a time.

    A file that fails becomes a step that says why, and the next one follows. An answer that the
    same network gave to the same image under the same settings is kept; one of another is made
    again, and a file that is no answer of ours is in the way: its image fails. Closing the
    generator ends the work; what was finished is kept.

    Args:
        predictor: the network.
        inputs: npz files, see `atrous.vastai.npz.read_list`.
        output: folder of the answers, each called like its input.
        kind: float16 logits `(1, C, h, w)` or a uint8 class map `(1, h, w)`, at the size of the
            network input.
        force: make answers again that are there already, whoever gave them.
        batch: images that the network sees at once; by default its own number, 1 if it is free.

    Raises:
        ConfigError: the network takes another number of images at a time.
        StreamError: a step is stuck.
        InputError: `output` cannot be a folder.
    """
    job = _Job(predictor, output, kind, force, hashed(model_of(predictor), kind))
    steps = Steps(predictor, read=read_input)
    work = stages(steps, before={"check": job.check}, batch=batch)
    work = work.doing(finish={"postprocess": job.answer, "write": job.write})
    make_folder(output)
    with Pipeline(work, timeout=TIMEOUT) as pipeline:
        for item in pipeline.map(Frame(source) for source in inputs):
            source: Path = item.value.source
            if item.error is None:
                yield item.value.note
            elif isinstance(item.error, FAILURES):
                failure = ImageResult.failure(source, item.error)
                yield Converted(source.stem, "failed", error=failure.error)
            else:
                raise item.error


@dataclass(frozen=True, slots=True)
class _Job:
    """What is done to a file before it is read, and after the network."""

    predictor: Predictor
    output: Path
    kind: AnswerKind
    force: bool
    made_by: str

    def check(self, frame: Frame) -> object:
        """Leave out what has been answered already."""
        path = self._path(frame)
        try:
            made_from = hashed(self.made_by, sha256(frame.source))
        except OSError:
            return None  # reading it will say why
        found = state(path, made_from, lambda path: stamp_of(path, OUTPUT), force=self.force)
        if found == "stands" and not self.force:
            frame.note = Converted(path.stem, "kept", path)
            return SKIP
        frame.note = made_from
        return None

    def answer(self, frame: Frame) -> None:
        """What the network says, at the size of its input."""
        assert frame.prediction is not None
        whole = self.predictor.at_input(frame.prediction)
        if self.kind == "classmap":
            frame.note = frame.note, whole.class_map()[None]
            return
        largest = np.abs(whole.grid).max()
        if largest > np.finfo(np.float16).max:
            raise EngineError(f"a logit of {largest:.3g} does not fit float16; use `kind` classmap")
        logits = upsample.enlarge(whole.grid, whole.rows, whole.columns)
        frame.note = frame.note, logits.astype(np.float16)[None]

    def write(self, frame: Frame) -> None:
        path = self._path(frame)
        made_from, answer = frame.note
        write(path, OUTPUT, answer, made_from)
        frame.note = Converted(path.stem, "written", path)

    def _path(self, frame: Frame) -> Path:
        return self.output / f"{frame.source.stem}.npz"
