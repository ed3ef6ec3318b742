"""Whether scores have been through a function that made probabilities of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import NodeProto

from atrous.engines.meaning import Applied
from atrous.engines.onnx_graph import OnnxGraph, attributes
from atrous.errors import ArtifactError

# What is between 0 and 1 stays so.
_KEEPING = (
    "Identity", "Cast", "Transpose", "Squeeze", "Unsqueeze", "Reshape", "Slice", "Gather", "Split",
    "Resize", "Upsample", "DepthToSpace", "Dropout", "MaxPool", "AveragePool", "Clip",
    "QuantizeLinear", "DequantizeLinear",
)  # fmt: skip

_COMPUTING: dict[str, Callable[[float, float], float]] = {
    "Add": np.add,
    "Sum": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
}

Span = tuple[float, float]
_ANYWHERE: Span = (-np.inf, np.inf)


def made_by(graph: OnnxGraph, node: NodeProto) -> Applied:
    """The function of a node that makes probabilities, empty if it is none."""
    if node.op_type == "Softmax":
        return "softmax"
    known = node.op_type in ("Sigmoid", "HardSigmoid") or _is_logistic(graph, node)
    clipped = node.op_type == "Clip" and _bounds(graph, node) == (0, 1)
    return "sigmoid" if known or clipped else ""


def origin(graph: OnnxGraph, tensor: str, name: str) -> Applied:
    """The function that scores have been through somewhere before, so that they are
    probabilities.

    Args:
        graph: of the network.
        tensor: of the scores.
        name: of the network, in messages.

    Raises:
        ArtifactError: that was a softmax over a single score.
    """
    scores = tensor
    while (node := graph.maker(tensor)) is not None:
        function = made_by(graph, node)
        if function == "softmax":
            axis = attributes(node).get("axis", 1 if graph.opset < 13 else -1)
            dims = graph.dims(node.input[0])
            if dims is not None and dims[axis] == 1:
                raise ArtifactError(
                    f"{name}: its scores have been through a softmax over a single one, which is 1 "
                    "everywhere; export the network without that softmax"
                )
        if function:
            return function
        if node.op_type not in _KEEPING:
            break
        tensor = node.input[0]
    functions: set[Applied] = set()
    if not np.allclose(_span(graph, scores, functions), (0, 1)):
        return ""
    return "softmax" if functions == {"softmax"} else "sigmoid"


def _span(graph: OnnxGraph, tensor: str, functions: set[Applied], depth: int = 16) -> Span:
    """Between what the values of a tensor lie, as far as probabilities were computed with.

    Args:
        graph: of the network.
        tensor: of it.
        functions: those that made the probabilities; grows.
        depth: how far it is looked for.
    """
    constant, node = graph.constant(tensor), graph.maker(tensor)
    if constant is not None and constant.size:
        return float(constant.min()), float(constant.max())
    if node is None or not depth:
        return _ANYWHERE
    if function := made_by(graph, node):
        functions.add(function)
        return 0.0, 1.0
    if node.op_type == "Tanh":
        return -1.0, 1.0
    if node.op_type in _KEEPING:
        return _span(graph, node.input[0], functions, depth - 1)
    if node.op_type not in _COMPUTING:
        return _ANYWHERE
    first, *others = (_span(graph, name, functions, depth - 1) for name in node.input)
    for other in others:
        with np.errstate(all="ignore"):
            ends = [_COMPUTING[node.op_type](one, two) for one in first for two in other]
        first = float(min(ends)), float(max(ends))
    return first if np.isfinite(first).all() else _ANYWHERE


def _bounds(graph: OnnxGraph, clip: NodeProto) -> tuple[float | None, float | None]:
    own = attributes(clip)
    given = [graph.constant(name) for name in clip.input[1:3]]
    found = [float(one.reshape(-1)[0]) if one is not None and one.size else None for one in given]
    low, high = [*found, None, None][:2]
    return own.get("min", low), own.get("max", high)


def _is_logistic(graph: OnnxGraph, node: NodeProto) -> bool:
    """Whether a node is the division of 1 / (1 + exp(-x))."""
    if node.op_type not in ("Div", "Reciprocal"):
        return False
    below = graph.maker(node.input[-1])
    if below is None or below.op_type != "Add":
        return False
    terms = [maker for name in below.input if (maker := graph.maker(name)) is not None]
    return any(term.op_type == "Exp" for term in terms)
