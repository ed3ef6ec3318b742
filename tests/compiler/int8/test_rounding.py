"""Weights that are rounded together, against those that are rounded one by one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from atrous.compiler.form import Form
from atrous.compiler.graph.graph import Graph
from atrous.compiler.int8 import qdq, rounding
from atrous.compiler.int8.qdq import ConvLayer
from atrous.compiler.progress import silent
from tests.builders.sketch import Array, Sketch, run, spans

Model = onnx.ModelProto
Draw = Callable[[Sketch, str], str]

FORM = Form()


def alike(shape: Sequence[int], seed: int) -> Array:
    """Values along the second and the last axis that rise and fall together, none below zero."""
    random = np.random.default_rng(seed)
    common = random.normal(size=(shape[0], 1, *shape[2:-1], 1)[: len(shape)])
    return np.maximum(1 + common + 0.1 * random.normal(size=shape), 0).astype(np.float32)


def made(draw: Draw, *shape: int, opset: int = 18) -> Model:
    draft = Sketch(opset)
    x = draft.input(*shape, name="x")
    return draft.model(draw(draft, x))


def together(
    model: Model, images: Sequence[Array], form: Form = FORM, left: Sequence[str] = ()
) -> tuple[ConvLayer, ...]:
    graph = Graph(model)
    before = graph.to_model().SerializeToString()
    found = rounding.together(graph, qdq.layers(graph), left, images, form, tell=silent)
    assert graph.to_model().SerializeToString() == before
    return found


def with_weights(model: Model, layers: Sequence[ConvLayer], form: Form = FORM) -> Model:
    """The model with rounded weights, its biases corrected, and all else in float."""
    graph = Graph(model)
    for layer in layers:
        node = graph.maker(layer.name)
        assert node is not None
        node.input[1] = graph.add_constant(qdq.rounded_weight(graph, layer, form), "rounded")
    graph.refresh()
    return graph.to_model()


def error(model: Model, layers: Sequence[ConvLayer], image: Array, form: Form = FORM) -> float:
    """What rounding changes, but for the mean of each channel of a convolution."""
    [exact], [found] = (
        run(model, {"x": image}),
        run(with_weights(model, layers, form), {"x": image}),
    )
    difference = found - exact
    if exact.ndim == 4:
        difference = difference - difference.mean((0, 2, 3), keepdims=True)
    return float(np.square(difference).mean())


def convolution(*shape: int, **attributes: Any) -> Draw:
    return lambda draft, x: draft.node("Conv", x, draft.weight(*shape), **attributes)


CONVOLUTIONS = {
    "1×1": convolution(6, 16, 1, 1),
    "3×3": convolution(6, 16, 3, 3, pads=[1, 1, 1, 1]),
    "strides, dilations and uneven padding": convolution(
        6, 16, 3, 2, pads=[2, 0, 1, 1], strides=[2, 1], dilations=[1, 3]
    ),
    "groups": convolution(8, 4, 3, 3, group=4, pads=[1, 1, 1, 1]),
    "depthwise": convolution(16, 1, 3, 3, group=16),
    "SAME_UPPER": convolution(6, 16, 4, 3, auto_pad="SAME_UPPER", strides=[2, 3]),
    "SAME_LOWER": convolution(6, 16, 2, 4, auto_pad="SAME_LOWER", strides=[1, 2]),
    "VALID": convolution(6, 16, 3, 3, auto_pad="VALID"),
}


@pytest.mark.parametrize("tapped", [False, True])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_what_blocks_read_makes_what_the_convolution_makes(
    name: str, tapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tapped:
        monkeypatch.setattr(rounding, "LARGEST", 16)
    model = made(CONVOLUTIONS[name], 2, 16, 9, 11)
    graph = Graph(model)
    [layer] = qdq.layers(graph)
    found = rounding._Rounding.of(graph, layer, FORM)
    assert found is not None
    x = alike((2, 16, 9, 11), 0)
    read = found.columns(x, np.random.default_rng(0))
    products = read @ found.weights.transpose(0, 2, 1)
    ours = products.sum(0) if found.summed else np.concatenate(list(products), axis=1)
    [theirs] = run(model, {"x": x})
    expected = theirs.transpose(0, 2, 3, 1).reshape(-1, theirs.shape[1])
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
    weight = np.asarray(graph.constant(layer.weight))
    assert (found.join(found.weights) == weight).all()
    assert found.summed == (tapped and name not in ("1×1", "groups", "depthwise"))


PRODUCTS = {
    "MatMul": lambda draft, x: draft.node("MatMul", x, draft.weight(16, 6)),
    "Gemm": lambda draft, x: draft.node("Gemm", x, draft.weight(16, 6)),
    "transposed Gemm": lambda draft, x: draft.node("Gemm", x, draft.weight(6, 16), transB=1),
}
ALL = CONVOLUTIONS | PRODUCTS


@pytest.mark.parametrize("form", [FORM, Form(per_channel=False), Form(bits=7)])
@pytest.mark.parametrize("name", ALL)
def test_layers_err_less(name: str, form: Form) -> None:
    shape = (40, 16) if name in PRODUCTS else (1, 16, 20, 20)
    model = made(ALL[name], *shape)
    images = [alike(shape, seed) for seed in range(5)]
    [layer] = together(model, images, form)
    new = alike(shape, 5)
    nearest = error(model, [replace(layer, rounded=None)], new, form)
    assert error(model, [layer], new, form) < 0.7 * nearest


@pytest.mark.parametrize("form", [FORM, Form(per_channel=False), Form(bits=7)])
@pytest.mark.parametrize("name", ALL)
def test_whoever_rounds_them_again_finds_the_same(name: str, form: Form) -> None:
    """So does ONNX Runtime's quantiser, which finds the scale from the largest weight."""
    shape = (40, 16) if name in PRODUCTS else (1, 16, 20, 20)
    model = made(ALL[name], *shape)
    [layer] = together(model, [alike(shape, seed) for seed in range(5)], form)
    assert layer.rounded is not None
    graph = Graph(with_weights(model, [layer], form))
    [again] = qdq.layers(graph)
    np.testing.assert_allclose(
        qdq.rounded_weight(graph, again, form), layer.rounded, rtol=0, atol=1e-6
    )
    before, after = (
        qdq.scales(one, known, form)[0] for one, known in ((Graph(model), layer), (graph, again))
    )
    np.testing.assert_allclose(after, before, rtol=1e-6)


