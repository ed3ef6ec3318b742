"""Options that several verbs share, each written once, and what their values mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atrous.errors import ConfigError

if TYPE_CHECKING:
    from atrous.labels import LabelSet

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
