"""Float graphs to int8: what is written, what engines make of it, and how close it stays."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from atrous.compiler import rewrites
from atrous.compiler.form import Form
from atrous.compiler.graph.graph import Graph
from atrous.compiler.int8 import qdq
from atrous.compiler.int8.qdq import ConvLayer, correct_biases, rounded
from atrous.compiler.rewrites.commute.writing import INTERPOLATION
from tests.builders.sketch import (
    BITS,
    Array,
    Sketch,
    as_written,
    decibels,
    feeds,
    kinds,
    run,
    spans,
)

CLOSE = 25.0
"""dB that a small random network keeps with every layer in int8."""

PAIR = {"QuantizeLinear", "DequantizeLinear"}
Model = onnx.ModelProto


def quantised(
    model: Model,
    leave: Sequence[str] = (),
    only: Sequence[str] = (),
    exact: Collection[str] = (),
    **settings: Any,
) -> Model:
    """The checked int8 model, all layers chosen but those to leave, or only some."""
    graph = Graph(model)
    chosen = [layer for layer in qdq.layers(graph) if layer.name not in leave]
    chosen = [layer for layer in chosen if not only or layer.name in only]
    before = graph.to_model().SerializeToString()
    written = qdq.insert(graph, chosen, spans(model), Form(**settings), exact)
    assert graph.to_model().SerializeToString() == before
    onnx.checker.check_model(written, full_check=True)
    assert {node.domain for node in written.graph.node} <= {"", "ai.onnx"}
    assert [entry.domain for entry in written.opset_import] == [""]
    return written


def on_openvino(model: Model) -> tuple[Array, dict[str, str]]:
    """The output, and layer → precision as the CPU plugin computes it."""
    ov = pytest.importorskip("openvino")
    core = ov.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
    [output] = compiled(list(feeds(model).values())).values()
    found = {}
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if "runtimePrecision" in info:
            found[node.get_friendly_name()] = (
                f"{info['layerType'].astype(str)} {info['runtimePrecision'].astype(str)}"
            )
    return np.array(output), found


def optimised(model: Model, folder: Path) -> list[str]:
    """The operators that ONNX Runtime runs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return kinds(onnx.load(folder / "optimised.onnx"))


def mobile() -> Model:
    """A first convolution, two inverted residuals of ReLU6 as `Clip`, pooling, and a head."""
    draft = Sketch()
    low, high = draft.constant(np.float32(0)), draft.constant(np.float32(6))

    def relu6(name: str) -> str:
        return draft.node("Clip", name, low, high)

    x = draft.input(1, 3, 32, 32)
    x = relu6(draft.conv(x, 3, 8, size=3, strides=[2, 2]))
    for _ in range(2):
        wide = relu6(draft.conv(x, 8, 16))
        deep = relu6(draft.conv(wide, 16, 16, size=3, group=16))
        x = draft.node("Add", x, draft.conv(deep, 16, 8))
    pooled = draft.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    branches = [draft.node("Relu", draft.conv(pooled, 8, 4)) for _ in range(2)]
    joined = draft.node("Concat", *branches, axis=1)
    return draft.model(draft.resize(draft.conv(joined, 8, 3), 1, 3, 32, 32), rank=4)


def chain(make: Callable[[Sketch, str], str]) -> Model:
    """A convolution, something, and a convolution over 8 channels of 16×16."""
    draft = Sketch()
    x = draft.node("Relu", draft.conv(draft.input(1, 3, 16, 16), 3, 8, size=3))
    return draft.model(draft.conv(make(draft, x), 8, 4, size=3), rank=4)


def transposed(draft: Sketch, x: str) -> str:
    shape = draft.constant([1, 8, 256], dtype=np.int64)
    back = draft.constant([1, 8, 16, 16], dtype=np.int64)
    flat = draft.node("Transpose", draft.node("Reshape", x, shape), perm=[0, 2, 1])
    flat = draft.node("MatMul", flat, draft.weight(8, 8))
    return draft.node("Reshape", draft.node("Transpose", flat, perm=[0, 2, 1]), back)


