"""Noise of single layers, against NumPy."""

from collections.abc import Sequence

import numpy as np
import onnx
import pytest

from atrous.compiler.form import Form
from atrous.compiler.graph.graph import Graph
from atrous.compiler.int8 import noise, qdq
from atrous.compiler.int8.qdq import Range, rounded
from tests.builders.sketch import Array, Sketch, feeds, run, spans

Model = onnx.ModelProto
FORM = Form()


def batches(model: Model, count: int = 2) -> list[Array]:
    return [value for seed in range(count) for value in feeds(model, seed).values()]


def in_bytes(values: Array, low: float, high: float) -> Array:
    """Values through uint8 and back."""
    scale = (high - low) / 255
    zero = round(-low / scale)
    return (np.clip(np.round(values / scale) + zero, 0, 255) - zero) * scale


def ratio(pairs: Sequence[tuple[Array, Array]]) -> float:
    """Exact and noisy results → dB, as the module defines it for channels on axis 1."""
    signal = error = 0.0
    for exact, noisy in pairs:
        axes = tuple(axis for axis in range(exact.ndim) if axis != 1)
        signal += np.square(exact - exact.mean(axis=axes, keepdims=True)).sum()
        error += np.square(exact - noisy).sum()
    return float(10 * np.log10(signal / error))


def measured(
    model: Model, ranges: dict[str, Range] | None = None, form: Form = FORM
) -> dict[str, float]:
    graph = Graph(model)
    before = graph.to_model().SerializeToString()
    found = noise.local(
        graph,
        qdq.layers(graph),
        ranges or spans(model),
        batches(model),
        form,
    )
    assert graph.to_model().SerializeToString() == before
    return found


def on_output(model: Model, names: Sequence[str], ranges: dict[str, Range] | None = None) -> float:
    graph = Graph(model)
    before = graph.to_model().SerializeToString()
    chosen = [layer for layer in qdq.layers(graph) if layer.name in names]
    found = noise.on_output(graph, chosen, ranges or spans(model), batches(model), FORM)
    assert graph.to_model().SerializeToString() == before
    return found


def pointwise(opset: int = 18) -> tuple[Model, Array, Array]:
    """A 1×1 convolution, its weights and its bias."""
    random = np.random.default_rng(5)
    weight, bias = random.normal(size=(4, 3)).astype(np.float32), np.float32([1, -2, 3, 0])
    weight[2] *= 100
    draft = Sketch(opset)
    x = draft.input(2, 3, 8, 8, name="x")
    kernel = draft.constant(weight[:, :, None, None])
    return draft.model(draft.node("Conv", x, kernel, draft.constant(bias), name="y")), weight, bias


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("span", [(-4.0, 4.0), (0.0, 2.0), (-1.0, 5.0)])
def test_one_layer_by_hand(opset: int, bits: int, per_channel: bool, span: Range) -> None:
    model, weight, bias = pointwise(opset)
    form = Form(per_channel=per_channel, bits=bits)
    exact = weight.astype(np.float64), bias[:, None, None]
    coarse = rounded(weight, 0 if per_channel else None, bits)
    pairs = []
    for x in batches(model):
        clean = np.einsum("oc,nchw->nohw", exact[0], x) + exact[1]
        noisy = np.einsum("oc,nchw->nohw", coarse, in_bytes(x, *span)) + exact[1]
        pairs.append((clean, noisy))
    expected = ratio(pairs)
    [(name, found)] = measured(model, {"x": span}, form).items()
    assert name == "y"
    assert found == pytest.approx(expected, abs=1e-3)
    graph = Graph(model)
    alone = noise.on_output(graph, qdq.layers(graph), {"x": span}, batches(model), form)
    assert alone == pytest.approx(expected, abs=1e-3)


