"""Evaluate a model over a data set as a stream, resumed where it was interrupted."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from atrous import engines
from atrous.agreement import same_pixels
from atrous.data import Dataset, Sample
from atrous.download import cache_dir
from atrous.engines import dry_run
from atrous.engines.base import Engine, Options
from atrous.errors import InputError
from atrous.evaluation.health import check_agreement, check_predictions
from atrous.evaluation.protocols import Protocol
from atrous.evaluation.result import Evaluation, Stamp, hash_ids
from atrous.files import write_atomic
from atrous.image import Reading
from atrous.metrics import Absent, ConfusionMatrix, near_borders
from atrous.pictures.samples import Taking
from atrous.preprocess import Preprocess
from atrous.runtime.pipeline import Pipeline
from atrous.runtime.predictor import Predictor
from atrous.runtime.stages import helper_threads
from atrous.runtime.worker import SKIP, Stage

SAVE_SECONDS = 10.0

Progress = Callable[[int, float], None]
"""Called with the number of images done and the mIoU so far, 0–1."""


@dataclass(frozen=True)
class Tally:
    """What an evaluation has counted so far.

    Adding an image makes a new one: wherever an interruption falls, an image is in all of its
    sums or in none.

    Attributes:
        matrix: of all images.
        scores: mean IoU of each image done, 0–1, `nan` where it failed.
        not_finite: images with logits that are NaN or infinite.
        same: scored pixels on which the reference model agrees.
        compared: scored pixels that it was compared on.
        failed: `index, message` of the images that could not be read.
    """

    matrix: ConfusionMatrix
    scores: tuple[float, ...] = ()
    not_finite: int = 0
    same: int = 0
    compared: int = 0
    failed: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class _Look:
    """One image on its way; a field is there from the step that makes it."""

    sample: Sample
    image: NDArray[np.uint8] | None = None
    truth: NDArray[np.uint8] | None = None
    class_map: NDArray[np.uint8] | None = None
    finite: bool = True
    same: int = 0
    compared: int = 0
    matrix: ConfusionMatrix | None = None
    failed: str = ""


class Evaluator:
    """Scores a model on a data set under a protocol.

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
        if (value_range := predictor.preprocess.value_range) is not None:
            taking = Taking(value_range)
            name = f"{dataset.name}, {taking}"
            own = dataset.decode_image
            read = own.by_default(value_range) if isinstance(own, Reading) else Reading(taking)
            dataset = replace(dataset, name=name, decode_image=read)
        self.predictor = predictor
        self.dataset = dataset
        self.protocol = protocol
        self.absent: Absent = absent
        self.reference = reference
        self.preprocess = protocol.preprocess(predictor.preprocess)
        _check_size(predictor.engine, name, self.preprocess, protocol)
        options = options or Options()
        self.meaning = [repr((options.layout, options.output_name, options.threshold))]
        self.stamp = self._stamp(name, options)

    def run(
        self, progress: Progress | None = None, *, restart: bool = False, keep: bool = False
    ) -> Evaluation:
        """Score every image and add it all up.

        Reading, predicting and counting overlap, but images are added in the order of the list.
        Interrupted, it keeps what it counted, and the next run with the same stamp goes on there.

        Args:
            progress: called after every image.
            restart: begin again instead.
            keep: what was counted, until `forget` is called.
        """
        state = self._state_file()
        labels = self.dataset.labels
        tally = Tally(ConfusionMatrix(labels.num_classes, labels.ignore_index, self.absent))
        if restart:
            self.forget()
        elif state.exists():
            tally = _load_tally(state, tally)
        saved = time.monotonic()
        work = self._stages()
        try:
            # No time limit: some protocols rightly take minutes over an image.
            with Pipeline(work) as pipeline:
                left = self.dataset.samples[len(tally.scores) :]
                for item in pipeline.map(_Look(sample) for sample in left):
                    if item.error is not None:
                        raise item.error
                    tally = _add(tally, item.value)
                    if progress is not None:
                        progress(len(tally.scores), tally.matrix.mean_iou)
                    if time.monotonic() - saved > SAVE_SECONDS:
                        _save_tally(state, tally)
                        saved = time.monotonic()
        except BaseException:
            _save_tally(state, tally)
            raise
        if keep:
            _save_tally(state, tally)
        else:
            self.forget()
        self.scores = tally.scores
        return self._result(tally)

    def forget(self) -> None:
        """Remove what was counted, when what was made of it is written."""
        with suppress(OSError):
            self._state_file().unlink(missing_ok=True)

    def _stages(self) -> list[Stage[_Look]]:
        return [
            Stage({"decode": self._read}, helper_threads()),
            Stage({"infer": self._predict}, self.predictor.engine.streams),
            Stage({"count": self._count}),
        ]

    def _read(self, look: _Look) -> object:
        try:
            image = self.dataset.read_image(look.sample)
            label = self.dataset.read_label(look.sample)
            if label.shape != image.shape[:2]:
                raise InputError(
                    f"{look.sample.label}: label is {label.shape}, its image {image.shape[:2]}"
                )
            truth = self.protocol.truth(label, self.preprocess)
            if self.protocol.trimap:
                ignored = self.dataset.labels.ignore_index
                truth = near_borders(truth, self.protocol.trimap, ignored)
            look.image, look.truth = image, truth
        except (InputError, MemoryError) as error:
            return _failed(look, error)
        return None

    def _predict(self, look: _Look) -> object:
        assert look.image is not None
        try:
            seen = self.protocol.predict(self.predictor, look.image)
            look.class_map, look.finite = seen.class_map, seen.finite
            if self.reference is not None:
                other = self.protocol.predict(self.reference, look.image)
                look.same, look.compared = same_pixels(other.class_map, seen.class_map)
        except MemoryError as error:
            return _failed(look, error)
        look.image = None
        return None

    def _count(self, look: _Look) -> None:
        assert look.truth is not None
        assert look.class_map is not None
        labels = self.dataset.labels
        look.matrix = ConfusionMatrix(labels.num_classes, labels.ignore_index)
        look.matrix.update(look.truth, look.class_map)
        look.truth = look.class_map = None

    def _result(self, tally: Tally) -> Evaluation:
        matrix, names = tally.matrix, self.dataset.labels.names
        health = check_predictions(matrix, names, tally.not_finite)
        if self.reference is not None:
            health += check_agreement(tally.same, tally.compared, "the reference model")
        percent = [None if np.isnan(value) else 100 * float(value) for value in matrix.iou]
        return Evaluation(
            stamp=self.stamp,
            pixel_accuracy=100 * matrix.pixel_accuracy,
            mean_accuracy=100 * matrix.mean_accuracy,
            frequency_weighted_iou=100 * matrix.frequency_weighted_iou,
            mean_iou=100 * matrix.mean_iou,
            iou=dict(zip(names, percent, strict=True)),
            confusion=matrix.counts.tolist(),
            health=health,
            failed=list(tally.failed),
        )

    def _stamp(self, name: str, options: Options) -> Stamp:
        ids = [sample.id for sample in self.dataset.samples]
        engine = self.predictor.engine
        known = engine.metadata
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
            identity=engine.identity,
            precision=known.precision if known else "unknown",
            engine=f"{engine.name} {engines.version(engine.name)} {options.device}"
            + f" {engine.arithmetic}" * (engine.arithmetic != "fp32"),
            calibrated_on=len(seen.intersection(ids)),
        )

    def _state_file(self) -> Path:
        parts = [self.stamp.model_dump_json(), self.dataset.reading(), *self.meaning]
        for predictor in (self.predictor, self.reference):
            if predictor is not None:
                parts += [predictor.engine.identity, predictor.preprocess.model_dump_json()]
        for sample in self.dataset.samples:
            parts += [*_now(sample.image), *_now(sample.label)]
        text = "\0".join(parts)
        digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
        return cache_dir() / "evaluations" / f"{digest[:32]}.npz"


