"""How much noise quantisation makes in each layer, taken by itself."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import NodeProto, helper

from atrous.compiler.form import Form
from atrous.compiler.graph.graph import Graph, showing
from atrous.compiler.int8.qdq import ConvLayer, Range, rounded_weight
from atrous.engines.session import open_session

SUSPECT = 30.0
"""Layers that are noisier than this by themselves, in dB, are looked at on the logits."""

LOUD = 25.0
"""Layers that alone make the logits noisier than this, in dB, are judged by the class maps."""


def local(
    graph: Graph,
    chosen: Collection[ConvLayer],
    ranges: Mapping[str, Range],
    batches: Iterable[NDArray[np.generic]],
    form: Form,
) -> dict[str, float]:
    """Signal-to-noise ratio of every layer if it alone were quantised.

    Each layer gets a twin that reads the same float tensor through a pair of quantisers and has
    rounded weights; the difference of the two is the noise. What a layer inherits from the layers
    before it does not count, so that one run measures all of them.

    Args:
        graph: float, in its final form; left as it is.
        chosen: the layers to measure.
        ranges: of their inputs.
        batches: inputs of the network.
        form: of the weights.

    Returns:
        Name of the layer → dB: variance of its output, channel by channel, over the mean square of
        the noise; `inf` without noise, `-inf` without signal.
    """
    twins = Graph(graph.to_model())
    pairs: dict[str, str] = {}
    sums: list[str] = []
    for layer in chosen:
        node = twins.maker(layer.name)
        assert node is not None
        if layer.source not in pairs:
            pairs[layer.source] = _through_bytes(twins, layer.source, ranges[layer.source])
        exact = rounded_weight(twins, layer, form)
        twin = NodeProto()
        twin.CopyFrom(node)
        twin.name = twin.output[0] = f"{layer.name}_twin"
        twin.input[0] = pairs[layer.source]
        twin.input[1] = twins.add_constant(exact, f"{layer.weight}_twin")
        twins.nodes.append(twin)
        sums += _sums(twins, layer)
    session = _session(twins, sums)
    [name] = twins.inputs
    totals = np.zeros(len(sums))
    for batch in batches:
        totals += [float(value) for value in session.run(sums, {name: batch})]
    # Layers that are joined as they are count together: what is small beside its neighbours may
    # be noisy in itself.
    pooled: dict[str, NDArray[np.float64]] = {}
    groups = [joined(graph, layer) for layer in chosen]
    for at, group in enumerate(groups):
        pooled[group] = pooled.get(group, np.zeros(2)) + totals[2 * at : 2 * at + 2]
    return {
        layer.name: decibels(*pooled[group]) for layer, group in zip(chosen, groups, strict=True)
    }


def on_output(
    graph: Graph,
    chosen: Collection[ConvLayer],
    ranges: Mapping[str, Range],
    batches: Iterable[NDArray[np.generic]],
    form: Form,
) -> float:
    """Signal-to-noise ratio of the network's output, dB, if these layers alone were quantised.

    Args:
        graph: see `local`, like the others.
        chosen: the layers to quantise together.
        ranges: of their inputs.
        batches: inputs of the network.
        form: of the weights.
    """
    noisy = Graph(graph.to_model())
    for layer in chosen:
        node = noisy.maker(layer.name)
        assert node is not None
        before = len(noisy.nodes)
        source = f"{layer.source}_twin_float"
        if not any(source in other.output for other in noisy.nodes):
            _through_bytes(noisy, layer.source, ranges[layer.source])
        # What was appended has to stand before the node that reads it.
        pair, noisy.nodes[before:] = noisy.nodes[before:], []
        at = next(index for index, other in enumerate(noisy.nodes) if other is node)
        noisy.nodes[at:at] = pair
        exact = rounded_weight(noisy, layer, form)
        node.input[0], node.input[1] = source, noisy.add_constant(exact, f"{layer.weight}_twin")
    [name], [output] = graph.inputs, graph.outputs
    exact_session, noisy_session = _session(graph, [output]), _session(noisy, [output])
    signal = error = 0.0
    for batch in batches:
        [expected] = exact_session.run([output], {name: batch})
        [actual] = noisy_session.run([output], {name: batch})
        axes = tuple(axis for axis in range(expected.ndim) if axis != 1)
        signal += float(np.square(expected - expected.mean(axis=axes, keepdims=True)).sum())
        error += float(np.square(expected - actual).sum())
    return decibels(signal, error)


def joined(graph: Graph, layer: ConvLayer) -> str:
    """The `Concat` that alone reads a layer, else the layer itself."""
    reader = graph.only_reader(layer.name)
    return reader.output[0] if reader is not None and reader.op_type == "Concat" else layer.name


def _through_bytes(graph: Graph, source: str, span: Range) -> str:
    """Quantise a tensor to uint8 and back; the name of the result."""
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    scale = np.float32((high - low) / 255 or 1.0)
    zero = np.uint8(np.clip(np.round(-low / scale), 0, 255))
    settings = [
        graph.add_constant(np.array(scale), f"{source}_twin_scale"),
        graph.add_constant(np.array(zero), f"{source}_twin_zero"),
    ]
    stored, back = f"{source}_twin_bytes", f"{source}_twin_float"
    graph.nodes.append(helper.make_node("QuantizeLinear", [source, *settings], [stored]))
    graph.nodes.append(helper.make_node("DequantizeLinear", [stored, *settings], [back]))
    return back


def _sums(graph: Graph, layer: ConvLayer) -> list[str]:
    """Add the sums of squares of a layer's signal and of its twin's noise; their names."""
    rank = len(graph.shape(layer.name) or ()) or 4
    channels = rank - 1 if layer.operator in ("MatMul", "Gemm") else 1
    axes = [axis for axis in range(rank) if axis != channels]
    mean, signal, noise = (f"{layer.name}_twin_{role}" for role in ("mean", "signal", "noise"))
    reduced: dict[str, object] = {"keepdims": 1}
    inputs = [layer.name]
    if graph.opset < 18:
        reduced["axes"] = axes
    else:
        inputs.append(graph.add_constant(np.array(axes, np.int64), f"{layer.name}_twin_axes"))
    graph.nodes += [
        helper.make_node("ReduceMean", inputs, [mean], **reduced),  # type: ignore[arg-type]
        helper.make_node("Sub", [layer.name, mean], [signal]),
        helper.make_node("Sub", [layer.name, f"{layer.name}_twin"], [noise]),
        helper.make_node("ReduceSumSquare", [signal], [f"{signal}_sum"], keepdims=0),
        helper.make_node("ReduceSumSquare", [noise], [f"{noise}_sum"], keepdims=0),
    ]
    return [f"{signal}_sum", f"{noise}_sum"]


def _session(graph: Graph, outputs: list[str]) -> ort.InferenceSession:
    model = showing(graph.to_model(), outputs)
    # Otherwise the pairs and the layers behind them would be fused into int8.
    return open_session(model, "measuring noise", optimised="none")


def decibels(signal: float, noise: float) -> float:
    """A ratio of two sums of squares; `inf` without noise, `-inf` without signal."""
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
