"""`atrous export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from atrous.cli import options, terminal


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
    from atrous import engines
    from atrous.errors import ConfigError, EngineError

    if file_format == "torchscript" and (dynamic or opset != 18 or precision != "fp32"):
        raise ConfigError("--dynamic, --opset and --precision belong to --format onnx")
    path = engines.find_model(checkpoint)
    if path.suffix.lower() == ".onnx":
        raise ConfigError(f"{path}: is an ONNX file already; export takes a checkpoint")
    if reason := engines.missing("torch"):
        raise EngineError(reason)

    from atrous import models
    from atrous.engines.torch import describe
    from atrous.image import photograph

    network = models.load(path, output_stride=output_stride)
    metadata = describe(network, path, options.parse_labels(labels))
    preprocess = metadata.preprocess
    if size is not None:
        preprocess = preprocess.with_size(*(options.parse_size(size) or preprocess.size))
    metadata = metadata.model_copy(
        update={
            "name": name or metadata.name,
            "licence": licence,
            "precision": precision,
            "preprocess": preprocess,
        }
    )
    if file_format == "onnx":
        from atrous.exporters.onnx import FreeAxis, export_onnx

        free: list[FreeAxis] = [a for a in dynamic.split(",") if a]  # type: ignore[misc]
        difference = export_onnx(
            network,
            output,
            metadata=metadata,
            pixels=photograph(),
            dynamic=free,
            opset=opset,
        )
    else:
        from atrous.exporters.torchscript import export_torchscript

        difference = export_torchscript(network, output, metadata=metadata, pixels=photograph())
    height, width = preprocess.size
    terminal.say(
        f"{output}: {metadata.variant}, {network.num_classes} classes ({metadata.labels.name}), "
        f"{height}×{width}, output stride {network.output_stride}, {precision}, "
        f"{output.stat().st_size / 1e6:.1f} MB"
    )
    print(f"compared with PyTorch: {difference}")
