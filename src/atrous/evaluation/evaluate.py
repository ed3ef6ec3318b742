"""`evaluate` for Python: what the verb `eval` does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path

from atrous.data import Dataset, open_dataset
from atrous.engines.base import Device, Options
from atrous.errors import ConfigError
from atrous.evaluation.protocols import Protocol, own_protocol
from atrous.evaluation.report import PAGE, write_report
from atrous.evaluation.result import Evaluation
from atrous.evaluation.run import Evaluator
from atrous.files import check_writable
from atrous.labels import LabelSet
from atrous.metrics import Absent
from atrous.pages.page import check_place
from atrous.runtime.predictor import Predictor

_log = logging.getLogger("atrous")

EvaluationProgress = Callable[[int, int, float], None]
"""Called with images done, images in all, and the mIoU so far, 0–1."""


def evaluate(
    model: str | PathLike[str] | None = None,
    data: str | Dataset = "",
    protocol: str | None = None,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    trimap: int = 0,
    absent: Absent = "skip",
    engine: str = "auto",
    device: Device | None = None,
    threads: int | None = None,
    options: Options | None = None,
    reference: str | PathLike[str] | None = None,
    restart: bool = False,
    report: str | PathLike[str] | None = None,
    progress: EvaluationProgress | None = None,
) -> Evaluation:
    """Measure accuracy under one protocol, stamped with all that it depends on.

        score = atrous.evaluate("default", "voc:VOCdevkit:val", "squash-513")
        print(score.mean_iou, score.iou["cat"], score.health)

    An interrupted evaluation goes on where it stopped. Whoever reads the score reads `health` and
    `failed` too: they say what makes it doubtful, a broken model or pictures that cannot be read.

    Args:
        model: as for `Predictor.open`.
        data: as `voc:ROOT:val`, `cityscapes:ROOT:val`, `folder:X.yaml:SPLIT`, or a data set.
        protocol: as `squash-513`, see docs/evaluation.md; by default that of the model's training
            run, or squash at the size of its input.
        scales: see the image at these scales too (`native`, `whole`).
        flip: see its mirror image too.
        trimap: score the pixels alone that are no farther than this from a border of the label, 0
            for all.
        absent: classes that occur nowhere are left out of the mean (`skip`) or count as 0 (`zero`).
        engine: `auto`, or the name of an engine.
        device: `cpu`, `cuda` or `tensorrt`.
        threads: CPU threads, 0 for one per core.
        options: these two, and what else there is to say to an engine.
        reference: a model that this one must agree with.
        restart: do not go on from an interrupted evaluation.
        report: write an HTML page into this folder.
        progress: called with images done, images in all, and the mIoU so far, 0–1.

    Raises:
        AtrousError: model, data and protocol do not fit each other, or cannot be read.
    """

    if not data:
        raise ConfigError("`data` is missing: say what to evaluate on, as voc:VOCdevkit:val")
    wanted = (options or Options()).with_changes(device, threads, None)

    def opened(labels: LabelSet, side: int | None) -> Predictor:
        name = None if model is None else str(model)
        return Predictor.open(name, engine=engine, options=wanted, labels=labels, side=side)

    return score(
        opened,
        data,
        protocol,
        scales=tuple(scales),
        flip=flip,
        trimap=trimap,
        name=str(model),
        options=wanted,
        absent=absent,
        reference=None if reference is None else str(reference),
        restart=restart,
        report=None if report is None else Path(report),
        progress=progress,
    )


def score(
    opened: Callable[[LabelSet, int | None], Predictor],
    data: str | Dataset,
    protocol: str | None,
    *,
    scales: tuple[float, ...],
    flip: bool,
    name: str,
    options: Options,
    trimap: int = 0,
    absent: Absent = "skip",
    reference: str | None = None,
    restart: bool = False,
    report: Path | None = None,
    progress: EvaluationProgress | None = None,
) -> Evaluation:
    """`evaluate` with a model that the caller opens.

    Args:
        opened: opens it for the labels of the data and the side of what the protocol shows it.
        data: as for `evaluate`, like the others that are not here.
        name: of the model, for the stamp.
        options: of its engine, for the stamp.
    """

    chosen = Protocol.parse(protocol, scales, flip, trimap) if protocol else None
    if report is not None:
        check_place(report / PAGE)  # before anything is computed
        check_writable(report / PAGE)
    dataset = open_dataset(data) if isinstance(data, str) else data
    with ExitStack() as stack:
        side = chosen.side if chosen else 513
        predictor = stack.enter_context(opened(dataset.labels, side))
        own = own_protocol(predictor.engine.metadata, predictor.preprocess)
        if chosen is None:
            chosen = Protocol.parse(own, scales, flip, trimap)
        else:
            _compare_with_training(predictor, protocol, own)
        other = Predictor.open(reference, labels=dataset.labels) if reference else None
        evaluator = Evaluator(
            predictor,
            dataset,
            chosen,
            name=name,
            options=options,
            absent=absent,
            reference=stack.enter_context(other) if other else None,
        )
        total = len(dataset.samples)

        def tell(done: int, miou: float) -> None:
            if progress is not None:
                progress(done, total, miou)

        found = evaluator.run(tell, restart=restart, keep=report is not None)
        if report is not None:
            write_report(evaluator, found, report)
            evaluator.forget()
    return found


def _compare_with_training(predictor: Predictor, named: str | None, own: str) -> None:
    """Say so where a model is scored in another way than in its training."""
    known = predictor.engine.metadata
    if known is not None and known.protocol and named != own:
        size = "×".join(map(str, predictor.preprocess.size))
        _log.warning(
            "%s was trained to be scored by %s at %s pixels; %s gives another figure, which does "
            "not compare with that of its training",
            known.name,
            own,
            size,
            named,
        )