def test_channels_of_matrix_products_come_last() -> None:
    draft = Sketch()
    x = draft.input(1, 6, 3, name="x")
    flat = draft.node("Reshape", x, draft.constant([6, 3], dtype=np.int64))
    across = draft.weight(5, 3, name="across")
    one = draft.node("Gemm", flat, across, draft.positive(5), transB=1, name="one")
    two = draft.node("MatMul", x, draft.weight(3, 4, name="plain"), name="two")
    both = [draft.node("ReduceSum", name, keepdims=0) for name in (one, two)]
    model = draft.model(draft.node("Add", *both), rank=1)
    graph = Graph(model)
    ranges: dict[str, Range] = {"x": (-3, 3), flat: (-3, 3)}
    found = measured(model, ranges)
    for name, weight in (
        ("one", np.asarray(graph.constant("across")).T),
        ("two", np.asarray(graph.constant("plain"))),
    ):
        # NumPy's axis 1 is the channel here.
        pairs = [
            (x[0] @ weight, in_bytes(x[0], -3, 3) @ rounded(weight, 1)) for x in batches(model)
        ]
        assert found[name] == pytest.approx(ratio(pairs), abs=1e-3)


def test_noise_of_earlier_layers_does_not_count() -> None:
    draft = Sketch()
    x = draft.input(1, 3, 8, 8)
    first = draft.conv(x, 3, 4, name="first")
    model = draft.model(draft.conv(first, 4, 4, name="second"), rank=4)
    ranges = spans(model)
    coarse = ranges | {x: (-1000.0, 1000.0)}
    assert measured(model, coarse)["first"] < 5
    assert measured(model, coarse)["second"] == measured(model, ranges)["second"] > 30


def test_output_sees_what_follows() -> None:
    draft = Sketch()
    x = draft.input(1, 3, 8, 8)
    first = draft.conv(x, 3, 4, name="first")
    faint = draft.node("Mul", first, draft.constant(np.float32(1e-3)))
    second = draft.conv(x, 3, 4, name="second")
    model = draft.model(draft.node("Add", second, faint), rank=4)
    both, one, two = (on_output(model, n) for n in (["first", "second"], ["first"], ["second"]))
    assert one > measured(model)["first"] + 40
    assert two == pytest.approx(measured(model)["second"], abs=0.1)
    assert both == pytest.approx(two, abs=0.1)
    assert on_output(model, []) == np.inf


def test_layers_of_one_source_in_any_order() -> None:
    draft = Sketch()
    x = draft.input(1, 3, 8, 8)
    one, two = draft.conv(x, 3, 4, name="one"), draft.conv(x, 3, 4, name="two")
    model = draft.model(draft.node("Add", one, two), rank=4)
    graph = Graph(model)
    chosen = qdq.layers(graph)
    ranges, inputs = spans(model), batches(model)
    ahead = noise.on_output(graph, chosen, ranges, inputs, FORM)
    assert noise.on_output(graph, chosen[::-1], ranges, inputs, FORM) == pytest.approx(ahead)
    assert ahead < on_output(model, ["one"], ranges)
    backwards = noise.local(graph, chosen[::-1], ranges, inputs, FORM)
    assert backwards == pytest.approx(noise.local(graph, chosen, ranges, inputs, FORM))


def test_what_is_joined_counts_together() -> None:
    """A branch of small values, noisy in itself, beside a large one."""
    draft = Sketch()
    x = draft.input(1, 3, 8, 8)
    dim = draft.node("Mul", x, draft.constant(np.float32(0.1)))
    names = [
        draft.conv(dim, 3, 2, name="small"),
        draft.conv(x, 3, 4, name="large"),
        draft.conv(x, 3, 2, name="beside"),
    ]
    joined = draft.node("Concat", *names[:2], axis=1, name="joined")
    also = draft.node("Concat", names[2], draft.node("Relu", names[2]), axis=1)
    model = draft.model(draft.node("Concat", joined, also, axis=1), rank=4)
    ranges: dict[str, Range] = {x: (-4, 4), dim: (-4, 4)}
    graph = Graph(model)
    by_name = {layer.name: layer for layer in qdq.layers(graph)}
    assert {n: noise.joined(graph, one) for n, one in by_name.items()} == {
        "small": "joined",
        "large": "joined",
        "beside": "beside",
    }
    found = measured(model, ranges)
    assert found["small"] == found["large"]
    separate = {
        name: noise.local(graph, [one], ranges, batches(model), FORM)[name]
        for name, one in by_name.items()
    }
    # Measured alone, a layer has nothing to be joined with.
    assert separate["small"] < found["small"] - 6
    assert found["beside"] == separate["beside"]


