"""Float graph → int8: standard QuantizeLinear / DequantizeLinear pairs that both engines fuse.

The pairs are put in by ONNX Runtime's own quantiser; which layers get them, the ranges, and the
correction of the biases are ours.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from atrous.compiler.form import Form
from atrous.compiler.graph.graph import Graph, attributes
from atrous.compiler.rewrites.commute.writing import INTERPOLATION
from atrous.engines.layer_names import WEIGHTED

Range = tuple[float, float]

_AROUND = ("Add", "Concat", "Relu", "Clip", "MaxPool", "AveragePool", "Reshape", "Transpose")
"""What is kept in int8 between two layers, so that nothing is converted back and forth."""

_JOINING = ("Add", "Concat")
_DECIDING = (
    *("ArgMax", "Cast", "DepthToSpace", "Identity", "LogSoftmax", "Pad", "Reshape", "Resize"),
    *("Sigmoid", "Slice", "Softmax", "Squeeze", "Transpose", "Unsqueeze", "Upsample", *_JOINING),
)
"""What may stand between scores and an output."""

_LEVELS = {8: 127, 7: 64}


@dataclass(frozen=True, slots=True)
class ConvLayer:
    """A node with constant weights.

    Attributes:
        name: of its output tensor, which names the layer.
        operator: as `Conv`.
        source: its input tensor.
        weight: its weights: `(O, C / groups, kh, kw)`, or `(K, N)` for matrix products.
        bias: its bias, empty if it has none.
        rounded: its weights as int8 is to hold them, `None` for those of the nearest steps.
    """

    name: str
    operator: str
    source: str
    weight: str
    bias: str
    rounded: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)


def layers(graph: Graph) -> list[ConvLayer]:
    """The layers of a graph that can be quantised, in its order.

    Left out are the products with interpolation matrices that the rewrite `commute-enlargement`
    writes: in int8 they lose more than they gain, as their operands would have to be converted.
    """
    found = []
    for node in graph.nodes:
        if node.op_type not in WEIGHTED or node.domain not in ("", "ai.onnx"):
            continue
        weight = graph.constant(node.input[1])
        if (
            weight is None
            or weight.dtype != np.float32
            or graph.constant(node.input[0]) is not None
        ):
            continue
        if node.op_type == "MatMul" and (weight.ndim != 2 or node.input[1].endswith(INTERPOLATION)):
            continue
        bias = node.input[2] if len(node.input) > 2 else ""
        found.append(ConvLayer(node.output[0], node.op_type, node.input[0], node.input[1], bias))
    return found


def tensors(graph: Graph) -> list[str]:
    """The tensors whose ranges `insert` may ask for, whichever layers are chosen."""
    found = layers(graph)
    region = _region(graph, {layer.name for layer in found})
    names = {layer.source for layer in found}
    for node in graph.nodes:
        if node.output[0] in region:
            joined = node.input if node.op_type in ("Add", "Concat") else node.input[:1]
            names.update([*joined, node.output[0]])
    made = [*graph.inputs, *(name for node in graph.nodes for name in node.output)]
    return [name for name in made if name in names]


def exact_tensors(graph: Graph, left: Collection[str]) -> set[str]:
    """The tensors that layers in float have to read as they are.

    What makes a layer noisy is often the range of its input, and the pair of quantisers that
    another layer puts behind its result does the same harm.

    Args:
        graph: float.
        left: names of the layers that stay in float for the sake of accuracy.
    """
    exact = {layer.source for layer in layers(graph) if layer.name in left}
    for node in reversed(graph.nodes):
        if node.op_type in _AROUND and node.op_type != "Add" and node.output[0] in exact:
            exact.update(node.input if node.op_type == "Concat" else node.input[:1])
    return exact


def results(graph: Graph) -> set[str]:
    """The tensors that the outputs are, or are enlarged, laid out, added or decided from.

    A layer that gives one of them in bytes gives scores of 256 steps: two classes tie over whole
    regions, and where the steps are enlarged, edges of the class map become stairs.
    """
    found = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.output[0] not in found:
            continue
        if node.op_type == "MatMul" and any(name.endswith(INTERPOLATION) for name in node.input):
            found.update(node.input)
        elif node.op_type in _DECIDING:
            found.update(node.input if node.op_type in _JOINING else node.input[:1])
    return found


def rounded(weight: NDArray[np.float32], axis: int | None, bits: int = 8) -> NDArray[np.float32]:
    """Weights of the nearest steps of int8: symmetric, one scale for each index of `axis`.

    Args:
        weight: any shape.
        axis: of the output channels; `None` for one scale for all.
        bits: 8, or 7 for processors whose int8 products saturate.
    """
    scale = _scale(weight, axis, bits)
    values: NDArray[np.float32] = (np.round(weight / scale) * scale).astype(np.float32)
    return values


def _scale(weight: NDArray[np.float32], axis: int | None, bits: int) -> NDArray[np.float32]:
    others = tuple(i for i in range(weight.ndim) if axis is None or i != axis % weight.ndim)
    scale: NDArray[np.float32] = np.abs(weight).max(axis=others, keepdims=True)
    scale = scale / np.float32(_LEVELS[bits])
    scale[scale == 0] = 1
    return scale


def scales(graph: Graph, layer: ConvLayer, form: Form) -> tuple[NDArray[np.float32], int]:
    """The step of each weight of a layer, for its shape to be spread over, and the last of them."""
    weight = np.asarray(graph.constant(layer.weight))
    axis = _output_axis(graph, layer) if form.per_channel else None
    return _scale(weight, axis, form.bits), _LEVELS[form.bits]


def rounded_weight(graph: Graph, layer: ConvLayer, form: Form) -> NDArray[np.float32]:
    """The weights of a layer as int8 holds them."""
    if layer.rounded is not None:
        return layer.rounded
    weight = np.asarray(graph.constant(layer.weight))
    return rounded(weight, _output_axis(graph, layer) if form.per_channel else None, form.bits)


def _output_axis(graph: Graph, layer: ConvLayer) -> int:
    """The axis of a layer's weights that counts its output channels."""
    if layer.operator == "ConvTranspose":
        return 1
    node = graph.maker(layer.name)
    if layer.operator == "Gemm" and node is not None:
        return 0 if attributes(node).get("transB", 0) else 1
    return 1 if layer.operator == "MatMul" else 0