def gemm(draft: Sketch, x: str, across: bool) -> str:
    back = draft.constant([1, 8, 16, 16], dtype=np.int64)
    rows = draft.node("Reshape", x, draft.constant([128, 16], dtype=np.int64))
    weight = draft.weight(24, 16) if across else draft.weight(16, 24)
    mixed = draft.node("Gemm", rows, weight, draft.weight(24), transB=int(across))
    mixed = draft.node("Relu", mixed)
    return draft.node("Reshape", draft.node("MatMul", mixed, draft.weight(24, 16)), back)


BETWEEN: dict[str, Callable[[Sketch, str], str]] = {
    "depthwise": lambda d, x: d.conv(x, 8, 8, size=3, group=8),
    "grouped": lambda d, x: d.conv(x, 8, 8, size=3, group=2),
    "dilated": lambda d, x: d.conv(x, 8, 8, size=3, dilations=[2, 2], pads=[2] * 4),
    "transposed convolution": lambda d, x: d.node("ConvTranspose", x, d.weight(8, 8, 1, 1)),
    "matrix product": transposed,
    "gemm": lambda d, x: gemm(d, x, False),
    "gemm, transposed": lambda d, x: gemm(d, x, True),
    "average": lambda d, x: d.node(
        "AveragePool", d.conv(x, 8, 8), kernel_shape=[3, 3], pads=[1] * 4
    ),
    "maximum, then activation": lambda d, x: d.node(
        "Relu", d.node("MaxPool", d.conv(x, 8, 8), kernel_shape=[3, 3], pads=[1] * 4)
    ),
    "sum with a constant": lambda d, x: d.node("Add", d.conv(x, 8, 8), d.weight(1, 8, 1, 1)),
    "activation after a sum": lambda d, x: d.node("Relu", d.node("Add", x, d.conv(x, 8, 8))),
    "float between": lambda d, x: d.node("Sigmoid", d.conv(x, 8, 8)),
    "activation beside another reader": lambda d, x: d.node(
        "Sub", d.node("Relu", c := d.conv(x, 8, 8)), c
    ),
}


@pytest.mark.parametrize("settings", [{}, {"bits": 7}, {"per_channel": False}], ids=str)
@pytest.mark.parametrize("float_outputs", [False, True])
def test_stays_close_and_is_int8_on_onnxruntime(
    tmp_path: Path, settings: dict[str, Any], float_outputs: bool
) -> None:
    model = mobile()
    settings = {"bits": BITS, **settings}
    written = quantised(model, float_outputs=float_outputs, **settings)
    assert decibels(*run(model), *run(written)) > CLOSE - 6 * (settings != {"bits": 8})
    operators = optimised(written, tmp_path)
    floats = operators.count("Conv") + operators.count("FusedConv")
    assert floats == int(float_outputs)  # of the head, whose result stays in float
    assert operators.count("QLinearConv") == len(qdq.layers(Graph(model))) - floats
    assert "Clip" not in operators
    assert {"QLinearAdd", "QLinearConcat", "MaxPool"} <= set(operators)


def test_stays_close_and_is_int8_on_openvino() -> None:
    model = mobile()
    written = quantised(model, float_outputs=True, bits=BITS)
    output, precisions = on_openvino(written)
    [expected] = run(model)
    assert decibels(expected, output) > CLOSE - 6 * (BITS == 7)
    convolutions = [text for text in precisions.values() if text.startswith("Convolution")]
    assert len(convolutions) == len(qdq.layers(Graph(model)))
    assert all(text.endswith(("i8", "u8")) for text in convolutions)


@pytest.mark.parametrize("name", BETWEEN)
def test_what_lies_between(name: str) -> None:
    model = chain(BETWEEN[name])
    [expected] = run(model)
    for settings in ({}, {"float_outputs": True}, {"bits": 7}):
        written = quantised(model, **settings)
        assert kinds(written).count("QuantizeLinear") >= 2
        [actual] = as_written(written)
        assert decibels(expected, actual) > CLOSE - 6 * ("bits" in settings), settings
    output, _ = on_openvino(written)
    assert decibels(actual, output) > CLOSE


