"""Bring a foreign ONNX graph to a form with few surprises: a recent operator set, fixed shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, version_converter

from atrous.engines.session import first_line, run_once
from atrous.errors import ArtifactError, EngineError
from atrous.image import photograph
from atrous.preprocess import Preprocess

OLDEST = 13
"""The first operator set whose attributes the rewrites know: axes and the like became inputs."""

TOLERANCE = 1e-5
"""Largest difference that an upgrade may make, as a share of the logits' range."""

Shape = tuple[int, int, int, int]


def version(model: onnx.ModelProto) -> int:
    """The operator set of the default domain, 1 if the file names none."""
    found = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return max(found, default=1)


def upgraded(model: onnx.ModelProto, path: Path, shape: Shape) -> tuple[onnx.ModelProto, list[str]]:
    """Bring a model to operator set `OLDEST`, if it is older.

    Args:
        model: one image input, one output; left as it is.
        path: named in errors and notes.
        shape: of the input, to compare at.

    Returns:
        The model, and one note if it was changed.

    Raises:
        ArtifactError: it cannot be converted, or computes something else when converted.
    """
    before = version(model)
    if before >= OLDEST:
        return model, []
    advice = f"export it with opset_version={OLDEST} or newer"
    try:
        converted = version_converter.convert_version(model, OLDEST)
    except Exception as error:  # C++ assertions and errors of several kinds
        raise ArtifactError(
            f"{path}: operator set {before} could not be brought to {OLDEST} "
            f"({first_line(error)}); {advice}"
        ) from None
    if before < 11:
        _keep_coordinates(converted)
    # The converter drops neither weights nor names, but may drop what is beside the graph.
    del converted.metadata_props[:]
    converted.metadata_props.extend(model.metadata_props)
    difference = _difference(model, converted, path, shape)
    if not difference <= TOLERANCE:
        raise ArtifactError(
            f"{path}: brought from operator set {before} to {OLDEST} it computes something else "
            f"(largest difference {difference:.2g} of the logits' range); {advice}"
        )
    note = (
        f"{path}: brought from operator set {before} to {OLDEST}; largest difference "
        f"{difference:.1g} of the logits' range"
    )
    return converted, [note]


def _keep_coordinates(model: onnx.ModelProto) -> None:
    """Resizes of before operator set 11 map pixels asymmetrically, which later had to be said.

    onnx's converter leaves it unsaid, and the default has become `half_pixel`. It shows only
    where values are interpolated.
    """
    for node in model.graph.node:
        attributes = {entry.name: entry for entry in node.attribute}
        mode = attributes["mode"].s if "mode" in attributes else b"nearest"
        rule = "coordinate_transformation_mode"
        if node.op_type == "Resize" and mode != b"nearest" and rule not in attributes:
            node.attribute.append(helper.make_attribute(rule, "asymmetric"))


def _difference(before: onnx.ModelProto, after: onnx.ModelProto, path: Path, shape: Shape) -> float:
    """Largest difference on a photograph, as a share of the range of the logits."""
    image = Preprocess(size=shape[2:])(photograph())
    batch = np.repeat(image[None], shape[0], axis=0)
    expected, actual = (run(_shaped(model, shape), path, batch) for model in (before, after))
    if expected.shape != actual.shape:
        return float("inf")
    largest = float(np.abs(expected - actual).max(initial=0))
    return largest / (float(np.ptp(expected)) or 1.0) if largest else 0.0


def fixed(model: onnx.ModelProto, path: Path, shape: Shape) -> onnx.ModelProto:
    """Fix the shape of the input and infer every other.

    Args:
        model: one image input, one output; left as it is.
        path: named in errors.
        shape: of the input.

    Raises:
        ArtifactError: the graph does not work at that shape.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(
            _shaped(model, shape), check_type=True, strict_mode=True, data_prop=True
        )
        onnx.checker.check_model(inferred)
    except Exception as error:  # InferenceError, ValidationError and what C++ throws
        raise ArtifactError(
            f"{path}: does not work with an input of {'×'.join(map(str, shape))}: "
            f"{first_line(error)}"
        ) from None
    output = inferred.graph.output[0].type.tensor_type
    known = output.shape.dim and all(dim.dim_value > 0 for dim in output.shape.dim)
    if not known or not _has_shape(model, shape):
        # Inference does not follow operators of other domains, and does not see that a graph works
        # at one size alone, as some do that say they take any.
        sizes = run(inferred, path, np.zeros(shape, np.float32)).shape
        output.ClearField("shape")
        for size in sizes:
            output.shape.dim.add().dim_value = size
    return inferred


def _has_shape(model: onnx.ModelProto, shape: Shape) -> bool:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    return [dim.dim_value for dim in dims] == list(shape)


def _shaped(model: onnx.ModelProto, shape: Shape) -> onnx.ModelProto:
    """A copy with that input shape, and without the shapes that were written down for another."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    image = copied.graph.input[0].type.tensor_type
    if not _has_shape(model, shape):
        del copied.graph.value_info[:]
        for dim in copied.graph.output[0].type.tensor_type.shape.dim:  # how many there are holds
            dim.Clear()
        image.ClearField("shape")
        for size in shape:
            image.shape.dim.add().dim_value = size
    return copied


def run(model: onnx.ModelProto, path: Path, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """The only output of a model on ONNX Runtime, on the CPU.

    Args:
        model: one input, one output.
        path: named in errors.
        batch: `(N, 3, H, W)` float32.

    Raises:
        ArtifactError: ONNX Runtime refuses the model or fails.
    """
    sizes = "×".join(map(str, batch.shape))
    try:
        return run_once(model, f"{path}, with an input of {sizes}", batch)
    except EngineError as error:
        raise ArtifactError(str(error)) from None
