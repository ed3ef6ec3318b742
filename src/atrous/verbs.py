"""`compile`, `train` and `export` for Python: what the verbs of the same name do.

Each imports what it needs when it is called, and prints nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from atrous import locks
from atrous.errors import ConfigError, EngineError
from atrous.files import check_writable

if TYPE_CHECKING:
    from rich.console import Console

    from atrous.artifact import Metadata
    from atrous.compiler.config import CompileConfig
    from atrous.compiler.progress import Tell
    from atrous.compiler.report.report import CompileReport
    from atrous.evaluation.result import Evaluation
    from atrous.exporters.onnx import FreeAxis
    from atrous.labels import LabelSet
    from atrous.training.config import Recipe

Name = str | PathLike[str]
Changes = Mapping[str, Any] | Sequence[str]
"""Keys of a YAML file in other words: `{"train.batch": 8}`, or `["train.batch=8"]`. A dictionary
as a value, as in `{"train": {"batch": 8}}`, takes the place of its whole section."""


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
        raise ConfigError(
            f"{path}: is an ONNX file already; export takes a checkpoint "
            "(`atrous export --standalone` takes any model)"
        )
    if reason := engines.missing("torch"):
        raise EngineError(reason)

    check_writable(Path(output))

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
        AtrousError: another run is at work in its folder.
    """
    from atrous.training import checkpoint
    from atrous.training.loop import Run
    from atrous.training.progress import RunMonitor

    with ExitStack() as stack:
        # Of the processes of one run the first writes, and holds the folder.
        if os.environ.get("RANK", "0") == "0" and stack.enter_context(locks.inside(recipe.folder)):
            checkpoint.clean(recipe.folder)
        monitor = stack.enter_context(closing(RunMonitor(recipe.folder, console)))
        run = Run(recipe, monitor, restart=restart)
        return run.main, run.go()


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
    if isinstance(changes, Mapping):
        return [f"{key}={json.dumps(value, default=_plain)}" for key, value in changes.items()]
    for change in changes:
        if not isinstance(change, str):
            raise ConfigError(
                f"`changes`: expected texts as 'train.batch=8', or a dictionary, got {change!r}"
            )
    return list(changes)


def _plain(value: object) -> object:
    """Numbers and arrays of NumPy and torch as Python's, all else, such as a path, as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