LAYERS = [layer.name for layer in qdq.layers(Graph(mobile()))]


@pytest.mark.parametrize("float_outputs", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_any_layer_may_stay_in_float(name: str, float_outputs: bool) -> None:
    model = mobile()
    written = quantised(model, [name], float_outputs=float_outputs, bits=BITS)
    [weight] = [node.input[1] for node in model.graph.node if node.output[0] == name]
    assert any(weight in node.input for node in written.graph.node)
    output, _ = on_openvino(written)
    for found in (output, *run(written)):
        assert decibels(*run(model), found) > CLOSE - 6 * (BITS == 7)


@pytest.mark.parametrize("name", LAYERS)
def test_any_layer_may_be_alone(name: str) -> None:
    model = mobile()
    for float_outputs in (False, True):
        written = quantised(model, only=[name], float_outputs=float_outputs)
        assert decibels(*run(model), *as_written(written)) > CLOSE
        stored = [t for t in written.graph.initializer if t.data_type == onnx.TensorProto.INT8]
        assert [len(t.dims) for t in stored if len(t.dims) > 1] == [4]


def test_no_layer_at_all() -> None:
    model = mobile()
    assert not PAIR & set(kinds(quantised(model, LAYERS)))
    np.testing.assert_array_equal(*run(model), *run(quantised(model, LAYERS)))


def weights(model: Model) -> dict[str, tuple[Array, Array, Array]]:
    """Layer → its stored weights, scales and zero points; in the order of the graph."""
    graph = Graph(model)
    found = {}
    for node in graph.nodes:
        if node.op_type in qdq.WEIGHTED:
            back = graph.maker(node.input[1])
            assert back is not None
            stored, scale, zero = (np.asarray(graph.constant(name)) for name in back.input)
            found[node.name] = (stored, scale, zero)
    return found


@pytest.mark.parametrize(("bits", "most"), [(8, 127), (7, 64)])
@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_as_stored(bits: int, most: int, per_channel: bool) -> None:
    model = mobile()
    graph = Graph(model)
    stored = weights(quantised(model, bits=bits, per_channel=per_channel))
    for layer in qdq.layers(graph):
        values, scale, zero = stored[layer.name]
        assert values.dtype == np.int8
        assert not zero.any()
        assert np.abs(values).max() == most
        assert scale.shape == ((len(values),) if per_channel else ())
        exact = values * scale.reshape(-1, 1, 1, 1)
        axis = 0 if per_channel else None
        ours = rounded(np.asarray(graph.constant(layer.weight)), axis, bits)
        np.testing.assert_allclose(exact, ours, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "count", "axis"),
    [
        (BETWEEN["matrix product"], 8, 1),
        (BETWEEN["gemm"], 24, 1),
        (BETWEEN["gemm, transposed"], 24, 0),
        (lambda d, x: d.conv(d.node("ConvTranspose", x, d.weight(8, 5, 1, 1)), 5, 8), 5, 1),
    ],
)
def test_scales_count_output_channels(
    make: Callable[[Sketch, str], str], count: int, axis: int
) -> None:
    model = chain(make)
    graph = Graph(model)
    layer = qdq.layers(graph)[1]
    assert layer.operator != "Conv"
    values, scale, _ = weights(quantised(model))[layer.name]
    assert scale.shape == (count,)
    shape = [-1 if index == axis else 1 for index in range(values.ndim)]
    ours = qdq.rounded_weight(graph, layer, Form())
    np.testing.assert_allclose(values * scale.reshape(shape), ours, rtol=1e-6)


