"""Run somebody else's network where its graph hides what it makes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from atrous.engines.image_input import ImageInput
from atrous.engines.onnx_graph import Dims, copied, dims_of
from atrous.engines.onnx_model import OnnxModel
from atrous.engines.session import first_line, open_session
from atrous.engines.tried import tried
from atrous.errors import ArtifactError, EngineError

_SIZES = (((256, 384), (320, 512)), ((257, 385), (321, 513)), ((512, 512), (256, 256)))
"""Pairs of sizes to try where the size is free: what both have in common is fixed."""


def shape_of(
    model: OnnxModel, image: ImageInput, tensor: str, known: Dims | None
) -> tuple[Dims, int]:
    """The shape of a tensor, `None` for sizes that follow those of the picture, and its type.

    Args:
        model: that makes it.
        image: its input.
        tensor: its name.
        known: of the shape, where the graph says anything.

    Raises:
        ArtifactError: the network runs at no size that was tried.
    """

    def run() -> dict[str, list[int | None]]:
        dims, kind = _shape_of(model, image, tensor)
        return {"dims": list(dims), "kind": [kind]}

    found = tried(["shape", model.identity, tensor, ort.__version__], run, "dims", "kind")
    dims, kind = tuple(found["dims"]), found["kind"][0]
    if known is not None and len(known) == len(dims):
        dims = tuple(a if a is not None else b for a, b in zip(known, dims, strict=True))
    return dims, kind or TensorProto.FLOAT


def whole_numbers(model: OnnxModel, image: ImageInput, tensor: str) -> list[int]:
    """The numbers that a tensor of class ids holds, for noise and for plain pictures, from the
    lowest to the highest.

    Raises:
        ArtifactError: the network runs at no size that was tried.
    """

    def run() -> dict[str, list[int | None]]:
        session = _session(model, tensor)
        random = np.random.default_rng(0)
        for sizes in _sizes_of(image):
            try:
                values = []
                for scale in (0.0, 1.0, 100.0):
                    noise = random.normal(scale, scale + 1, (3, *sizes[0]))
                    values.append(np.unique(_run(session, image, noise)))
                return {"numbers": np.unique(np.concatenate(values)).astype(int).tolist()}
            except EngineError as error:
                reason = error
        raise ArtifactError(
            f"{model.name}: how many classes its ids name cannot be seen, as it does not run: "
            f"{reason}; `labels` says it"
        )

    made = tried(["numbers", model.identity, tensor, ort.__version__], run, "numbers")
    return [number or 0 for number in made["numbers"]]


def plane_of(model: OnnxModel, image: ImageInput, tensor: str, rows: int) -> tuple[Dims, Dims]:
    """Height and width of a tensor at some size of the picture, and that size.

    Args:
        model: that makes it.
        image: its input.
        tensor: its name.
        rows: their axis.

    Raises:
        ArtifactError: the network runs at no size that was tried.
    """

    def run() -> dict[str, list[int | None]]:
        session, reason = _session(model, tensor), ""
        for size, *_ in _sizes_of(image):
            try:
                shape = _run(session, image, np.zeros((3, *size))).shape
            except EngineError as error:
                reason = str(error)
                continue
            return {"plane": [shape[rows], shape[rows + 1]], "size": [*size]}
        raise ArtifactError(f"{model.name}: does not run: {reason}")

    found = tried(["plane", model.identity, tensor, rows, ort.__version__], run, "plane", "size")
    return tuple(found["plane"]), tuple(found["size"])


def _shape_of(model: OnnxModel, image: ImageInput, tensor: str) -> tuple[Dims, int]:
    session, reason = _session(model, tensor), ""
    for sizes in _sizes_of(image):
        try:
            made = [_run(session, image, np.zeros((3, *size))) for size in sizes]
        except EngineError as error:
            reason = str(error)
            continue
        shapes = [one.shape for one in made]
        pairs = zip(shapes[0], shapes[-1], strict=True)
        dims = tuple(a if a == b else None for a, b in pairs)
        return dims, helper.np_dtype_to_tensor_dtype(made[0].dtype)
    raise ArtifactError(f"{model.name}: does not say what it makes, and does not run: {reason}")


def _sizes_of(image: ImageInput) -> Sequence[Sequence[tuple[int, int]]]:
    height, width = image.size
    if height is not None and width is not None:
        return [[(height, width)]]
    return [[(height or h, width or w) for h, w in sizes] for sizes in _SIZES]


def _session(model: OnnxModel, tensor: str) -> ort.InferenceSession:
    shown = copied(model.proto)
    if tensor not in {output.name for output in shown.graph.output}:
        shown.graph.output.append(helper.make_empty_tensor_value_info(tensor))
    kept = [output for output in shown.graph.output if output.name == tensor]
    del shown.graph.output[:]
    shown.graph.output.extend(kept)
    try:
        return open_session(shown, model.name, optimised="basic")
    except EngineError as error:
        raise ArtifactError(str(error)) from None


def _run(
    session: ort.InferenceSession, image: ImageInput, picture: NDArray[np.float64]
) -> NDArray[np.generic]:
    """What a network makes of a picture `(3, H, W)` with values around 0."""
    dims = dims_of(image.value.type.tensor_type)
    pixels = picture[: image.channels]
    dtype = helper.tensor_dtype_to_np_dtype(image.kind)
    if not np.issubdtype(dtype, np.floating):
        pixels = np.clip(pixels * 64 + 128, 0, 255)
    if image.last:
        pixels = np.moveaxis(pixels, 0, -1)
    batch = pixels if image.alone else np.repeat(pixels[None], (dims and dims[0]) or 1, axis=0)
    feeds = {image.name: np.ascontiguousarray(batch.astype(dtype))}
    count = 1 if image.alone else batch.shape[0]
    for mask in image.masks:
        kind: onnx.TypeProto.Tensor = mask.type.tensor_type
        shape = (count, *([1] if len(kind.shape.dim) == 4 else []), *picture.shape[1:])
        feeds[mask.name] = np.ones(shape, helper.tensor_dtype_to_np_dtype(kind.elem_type))
    try:
        [made] = session.run(None, feeds)
    except Exception as error:  # the binding raises one class per status code
        raise EngineError(first_line(error)) from error
    return np.asarray(made)