def test_without_noise_or_without_signal() -> None:
    draft = Sketch()
    x = draft.input(1, 1, 4, 4, name="x")
    kernels = {"exact": [[127.0]], "silent": [[0.0]], "constant": [[0.0]]}
    names = [
        draft.node("Conv", x, draft.constant(np.array(k)[:, :, None, None]), name=name)
        for name, k in kernels.items()
    ]
    vague = draft.node("Conv", draft.node("Mul", x, draft.constant(0.0)), draft.weight(1, 1, 1, 1))
    shifted = draft.node("Add", vague, draft.constant(np.float32(1)))
    offset = draft.node("Conv", shifted, draft.weight(1, 1, 1, 1), name="offset")
    model = draft.model(draft.node("Concat", *names, offset, vague, axis=1), rank=4)
    whole = [np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)]
    graph = Graph(model)
    ranges: dict[str, Range] = {name: (0, 255) for name in qdq.tensors(graph)}
    ranges[shifted] = (0, 2.55 * 0.77)
    for layer in qdq.layers(graph):
        [found] = noise.local(graph, [layer], ranges, whole, FORM).values()
        assert found == (-np.inf if layer.name == "offset" else np.inf), layer.name


def test_a_range_of_nothing_is_no_error() -> None:
    model, _, _ = pointwise()
    [found] = measured(model, {"x": (0.0, 0.0)}).values()
    assert np.isfinite(found)


def test_shared_weights() -> None:
    draft = Sketch()
    x = draft.input(1, 4, 8, 8)
    weight, bias = draft.weight(4, 4, 1, 1), draft.weight(4)
    one = draft.node("Conv", x, weight, bias, name="one")
    two = draft.node("Conv", draft.node("Relu", one), weight, bias, name="two")
    model = draft.model(two, rank=4)
    found = measured(model)
    assert set(found) == {"one", "two"}
    assert all(np.isfinite(value) for value in found.values())
    assert on_output(model, ["two"]) == pytest.approx(found["two"], abs=1e-3)


def test_uint8_inputs() -> None:
    draft = Sketch()
    x = draft.input(1, 3, 8, 8, dtype=onnx.TensorProto.UINT8)
    pixels = draft.node("Cast", x, to=onnx.TensorProto.FLOAT)
    model = draft.model(draft.conv(pixels, 3, 4, name="y"), rank=4)
    images = [np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8)).astype(np.uint8)]
    graph = Graph(model)
    ranges: dict[str, Range] = {pixels: (0, 255)}
    [found] = noise.local(graph, qdq.layers(graph), ranges, images, FORM).values()
    assert 40 < found < np.inf  # bytes are exact: only the weights are rounded
    alone = noise.on_output(graph, qdq.layers(graph), ranges, images, FORM)
    assert alone == pytest.approx(found, abs=1e-3)


def test_quantising_for_real_makes_the_noise_that_was_foretold() -> None:
    draft = Sketch(seed=2)
    x = draft.input(1, 8, 16, 16)
    model = draft.model(draft.conv(x, 8, 8, size=3, name="y"), rank=4)
    graph = Graph(model)
    ranges = spans(model)
    written = qdq.insert(
        graph, qdq.layers(graph), ranges | {"y": (-300, 300)}, Form(float_outputs=True)
    )
    pairs = [(run(model, {x: batch})[0], run(written, {x: batch})[0]) for batch in batches(model)]
    assert measured(model, ranges)["y"] == pytest.approx(ratio(pairs), abs=0.1)
