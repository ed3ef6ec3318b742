"""Evaluate a model over a data set: one image at a time, resumed where it was interrupted."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from atrous import engines
from atrous.data import Dataset, Sample
from atrous.download import cache_dir
from atrous.engines.base import Engine, Options
from atrous.errors import InputError
from atrous.evaluation.health import check_agreement, check_predictions
from atrous.evaluation.protocols import Protocol
from atrous.evaluation.result import Result, Stamp, hash_ids
from atrous.files import write_atomic
from atrous.metrics import Absent, ConfusionMatrix
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor

SAVE_SECONDS = 10.0

Progress = Callable[[int, float], None]
"""Called with the number of images done and the mIoU so far, 0–1."""


@dataclass
class Tally:
    """What an evaluation has counted so far.

    Attributes:
        matrix: of all images.
        scores: mean IoU of each image done, 0–1, `nan` where it failed.
        not_finite: images with logits that are NaN or infinite.
        same: scored pixels on which the reference model agrees.
        compared: scored pixels that it was compared on.
        failed: `index, message` of the images that could not be read.
    """

    matrix: ConfusionMatrix
    scores: list[float] = field(default_factory=list)
    not_finite: int = 0
    same: int = 0
    compared: int = 0
    failed: list[str] = field(default_factory=list)


class Evaluation:
    """A model, a data set and a protocol.

    Args:
        predictor: gives the engine, the labels and the normalisation.
        dataset: with labels of the same number of classes.
        protocol: how images are scored.
        options: stamped on the result.
        absent: what classes that occur nowhere do to the mean.
        reference: a model to agree with, on the same protocol.

    Raises:
        InputError: classes differ in number, an id stands twice in the list, or the model takes
            another size than the protocol.
    """

    def __init__(
        self,
        predictor: Predictor,
        dataset: Dataset,
        protocol: Protocol,
        *,
        name: str,
        options: Options | None = None,
        absent: Absent = "skip",
        reference: Predictor | None = None,
    ) -> None:
        if predictor.labels.num_classes != dataset.labels.num_classes:
            raise InputError(
                f"the model has {predictor.labels.num_classes} classes but {dataset.name} has "
                f"{dataset.labels.num_classes}"
            )
        ids = Counter(sample.id for sample in dataset.samples)
        if twice := [name for name, count in ids.items() if count > 1]:
            raise InputError(f"{dataset.name} lists {twice[0]!r} more than once; list each id once")
        self.engine: Engine = predictor.engine
        self.own: Preprocess = predictor.preprocess
        self.dataset = dataset
        self.protocol = protocol
        self.absent: Absent = absent
        self.reference = reference
        self.preprocess = protocol.preprocess(self.own)
        _check_size(self.engine, self.preprocess, protocol)
        self.stamp = self._stamp(name, options or Options())

    def run(self, progress: Progress | None = None, *, restart: bool = False) -> Result:
        """Score every image and add it all up.

        Interrupted, it keeps what it counted, and the next run with the same stamp goes on there.

        Args:
            progress: called after every image.
            restart: begin again instead.
        """
        state = self._state_file()
        tally = self._new_tally()
        if restart:
            state.unlink(missing_ok=True)
        elif state.exists():
            _load_tally(state, tally)
        saved = time.monotonic()
        try:
            for sample in self.dataset.samples[len(tally.scores) :]:
                self._score(sample, tally)
                if progress is not None:
                    progress(len(tally.scores), tally.matrix.mean_iou)
                if time.monotonic() - saved > SAVE_SECONDS:
                    _save_tally(state, tally)
                    saved = time.monotonic()
        except BaseException:
            _save_tally(state, tally)
            raise
        state.unlink(missing_ok=True)
        self.scores = tally.scores
        return self._result(tally)

    def _score(self, sample: Sample, tally: Tally) -> None:
        try:
            image = self.dataset.read_image(sample)
            label = self.dataset.read_label(sample)
            if label.shape != image.shape[:2]:
                raise InputError(
                    f"{sample.label}: label is {label.shape}, its image {image.shape[:2]}"
                )
        except InputError as error:
            tally.failed.append(str(error))
            tally.scores.append(float("nan"))
            return
        truth = self.protocol.truth(label, self.preprocess)
        scored = self.protocol.predict(self.engine, self.preprocess, image)
        one = ConfusionMatrix(self.dataset.labels.num_classes, self.dataset.labels.ignore_index)
        one.update(truth, scored.class_map)
        if self.reference is not None:
            other = self.protocol.predict(
                self.reference.engine, self.protocol.preprocess(self.reference.preprocess), image
            )
            tally.same += int((other.class_map == scored.class_map).sum())
            tally.compared += scored.class_map.size
        tally.matrix.counts += one.counts
        tally.not_finite += not scored.finite
        tally.scores.append(one.mean_iou)

    def _result(self, tally: Tally) -> Result:
        matrix, names = tally.matrix, self.dataset.labels.names
        health = check_predictions(matrix, names, tally.not_finite)
        if self.reference is not None:
            health += check_agreement(tally.same, tally.compared, "the reference model")
        percent = [None if np.isnan(value) else 100 * float(value) for value in matrix.iou]
        return Result(
            stamp=self.stamp,
            pixel_accuracy=100 * matrix.pixel_accuracy,
            mean_accuracy=100 * matrix.mean_accuracy,
            frequency_weighted_iou=100 * matrix.frequency_weighted_iou,
            mean_iou=100 * matrix.mean_iou,
            iou=dict(zip(names, percent, strict=True)),
            confusion=matrix.counts.tolist(),
            health=health,
            failed=tally.failed,
        )

    def _stamp(self, name: str, options: Options) -> Stamp:
        ids = [sample.id for sample in self.dataset.samples]
        known = self.engine.metadata
        seen = set(known.calibration.images) if known and known.calibration else set()
        return Stamp(
            protocol=self.protocol.name,
            resize=self.preprocess.interpolation,
            data=self.dataset.name,
            images=len(ids),
            ids=hash_ids(ids),
            labels=self.dataset.labels.name,
            ignore_index=self.dataset.labels.ignore_index,
            absent=self.absent,
            model=known.name if known else name,
            identity=self.engine.identity,
            precision=known.precision if known else "unknown",
            engine=f"{self.engine.name} {engines.version(self.engine.name)} {options.device}",
            calibrated_on=len(seen.intersection(ids)),
        )

    def _state_file(self) -> Path:
        what = self.stamp.model_dump_json() + self.dataset.spec
        if self.reference is not None:
            what += self.reference.engine.identity
        digest = hashlib.sha256((what + self.own.model_dump_json()).encode()).hexdigest()
        return cache_dir() / "evaluations" / f"{digest[:32]}.npz"

    def _new_tally(self) -> Tally:
        labels = self.dataset.labels
        return Tally(ConfusionMatrix(labels.num_classes, labels.ignore_index, self.absent))


def _check_size(engine: Engine, preprocess: Preprocess, protocol: Protocol) -> None:
    fixed = engine.input.shape[2:]
    if fixed == (None, None):
        return
    if protocol.kind == "whole" or protocol.scales != (1.0,):
        raise InputError(
            f"protocol {protocol.name} needs a model of free size, this one takes {fixed}: "
            "export it with --dynamic batch,height,width, or evaluate the checkpoint"
        )
    if fixed != preprocess.size:
        raise InputError(
            f"protocol {protocol.name} makes inputs of {preprocess.size}, the model takes {fixed}"
        )


def _save_tally(path: Path, tally: Tally) -> None:
    def write(file: IO[bytes]) -> None:
        np.savez(
            file,
            counts=tally.matrix.counts,
            scores=np.array(tally.scores, np.float64),
            numbers=np.array([tally.not_finite, tally.same, tally.compared], np.int64),
            failed=np.array(tally.failed, np.str_),
        )

    write_atomic(path, write)


def _load_tally(path: Path, tally: Tally) -> None:
    """Go on from a saved state; one that is damaged counts as none."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as state:
            counts, scores, numbers = state["counts"], state["scores"], state["numbers"]
            failed = state["failed"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return
    if counts.shape == tally.matrix.counts.shape:
        tally.matrix.counts = counts
        tally.scores = scores.tolist()
        tally.not_finite, tally.same, tally.compared = map(int, numbers)
        tally.failed = [str(message) for message in failed]
