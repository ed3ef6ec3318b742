"""`atrous export`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atrous.cli import options, terminal
from atrous.errors import ConfigError
from atrous.files import check_writable

if TYPE_CHECKING:
    from atrous.exporters.onnx import FreeAxis
    from atrous.exporters.standalone import Standalone, Wanted

OPSET = 18
"""Of checkpoints, where nothing else is asked for."""


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="A .pth or .safetensors file, or a name of atrous models whose file is here; "
            "with --standalone or --triton any model that -m of other verbs takes."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The file to write.")
    ] = None,
    file_format: Annotated[
        Literal["onnx", "torchscript"], typer.Option("--format", help="The format to write.")
    ] = "onnx",
    standalone: Annotated[
        bool,
        typer.Option(
            help="Write one graph with pre- and postprocessing inside: uint8 (N, H, W, 3) RGB "
            "in, uint8 (N, H, W) classes out."
        ),
    ] = False,
    any_size: Annotated[
        bool,
        typer.Option(
            help="With --standalone: take pictures of any size and resize them in the graph."
        ),
    ] = False,
    scores: Annotated[
        bool,
        typer.Option(help="With --standalone: add float32 (N, C, H, W) scores as a second output."),
    ] = False,
    triton: Annotated[
        Path | None,
        typer.Option(
            metavar="REPOSITORY",
            help="Write the standalone graph into this model repository of Triton, as --name.",
        ),
    ] = None,
    instances: Annotated[
        int,
        typer.Option(
            min=1, help="With --triton: the number of instances that run at the same time."
        ),
    ] = 1,
    size: options.SizeOption = None,
    dynamic: Annotated[
        str, typer.Option(help="The axes that stay dynamic in ONNX: batch, or batch,height,width.")
    ] = "",
    opset: Annotated[
        int | None,
        typer.Option(
            help="The ONNX operator set, 11 or newer. Default: 18, or that of the ONNX file.",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16"],
        typer.Option(help="fp16 stores the weights at half the size; arithmetic stays fp32."),
    ] = "fp32",
    output_stride: Annotated[
        int | None,
        typer.Option(help="The output stride, 8 or 16. Default: as the file records it, else 16."),
    ] = None,
    labels: options.LabelsOption = None,
    vdsp_params: options.VdspOption = None,
    name: Annotated[str | None, typer.Option(help="The name that is stored in the model.")] = None,
    licence: Annotated[
        str, typer.Option(help="The licence of the weights, which is stored in the model.")
    ] = "",
) -> None:
    """Export a checkpoint to ONNX or TorchScript, and compare it with PyTorch.

    Example: atrous export best_deeplabv3_resnet50_voc_os16.pth -o deeplab.onnx

    The architecture and the number of classes are inferred from the weights. The file is written
    only if its scores agree with PyTorch's on a photograph; the largest difference is printed.

    Example: atrous export default --standalone --any-size -o everything.onnx

    A standalone graph resizes, normalises, upsamples and takes the argmax by itself, in standard
    operators, so that any ONNX runtime computes the class map that Atrous computes. The two are
    compared on photographs before the file is written.
    """
    from atrous import engines

    whole = standalone or triton is not None
    _check(
        whole,
        output,
        triton,
        any_size=any_size,
        scores=scores,
        dynamic=dynamic,
        instances=instances,
    )
    if file_format == "torchscript" and (whole or dynamic or opset or precision != "fp32"):
        raise ConfigError(
            "--standalone, --dynamic, --opset and --precision belong to --format onnx"
        )
    if vdsp_params is not None and not whole:
        raise ConfigError("--vdsp_params belongs to --standalone; a checkpoint keeps its own")
    told = Told(size, dynamic, opset, precision, output_stride, labels, name, licence)
    if not whole:
        assert output is not None
        _checkpoint(model, output, file_format, told)
        return
    if output is not None:
        check_writable(output)
    path = engines.find_model(model)
    is_onnx = path.suffix.lower() == ".onnx"
    from atrous.exporters.standalone import Wanted

    wanted = Wanted(any_size, scores, precision == "fp16", opset)
    with tempfile.TemporaryDirectory(prefix="atrous-") as folder:
        source = path
        if not is_onnx:
            source = Path(folder) / f"{path.stem}.onnx"
            _checkpoint(model, source, "onnx", told, quiet=True)
        made = standalone_of(source, told, vdsp_params, wanted)
    _write(made, output, triton, name or made.metadata.name, instances)


@dataclass(frozen=True, slots=True)
class Told:
    """What the command says of a model."""

    size: str | None
    dynamic: str
    opset: int | None
    precision: Literal["fp32", "fp16"]
    output_stride: int | None
    labels: str | None
    name: str | None
    licence: str


def _check(
    whole: bool,
    output: Path | None,
    triton: Path | None,
    *,
    any_size: bool,
    scores: bool,
    dynamic: str,
    instances: int,
) -> None:
    if not whole and (any_size or scores):
        raise ConfigError("--any-size and --scores belong to --standalone")
    if whole and dynamic:
        raise ConfigError(
            "--dynamic belongs to a bare network; a standalone graph takes any number of pictures, "
            "and with --any-size any size"
        )
    if triton is None and instances != 1:
        raise ConfigError("--instances belongs to --triton REPOSITORY")
    if (output is None) == (triton is None):
        raise ConfigError("expected -o FILE, or --triton REPOSITORY")


def _checkpoint(
    path: str,
    output: Path,
    file_format: Literal["onnx", "torchscript"],
    told: Told,
    *,
    quiet: bool = False,
) -> None:
    """Export a checkpoint, and say how far it is from PyTorch."""
    from atrous import verbs

    axes = (axis.strip() for axis in told.dynamic.split(","))
    free: list[FreeAxis] = [axis for axis in axes if axis]  # type: ignore[misc]
    made = verbs.export(
        path,
        output,
        file_format=file_format,
        size=options.parse_size(told.size),
        dynamic=free,
        opset=OPSET if told.opset is None else told.opset,
        precision=told.precision,
        output_stride=told.output_stride,
        labels=options.parse_labels(told.labels),
        name=told.name,
        licence=told.licence,
    )
    if not quiet:
        found = made.metadata
        height, width = found.preprocess.size
        terminal.say(
            f"{output}: {found.variant}, {found.labels.num_classes} classes "
            f"({found.labels.name}), {height}×{width}, output stride {made.output_stride}, "
            f"{told.precision}, {output.stat().st_size / 1e6:.1f} MB"
        )
    print(f"compared with PyTorch: {made.difference}")


def standalone_of(path: Path, told: Told, vdsp_params: Path | None, wanted: Wanted) -> Standalone:
    """A model as one graph, compared with Atrous."""
    from atrous.engines.onnx_model import OnnxModel
    from atrous.exporters.standalone import standalone, views
    from atrous.runtime.predictor import Predictor
    from atrous.vastai import vdsp

    model = OnnxModel.read(path)
    size = options.parse_size(told.size)
    given = None if vdsp_params is None else partial(vdsp.read, vdsp_params)
    labels = options.parse_labels(told.labels)
    with Predictor.open(
        model, engine="onnxruntime", preprocess=given, labels=labels, size=size
    ) as predictor:
        made = standalone(model, predictor, views(), wanted)
    update = {"name": told.name, "licence": told.licence}
    said = {key: value for key, value in update.items() if value}
    return replace(made, metadata=made.metadata.model_copy(update=said))


def _write(
    made: Standalone, output: Path | None, triton: Path | None, name: str, instances: int
) -> None:
    from atrous.exporters.standalone import save

    for note in made.notes:
        terminal.note(note)
    if triton is not None:
        from atrous.exporters.triton import write

        file = write(made, triton, name, instances=instances)
    else:
        assert output is not None
        save(made, output)
        file = output
    labels = made.metadata.labels
    terminal.say(
        f"{file}: {made.input}, {labels.num_classes} classes ({labels.name}), "
        f"{made.metadata.precision}, opset {made.opset}"
    )
    print(f"compared with Atrous: {made}")
