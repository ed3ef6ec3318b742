"""Which axis of a tensor holds the classes, and how many they are, as far as operators say it."""

from __future__ import annotations

from onnx import NodeProto

from atrous.engines.onnx_graph import OnnxGraph, attributes

SPATIAL = (
    "Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "MaxPool",
    "AveragePool", "GlobalAveragePool", "DepthToSpace", "SpaceToDepth", "Upsample",
    "QLinearConv", "ConvInteger",
)  # fmt: skip
"""Values of these lie as classes before the pixels, whatever else the graph does."""

ELEMENTWISE = (
    "Add", "Sub", "Mul", "Div", "Relu", "Clip", "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid",
    "Identity", "Cast", "Dropout", "Resize", "Pad", "QuantizeLinear", "DequantizeLinear", "Elu",
    "Tanh", "Concat", "Slice", "Softmax", "LogSoftmax", "PRelu", "Max", "Min", "Neg", "Exp",
)  # fmt: skip
"""Operators that leave the order of the axes as it is."""


def class_axis(graph: OnnxGraph, tensor: str) -> int | None:
    """The axis of the classes, 1 or 3, as far as the operators before `tensor` say it."""
    order, axes = tensor, [0, 1, 2, 3]
    for _ in range(64):
        node = graph.maker(order)
        if node is None:
            return None
        if node.op_type in SPATIAL:
            return axes.index(1)
        if node.op_type == "Transpose":
            perm = list(attributes(node).get("perm", ()))
            if len(perm) != 4:
                return None
            axes = [perm[axis] for axis in axes]
        elif node.op_type == "MatMul" and graph.constant(node.input[1]) is not None:
            return axes.index(3)
        elif node.op_type not in ELEMENTWISE:
            return None
        computed = [name for name in node.input if name and graph.constant(name) is None]
        if not computed:
            return None
        order = computed[0]
    return None


def number_of(graph: OnnxGraph, tensor: str, axis: int | None) -> int | None:
    """How many scores a pixel has, `None` where the graph hides it."""
    dims = graph.dims(tensor)
    if dims is not None and len(dims) == 4 and axis is not None and dims[axis]:
        return dims[axis]
    node = graph.maker(tensor)
    while node is not None and node.op_type in ELEMENTWISE:
        if node.op_type in ("Concat", "Slice", "Pad"):
            return None
        node = graph.maker(node.input[0])
    if node is not None and node.op_type == "Conv":
        weight = graph.dims(node.input[1])
        return weight[0] if weight else None
    return None


def resizes_nothing(graph: OnnxGraph, node: NodeProto) -> bool:
    """Whether a Resize leaves the size as it is."""
    at = 2 if graph.opset >= 11 else 1
    scales = graph.constant(node.input[at]) if len(node.input) > at else None
    if scales is not None and scales.size:
        return bool((scales == 1).all())
    source, target = graph.dims(node.input[0]), graph.dims(node.output[0])
    return source is not None and source == target and None not in source[2:]


def rank_of(graph: OnnxGraph, tensor: str) -> int | None:
    """How many axes a tensor has, `None` if it is not known."""
    dims = graph.dims(tensor)
    return None if dims is None else len(dims)