def test_the_symmetric_form() -> None:
    model = mobile()
    written = quantised(model, symmetric=True)
    assert decibels(*run(model), *as_written(written)) > CLOSE - 6
    graph = Graph(written)
    activations = 0
    for node in graph.nodes:
        if node.op_type in PAIR:
            zero = graph.constant(node.input[2])
            assert zero is not None
            assert zero.dtype == np.int8
            assert not zero.any()
        if node.op_type == "QuantizeLinear":
            activations += 1
            maker = graph.maker(node.input[0])
            # Each pair has one reader; an activation comes before it, not the layer itself.
            [back] = graph.readers(node.output[0])
            assert back.op_type == "DequantizeLinear"
            assert len(graph.readers(back.output[0])) == 1
            assert graph.constant(node.input[1]).ndim == 0  # type: ignore[union-attr]
            added = graph.readers(back.output[0])[0].op_type in ("Add", "Concat")
            assert maker is None or maker.op_type != "Conv" or added
        if node.op_type == "Conv":
            [values, bias] = [graph.maker(name) for name in node.input[1:]]
            assert values is not None
            assert values.op_type == "DequantizeLinear"
            assert np.asarray(graph.constant(values.input[0])).dtype == np.int8
            assert bias is None
            assert np.asarray(graph.constant(node.input[2])).dtype == np.float32
    assert activations >= len(LAYERS)
    assert kinds(written).count("Clip") == kinds(model).count("Clip")


def test_the_other_form_has_bytes_without_sign_and_biases_in_int32() -> None:
    written = quantised(mobile())
    graph = Graph(written)
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear":
            assert np.asarray(graph.constant(node.input[2])).dtype == np.uint8
        if node.op_type == "Conv":
            bias = graph.maker(node.input[2])
            assert bias is not None
            assert np.asarray(graph.constant(bias.input[0])).dtype == np.int32


