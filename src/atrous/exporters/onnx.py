"""PyTorch → ONNX, finished only when ONNX Runtime gives PyTorch's numbers."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from atrous import artifact
from atrous.agreement import TOLERANCE, Agreement, Answer, compare, pairs_of
from atrous.artifact import Metadata
from atrous.engines.session import open_session
from atrous.errors import ArtifactError, ConfigError
from atrous.exporters.half import store_half
from atrous.models import DeepLab

FreeAxis = Literal["batch", "height", "width"]

INPUT, OUTPUT = "input", "output"
DEFAULT_OPSET = 18
OPSETS = range(11, 24)

_AXES: dict[FreeAxis, int] = {"batch": 0, "height": 2, "width": 3}


def export_onnx(
    network: DeepLab,
    path: Path,
    *,
    metadata: Metadata,
    pixels: NDArray[np.uint8],
    dynamic: Sequence[FreeAxis] = (),
    opset: int = DEFAULT_OPSET,
) -> Agreement:
    """Write a network as an artefact with input `input` and output `output`.

    Args:
        network: filled, in evaluation mode, on the CPU.
        path: the `.onnx` file to make, whole or not at all.
        metadata: its `preprocess.size` is the size of the input, its `precision` how the weights
            are stored (`fp32` or `fp16`).
        pixels: `(H, W, 3)` uint8 RGB photograph to compare on.
        dynamic: axes left free: `batch`, `height`, `width`.
        opset: version of the ONNX operators.

    Returns:
        How far it is from PyTorch over every shape tried: the fixed size, and where axes
        are free also a batch of two and another size.

    Raises:
        ConfigError: an option is out of range.
        ArtifactError: the export disagrees with PyTorch; nothing is written.
    """
    if opset not in OPSETS:
        raise ConfigError(f"opset: expected {OPSETS[0]}..{OPSETS[-1]}, got {opset}")
    if unknown := set(dynamic) - set(get_args(FreeAxis)):
        raise ConfigError(f"dynamic: expected {', '.join(_AXES)}, got {', '.join(sorted(unknown))}")
    model = _traced(network, metadata.preprocess.size, dynamic, opset)
    if metadata.precision == "fp16":
        model = store_half(model)
    difference = _check(network, model, metadata, pixels, dynamic)
    difference.check(f"{path}: the ONNX export", TOLERANCE[metadata.precision])
    artifact.save(model, metadata, path)
    return difference


def _traced(
    network: DeepLab, size: tuple[int, int], dynamic: Sequence[FreeAxis], opset: int
) -> onnx.ModelProto:
    # A free batch must not be traced with 1, which exporters take for a constant.
    example = torch.zeros(2 if "batch" in dynamic else 1, 3, *size)
    options: dict[str, Any]
    if opset >= 18:
        free = {_AXES[name]: torch.export.Dim.DYNAMIC for name in dynamic}
        options = {"dynamo": True, "dynamic_shapes": (free,) if free else None, "verbose": False}
        options |= {"external_data": False}
    else:
        # The newer exporter keeps silently to 18 where an older set is asked for.
        names = {_AXES[name]: name for name in dynamic}
        options = {"dynamo": False, "dynamic_axes": {INPUT: names, OUTPUT: names} if names else {}}
    # It warns of torchvision's operators, which no network here uses.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside torch, and unfoldable constants
        file = Path(folder) / "model.onnx"
        torch.onnx.export(
            network,
            (example,),
            str(file),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=opset,
            **options,
        )
        model = artifact.load(file)
    written = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if written != opset:
        raise ArtifactError(f"asked for opset {opset}, this torch wrote opset {written}")
    _forget_sources(model)
    _declare_output(model, network.num_classes, size, dynamic)
    return model


def _declare_output(
    model: onnx.ModelProto, classes: int, size: tuple[int, int], dynamic: Sequence[FreeAxis]
) -> None:
    """Write down the shape of the output, which the older exporter leaves open."""
    shape: list[int | str] = [1, classes, *size]
    for name in dynamic:
        shape[_AXES[name]] = name
    value = onnx.helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, shape)
    model.graph.output[0].CopyFrom(value)
    for name in dynamic:
        model.graph.input[0].type.tensor_type.shape.dim[_AXES[name]].dim_param = name


def _forget_sources(model: onnx.ModelProto) -> None:
    """Drop what exporters note of the machine: stack traces and file names."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    model.producer_name = "atrous"
    for entry in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        entry.doc_string = ""
        del entry.metadata_props[:]


def _check(
    network: DeepLab,
    model: onnx.ModelProto,
    metadata: Metadata,
    pixels: NDArray[np.uint8],
    dynamic: Sequence[FreeAxis],
) -> Agreement:
    height, width = metadata.preprocess.size
    taller = height + 65 if "height" in dynamic else height
    wider = width + 33 if "width" in dynamic else width
    sizes = [(1, height, width)]
    if dynamic:
        sizes.append((2 if "batch" in dynamic else 1, taller, wider))
    session = open_session(model, "the ONNX export")
    pairs: list[tuple[Answer, Answer]] = []
    for count, tall, wide in sizes:
        image = metadata.preprocess.with_size(tall, wide)(pixels)
        batch = np.stack([image, image[:, ::-1, ::-1]][:count])
        with torch.inference_mode():
            expected = network(torch.from_numpy(batch)).numpy()
        [actual] = session.run([OUTPUT], {INPUT: batch})
        pairs += pairs_of(expected, np.asarray(actual))
    return compare(pairs)
