"""From npz to npz: what a network says of every image of a list."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from atrous import upsample
from atrous.errors import ConfigError, EngineError, InputError
from atrous.runtime.pipeline import TIMEOUT, Pipeline
from atrous.runtime.predictor import Predictor
from atrous.runtime.stages import Frame, Steps, stages
from atrous.runtime.worker import SKIP
from atrous.vastai.npz import OUTPUT, Converted, read_input, read_with_comment, write

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
    same network gave under the same settings is kept if it can be read. Closing the generator ends
    the work; what was finished is kept.

    Args:
        predictor: the network.
        inputs: npz files, see `atrous.vastai.npz.read_list`.
        output: folder of the answers, each called like its input.
        kind: float16 logits `(1, C, h, w)` or a uint8 class map `(1, h, w)`, at the size of the
            network input.
        force: make answers again that are there already.
        batch: images that the network sees at once; by default its own number, 1 if it is free.

    Raises:
        ConfigError: an answer is there that another model or another setting made, or the network
            takes another number of images at a time.
        StreamError: a step is stuck.
        AtrousError: a file cannot be written; what was finished is kept.
    """
    job = _Job(predictor, output, kind, force, _stamp(predictor, kind))
    steps = Steps(predictor, read=read_input)
    work = stages(steps, before={"check": job.check}, batch=batch)
    work = work.doing(finish={"postprocess": job.answer, "write": job.write})
    with Pipeline(work, timeout=TIMEOUT) as pipeline:
        for item in pipeline.map(Frame(source) for source in inputs):
            source: Path = item.value.source
            if item.error is None:
                yield item.value.note
            elif isinstance(item.error, InputError | EngineError):
                text = str(item.error)
                named = text if text.startswith(str(source)) else f"{source}: {text}"
                yield Converted(source.stem, "failed", error=named)
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
        if self.force or not _is_there(path, self.made_by):
            return None
        frame.note = Converted(path.stem, "kept", path)
        return SKIP

    def answer(self, frame: Frame) -> None:
        """What the network says, at the size of its input."""
        assert frame.prediction is not None
        whole = self.predictor.at_input(frame.prediction)
        if self.kind == "classmap":
            frame.note = whole.class_map()[None]
            return
        largest = np.abs(whole.grid).max()
        if largest > np.finfo(np.float16).max:
            raise EngineError(f"a logit of {largest:.3g} does not fit float16; use `kind` classmap")
        logits = upsample.enlarge(whole.grid, whole.rows, whole.columns)
        frame.note = logits.astype(np.float16)[None]

    def write(self, frame: Frame) -> None:
        path = self._path(frame)
        write(path, OUTPUT, frame.note, self.made_by)
        frame.note = Converted(path.stem, "written", path)

    def _path(self, frame: Frame) -> Path:
        return self.output / f"{frame.source.stem}.npz"


def _stamp(predictor: Predictor, kind: AnswerKind) -> str:
    """What the answers of one run have in common; they carry it, so that none are mixed."""
    settings = [predictor.engine.identity, predictor.preprocess.to_dict(), kind]
    return "atrous " + hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _is_there(path: Path, made_by: str) -> bool:
    """Whether an answer of this run is there; a damaged one does not count.

    Raises:
        ConfigError: it is the answer of another.
    """
    try:
        _, found = read_with_comment(path, OUTPUT)
    except InputError:
        return False
    if found != made_by:
        raise ConfigError(
            f"{path}: made by another model, preprocessing, `kind` or tool; choose another "
            "`output`, or replace what is there with `force`"
        )
    return True