def pairs(model: Model) -> list[str]:
    """The tensors that are quantised, as the float graph calls them."""
    names = [node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    return [name.removesuffix("_QuantizeLinear_Input") for name in names]


def test_results_for_float_alone_stay_in_float() -> None:
    draft = Sketch()
    x = draft.input(1, 3, 8, 8)
    one, both = draft.conv(x, 3, 4, name="one"), draft.conv(x, 3, 4, name="both")
    mixed = draft.node("Mul", draft.node("Sigmoid", one), draft.node("Sigmoid", both))
    last = draft.conv(draft.node("Add", mixed, draft.conv(both, 4, 4)), 4, 2, name="last")
    model = draft.model(draft.resize(last, 1, 2, 16, 16), rank=4)
    assert {"one", "both", "last"} <= set(pairs(quantised(model)))
    written = quantised(model, float_outputs=True)
    assert {"one", "both", "last"} & set(pairs(written)) == {"both"}
    assert decibels(*run(model), *as_written(written)) > CLOSE


@pytest.mark.parametrize("read", [False, True])
def test_an_output_is_given_as_the_layer_computes_it(read: bool) -> None:
    draft = Sketch()
    x = draft.conv(draft.input(1, 3, 8, 8), 3, 4, name="scores")
    if read:
        draft.conv(x, 4, 4, name="beside")
    model = draft.model("scores", rank=4)
    if read:
        model.graph.output.append(onnx.helper.make_tensor_value_info("beside", 1, None))
    assert "scores" in pairs(quantised(model))
    written = quantised(model, float_outputs=True)
    graph = Graph(written)
    maker = graph.maker("scores")
    assert maker is not None
    assert maker.op_type == "Conv"
    assert ("scores" in pairs(written)) == read  # for the layer that reads bytes
    for expected, actual in zip(run(model), as_written(written), strict=True):
        assert decibels(expected, actual) > CLOSE


@pytest.mark.parametrize("kind", ["Relu", "Clip"])
def test_a_pair_that_stands_for_an_activation_stays(kind: str) -> None:
    """Dropped, the result would be that of a network without the activation, at -18 dB."""
    draft = Sketch()
    bounds = [draft.constant(np.float32(value)) for value in (0, 3)]
    x = draft.conv(draft.input(1, 3, 8, 8), 3, 4)
    x = draft.node(kind, x, *(bounds if kind == "Clip" else []))
    model = draft.model(draft.resize(x, 1, 4, 16, 16), rank=4)
    written = quantised(model, float_outputs=True)
    assert kind not in kinds(written)
    assert decibels(*run(model), *as_written(written)) > CLOSE


def test_what_decides_an_output() -> None:
    draft = Sketch()
    x = draft.node("Relu", draft.conv(draft.input(1, 3, 8, 8), 3, 4), name="features")
    one = draft.node("Cast", draft.conv(x, 4, 4, name="one"), to=1, name="cast")
    two = draft.node("MatMul", draft.conv(x, 4, 4, name="two"), f"x{INTERPOLATION}", name="wide")
    three = draft.conv(draft.conv(x, 4, 4, name="inside"), 4, 4, name="three")
    both = draft.node("Add", one, draft.node("Sub", two, three, name="difference"), name="sum")
    ends = [draft.constant([n], dtype=np.int64) for n in (0, 7, 2)]
    cut = draft.node("Slice", draft.conv(x, 4, 4, name="four"), *ends, name="cut")
    both = draft.node("Concat", both, cut, axis=1, name="joined")
    model = draft.model(draft.node("ArgMax", both, axis=1, name="classes"), rank=4)
    found = qdq.results(Graph(model))
    assert found == {"classes", "joined", "cut", "four", "sum", "cast", "one", "difference"}


def forked() -> Model:
    """A layer `a` behind an activation, whose result the layers `b` and `c` read."""
    draft = Sketch()
    x = draft.node("Relu", draft.conv(draft.input(1, 3, 8, 8), 3, 4, name="a"), name="r")
    both = (draft.conv(x, 4, 4, name=name) for name in ("b", "c"))
    return draft.model(draft.conv(draft.node("Add", *both), 4, 2, name="d"), rank=4)


@pytest.mark.parametrize("settings", [{}, {"float_outputs": True}, {"symmetric": True}], ids=str)
def test_a_tensor_that_is_read_exactly(settings: dict[str, Any]) -> None:
    model = forked()
    exact = qdq.exact_tensors(Graph(model), {"c"})
    assert exact == {"a", "r"}
    graph = Graph(quantised(model, ["c"], exact=exact, **settings))
    reads = {node.name: node.input[0] for node in graph.nodes if node.op_type == "Conv"}
    assert reads["c"] == "r"
    assert reads["b"] != "r"
    activation = graph.maker("r")
    assert activation is not None
    assert activation.op_type == "Relu"
    assert decibels(*run(model), *as_written(graph.to_model())) > CLOSE


def test_a_result_that_one_node_reads_twice() -> None:
    draft = Sketch()
    x = draft.conv(draft.input(1, 3, 8, 8), 3, 4, name="a")
    model = draft.model(draft.conv(draft.node("Mul", x, x), 4, 4), rank=4)
    [product] = [n for n in quantised(model, float_outputs=True).graph.node if n.op_type == "Mul"]
    assert list(product.input) == ["a", "a"]


def test_exactness_goes_back_through_what_passes_values_on() -> None:
    draft = Sketch()
    x = draft.input(1, 4, 8, 8, name="x")
    left, right = draft.conv(x, 4, 2, name="left"), draft.conv(x, 4, 2, name="right")
    joined = draft.node("Concat", draft.node("Relu", left, name="relu"), right, axis=1, name="cat")
    pooled = draft.node("MaxPool", joined, kernel_shape=[1, 1], name="pool")
    added = draft.node("Add", pooled, draft.conv(x, 4, 4, name="more"), name="sum")
    one = draft.conv(draft.node("Sigmoid", pooled, name="gate"), 4, 2, name="one")
    two = draft.conv(added, 4, 2, name="two")
    three = draft.conv(pooled, 4, 2, name="three")
    model = draft.model(draft.node("Sum", one, two, three), rank=4)
    found = {n: qdq.exact_tensors(Graph(model), {n}) for n in ("one", "two", "three", "left")}
    assert found == {
        "one": {"gate"},
        "two": {"sum"},
        "three": {"pool", "cat", "relu", "right", "left"},
        "left": {"x"},
    }
    assert qdq.exact_tensors(Graph(model), ()) == set()


@pytest.mark.parametrize("layout", ["planar", "channels-last"])
def test_interpolation_stays_in_float(layout: Any, tmp_path: Path) -> None:
    draft = Sketch()
    x = draft.input(1, 3, 32, 32)
    low = draft.node("Relu", draft.conv(x, 3, 6, strides=[4, 4], pads=[0] * 4))
    high = draft.node("Relu", draft.conv(low, 6, 12, size=3, strides=[4, 4]))
    both = draft.node("Concat", low, draft.resize(high, 1, 12, 8, 8), axis=1)
    mixed = draft.node("Relu", draft.conv(both, 18, 12, size=3))
    whole = draft.model(draft.resize(draft.conv(mixed, 12, 4), 1, 4, 32, 32), rank=4)
    model, _ = rewrites.apply(whole, layout=layout)
    graph = Graph(model)
    found = qdq.layers(graph)
    assert not [layer for layer in found if layer.weight.endswith(INTERPOLATION)]
    assert len([layer for layer in found if "coarse" in layer.name]) == (
        1 if layout == "planar" else 3
    )
    for float_outputs in (False, True):
        # OpenVINO takes a layer over the pixels out of int8; the compiler leaves it in float.
        written = quantised(model, [found[0].name], float_outputs=float_outputs, bits=BITS)
        for tensor in written.graph.initializer:
            if tensor.name.endswith(INTERPOLATION):
                assert tensor.data_type == onnx.TensorProto.FLOAT
        output, precisions = on_openvino(written)
        for result in (output, *run(written)):
            assert decibels(*run(whole), result) > CLOSE - 6 * (BITS == 7)
    assert sum(tensor.name.endswith(INTERPOLATION) for tensor in written.graph.initializer) == 2
    eight = [text for text in precisions.values() if text.endswith(("i8", "u8"))]
    products = ("Convolution", "FullyConnected", "MatMul")
    assert sum(text.startswith(products) for text in eight) == len(found) - 1
    assert "QLinearConv" in optimised(written, tmp_path)


def test_constants_and_other_types_are_no_layers() -> None:
    draft = Sketch()
    x = draft.input(1, 3, 8, 8)
    fixed = draft.node("Conv", draft.weight(1, 3, 3, 3), draft.weight(3, 3, 1, 1))
    large = draft.node("Resize", fixed, "", "", draft.constant([1, 3, 8, 8], dtype=np.int64))
    added = draft.node("Add", x, large)
    stacked = draft.node("MatMul", added, draft.weight(1, 3, 8, 8))
    dynamic = draft.node("MatMul", stacked, added)
    half = draft.node("Cast", dynamic, to=onnx.TensorProto.DOUBLE)
    half = draft.node("MatMul", half, draft.constant(np.ones((8, 8)), dtype=np.float64))
    back = draft.node("Cast", half, to=onnx.TensorProto.FLOAT)
    only = draft.node("Conv", back, draft.weight(2, 3, 1, 1), name="only")
    model = draft.model(only, rank=4)
    assert qdq.layers(Graph(model)) == [ConvLayer("only", "Conv", back, "c5", "")]
    assert set(qdq.tensors(Graph(model))) == {back, "only"}


def test_a_computed_shape_needs_no_range() -> None:
    """Ranges are of floats: calibration refuses any other tensor."""
    draft = Sketch()
    x = draft.conv(draft.input(1, 3, 8, 8, name="x"), 3, 4, name="a")
    shape = draft.node("Concat", draft.node("Shape", x, end=1), draft.constant([-1, 8, 8]), axis=0)
    x = draft.conv(draft.node("Reshape", x, shape), 4, 4, name="b")
    model = draft.model(x, rank=4)
    assert qdq.tensors(Graph(model)) == ["x", "a", "reshape3", "b"]
    assert "QuantizeLinear" in kinds(quantised(model))


def test_weights_shared_with_a_layer_in_float_stay_exact_there() -> None:
    draft = Sketch()
    x = draft.input(1, 4, 8, 8)
    weight, bias = draft.weight(4, 4, 1, 1, name="w"), draft.weight(4)
    one = draft.node("Conv", x, weight, bias)
    two = draft.node("Conv", draft.node("Sigmoid", one), weight, bias)
    model = draft.model(two, rank=4)
    written = quantised(model, only=[one])
    [last] = [node for node in written.graph.node if node.output[0] == two]
    assert last.input[1] == "w"
    assert decibels(*run(model), *as_written(written)) > CLOSE
    both = quantised(model)
    assert sum(tensor.data_type == onnx.TensorProto.INT8 for tensor in both.graph.initializer) <= 2
    assert decibels(*run(model), *as_written(both)) > CLOSE


def test_biases_larger_than_int32_steps_and_dead_channels() -> None:
    draft = Sketch()
    values = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)
    values[1] = 0
    values[2] *= 1e-8
    x = draft.node(
        "Conv", draft.input(1, 3, 8, 8), draft.constant(values), draft.constant([0, 3, 50, -1.0])
    )
    model = draft.model(draft.conv(x, 4, 3), rank=4)
    [expected], [actual] = run(model), as_written(quantised(model))
    assert np.abs(expected - actual).max() < 0.02 * np.ptp(expected)