def correct_biases(
    graph: Graph,
    chosen: Collection[ConvLayer],
    means: Mapping[str, NDArray[np.float64]],
    form: Form,
) -> int:
    """Take the mean error that rounding the weights makes off the biases of convolutions.

    Inputs are mostly positive, after a ReLU, so that errors of weights do not cancel: the mean of
    each output shifts by `Σ (rounded - weight) · mean(input)` (arXiv:1906.04721, section 4.2).

    Args:
        graph: changed in place.
        chosen: the layers that will be quantised.
        means: of each channel of their inputs.
        form: of the weights.

    Returns:
        How many biases were corrected.
    """
    corrected = 0
    for layer in chosen:
        mean, node = means.get(layer.source), graph.maker(layer.name)
        if layer.operator != "Conv" or mean is None or node is None:
            continue
        weight = np.asarray(graph.constant(layer.weight))
        error = (rounded_weight(graph, layer, form) - weight).sum(axis=tuple(range(2, weight.ndim)))
        groups = attributes(node).get("group", 1)
        # Output channel o of group g reads the g-th part of the input channels.
        parts = mean.reshape(groups, -1)[np.arange(len(weight)) // (len(weight) // groups)]
        shift = (error * parts).sum(axis=1)
        old = graph.constant(layer.bias) if layer.bias else np.zeros(len(weight), np.float32)
        if old is None:
            continue
        stored = graph.add_constant((old - shift).astype(np.float32), f"{layer.weight}_bias")
        del node.input[2:]
        node.input.append(stored)
        corrected += 1
    graph.refresh()
    return corrected


def insert(
    graph: Graph,
    chosen: Collection[ConvLayer],
    ranges: Mapping[str, Range],
    form: Form,
    exact: Collection[str] = (),
) -> onnx.ModelProto:
    """Write the model with quantised layers.

    Args:
        graph: float; left as it is.
        chosen: the layers to quantise.
        ranges: lowest and highest value to represent of every activation tensor.
        form: to write it in.
        exact: tensors that float nodes read unquantised, see `exact_tensors`.
    """
    if not chosen:
        return graph.to_model()  # to the quantiser, no name at all means every node
    names = {layer.name for layer in chosen}
    graph = _own_weights(graph, {layer.name: layer for layer in chosen})
    quantised = _region(graph, names) - (set(exact) - names - _sums(graph))
    model = graph.to_model()
    for node in model.graph.node:
        node.name = node.output[0]
    data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    options: dict[str, object] = {"WeightSymmetric": True, "ActivationSymmetric": form.symmetric}
    if form.symmetric:
        options |= {"QuantizeBias": False, "AddQDQPairToWeight": False, "DedicatedQDQPair": True}
        options |= {"OpTypesToExcludeOutputQuantization": list(WEIGHTED)}
    quiet = logging.getLogger()
    level = quiet.level
    quiet.setLevel(logging.ERROR)  # it advises to run a preprocessing that the rewrites are
    try:
        quantiser = QDQQuantizer(
            onnx.shape_inference.infer_shapes(model),
            form.per_channel,
            form.bits == 7,
            QuantType.QInt8,
            QuantType.QInt8 if form.symmetric else QuantType.QUInt8,
            TensorsData(CalibrationMethod.MinMax, data),
            sorted(quantised),
            [],
            [*WEIGHTED, *_AROUND],
            options,
        )
        quantiser.quantize_model()
    finally:
        quiet.setLevel(level)
    quantiser.model.topological_sort()
    written = Graph(quantiser.model.model)
    _read_unquantised(written, quantised, exact, float_outputs=form.float_outputs)
    written.refresh()
    return written.to_model()


def _own_weights(graph: Graph, chosen: Mapping[str, ConvLayer]) -> Graph:
    """A copy in which quantised layers have rounded weights, and no layer in float reads theirs."""
    graph = Graph(graph.to_model())
    for node in graph.nodes:
        layer = chosen.get(node.output[0])
        if layer is None:
            continue
        shared = any(reader.output[0] not in chosen for reader in graph.readers(node.input[1]))
        if shared or layer.rounded is not None:
            values = np.asarray(graph.constant(node.input[1]))
            values = values if layer.rounded is None else layer.rounded
            node.input[1] = graph.add_constant(values, node.input[1])
    graph.refresh()
    return graph


def _region(graph: Graph, chosen: set[str]) -> set[str]:
    """Names of the nodes between quantised layers that work on their numbers as they are."""
    around = {node.output[0] for node in graph.nodes if node.op_type in _AROUND}
    quantised = set(chosen)
    # A node in between is worth it if something int8 makes one of its inputs and reads its output.
    made, read = set(chosen), set(chosen)
    for node in graph.nodes:
        if node.output[0] in around and any(name in made for name in node.input):
            made.add(node.output[0])
    for node in reversed(graph.nodes):
        readers = graph.readers(node.output[0])
        if node.output[0] in around and any(reader.output[0] in read for reader in readers):
            read.add(node.output[0])
    follows = {
        node.output[0]
        for node in graph.nodes
        if node.op_type in ("Relu", "Clip") and node.input[0] in chosen
    }
    return quantised | (made & read) | follows


def _sums(graph: Graph) -> set[str]:
    return {node.output[0] for node in graph.nodes if node.op_type == "Add"}


def _read_unquantised(
    graph: Graph, quantised: Collection[str], exact: Collection[str], *, float_outputs: bool
) -> None:
    """Lead float nodes around the pairs of the tensors that they read.

    Args:
        graph: changed in place.
        quantised: names of the nodes that work in int8.
        exact: the tensors.
        float_outputs: do so for every layer whose result is only read in float, too.
    """
    for node in list(graph.nodes):
        quantise = graph.maker(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if quantise is None or quantise.op_type != "QuantizeLinear":
            continue
        source, maker = quantise.input[0], graph.maker(quantise.input[0])
        readers = graph.readers(node.output[0])
        last = float_outputs and maker is not None and maker.op_type in WEIGHTED
        if maker is not None and source != maker.name:
            if last and maker.name in graph.outputs and maker.name == node.output[0]:
                _give_unquantised(graph, maker, quantise, node)
            continue  # the pair stands for an activation that the quantiser took out
        floats = [reader for reader in readers if reader.name not in quantised]
        if source in exact or (last and len(floats) == len(readers)):
            for reader in floats:
                for at, name in enumerate(reader.input):
                    if name == node.output[0]:
                        reader.input[at] = source


def _give_unquantised(
    graph: Graph, maker: onnx.NodeProto, quantise: onnx.NodeProto, back: onnx.NodeProto
) -> None:
    """Make a layer give an output of the graph as it is; other readers keep the pair."""
    result = back.output[0]
    pair = graph.free_name(f"{result}_bytes")
    graph.redirect(result, pair)
    back.output[0], quantise.input[0], maker.output[0] = pair, result, result
