"""A network with all that belongs around it: bytes of a picture in, its class map out.

What `Preprocess` and `upsample` do outside becomes standard operators, in the same order and in
the same arithmetic, so that nobody has to write it again beside another runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper

from atrous.engines.drop_resize import drop_last_resize
from atrous.engines.onnx_graph import OnnxGraph, attributes, copied, dims_of
from atrous.errors import ConfigError
from atrous.geometry import CoordinateRule
from atrous.preprocess import Preprocess

IMAGE, CLASSES, SCORES = "image", "classes", "scores"
"""Names of the input and of the outputs."""

_PREFIX = "network_"
_AXES_SINCE = 18
"""Operator set from which on a Resize may leave axes alone, and may smooth."""


@dataclass(frozen=True, slots=True)
class WholeGraph:
    """What is built around a network.

    Attributes:
        preprocess: how the network's own input is made, `fit` squash where the size is free.
        any_size: pictures of any size; else they have the network's.
        scores: whether the scores are an output too.
        nearest: enlarge to the nearest, as what is decided has nothing between two classes.
        batch: whether any number of pictures is taken at a time.
    """

    preprocess: Preprocess
    any_size: bool = False
    scores: bool = False
    nearest: bool = False
    batch: bool = True


def build(network: onnx.ModelProto, whole: WholeGraph) -> onnx.ModelProto:
    """Put a network between bytes and classes.

    Args:
        network: in our form, see `atrous.engines.adapt`; left as it is.
        whole: what is built.

    Returns:
        A model with the input `image`, uint8 `(N, H, W, 3)` RGB, and the output `classes`, uint8
        `(N, H, W)`; where they are asked for, also `scores`, float32 `(N, C, H, W)`.

    Raises:
        ConfigError: the operator set cannot say it.
    """
    inner, rule = drop_last_resize(network)
    if rule == "align_corners" and whole.any_size:
        inner, rule = network, None  # it does not compose over another size
    before, source = OnnxGraph(network), OnnxGraph(inner)
    [value] = before.inputs
    raw = value.type.tensor_type.elem_type == TensorProto.UINT8
    batch = dims_of(value.type.tensor_type)[0]
    grid, classes = _grid(source)
    draft = OnnxGraph(compose.add_prefix(copied(inner), _PREFIX))
    if whole.batch:
        _free(draft)
    [wanted] = draft.inputs
    output = draft.graph.output[0].name
    taken = _constants_of_inputs(draft)
    del draft.graph.input[:]
    count = len(draft.graph.node)
    draft.redirect(wanted.name, _pixels(draft, whole, raw=raw))
    draft.to_front(len(draft.graph.node) - count)
    size = whole.preprocess.size
    same = not whole.any_size and grid == size
    scores = output if same else _enlarged(draft, output, whole, rule or "half_pixel")
    best = draft.add("ArgMax", [scores], "best", axis=1, keepdims=0)
    made = draft.add("Cast", [best], CLASSES, to=TensorProto.UINT8)
    rows: Sequence[int | str] = ("height", "width") if whole.any_size else size
    first = "batch" if whole.batch else batch or 1
    image = helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, [first, *rows, 3])
    draft.graph.input.extend([image, *taken])
    del draft.graph.output[:]
    kind = helper.make_tensor_value_info(made, TensorProto.UINT8, [first, *rows])
    draft.graph.output.append(kind)
    if whole.scores:
        draft.add("Identity", [scores], SCORES)
        shape = [first, classes or "count", *rows]
        draft.graph.output.append(helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, shape))
    draft.prune()
    return draft.model


def _grid(graph: OnnxGraph) -> tuple[tuple[int | None, ...], int | None]:
    """Size of the scores that a network makes, and how many classes."""
    dims = graph.dims(graph.graph.output[0].name) or (None,) * 4
    return dims[2:], dims[1]


def _constants_of_inputs(graph: OnnxGraph) -> list[onnx.ValueInfoProto]:
    """What old files list among the inputs although it has a value."""
    weights = {tensor.name for tensor in graph.graph.initializer}
    return [value for value in graph.graph.input if value.name in weights]


def _free(graph: OnnxGraph) -> None:
    """Let resizes leave the number of pictures alone, and forget the shapes written down."""
    del graph.graph.value_info[:]
    if graph.opset < _AXES_SINCE:
        return
    for node in graph.graph.node:
        sizes = graph.constant(node.input[3]) if len(node.input) > 3 else None
        whole = sizes is not None and sizes.size == 4 and "axes" not in attributes(node)
        if node.op_type == "Resize" and sizes is not None and whole:
            node.input[3] = graph.add_constant(sizes[2:], "sizes")
            node.attribute.append(helper.make_attribute("axes", [2, 3]))


def _pixels(graph: OnnxGraph, whole: WholeGraph, *, raw: bool) -> str:
    """From bytes to what the network takes; operation by operation as `Preprocess` does it."""
    preprocess, source = whole.preprocess, IMAGE
    if whole.any_size:
        source = _resized(graph, preprocess)
    if preprocess.colour == "bgr":
        source = _gather(graph, source, np.array([2, 1, 0]), 3)
    if raw:
        source = graph.add("Cast", [source], "bytes", to=TensorProto.UINT8)
        return graph.add("Transpose", [source], "planes", perm=[0, 3, 1, 2])
    source = graph.add("Cast", [source], "values", to=TensorProto.FLOAT)
    source = graph.add("Transpose", [source], "planes", perm=[0, 3, 1, 2])
    mean, std = (np.array(x, np.float32) for x in (preprocess.mean, preprocess.std))
    steps: dict[str, list[tuple[str, object]]] = {
        "div255-mean-std": [("Div", 255), ("Sub", mean), ("Div", std)],
        "mean-std": [("Sub", mean), ("Div", std)],
        "div255": [("Div", 255)],
        "div127.5-minus-one": [("Div", 127.5), ("Sub", 1)],
        "none": [],
    }
    for kind, number in steps[preprocess.normalisation]:
        values = np.asarray(number, np.float32).reshape(1, -1, 1, 1)
        source = graph.add(kind, [source, graph.add_constant(values, "factor")], "normalised")
    return source


def _enlarged(graph: OnnxGraph, source: str, whole: WholeGraph, rule: CoordinateRule) -> str:
    """Scores of every pixel: of the network's input, or of the picture."""
    settings: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": rule}
    if whole.nearest:
        settings = {"mode": "nearest", "nearest_mode": "round_prefer_ceil"}
    if not whole.any_size and not whole.batch:
        dims = graph.dims(source) or ()
        if len(dims) == 4 and None not in dims[:2]:
            shape = np.array([*dims[:2], *whole.preprocess.size], np.int64)
            return _resize(graph, source, graph.add_constant(shape, "sizes"), settings)
    if whole.any_size:
        rows = _part(graph, graph.add("Shape", [IMAGE], "shape"), 1, 3)
    else:
        rows = graph.add_constant(np.array(whole.preprocess.size, np.int64), "size")
    kept = _part(graph, graph.add("Shape", [source], "grid"), 0, 2)
    sizes = graph.add("Concat", [kept, rows], "sizes", axis=0)
    return _resize(graph, source, sizes, settings)