def test_rounded_by_hand() -> None:
    weight = np.array([[127, 0.4, -1.6], [0.0, 0.0, 0.0], [63.5, -0.3, 0.2]], np.float32)
    np.testing.assert_allclose(rounded(weight, 0), [[127, 0, -2], [0, 0, 0], [63.5, -0.5, 0]])
    np.testing.assert_allclose(rounded(weight, -1)[:, 0], [127, 0, 64])
    np.testing.assert_allclose(rounded(weight, None), [[127, 0, -2], [0, 0, 0], [64, 0, 0]])
    coarse = rounded(np.array([[64, 0.6, -0.4]], np.float32), 0, bits=7)
    np.testing.assert_allclose(coarse, [[64, 1, 0]])
    assert rounded(weight, 0).dtype == np.float32


def one_conv(weight: Array, bias: Array | None, channels: int, **settings: Any) -> Model:
    draft = Sketch()
    inputs = [draft.input(1, channels, 4, 4, name="x"), draft.constant(weight, "w")]
    inputs += [] if bias is None else [draft.constant(bias, "b")]
    return draft.model(draft.node("Conv", *inputs, name="y", **settings), rank=4)


@pytest.mark.parametrize(
    ("weight", "bias", "group", "means", "expected"),
    [
        # 127 makes the scale 1: 0.4 becomes 0 and 1.7 becomes 2.
        ([[127, 0.4], [1.7, 127]], [1, 1], 1, [10, 20], [1 + 8, 1 - 3]),
        ([[127, 0.4], [1.7, 127]], None, 1, [10, 20], [8, -3]),
        ([[127, 0.4], [127, 1.7]], [0, 1], 2, [1, 10, 100, 1000], [4, 1 - 300]),
        ([[127], [63.5], [127]], [1, 2, 3], 3, [1, 2, 3], [1, 2, 3]),
    ],
    ids=["dense", "without a bias", "two groups", "depthwise and exact"],
)
def test_bias_correction_by_hand(
    weight: list[list[float]],
    bias: list[float] | None,
    group: int,
    means: list[float],
    expected: list[float],
) -> None:
    values = np.array(weight, np.float32)[:, :, None, None]
    given = None if bias is None else np.array(bias, np.float32)
    graph = Graph(one_conv(values, given, len(means), group=group))
    done = correct_biases(graph, qdq.layers(graph), {"x": np.array(means, np.float64)}, Form())
    assert done == 1
    [node] = graph.nodes
    np.testing.assert_allclose(graph.constant(node.input[2]), expected, rtol=1e-5)
    onnx.checker.check_model(graph.to_model(), full_check=True)


