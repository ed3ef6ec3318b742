"""Count multiply-accumulates of an ONNX graph, operator by operator."""

from __future__ import annotations

import math

from onnx import NodeProto

from atrous.compiler.graph.graph import Graph
from atrous.engines.layer_names import WEIGHTED


def count(graph: Graph) -> int:
    """Multiply-accumulates of one run: convolutions and matrix products.

    Taps that fall on padding count, as they do in the published figures of these networks; adds,
    activations and resizes do not. Nodes whose shapes are not known count as nothing.
    """
    return sum(of_node(graph, node) for node in graph.nodes)


def of_node(graph: Graph, node: NodeProto) -> int:
    """Multiply-accumulates of one node, 0 for other operators and unknown shapes."""
    if node.op_type not in WEIGHTED:
        return 0
    first, second = (graph.shape(name) for name in node.input[:2])
    output = graph.shape(node.output[0])
    if first is None or second is None or output is None:
        return 0
    match node.op_type:
        case "Conv":  # weights (O, C / groups, kh, kw)
            return math.prod(output) * math.prod(second[1:])
        case "ConvTranspose":  # weights (C, O / groups, kh, kw)
            return math.prod(first) * math.prod(second[1:])
        case "Gemm":
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            return math.prod(output) * first[0 if transposed else 1]
        case _:
            return math.prod(output) * first[-1]
