"""Fold batch norms into the convolutions before them."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from atrous.compiler.graph.graph import Graph, attributes
from atrous.compiler.rewrites.base import Layout, Outcome


def rewrite(graph: Graph, layout: Layout = "planar") -> Outcome:
    """Scale the weights and shift the bias of a convolution by what its batch norm would do.

    At inference a batch norm is `x · s + t` per channel, with `s = scale / sqrt(var + epsilon)`
    and `t = shift - mean · s` (arXiv:1502.03167).
    """
    folded, left = 0, []
    for norm in [node for node in graph.nodes if node.op_type == "BatchNormalization"]:
        reason = _fold(graph, norm)
        if reason:
            left.append(f"{norm.output[0]}: {reason}")
        else:
            folded += 1
            graph.refresh()
    return Outcome((f"{folded} folded",) if folded else (), tuple(left))


def _fold(graph: Graph, norm: NodeProto) -> str:
    """Fold one batch norm; return why it cannot be done, empty if it was."""
    conv = graph.maker(norm.input[0])
    if conv is None or conv.op_type != "Conv":
        return "does not follow a convolution"
    if graph.only_reader(conv.output[0]) is not norm:
        return "its convolution is also read by others"
    # Up to operator set 13 the statistics among the outputs say that it trains.
    if attributes(norm).get("training_mode", 0) or any(norm.output[1:]):
        return "is in training mode"
    values = [graph.constant(name) for name in norm.input[1:5]]
    weight = graph.constant(conv.input[1])
    bias = graph.constant(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else 0.0
    if weight is None or bias is None or any(value is None for value in values):
        return "its parameters are not constant"
    scale, shift, mean, variance = (np.asarray(value, np.float64) for value in values)
    factor = scale / np.sqrt(variance + attributes(norm).get("epsilon", 1e-5))
    kernel = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    offset = (bias - mean) * factor + shift
    inputs = [
        conv.input[0],
        graph.add_constant(kernel.astype(weight.dtype), conv.input[1]),
        graph.add_constant(offset.astype(weight.dtype), f"{conv.input[1]}_bias"),
    ]
    # The merged node keeps the name of the norm's output, and stands where the norm stood.
    merged = NodeProto()
    merged.CopyFrom(conv)
    del merged.input[:], merged.output[:]
    merged.input.extend(inputs)
    merged.output.append(norm.output[0])
    graph.replace(norm, [merged])
    return ""