def test_bias_correction_with_one_scale_for_all() -> None:
    values = np.array([[127, 0], [63.4, 0]], np.float32)[:, :, None, None]
    graph = Graph(one_conv(values, None, 2))
    correct_biases(graph, qdq.layers(graph), {"x": np.array([10.0, 0])}, Form(per_channel=False))
    [node] = graph.nodes
    np.testing.assert_allclose(graph.constant(node.input[2]), [0, 4], rtol=1e-4)


def test_taps_of_a_depthwise_kernel_add_up() -> None:
    values = np.zeros((2, 1, 3, 3), np.float32)
    values[:, 0] = [[127, 0.4, 0.4], [0.4, 0, 0], [0, 0, 0]]
    graph = Graph(one_conv(values, None, 2, group=2, pads=[1] * 4))
    correct_biases(graph, qdq.layers(graph), {"x": np.array([10.0, -1.0])}, Form())
    [node] = graph.nodes
    np.testing.assert_allclose(graph.constant(node.input[2]), [12, -1.2], rtol=1e-5)


def test_shared_biases_and_weights_are_corrected_for_each_layer() -> None:
    draft = Sketch()
    x, y = draft.input(1, 2, 4, 4), draft.input(1, 2, 4, 4)
    weight = draft.constant(np.array([[127, 0.4], [1.7, 127]])[:, :, None, None])
    bias = draft.constant([1.0, 1.0])
    one, two = (draft.node("Conv", name, weight, bias) for name in (x, y))
    model = draft.model(draft.node("Add", one, two), rank=4)
    graph = Graph(model)
    means = {x: np.array([10.0, 20.0]), y: np.array([100.0, 0.0])}
    assert correct_biases(graph, qdq.layers(graph), means, Form()) == 2
    found = [graph.constant(node.input[2]) for node in graph.nodes if node.op_type == "Conv"]
    np.testing.assert_allclose(found[0], [9, -2], atol=1e-4)
    np.testing.assert_allclose(found[1], [1, 1 - 30], atol=1e-4)


