"""The end of a network that decides itself: a class map, and what it is made of.

Between the decision and the output stands what does the same to every pixel: casts, other axes,
an enlargement, a table, arithmetic with constants. What it makes of every class is computed here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from atrous.engines.class_axis import class_axis, number_of
from atrous.engines.meaning import ScoreOutput
from atrous.engines.onnx_graph import FLOATS, OnnxGraph, attributes, type_name
from atrous.errors import ArtifactError

_MOVERS = ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Dropout")
_RESIZES = ("Resize", "Upsample")
_COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
_ARITHMETIC: dict[str, Callable[..., NDArray[Any]]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "Round": np.round,
    "Not": np.logical_not,
}
_BLENDS = (
    *_MOVERS, *_RESIZES, *_ARITHMETIC, "Transpose", "Where", "Pow", "Floor", "Ceil", "Clip",
    "Slice", "Pad", "Expand", "Gather", "ScatterElements",
)  # fmt: skip
"""Operators that may make other numbers of class ids."""

Values = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tail:
    """What stands between a tensor and an output.

    Attributes:
        tensor: where it begins.
        nodes: of it, the last first.
    """

    tensor: str
    nodes: tuple[NodeProto, ...]

    @property
    def computes(self) -> bool:
        """Whether it makes other numbers, and does not only move them."""
        return any(node.op_type in (*_ARITHMETIC, "Where", "Gather") for node in self.nodes)

    @property
    def moves_axes(self) -> bool:
        """Whether it changes their order."""
        return any(node.op_type == "Transpose" for node in self.nodes)

    @property
    def blurs(self) -> str:
        """The mode of an enlargement that mixes neighbours, empty if there is none."""
        modes = [attributes(n).get("mode", "nearest") for n in self.nodes if n.op_type in _RESIZES]
        return next((mode for mode in modes if mode != "nearest"), "")


def tail_of(
    graph: OnnxGraph, output: str, ends: Callable[[NodeProto], object] = lambda node: False
) -> Tail:
    """What stands before an output and can be computed for every value by itself.

    Args:
        graph: of the network.
        output: of it.
        ends: whether a tail does so behind a node.
    """
    tensor, nodes = output, []
    while (node := graph.maker(tensor)) is not None and not ends(node):
        source = _source(graph, node)
        if not source:
            break
        nodes.append(node)
        tensor = source
    return Tail(tensor, tuple(nodes))


def _source(graph: OnnxGraph, node: NodeProto) -> str:
    """The one input that a node of a tail makes its output of, empty if it belongs to none."""
    kind, inputs = node.op_type, [str(name) for name in node.input]
    if kind in _MOVERS or kind in _RESIZES or kind in ("Transpose", "Not"):
        return inputs[0]
    if kind == "Round":
        # Of probabilities it makes a decision, but not of what these were multiplied to.
        before = graph.maker(inputs[0])
        scaled = before is not None and before.op_type in _ARITHMETIC
        return inputs[0] if before is not None and scaled and _source(graph, before) else ""
    constants = [graph.constant(name) for name in inputs]
    if kind == "Gather":
        table = constants[0]
        return inputs[1] if table is not None and table.ndim == 1 else ""
    if kind not in _ARITHMETIC and (kind != "Where" or constants[0] is not None):
        return ""
    if any(one is not None and one.size != 1 for one in constants):
        return ""
    computed = [name for name, one in zip(inputs, constants, strict=True) if one is None]
    return computed[0] if len(computed) == 1 else ""


def values_of(graph: OnnxGraph, tail: Tail, values: Values) -> Values:
    """What a tail makes of values."""
    for node in reversed(tail.nodes):
        constants = [graph.constant(name) for name in node.input]
        given = [values if one is None else one for one in constants]
        kind = node.op_type
        if kind in _ARITHMETIC:
            values = _ARITHMETIC[kind](*given)
        elif kind == "Where":
            values = np.where(given[0] != 0, given[1], given[2])
        elif kind == "Gather":
            table, at = given[0], values.astype(int)
            values = table[np.where(at < len(table), at, 0)]
        elif kind == "Cast" and attributes(node)["to"] not in FLOATS:
            values = values != 0 if attributes(node)["to"] == TensorProto.BOOL else np.trunc(values)
        values = values.reshape(-1)
    return values


def read(graph: OnnxGraph, output: onnx.ValueInfoProto, kind: int, name: str) -> ScoreOutput | None:
    """What a class map at the end is made of, `None` if none is seen.

    Args:
        graph: of the network.
        output: of it.
        kind: type of its values.
        name: of the network, in messages.

    Raises:
        ArtifactError: it holds numbers that were classes and are none any more.
    """
    tail = tail_of(graph, output.name)
    node = graph.maker(tail.tensor)
    if node is None:
        return None
    best = _best(graph, node, tail.tensor)
    if best is not None:
        return _of_best(graph, output.name, kind, tail, best, name)
    compared = _compared(graph, node)
    if compared is not None or _is_bool(graph, node):
        return _of_two(graph, output.name, kind, tail, compared)
    scores = _blended(graph, tail.tensor)
    if scores and kind in FLOATS and _one_a_pixel(graph, output.name):
        raise _no_ids(
            name, output.name, f"makes other numbers of class ids ({node.op_type})", scores
        )
    return None


def _best(graph: OnnxGraph, node: NodeProto, tensor: str) -> ScoreOutput | None:
    """The scores of which a node takes the best class."""
    axis = attributes(node).get("axis")
    if node.op_type == "ArgMax":
        said = f"it ends in an argmax: cut at {node.input[0]} before it"
        return ScoreOutput(node.input[0], axis or 0, notes=(said,))
    if node.op_type == "TopK" and tensor == node.output[1] and _is_one(graph, node.input[1]):
        said = f"it ends in the best class alone: cut at {node.input[0]} before it"
        return ScoreOutput(node.input[0], -1 if axis is None else axis, notes=(said,))
    return None


def _is_one(graph: OnnxGraph, name: str) -> bool:
    value = graph.constant(name)
    return value is not None and value.size == 1 and int(value.reshape(-1)[0]) == 1


def _of_best(
    graph: OnnxGraph, output: str, kind: int, tail: Tail, best: ScoreOutput, name: str
) -> ScoreOutput:
    """Cut before the best class, or its ids as they are where they were changed since."""
    if all(node.op_type in _MOVERS for node in tail.nodes):
        return best
    if tail.blurs:
        said = f"mixes the class ids of neighbours, by a resize of mode {tail.blurs}"
        raise _no_ids(name, output, said, best.tensor)
    number = _count(graph, best)
    values = values_of(graph, tail, np.arange(number or 2))
    if kind in FLOATS and not _are_ids(values):
        shown = ", ".join(f"{value:g}" for value in values[:3])
        said = f"makes other numbers of class ids: {shown}, … of 0, 1, …"
        raise _no_ids(name, output, said, best.tensor)
    if number is None or not _are_ids(values):
        return ScoreOutput(output, decided=True, notes=as_is(output, kind))
    return _taken(output, kind, tail, values)


def _count(graph: OnnxGraph, best: ScoreOutput) -> int | None:
    """Between how many classes the best is chosen."""
    dims, axis = graph.dims(best.tensor), best.axis
    known = dims[axis] if dims is not None and axis is not None else None
    return known or number_of(graph, best.tensor, axis)


def _are_ids(values: Values) -> bool:
    return bool((values >= 0).all() and (values < 256).all() and (values == np.round(values)).all())


def _no_ids(name: str, output: str, said: str, scores: str) -> ArtifactError:
    return ArtifactError(
        f"{name}: its output {output} {said}; `output_name` {scores} takes the scores that the "
        "classes are chosen by"
    )


def as_is(output: str, kind: int) -> tuple[str]:
    """What is said of class ids.

    Args:
        output: that holds them.
        kind: type of its values.
    """
    return (
        f"its output {output} holds class ids ({type_name(kind)}): taken as they are, enlarged to "
        "the nearest",
    )


def _compared(graph: OnnxGraph, node: NodeProto) -> ScoreOutput | None:
    """The scores behind `score > number`, or `round(score)`, of a network of one class."""
    if node.op_type == "Round":
        tensor, cut = node.input[0], 0.5
    elif node.op_type in _COMPARISONS:
        inputs = node.input[:] if node.op_type.startswith("Greater") else node.input[::-1]
        number = graph.constant(inputs[1])
        if number is None or number.size != 1:
            return None
        tensor, cut = inputs[0], float(number.reshape(-1)[0])
    else:
        return None
    dims = graph.dims(tensor)
    axis = class_axis(graph, tensor)
    if dims is not None and len(dims) == 4 and 1 in (dims[1], dims[3]):
        axis = 1 if dims[1] == 1 else 3
    elif axis is None or number_of(graph, tensor, axis) != 1:
        return None
    said = f"it ends in a comparison with {cut:g}: cut at {tensor} before it"
    return ScoreOutput(tensor, axis, cut=cut, notes=(said,))


def _is_bool(graph: OnnxGraph, node: NodeProto) -> bool:
    return graph.kind(node.output[0]) == TensorProto.BOOL


def _of_two(
    graph: OnnxGraph, output: str, kind: int, tail: Tail, compared: ScoreOutput | None
) -> ScoreOutput | None:
    """Cut before a comparison, or its two values as they are where nothing can be cut."""
    values = values_of(graph, tail, np.array([0, 1]))
    if compared is not None and values[0] == 0 < values[1]:
        return compared
    floats = kind in FLOATS
    if tail.blurs or not _are_ids(values) or (floats and not _one_a_pixel(graph, output)):
        return None
    return _taken(output, kind, tail, values)


def _taken(output: str, kind: int, tail: Tail, values: Values) -> ScoreOutput:
    """Class ids that have these values, which may be those of 0, 1, … times a number."""
    levels = np.unique(values).astype(int)
    step = int(levels[1]) if len(levels) > 1 else 1
    looked_up = any(node.op_type == "Gather" for node in tail.nodes)
    even = np.array_equal(levels, step * np.arange(len(levels)))
    if not even or (looked_up and levels.tolist() != [0, 255]):
        step = 1
    notes = as_is(output, kind)
    if step > 1:
        notes = (f"its output {output} holds class ids times {step}: taken as 0, 1, …",)
    return ScoreOutput(
        output, decided=True, classes=int(levels[-1]) // step + 1, step=step, notes=notes
    )


def _one_a_pixel(graph: OnnxGraph, tensor: str) -> bool:
    """Whether a tensor may have one number a pixel."""
    dims = graph.dims(tensor)
    return dims is None or len(dims) < 4 or 1 in (dims[1], dims[3])


def _blended(graph: OnnxGraph, tensor: str) -> str:
    """The scores whose best class takes part in a tensor, empty if it does not."""
    waiting, seen = [tensor], {tensor}
    while waiting and len(seen) < 64:
        name = waiting.pop()
        node = graph.maker(name)
        if node is None:
            continue
        best = _best(graph, node, name)
        if best is not None:
            return best.tensor
        if node.op_type in _BLENDS:
            waiting += [one for one in node.input if one and one not in seen]
            seen.update(node.input)
    return ""
