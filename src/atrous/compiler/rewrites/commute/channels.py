"""Layers that only mix channels: 1×1 convolutions, scales, shifts, linear layers over tokens.

Such a layer takes every pixel's channels `x` to `M·x + b`. It commutes with every enlargement,
whose weights sum to one at each pixel, and two of them are one: `K·(M·x + b) = (K·M)·x + K·b`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from atrous.compiler.graph import macs
from atrous.compiler.graph.graph import Graph, attributes

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ChannelMix:
    """What makes a map `(N, C, h, w)` of another one of the same size.

    Attributes:
        source: the other map, `(N, D, h, w)`.
        matrix: `(C, D)`.
        bias: `(C,)`.
        nodes: that compute it, in the order of the graph.
    """

    source: str
    matrix: Matrix
    bias: Matrix
    nodes: tuple[NodeProto, ...]

    def macs(self, graph: Graph) -> int:
        """Multiply-accumulates that go away with it."""
        return sum(macs.of_node(graph, node) for node in self.nodes)

    def dies(self, graph: Graph) -> bool:
        """Whether nothing else reads what its nodes make, and the last of them one node."""
        return all(graph.only_reader(node.output[0]) is not None for node in self.nodes)


def channel_mix(graph: Graph, name: str) -> ChannelMix | None:
    """The layer that makes a map `(N, C, h, w)`, if it only mixes channels."""
    node, shape = graph.maker(name), graph.shape(name)
    if node is None or shape is None or len(shape) != 4:
        return None
    read = _READERS.get(node.op_type)
    return None if read is None else read(graph, node, shape)


def _convolution(graph: Graph, node: NodeProto, shape: tuple[int, ...]) -> ChannelMix | None:
    weight = graph.constant(node.input[1])
    bias = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else 0.0
    settings = attributes(node)
    plain = not any(settings.get("pads", ())) and set(settings.get("strides", (1,))) == {1}
    if weight is None or bias is None or weight.dtype != np.float32:
        return None
    if weight.shape[2:] != (1, 1) or settings.get("group", 1) != 1 or not plain:
        return None
    matrix = weight[:, :, 0, 0].astype(np.float64)
    return ChannelMix(node.input[0], matrix, np.broadcast_to(bias, len(weight)), (node,))


def _normalisation(graph: Graph, node: NodeProto, shape: tuple[int, ...]) -> ChannelMix | None:
    values = [graph.constant(name) for name in node.input[1:5]]
    trains = attributes(node).get("training_mode", 0) or any(node.output[1:])
    if trains or any(value is None for value in values):
        return None
    scale, shift, mean, variance = (np.asarray(value, np.float64) for value in values)
    factor = scale / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
    return ChannelMix(node.input[0], np.diag(factor), shift - mean * factor, (node,))


def _product(graph: Graph, node: NodeProto, shape: tuple[int, ...]) -> ChannelMix | None:
    found = _per_channel(graph, node, shape)
    if found is None:
        return None
    source, values = found
    return ChannelMix(source, np.diag(values), np.zeros(shape[1]), (node,))


def _shift(graph: Graph, node: NodeProto, shape: tuple[int, ...]) -> ChannelMix | None:
    found = _per_channel(graph, node, shape)
    if found is None:
        return None
    source, values = found
    return ChannelMix(source, np.eye(shape[1]), values, (node,))


def _per_channel(
    graph: Graph, node: NodeProto, shape: tuple[int, ...]
) -> tuple[str, Matrix] | None:
    """The map that a node reads, and the constant of each channel that it reads beside it."""
    for source, other in (node.input, node.input[::-1]):
        values = graph.constant(other)
        if values is None or values.dtype != np.float32 or graph.shape(source) != shape:
            continue
        channels = values.size == shape[1] and values.shape[-3:] == (shape[1], 1, 1)
        if values.size == 1 or channels:
            return source, np.broadcast_to(values.reshape(-1).astype(np.float64), shape[1])
    return None


def _tokens(graph: Graph, node: NodeProto, shape: tuple[int, ...]) -> ChannelMix | None:
    """A linear layer over tokens `(N, h·w, C)` that become a map, as SegFormer's heads have it.

    reshape(transpose(transpose(reshape(map)) · W + b)), of which each pair may be missing where
    tokens are what the layers before make.
    """
    batch, channels, tall, wide = shape
    chain = [node]

    def back(kind: str, size: tuple[int, ...]) -> NodeProto | None:
        maker = graph.maker(chain[-1].input[0])
        fits = maker is not None and maker.op_type == kind and graph.shape(maker.output[0]) == size
        if maker is None or not fits:
            return None
        chain.append(maker)
        return maker

    turned = back("Transpose", (batch, channels, tall * wide))
    if turned is None or list(attributes(turned).get("perm", ())) != [0, 2, 1]:
        return None
    tokens = turned.input[0]
    bias: Matrix | None = np.zeros(channels)
    maker = graph.maker(tokens)
    if maker is not None and maker.op_type == "Add":
        tokens, bias = _added(graph, maker, channels)
        chain.append(maker)
        maker = graph.maker(tokens)
    if maker is None or maker.op_type != "MatMul" or bias is None:
        return None
    weight = graph.constant(maker.input[1])
    if weight is None or weight.ndim != 2 or weight.dtype != np.float32:
        return None
    chain.append(maker)
    inner = (batch, weight.shape[0], tall * wide)
    flat = graph.maker(maker.input[0])
    if flat is None or flat.op_type != "Transpose":
        return None
    if list(attributes(flat).get("perm", ())) != [0, 2, 1]:
        return None
    chain.append(flat)
    shaped = graph.maker(flat.input[0])
    if shaped is None or shaped.op_type != "Reshape":
        return None
    source = (batch, inner[1], tall, wide)
    if graph.shape(shaped.input[0]) != source or graph.shape(flat.input[0]) != inner:
        return None
    chain.append(shaped)
    matrix = weight.T.astype(np.float64)
    return ChannelMix(shaped.input[0], matrix, bias, tuple(reversed(chain)))


def _added(graph: Graph, node: NodeProto, channels: int) -> tuple[str, Matrix | None]:
    for source, other in (node.input, node.input[::-1]):
        values = graph.constant(other)
        if values is not None and values.size == channels and values.shape[-1:] == (channels,):
            return source, values.reshape(-1).astype(np.float64)
    return node.input[0], None


_READERS: dict[str, Callable[[Graph, NodeProto, tuple[int, ...]], ChannelMix | None]] = {
    "Conv": _convolution,
    "BatchNormalization": _normalisation,
    "Mul": _product,
    "Add": _shift,
    "Reshape": _tokens,
}