def test_what_cannot_be_corrected_is_left() -> None:
    draft = Sketch()
    x = draft.input(1, 4, 4, 4, name="x")
    computed = draft.node("Reshape", draft.node("ReduceMax", x, keepdims=0), draft.constant([-1]))
    wide = draft.node("Expand", computed, draft.constant([4]))
    one = draft.node("Conv", x, draft.weight(4, 4, 1, 1), wide)
    two = draft.conv(one, 4, 4)
    three = draft.node("ConvTranspose", two, draft.weight(4, 4, 1, 1))
    graph = Graph(draft.model(three, rank=4))
    found = qdq.layers(graph)
    means = {"x": np.ones(4), two: np.ones(4)}
    before = graph.to_model().SerializeToString()
    assert correct_biases(graph, found, means, Form()) == 0
    assert graph.to_model().SerializeToString() == before


def test_correction_reduces_the_mean_error() -> None:
    draft = Sketch(seed=3)
    x = draft.node("Relu", draft.conv(draft.input(1, 3, 32, 32), 3, 16, size=3), name="x")
    model = draft.model(draft.conv(x, 16, 16, size=3, pads=[0] * 4, name="y"), rank=4)
    graph = Graph(model)
    [layer] = [layer for layer in qdq.layers(graph) if layer.name == "y"]
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(onnx.helper.make_empty_tensor_value_info("x"))
    values = run(shown)[1]
    means = {"x": values.mean(axis=(0, 2, 3), dtype=np.float64)}

    def error(correct: bool) -> float:
        changed = Graph(model)
        if correct:
            correct_biases(changed, [layer], means, Form(bits=7))
        node = changed.maker("y")
        assert node is not None
        weight = np.asarray(changed.constant(layer.weight))
        node.input[1] = changed.add_constant(rounded(weight, 0, 7), "rounded")
        [expected], [actual] = run(model), run(changed.to_model())
        return float(np.abs((actual - expected).mean(axis=(0, 2, 3))).mean())

    assert error(True) < error(False) / 10


def test_the_same_bytes_every_time() -> None:
    model = mobile()
    assert quantised(model).SerializeToString() == quantised(model).SerializeToString()


def test_weights_become_a_quarter() -> None:
    draft = Sketch()
    x = draft.conv(draft.input(1, 64, 8, 8), 64, 64, size=3)
    model = draft.model(draft.conv(x, 64, 64, size=3), rank=4)
    written = quantised(model)
    assert written.ByteSize() < 0.3 * model.ByteSize()
    floats = [
        numpy_helper.to_array(tensor).size
        for tensor in written.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    ]
    assert max(floats) == 64
