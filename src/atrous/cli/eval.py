"""`atrous eval`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atrous.cli import json_output, options, terminal
from atrous.errors import ConfigError
from atrous.files import check_writable

if TYPE_CHECKING:
    from onnx import ModelProto

    from atrous.artifact import Metadata
    from atrous.evaluation.result import Evaluation


def evaluate(
    context: typer.Context,
    compare: Annotated[
        list[Path] | None, typer.Argument(help="With --compare: results written by --json-file.")
    ] = None,
    model: options.ModelOption = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="The data set: voc:ROOT:val, cityscapes:ROOT:val or folder:X.yaml:SPLIT."
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="The protocol: center-crop-N, squash-N, pad-N, native, slide-N, tile-N-OVERLAP "
            "or whole. Default: that of the model's training run, or squash at the size of "
            "its input."
        ),
    ] = None,
    tile: options.TileOption = None,
    overlap: options.OverlapOption = None,
    scales: Annotated[
        str,
        typer.Option(
            help="Average the scores over these scales of the image, as 0.5,1,1.5 (native, whole)."
        ),
    ] = "1",
    flip: Annotated[
        bool, typer.Option("--flip", help="Average the scores with those of the mirrored image.")
    ] = False,
    trimap: Annotated[
        int,
        typer.Option(
            help="Score only the pixels up to this many from a border of the label; 0 scores all."
        ),
    ] = 0,
    absent: Annotated[
        Literal["skip", "zero"],
        typer.Option(
            help="How classes that occur nowhere count in the mean: not at all (skip) or as 0."
        ),
    ] = "skip",
    engine: options.EngineOption = "auto",
    device: options.DeviceOption = "cpu",
    threads: options.ThreadsOption = 0,
    instances: options.InstancesOption = 1,
    cache: options.CacheOption = None,
    vdsp_params: options.VdspOption = None,
    value_range: options.RangeOption = None,
    layout: options.LayoutOption = None,
    output_name: options.OutputNameOption = None,
    threshold: options.ThresholdOption = None,
    precision: options.PrecisionOption = None,
    reference: Annotated[
        str | None, typer.Option(help="Fail if the model agrees too little with this one.")
    ] = None,
    as_json: json_output.JsonOption = False,
    json_file: json_output.JsonFileOption = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a report as an HTML page into this folder.")
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write the accuracy into the model's metadata.")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Fail if the model was calibrated on some of the images."),
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start again instead of resuming an interrupted run.")
    ] = False,
    comparing: Annotated[
        bool, typer.Option("--compare", help="Print one table of results written by --json-file.")
    ] = False,
) -> None:
    """Measure accuracy under a named protocol, and fail if the model is broken.

    Example: atrous eval --data voc:VOCdevkit:val --protocol squash-513 --json-file a.json

    The same command resumes an interrupted run. --compare a.json b.json prints one table, and
    refuses results of different protocols.
    """
    if comparing:
        options.refuse_others(
            context, {"comparing", "compare"}, "--compare A.json B.json prints a table of results"
        )
        _compare(compare or [])
        return
    json_output.refuse_file(compare or (), as_json)
    if compare:
        raise ConfigError(f"{compare[0]}: results are given with --compare")
    if record and model is None:
        raise ConfigError("--record changes a model file: name it with -m")
    if data is None:
        raise ConfigError("--data is missing: say what to evaluate on, as voc:VOCdevkit:val")

    from atrous.engines import find_model
    from atrous.evaluation import result as results
    from atrous.evaluation.evaluate import score
    from atrous.evaluation.report import PAGE

    if record:
        _recorded(file := find_model(model))
        check_writable(file)
    if json_file:
        check_writable(json_file)
    network = options.ModelOptions(
        model, engine, device, threads, instances, cache, None, vdsp_params, None, value_range,
        layout, output_name, threshold, precision,
    )  # fmt: skip
    with terminal.progress(terminal.console()) as progress:
        task = progress.add_task("mIoU", total=None)
        found = score(
            network.open,
            data,
            _named(protocol, tile, overlap),
            scales=_numbers(scales),
            flip=flip,
            trimap=trimap,
            name=str(model),
            options=network.engine_options,
            absent=absent,
            reference=reference,
            restart=restart,
            report=report,
            progress=lambda done, total, miou: progress.update(
                task, completed=done, total=total, description=f"mIoU {miou:7.2%}"
            ),
        )
    with json_output.only_json(as_json) as emit:
        with ExitStack() as last:  # what cannot be kept can still be read
            if json_file:
                last.callback(results.save, found, json_file)
            _print(found)
            emit(found.model_dump_json(indent=2))
        if report:
            terminal.say(f"report: {report / PAGE}")
        problems = _problems(found, strict)
        for problem in problems:
            print(f"health: {terminal.with_flags(problem)}", file=sys.stderr)
        if problems:
            sys.exit(1)
        if record:
            _record(find_model(model), found)


def _named(name: str | None, tile: int | None, overlap: float | None) -> str | None:
    """The protocol that the options name, `None` where they name none."""
    from atrous.jobs.large.tiles import OVERLAP

    if tile is None and overlap is not None:
        raise ConfigError("--overlap belongs to --tile")
    if tile is not None:
        if name is not None:
            raise ConfigError(f"--tile is a protocol of its own, and {name} another")
        name = f"tile-{tile}-{OVERLAP if overlap is None else overlap:g}"
    return name


def _problems(found: Evaluation, strict: bool) -> list[str]:
    """What lets an evaluation fail."""
    problems = [*found.health, *found.failed]
    if found.stamp.calibrated_on:
        message = (
            f"{found.stamp.calibrated_on} of the {found.stamp.images} images were calibrated on: "
            "this accuracy flatters the model"
        )
        if strict:
            return [*problems, message]
        terminal.note(message)
    return problems


def _print(found: Evaluation) -> None:
    from rich.table import Table

    stamp = found.stamp
    table = Table("class", "IoU %", box=None)
    for name, value in found.iou.items():
        table.add_row(name, "does not occur" if value is None else f"{value:.2f}")
    console = terminal.console(output=True)
    console.print(table)
    scored = f"{stamp.images - len(found.failed)} of " * bool(found.failed)
    terminal.say(
        f"{stamp.model} ({stamp.precision}, {stamp.engine}), {scored}{stamp.images} images, "
        f"{stamp.data}"
    )
    print(
        f"protocol {stamp.protocol}, {stamp.resize}, ignore {stamp.ignore_index}, "
        f"absent classes {stamp.absent}"
    )
    print(
        f"mIoU {found.mean_iou:.3f} %, pixel accuracy {found.pixel_accuracy:.3f} %, mean accuracy "
        f"{found.mean_accuracy:.3f} %, frequency-weighted IoU {found.frequency_weighted_iou:.3f} %"
    )


def _compare(paths: list[Path]) -> None:
    from rich.table import Table

    from atrous.evaluation import result as results

    if not paths:
        raise ConfigError("--compare takes results written by --json-file: a.json b.json")
    loaded = [(str(path), results.load(path)) for path in paths]
    results.check_comparable(loaded)
    shared = loaded[0][1].stamp
    console = terminal.console(output=True, width=120)  # a table cut short compares nothing
    console.print(
        f"{shared.data}, {shared.images} images, protocol {shared.protocol}, absent classes "
        f"{shared.absent}",
        highlight=False,
    )
    columns = ("result", "model", "precision", "engine", "mIoU %", "difference", "pixel acc %")
    table = Table(*columns, box=None)
    first = loaded[0][1].mean_iou
    for path, one in loaded:
        table.add_row(
            Path(path).name,
            one.stamp.model,
            one.stamp.precision,
            one.stamp.engine,
            f"{one.mean_iou:.3f}",
            f"{one.mean_iou - first:+.3f}",
            f"{one.pixel_accuracy:.3f}",
        )
    console.print(table)


def _record(path: Path, found: Evaluation) -> None:
    from atrous import artifact
    from atrous.evaluation import result as results

    model, known = _recorded(path)
    measured = results.accuracy(found)
    kept = [old for old in known.accuracies if _key(old) != _key(measured)]
    updated = known.model_copy(update={"accuracies": (*kept, measured)})
    artifact.save(model, updated, path)
    terminal.say(f"recorded in {path}")


def _recorded(path: Path) -> tuple[ModelProto, Metadata]:
    """A model into which an accuracy can be written, and what it says of itself.

    Raises:
        ConfigError: it cannot.
    """
    from atrous import artifact

    model = artifact.load(path) if path.suffix == ".onnx" else None
    known = artifact.metadata_of(model, path) if model else None
    if model is None or known is None:
        raise ConfigError(f"{path}: --record needs an artefact of atrous export or compile")
    return model, known


def _key(accuracy: object) -> tuple[object, ...]:
    fields = ("metric", "protocol", "data", "images", "note")
    return tuple(getattr(accuracy, name) for name in fields)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--scales: expected numbers as 0.5,1,1.5, got {text!r}") from None