def _resize(graph: OnnxGraph, source: str, sizes: str, settings: dict[str, Any]) -> str:
    nothing = ["", ""]
    if graph.opset < 13:  # a region and scales had to be there, even empty
        empty = np.zeros(0, np.float32)
        nothing = [graph.add_constant(empty, "region"), graph.add_constant(empty, "scales")]
    return graph.add("Resize", [source, *nothing, sizes], "enlarged", **settings)


def _part(graph: OnnxGraph, shape: str, start: int, stop: int) -> str:
    ends = [graph.add_constant(np.array([at], np.int64), "at") for at in (start, stop)]
    return graph.add("Slice", [shape, *ends], "part")


def _gather(graph: OnnxGraph, source: str, places: NDArray[Any] | str, axis: int) -> str:
    if not isinstance(places, str):
        places = graph.add_constant(places.astype(np.int64), "places")
    return graph.add("Gather", [source, places], "gathered", axis=axis)


def _resized(graph: OnnxGraph, preprocess: Preprocess) -> str:
    """The picture at the network's size, `(N, h, w, 3)` of whole numbers."""
    if preprocess.interpolation == "opencv-bilinear":
        return _opencv_bilinear(graph, preprocess.size)
    library, _, kind = preprocess.interpolation.partition("-")
    if library == "pillow" and graph.opset < _AXES_SINCE:
        raise ConfigError(
            f"`any_size`: the model sees pictures resized by {preprocess.interpolation}, which "
            f"needs `opset` {_AXES_SINCE} or newer, found {graph.opset}"
        )
    settings: dict[str, Any] = {"coordinate_transformation_mode": "half_pixel"}
    settings["mode"] = "linear" if kind == "bilinear" else "cubic"
    if kind == "bicubic":
        settings["cubic_coeff_a"] = -0.5 if library == "pillow" else -0.75
    if library == "pillow":
        settings |= {"antialias": 1, "exclude_outside": 1 if kind == "bicubic" else 0}
    values = graph.add("Cast", [IMAGE], "values", to=TensorProto.FLOAT)
    planes = graph.add("Transpose", [values], "planes", perm=[0, 3, 1, 2])
    kept = _part(graph, graph.add("Shape", [planes], "shape"), 0, 2)
    size = graph.add_constant(np.array(preprocess.size, np.int64), "size")
    sizes = graph.add("Concat", [kept, size], "sizes", axis=0)
    resized = graph.add("Round", [_resize(graph, planes, sizes, settings)], "rounded")
    ends = [graph.add_constant(np.array(end, np.float32), "end") for end in (0, 255)]
    clipped = graph.add("Clip", [resized, *ends], "clipped")
    return graph.add("Transpose", [clipped], "pixels", perm=[0, 2, 3, 1])


