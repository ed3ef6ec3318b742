"""Whether scores have been through a function that made probabilities of them."""

from __future__ import annotations

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
    for _ in range(32):
        node = graph.maker(tensor)
        if node is None:
            return ""
        function = made_by(graph, node)
        if function == "softmax":
            axis = attributes(node).get("axis", 1 if graph.opset < 13 else -1)
            dims = graph.dims(node.input[0])
            if dims is not None and dims[axis] == 1:
                raise ArtifactError(
                    f"{name}: its scores have been through a softmax over a single one, which is 1 "
                    "everywhere; export the network without that softmax"
                )
        if function or node.op_type not in _KEEPING:
            return function
        tensor = node.input[0]
    return ""


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
