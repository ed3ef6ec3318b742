"""`compile`, `evaluate`, `train` and `export` for Python: what the verbs of the same name do.

Each imports what it needs when it is called, and prints nothing; notes go into the log `atrous`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from atrous.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from rich.console import Console

    from atrous.artifact import Metadata
    from atrous.compiler.config import CompileConfig
    from atrous.compiler.progress import Tell
    from atrous.compiler.report.report import CompileReport
    from atrous.data import Dataset
    from atrous.engines.base import Device, Options
    from atrous.evaluation.result import Evaluation
    from atrous.exporters.onnx import FreeAxis
    from atrous.labels import LabelSet
    from atrous.metrics import Absent
    from atrous.runtime.predictor import Predictor
    from atrous.training.config import Recipe

_log = logging.getLogger("atrous")

Name = str | PathLike[str]
Changes = Mapping[str, Any] | Sequence[str]
"""Keys of a YAML file in other words: `{"train.batch": 8}`, or `["train.batch=8"]`."""

EvaluationProgress = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """What `export` made.

    Attributes:
        path: the file.
        metadata: what it says of itself: network, labels, preprocessing.
        output_stride: of the network.
        difference: the largest difference from PyTorch's scores, in words.
    """

    path: Path
    metadata: Metadata
    output_stride: int
    difference: str


def export(
    checkpoint: Name,
    output: Name,
    *,
    file_format: Literal["onnx", "torchscript"] = "onnx",
    size: tuple[int, int] | None = None,
    dynamic: Sequence[FreeAxis] = (),
    opset: int = 18,
    precision: Literal["fp32", "fp16"] = "fp32",
    output_stride: int | None = None,
    labels: LabelSet | None = None,
    name: str | None = None,
    licence: str = "",
) -> Exported:
    """Export a checkpoint to ONNX or TorchScript, and compare it with PyTorch.

        atrous.export("best_deeplabv3_resnet50_voc_os16.pth", "deeplab.onnx", size=(513, 513))

    Args:
        checkpoint: a `.pth` or `.safetensors` file, or a name of `atrous models`.
        output: the file to make; it is written only if its numbers agree with PyTorch's.
        file_format: what to write.
        size: height and width of the network input, by default those of the checkpoint.
        dynamic: axes left free: `batch`, `height`, `width` (ONNX).
        opset: ONNX operator set, 11 or newer.
        precision: `fp16` stores the weights at half the size; arithmetic stays fp32.
        output_stride: 8 or 16, by default what the file says, else 16.
        labels: names and colours of the classes.
        name: what the model calls itself.
        licence: of the weights.

    Raises:
        AtrousError: the checkpoint cannot be read, options do not fit it, or the numbers differ.
    """
    from atrous import engines

    if file_format not in ("onnx", "torchscript"):
        raise ConfigError(f"`file_format`: expected onnx or torchscript, got {file_format!r}")
    if file_format == "torchscript" and (dynamic or opset != 18 or precision != "fp32"):
        raise ConfigError("`dynamic`, `opset` and `precision` belong to `file_format` onnx")
    path = engines.find_model(str(checkpoint))
    if path.suffix.lower() == ".onnx":
        raise ConfigError(f"{path}: is an ONNX file already; export takes a checkpoint")
    if reason := engines.missing("torch"):
        raise EngineError(reason)

    from atrous import models
    from atrous.engines.torch import describe
    from atrous.image import photograph

    network = models.load(path, output_stride=output_stride)
    metadata = describe(network, path, labels)
    preprocess = metadata.preprocess if size is None else metadata.preprocess.with_size(*size)
    changes = {
        "name": name or metadata.name,
        "licence": licence,
        "precision": precision,
        "preprocess": preprocess,
    }
    metadata, output = metadata.model_copy(update=changes), Path(output)
    if file_format == "onnx":
        from atrous.exporters.onnx import export_onnx

        difference = export_onnx(
            network,
            output,
            metadata=metadata,
            pixels=photograph(),
            dynamic=list(dynamic),
            opset=opset,
        )
    else:
        from atrous.exporters.torchscript import export_torchscript

        difference = export_torchscript(network, output, metadata=metadata, pixels=photograph())
    return Exported(output, metadata, network.output_stride, str(difference))


def compile(
    config: Name | CompileConfig,
    changes: Changes = (),
    *,
    force: bool = False,
    tell: Tell | None = None,
) -> CompileReport:
    """Compile a network to its fastest exact form, or to int8, and report what that changed.

        report = atrous.compile("deeplab.yaml", {"backend.dtype": "fp16"})
        print("\\n".join(report.lines()))

    Args:
        config: a compile file, see docs/compile.md, or what `atrous.compiler.config.load` made.
        changes: keys of it in other words; the later wins.
        force: replace what an earlier run made.
        tell: called with a `Progress` as it works.

    Returns:
        What was done, saved and lost; the model is `WORKSPACE/NAME/mod.onnx`.

    Raises:
        AtrousError: the configuration is wrong, the folder exists, or the model is refused.
    """
    from atrous.compiler import config as configs
    from atrous.compiler.build import build
    from atrous.compiler.progress import silent

    if not isinstance(config, configs.CompileConfig):
        config = configs.load(Path(config), _words(changes))
    elif changes:
        raise ConfigError("`changes` are for a file, not for a `CompileConfig`")
    return build(config, force=force, tell=tell or silent)


def evaluate(
    model: Name | None = None,
    data: str | Dataset = "",
    protocol: str | None = None,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    absent: Absent = "skip",
    engine: str = "auto",
    device: Device | None = None,
    threads: int | None = None,
    options: Options | None = None,
    reference: Name | None = None,
    restart: bool = False,
    report: Name | None = None,
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
    from atrous.engines.base import Options
    from atrous.runtime.predictor import Predictor

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
    from atrous.data import open_dataset
    from atrous.evaluation.protocols import Protocol, own_protocol
    from atrous.evaluation.report import PAGE, write_report
    from atrous.evaluation.run import Evaluator
    from atrous.pages.page import check_place
    from atrous.runtime.predictor import Predictor

    chosen = Protocol.parse(protocol, scales, flip) if protocol else None
    if report is not None:
        check_place(report / PAGE)  # before anything is computed
    dataset = open_dataset(data) if isinstance(data, str) else data
    with ExitStack() as stack:
        side = chosen.side if chosen else 513
        predictor = stack.enter_context(opened(dataset.labels, side))
        own = own_protocol(predictor.engine.metadata, predictor.preprocess)
        if chosen is None:
            chosen = Protocol.parse(own, scales, flip)
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

        found = evaluator.run(tell, restart=restart)
        if report is not None:
            write_report(evaluator, found, report)
    return found


def train(
    recipe: Name | Recipe,
    changes: Changes = (),
    *,
    restart: bool = False,
) -> Evaluation | None:
    """Train a network, and score it on images that it never learnt from.

        score = atrous.train("recipe.yaml", {"train.batch": 8, "output": "runs/first"})

    A run that was interrupted or killed goes on where the same call is made again, and ends with
    the same weights: `last.safetensors` in the output folder. `log.jsonl` there says how it goes.

    Args:
        recipe: a recipe file, see docs/train.md, or what `atrous.training.config.load` made.
        changes: keys of it in other words; the later wins.
        restart: begin again where the output holds a run.

    Returns:
        The score, `None` where the recipe has no validation set.

    Raises:
        AtrousError: the recipe does not fit data, machine or the run that is there.
        KeyboardInterrupt: it was stopped; everything is saved.
    """
    from rich.console import Console

    from atrous.training import config as configs

    if not isinstance(recipe, configs.Recipe):
        recipe = configs.load(Path(recipe), _words(changes))
    elif changes:
        raise ConfigError("`changes` are for a file, not for a `Recipe`")
    need_training()

    from atrous.training.loop import Interrupted

    try:
        return run_recipe(recipe, Console(quiet=True), restart=restart)[1]
    except Interrupted:
        raise KeyboardInterrupt from None


def run_recipe(
    recipe: Recipe, console: Console, *, restart: bool = False
) -> tuple[bool, Evaluation | None]:
    """`train`, shown on a console.

    Returns:
        Whether this is the process that scores and reports, and the score.

    Raises:
        Interrupted: it was asked to stop; everything is saved.
    """
    from atrous.training.loop import Run
    from atrous.training.progress import RunMonitor

    monitor = RunMonitor(recipe.folder, console)
    try:
        run = Run(recipe, monitor, restart=restart)
        return run.main, run.go()
    finally:
        monitor.close()


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


def need_training() -> None:
    """Raise `ConfigError` where a package is missing that training needs."""
    missing = [name for name in ("torch", "accelerate", "safetensors") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"training needs {', '.join(missing)}, not installed: pip install 'atrous[train]'"
        )


def _words(changes: Changes) -> list[str]:
    if isinstance(changes, str):
        raise ConfigError(f"`changes`: expected a list or a dictionary, got the text {changes!r}")
    if not isinstance(changes, Mapping):
        return list(changes)
    return [f"{key}={json.dumps(value, default=str)}" for key, value in changes.items()]