def _opencv_bilinear(graph: OnnxGraph, size: tuple[int, int]) -> str:
    """OpenCV's resize of bytes, in its own whole numbers: weights of 1/2048, two shifts, rounding.

    No value leaves int32, so that runtimes without larger ones make the same of it.
    """
    source = graph.add("Cast", [IMAGE], "numbers", to=TensorProto.INT32)
    shape = graph.add("Shape", [IMAGE], "shape")
    (top, bottom), down = _taps(graph, shape, 1, size[0])
    (left, right), across = _taps(graph, shape, 2, size[1])
    lines = []
    for rows, weight in ((top, down[0]), (bottom, down[1])):
        line = _gather(graph, source, rows, 1)
        parts = [_gather(graph, line, columns, 2) for columns in (left, right)]
        pairs = zip(parts, across, strict=True)
        weighted = [graph.add("Mul", [one, by], "weighted") for one, by in pairs]
        total = graph.add("Add", weighted, "total")
        scaled = graph.add("Mul", [_halved(graph, total, 4), weight], "scaled")
        lines.append(_halved(graph, scaled, 16))
    whole = graph.add("Add", lines, "whole")
    two = graph.add_constant(np.array(2, np.int32), "half")
    return _halved(graph, graph.add("Add", [whole, two], "up"), 2)


def _halved(graph: OnnxGraph, source: str, times: int) -> str:
    by = graph.add_constant(np.array(1 << times, np.int32), "power")
    return graph.add("Div", [source, by], "shifted")


def _taps(
    graph: OnnxGraph, shape: str, axis: int, size: int
) -> tuple[tuple[str, str], tuple[str, str]]:
    """Where each pixel of an axis reads the picture, twice, and the two weights in 1/2048."""

    def number(value: Any, kind: Any = np.int32) -> str:
        return graph.add_constant(np.array(value, kind), "number")

    def do(kind: str, *inputs: str) -> str:
        return graph.add(kind, inputs, "tap")

    def cast(source: str, kind: int) -> str:
        return graph.add("Cast", [source], "tap", to=kind)

    extent = cast(_part(graph, shape, axis, axis + 1), TensorProto.INT32)
    # A position is (2i + 1) / 2 · extent / size - 1/2, here over 2 · size and one further.
    above = do("Mul", extent, number(2 * np.arange(size) + 1))
    above = do("Add", above, number(size))
    further = do("Div", above, number(2 * size))
    rest = do("Sub", above, do("Mul", further, number(2 * size)))
    first = do("Sub", further, number(1))
    # OpenCV holds the position in float32 before it takes the whole part off.
    whole = cast(first, TensorProto.FLOAT)
    share = do("Div", cast(rest, TensorProto.FLOAT), number(2 * size, np.float32))
    share = do("Sub", do("Add", whole, share), whole)
    last = do("Sub", extent, number(1))
    floats = number(0, np.float32), number(1, np.float32)
    if axis == 2:  # of rows it repeats the edge instead
        below, past = do("Less", first, number(0)), do("Less", first, last)
        share = do("Where", below, floats[0], share)
        share = do("Where", past, share, floats[0])
    unit = number(2048, np.float32)
    weights = [do("Round", do("Mul", s, unit)) for s in (do("Sub", floats[1], share), share)]
    form = (1, -1, 1, 1) if axis == 1 else (1, 1, -1, 1)
    target = number(form, np.int64)
    shaped = [do("Reshape", cast(weight, TensorProto.INT32), target) for weight in weights]
    inside = []
    for place in (first, do("Add", first, number(1))):
        kept = do("Where", do("Less", place, number(0)), number(0), place)
        inside.append(do("Where", do("Less", kept, last), kept, last))
    return (inside[0], inside[1]), (shaped[0], shaped[1])