def test_what_is_written_holds_them() -> None:
    model = made(CONVOLUTIONS["3×3"], 1, 16, 20, 20)
    images = [alike((1, 16, 20, 20), seed) for seed in range(5)]
    layers = together(model, images)
    written = qdq.insert(Graph(model), layers, spans(model), FORM)
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in written.graph.initializer}
    [weight] = [values for values in stored.values() if values.ndim == 4]
    assert weight.dtype == np.int8
    scale, _ = qdq.scales(Graph(model), layers[0], FORM)
    assert layers[0].rounded is not None
    assert (weight == np.rint(layers[0].rounded / scale)).all()
    plain = [replace(layer, rounded=None) for layer in layers]
    other = qdq.insert(Graph(model), plain, spans(model), FORM)
    assert other.SerializeToString() != written.SerializeToString()


def test_what_was_learnt_since_eight_bits_is_not_lost() -> None:
    """Less than half a step for each weight, and all the same for what the layer gives."""
    random = np.random.default_rng(0)
    kept = random.integers(-1, 2, size=(4, 64)) * 16.0
    kept[:, 0] = 127
    learnt = 0.3 * np.sign(random.normal(size=(4, 1)))
    model = made(lambda d, x: d.node("Conv", x, d.constant((kept + learnt)[..., None, None])),
                 1, 64, 12, 12)  # fmt: skip
    images = [alike((1, 64, 12, 12), seed) for seed in range(8)]
    [layer] = together(model, images)
    new = alike((1, 64, 12, 12), 9)
    assert error(model, [layer], new) < 0.01 * error(model, [replace(layer, rounded=None)], new)


def test_an_output_that_gets_worse_keeps_the_nearest_steps() -> None:
    """Images that are not rounded for look otherwise: only what they confirm is taken."""
    model = made(CONVOLUTIONS["1×1"], 1, 16, 20, 20)
    random = np.random.default_rng(0)
    images = [alike((1, 16, 20, 20), seed) for seed in range(3)]
    images.append(random.normal(size=(1, 16, 20, 20)).astype(np.float32))
    [layer] = together(model, images)
    nearest = qdq.rounded_weight(Graph(model), replace(layer, rounded=None), FORM)
    ours = nearest if layer.rounded is None else layer.rounded
    same = (ours == nearest).all(axis=(1, 2, 3))
    assert same.any()
    for output in np.flatnonzero(~same):
        [exact] = run(model, {"x": images[3]})
        found = [
            np.einsum("nchw,c->nhw", images[3], weight[output, :, 0, 0]) - exact[:, output]
            for weight in (ours, nearest)
        ]
        assert found[0].var() < found[1].var()


@pytest.mark.parametrize(
    ("draw", "images"),
    [
        pytest.param(CONVOLUTIONS["3×3"], 1, id="one image"),
        pytest.param(
            lambda draft, x: draft.node("ConvTranspose", x, draft.weight(16, 4, 2, 2)), 4,
            id="a transposed convolution",
        ),
        pytest.param(
            lambda draft, x: draft.node("Conv", x, draft.constant(np.zeros((4, 16, 1, 1)))), 4,
            id="zeros",
        ),
        pytest.param(
            lambda draft, x: draft.node("Conv", x, draft.constant(np.eye(16)[..., None, None])), 4,
            id="weights that eight bits hold",
        ),
    ],
)  # fmt: skip
def test_what_is_left_to_the_nearest_steps(draw: Draw, images: int) -> None:
    model = made(draw, 1, 16, 20, 20)
    [layer] = together(model, [alike((1, 16, 20, 20), seed) for seed in range(images)])
    assert layer.rounded is None


def test_layers_in_float_and_inputs_that_are_always_zero() -> None:
    model = made(CONVOLUTIONS["3×3"], 1, 16, 20, 20)
    [name] = [layer.name for layer in qdq.layers(Graph(model))]
    images = [alike((1, 16, 20, 20), seed) for seed in range(4)]
    assert together(model, images, left=[name])[0].rounded is None
    for image in images:
        image[:, 3:7] = 0
    [layer] = together(model, images)
    assert layer.rounded is not None
    assert np.isfinite(layer.rounded).all()
    [dead] = together(model, [0 * image for image in images])
    assert dead.rounded is None


def test_layers_of_one_memory_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However they are grouped, each sees the same."""

    def two(draft: Sketch, x: str) -> str:
        x = draft.node("Relu", draft.node("Conv", x, draft.weight(8, 16, 1, 1)))
        return draft.node("Conv", x, draft.weight(4, 8, 3, 3))

    model = made(two, 1, 16, 20, 20)
    images = [alike((1, 16, 20, 20), seed) for seed in range(2)]
    at_once = together(model, images)
    monkeypatch.setattr(rounding, "MEMORY", 1)
    by_one = together(model, images)
    for first, second in zip(at_once, by_one, strict=True):
        assert first.rounded is not None
        assert second.rounded is not None
        np.testing.assert_allclose(first.rounded, second.rounded, atol=1e-6)
