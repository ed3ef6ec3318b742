"""Options that several verbs share, each written once, and what their values mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atrous.errors import ConfigError

if TYPE_CHECKING:
    from atrous.engines.base import Options
    from atrous.labels import LabelSet
    from atrous.runtime.predictor import Predictor

_MOST_INSTANCES = 4

Device = Literal["cpu", "cuda", "tensorrt"]

ModelOption = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help="ONNX file, folder with mod.onnx, its prefix, checkpoint or zoo name. "
        "Default: the model in the package.",
    ),
]
EngineOption = Annotated[
    Literal["auto", "onnxruntime", "openvino", "torch"],
    typer.Option(
        help="What runs the network. auto: torch for checkpoints, for ONNX files openvino if it is "
        "installed (CPU), else onnxruntime."
    ),
]
DeviceOption = Annotated[Device, typer.Option(help="Where it runs.")]
ThreadsOption = Annotated[int, typer.Option(help="CPU threads, 0 for one per core.", min=0)]
InstancesOption = Annotated[
    int,
    typer.Option(
        "-i",
        "--instances",
        help="Images in the network at once, sharing the threads. 0: one per core up to 4 for ONNX "
        "files on the CPU, else 1.",
        min=0,
    ),
]
BatchOption = Annotated[
    int | None,
    typer.Option(
        "-b",
        "--batch",
        help="Images that the network sees in one call. Default: its own number, 1 if it is free.",
        min=1,
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Keep what an engine builds from the model here, to open faster (openvino, tensorrt).",
    ),
]
LabelsOption = Annotated[
    str | None, typer.Option(help="What the classes are called: voc or cityscapes.")
]
VdspOption = Annotated[
    Path | None,
    typer.Option(
        "--vdsp-params",
        "--vdsp_params",
        help="Preprocessing from a vdsp JSON file, instead of the model's own.",
    ),
]
SizeOption = Annotated[
    str | None, typer.Option(help="Network input as N or HEIGHT,WIDTH, for models of free size.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
TileOption = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS",
        help="See images of any size in tiles of this side, as large as they are.",
        min=1,
        show_default=False,
    ),
]
OverlapOption = Annotated[
    float | None,
    typer.Option(help="Share of a tile that it has in common with the next one. Default: 0.25."),
]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """`"513"` or `"513,769"` as height and width.

    Raises:
        ConfigError: it is neither.
    """
    if text is None:
        return None
    parts = text.replace("x", ",").split(",")
    if len(parts) > 2 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(f"--size: expected N or HEIGHT,WIDTH in pixels, got {text!r}")
    return int(parts[0]), int(parts[-1])


def parse_labels(name: str | None) -> LabelSet | None:
    """The label set called `name`.

    Raises:
        ConfigError: there is none.
    """
    from atrous.labels import LABEL_SETS

    if name is not None and name not in LABEL_SETS:
        raise ConfigError(f"--labels: expected {' or '.join(LABEL_SETS)}, got {name!r}")
    return LABEL_SETS[name] if name else None


def engine_options(
    model: str | None, device: Device, threads: int, instances: int, cache: Path | None
) -> Options:
    """What an engine is opened with, the number of instances chosen if it is 0.

    Several instances on the CPU keep its cores busy where one would wait for its slowest thread.
    PyTorch has no use for it, nor has a GPU, and every instance takes memory.

    Raises:
        AtrousError: there is no such model, or an option is out of range.
    """
    from atrous.engines import find_model
    from atrous.engines.base import Options

    options = Options(device, threads, cache=cache)
    if not instances:
        several = device == "cpu" and find_model(model).suffix == ".onnx"
        instances = min(_MOST_INSTANCES, options.cores) if several else 1
    return replace(options, streams=instances)


def open_predictor(
    model: str | None,
    *,
    engine: str,
    device: Device,
    threads: int,
    instances: int,
    cache: Path | None,
    labels: str | None,
    vdsp_params: Path | None,
    size: str | None,
) -> Predictor:
    """Open the network that the options of this module name.

    Raises:
        AtrousError: it cannot be opened, or does not fit the options.
    """
    from atrous.runtime.predictor import Predictor
    from atrous.vastai import vdsp

    wanted = parse_size(size)
    return Predictor.open(
        model,
        engine=engine,
        options=engine_options(model, device, threads, instances, cache),
        preprocess=vdsp.read(vdsp_params, wanted) if vdsp_params else None,
        labels=parse_labels(labels),
        size=wanted,
    )
