"""Small ONNX graphs written by hand, run and compared."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from atrous.compiler.graph.graph import Graph
from atrous.compiler.int8 import qdq
from atrous.engines import processor

Array = NDArray[Any]
Span = tuple[float, float]

CLOSE = 1e-5
"""Largest difference that counts as equal, as a share of the values' range."""


BITS = 7 if processor.saturates() else 8
"""Bits of weights with which this processor's sums of int8 products are exact."""


class Sketch:
    """A graph under construction; what adds a tensor returns its name.

    Args:
        opset: version of the operators.
        seed: of the weights.
    """

    def __init__(self, opset: int = 18, seed: int = 0) -> None:
        self._opset = opset
        self._random = np.random.default_rng(seed)
        self._inputs: list[onnx.ValueInfoProto] = []
        self._constants: list[TensorProto] = []
        self.nodes: list[NodeProto] = []

    def input(self, *shape: int | str, dtype: int = TensorProto.FLOAT, name: str = "") -> str:
        name = name or f"x{len(self._inputs)}"
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def constant(self, values: Any, name: str = "", dtype: Any = None) -> str:
        array = np.asarray(values, dtype)
        if dtype is None and array.dtype == np.float64:
            array = array.astype(np.float32)
        name = name or f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape: int, name: str = "") -> str:
        return self.constant(self._random.normal(size=shape), name)

    def positive(self, *shape: int) -> str:
        return self.constant(self._random.uniform(0.5, 2, shape))

    def node(self, kind: str, *inputs: str, name: str = "", count: int = 1, **settings: Any) -> str:
        """Add a node; `count` outputs, of which the first is called `name`."""
        name = name or f"{kind.lower()}{len(self.nodes)}"
        outputs = [name, *(f"{name}.{index}" for index in range(1, count))]
        self.nodes.append(helper.make_node(kind, inputs, outputs, **settings))
        return name

    def conv(self, x: str, channels: int, outputs: int, size: int = 1, **settings: Any) -> str:
        """A convolution with bias that keeps the size, unless `settings` say otherwise."""
        group = settings.get("group", 1)
        weight = self.weight(outputs, channels // group, size, size)
        if "auto_pad" not in settings:
            settings = {"pads": [size // 2] * 4, **settings}
        return self.node("Conv", x, weight, self.weight(outputs), **settings)

    def norm(self, x: str, channels: int, **settings: Any) -> str:
        values = (self.positive(channels), self.weight(channels), self.weight(channels))
        variance = self.positive(channels)
        return self.node("BatchNormalization", x, *values, variance, **settings)

    def resize(self, x: str, *sizes: int, name: str = "", **settings: Any) -> str:
        target = self.constant(sizes, dtype=np.int64)
        settings = {"mode": "linear", **settings}
        return self.node("Resize", x, "", "", target, name=name, **settings)

    def model(
        self, *outputs: str, dtype: int = TensorProto.FLOAT, rank: int | None = None
    ) -> onnx.ModelProto:
        """The finished graph; it declares the ranks of its outputs and not their sizes.

        Args:
            outputs: names of tensors.
            dtype: of all of them.
            rank: of all of them, where onnx cannot infer it.
        """
        values = [helper.make_tensor_value_info(name, dtype, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "sketch", self._inputs, values, self._constants)
        others = {node.domain for node in self.nodes} - {""}
        opset = [helper.make_opsetid(name, 1) for name in sorted(others)]
        opset.append(helper.make_opsetid("", self._opset))
        model = helper.make_model(graph, opset_imports=opset, ir_version=10)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
        for value, known in zip(model.graph.output, inferred, strict=True):
            sizes = [None] * (rank or len(known.type.tensor_type.shape.dim))
            value.CopyFrom(helper.make_tensor_value_info(value.name, dtype, sizes))
        return model


def body(
    nodes: Sequence[NodeProto], output: str, inputs: Sequence[onnx.ValueInfoProto] = ()
) -> onnx.GraphProto:
    """A branch of an `If` with one output."""
    value = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    return helper.make_graph(nodes, "body", inputs, [value])


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def feeds(model: onnx.ModelProto, seed: int = 1) -> dict[str, Array]:
    """Random values for every input; free sizes are 8."""
    random = np.random.default_rng(seed)
    weights = {tensor.name for tensor in model.graph.initializer}
    values = {}
    for value in model.graph.input:
        if value.name not in weights:
            kind = value.type.tensor_type
            shape = [dim.dim_value or 8 for dim in kind.shape.dim]
            dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
            values[value.name] = random.normal(size=shape).astype(dtype)
    return values


def spans(model: onnx.ModelProto, seeds: Iterable[int] = range(3)) -> dict[str, Span]:
    """The lowest and highest value, 0 included, of each tensor that quantising may ask for."""
    graph = Graph(model)
    made = [name for name in qdq.tensors(graph) if name not in graph.inputs]
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in made)
    found: dict[str, Span] = {}
    for seed in seeds:
        values = feeds(model, seed)
        values |= dict(zip(made, run(shown, values), strict=True))
        for name, array in values.items():
            low, high = found.get(name, (0.0, 0.0))
            found[name] = min(low, float(array.min())), max(high, float(array.max()))
    return found


def decibels(expected: Array, actual: Array) -> float:
    """Signal-to-noise ratio."""
    assert expected.shape == actual.shape
    noise = float(np.square(expected - actual).mean())
    return 10 * float(np.log10(expected.var() / noise)) if noise else np.inf


def as_written(model: onnx.ModelProto, values: dict[str, Array] | None = None) -> list[Array]:
    """What `run` returns without fused quantiser pairs: the same numbers on every processor."""
    return run(model, values, fused=False)


def run(
    model: onnx.ModelProto, values: dict[str, Array] | None = None, *, fused: bool = True
) -> list[Array]:
    options = onnxruntime.SessionOptions()
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [np.asarray(output) for output in session.run(None, values or feeds(model))]


def assert_same(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """The second is a valid model with the inputs, outputs and values of the first."""
    onnx.checker.check_model(after, full_check=True)
    weights = {tensor.name for tensor in before.graph.initializer}
    inputs = [value.name for value in before.graph.input if value.name not in weights]
    assert [value.name for value in after.graph.input] == inputs
    assert list(after.graph.output) == list(before.graph.output)
    values = feeds(before)
    for expected, actual in zip(run(before, values), run(after, values), strict=True):
        assert actual.shape == expected.shape
        assert actual.dtype == expected.dtype
        span = float(np.ptp(expected)) or 1.0
        np.testing.assert_allclose(actual, expected, rtol=0, atol=CLOSE * span)
