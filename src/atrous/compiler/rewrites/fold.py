"""Compute what does not depend on the image: sizes, shapes, weights behind casts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto
from onnx.reference import ReferenceEvaluator

from atrous.compiler.graph.graph import Graph, attributes
from atrous.compiler.rewrites.base import Layout, Outcome

_KEPT = (
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    *("RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"),
)
"""Not folded: quantised weights stay small, and random numbers stay random."""

_GROWING = ("ConstantOfShape", "Expand", "Tile", "Range", "Pad", "Resize", "OneHot")
"""May make much of little: not tried before the size of what they make is known."""

_LARGEST = 1 << 16
"""A constant larger than this is made only if it is no larger than what it is made of."""


def rewrite(graph: Graph, layout: Layout = "planar") -> Outcome:
    """Replace nodes of known value by constants, and drop those that change nothing.

    Exporters write the target of a resize as arithmetic on the shape of another tensor; with a
    fixed input size all of it is known.
    """
    before = len(graph.nodes)
    while _pass(graph):
        graph.refresh()
    removed = before - len(graph.nodes)
    return Outcome((f"nodes removed: {removed}",) if removed else ())


def _pass(graph: Graph) -> bool:
    """One sweep over the graph; return whether anything changed."""
    changed = False
    for node in list(graph.nodes):
        values = None if set(node.output) & set(graph.outputs) else _values(graph, node)
        if values is not None:
            for name, value in zip(filter(None, node.output), values, strict=True):
                graph.redirect(name, graph.add_constant(value, f"{name}_value"))
            graph.nodes = [other for other in graph.nodes if other is not node]
            changed = True
    return _drop_idle(graph) or changed


def _values(graph: Graph, node: NodeProto) -> list[NDArray[Any]] | None:
    """The outputs of a node that have names, if they can be known now."""
    settings = attributes(node)
    if node.op_type in _KEPT or node.domain not in ("", "ai.onnx"):
        return None
    if any(isinstance(value, onnx.GraphProto) for value in settings.values()):
        return None
    if node.op_type == "Constant":
        return _evaluated(graph, node, {})
    if node.op_type in ("Shape", "Size") and (shape := graph.shape(node.input[0])) is not None:
        if node.op_type == "Size":
            return [np.array(int(np.prod(shape)), np.int64)]
        return [np.array(shape[settings.get("start", 0) : settings.get("end")], np.int64)]
    inputs = {n: v for n in node.input if n and (v := graph.constant(n)) is not None}
    if not inputs or len(inputs) != len({name for name in node.input if name}):
        return None
    largest = max(_LARGEST, *(value.size for value in inputs.values()))
    shapes = [graph.shape(name) for name in node.output if name]
    if any(shape is not None and math.prod(shape) > largest for shape in shapes):
        return None
    if node.op_type in _GROWING and None in shapes:
        return None
    values = _evaluated(graph, node, inputs)
    if values is None or any(value.size > largest for value in values):
        return None
    return values


def _evaluated(
    graph: Graph, node: NodeProto, inputs: dict[str, NDArray[Any]]
) -> list[NDArray[Any]] | None:
    try:
        with np.errstate(all="ignore"):
            values = ReferenceEvaluator(node, opsets={"": graph.opset}).run(None, inputs)
    except Exception:  # the evaluator lacks an operator: the runtime will do it
        return None
    named = [value for name, value in zip(node.output, values, strict=True) if name]
    if not all(isinstance(value, np.ndarray | np.generic) for value in named):
        return None  # a sequence
    arrays = [np.asarray(value) for value in named]
    return None if any(array.dtype.kind in "OSU" for array in arrays) else arrays  # text


def _drop_idle(graph: Graph) -> bool:
    """Bypass nodes that hand on what they get, and simplify chains of reshapes."""
    graph.refresh()
    changed = False
    for node in list(graph.nodes):
        if node.op_type == "Identity" or (node.op_type == "Dropout" and _sleeps(graph, node)):
            changed |= graph.bypass(node, node.input[0])
        elif node.op_type in ("Reshape", "Gather", "Squeeze", "Unsqueeze", "Flatten"):
            changed |= _simplify_reshape(graph, node)
    return changed


def _sleeps(graph: Graph, dropout: NodeProto) -> bool:
    """Whether a `Dropout` drops nothing."""
    training = dropout.input[2] if len(dropout.input) > 2 else ""
    value = graph.constant(training)
    return not training or (value is not None and not value.any())


def _simplify_reshape(graph: Graph, node: NodeProto) -> bool:
    """Bypass a chain of nodes that only relabel the axes and end in the shape they began with."""
    if not _only_reshapes(graph, node):
        return False
    source = node.input[0]
    while (maker := graph.maker(source)) is not None and _only_reshapes(graph, maker):
        source = maker.input[0]
    shape = graph.shape(source)
    if shape is None or shape != graph.shape(node.output[0]) or source == node.output[0]:
        return False
    return graph.bypass(node, source)


def _only_reshapes(graph: Graph, node: NodeProto) -> bool:
    if node.op_type in ("Reshape", "Squeeze", "Unsqueeze", "Flatten"):
        return True
    # torch's newer exporter writes `as_strided` as a gather of 0, 1, 2, … from a flat tensor.
    indices = graph.constant(node.input[1]) if node.op_type == "Gather" else None
    if indices is None or len(graph.shape(node.input[0]) or ()) != 1:
        return False
    return bool(
        (graph.shape(node.input[0]) or ())[0] == indices.size
        and np.array_equal(indices.reshape(-1), np.arange(indices.size))
    )
