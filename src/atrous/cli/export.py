"""`atrous export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atrous.cli import options, terminal

if TYPE_CHECKING:
    from atrous.exporters.onnx import FreeAxis


def export(
    checkpoint: Annotated[
        str, typer.Argument(help="A .pth or .safetensors file, or a zoo name whose file you have.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to make.")],
    file_format: Annotated[
        Literal["onnx", "torchscript"], typer.Option("--format", help="What to write.")
    ] = "onnx",
    size: options.SizeOption = None,
    dynamic: Annotated[
        str, typer.Option(help="Axes left free: batch, or batch,height,width (ONNX).")
    ] = "",
    opset: Annotated[int, typer.Option(help="ONNX operator set, 11 or newer.")] = 18,
    precision: Annotated[
        Literal["fp32", "fp16"],
        typer.Option(help="fp16 stores the weights at half the size; arithmetic stays fp32."),
    ] = "fp32",
    output_stride: Annotated[
        int | None, typer.Option(help="8 or 16. Default: what the file says, else 16.")
    ] = None,
    labels: options.LabelsOption = None,
    name: Annotated[str | None, typer.Option(help="What the model calls itself.")] = None,
    licence: Annotated[str, typer.Option(help="Of the weights.")] = "",
) -> None:
    """Export a checkpoint to ONNX or TorchScript, and compare it with PyTorch.

    Example: atrous export best_deeplabv3_resnet50_voc_os16.pth -o deeplab.onnx

    The architecture and the number of classes are read off the weights. The file is written only
    if its numbers agree with PyTorch's on a photograph; by how much they differ is printed.
    """
    from atrous import verbs

    free: list[FreeAxis] = [a for a in dynamic.split(",") if a]  # type: ignore[misc]
    made = verbs.export(
        checkpoint,
        output,
        file_format=file_format,
        size=options.parse_size(size),
        dynamic=free,
        opset=opset,
        precision=precision,
        output_stride=output_stride,
        labels=options.parse_labels(labels),
        name=name,
        licence=licence,
    )
    found = made.metadata
    height, width = found.preprocess.size
    terminal.say(
        f"{output}: {found.variant}, {found.labels.num_classes} classes ({found.labels.name}), "
        f"{height}×{width}, output stride {made.output_stride}, {precision}, "
        f"{output.stat().st_size / 1e6:.1f} MB"
    )
    print(f"compared with PyTorch: {made.difference}")