def _now(path: Path | None) -> tuple[str, ...]:
    """Which file it is, and its state, without opening it."""
    if path is None:
        return ("",)
    try:
        found = path.stat()
    except OSError:
        return (str(path), "")
    return (str(path.resolve()), f"{found.st_size} {found.st_mtime_ns}")


def _check_size(engine: Engine, name: str, preprocess: Preprocess, protocol: Protocol) -> None:
    fixed = engine.signature.size
    several = protocol.kind == "whole" or protocol.scales != (1.0,)
    if fixed != (None, None) and several:
        raise InputError(
            f"protocol {protocol.name} needs a model of free size, this one takes {fixed}: "
            "take one of atrous export --dynamic batch,height,width, or the checkpoint"
        )
    if not engine.signature.takes(*preprocess.size):
        raise InputError(
            f"protocol {protocol.name} makes inputs of {preprocess.size}, the model takes {fixed}"
        )
    if not several:
        dry_run.check(engine, name, preprocess.size, protocol.at)


def _failed(look: _Look, error: InputError | MemoryError) -> object:
    """Leave an image out, and say why."""
    room = isinstance(error, MemoryError)
    look.failed = f"{look.sample.image}: not enough memory for it" if room else str(error)
    look.image = look.truth = look.class_map = None
    return SKIP


def _add(tally: Tally, look: _Look) -> Tally:
    if look.failed:
        return replace(
            tally, scores=(*tally.scores, float("nan")), failed=(*tally.failed, look.failed)
        )
    assert look.matrix is not None
    return Tally(
        tally.matrix + look.matrix,
        (*tally.scores, look.matrix.mean_iou),
        tally.not_finite + (not look.finite),
        tally.same + look.same,
        tally.compared + look.compared,
        tally.failed,
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

    with suppress(OSError):  # a cache that cannot be written costs time and nothing else
        write_atomic(path, write)


def _load_tally(path: Path, fresh: Tally) -> Tally:
    """Go on from a saved state; one that is damaged counts as none."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as state:
            counts, scores, failed = state["counts"], state["scores"], state["failed"]
            not_finite, same, compared = map(int, state["numbers"])
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
        return fresh
    if counts.shape != fresh.matrix.counts.shape:
        return fresh
    matrix = copy(fresh.matrix)
    matrix.counts = counts
    seen = tuple(str(message) for message in failed)
    return Tally(matrix, tuple(scores.tolist()), not_finite, same, compared, seen)
