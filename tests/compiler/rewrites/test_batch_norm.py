"""Batch norms go into the convolutions before them, and into nothing else."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from atrous.compiler.graph.graph import Graph
from atrous.compiler.rewrites import batch_norm
from atrous.compiler.rewrites.base import Outcome
from tests.builders.sketch import Sketch, assert_same, kinds

BATCH = (2, 4, 6, 5)


def rewritten(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Outcome]:
    graph = Graph(model)
    outcome = batch_norm.rewrite(graph)
    return graph.to_model(), outcome


@pytest.mark.parametrize(
    "conv",
    [
        lambda draft, x: draft.conv(x, 4, 6),
        lambda draft, x: draft.conv(x, 4, 6, size=3, strides=[2, 2]),
        lambda draft, x: draft.node("Conv", x, draft.weight(6, 4, 3, 3)),
        lambda draft, x: draft.node("Conv", x, draft.weight(6, 4, 3, 3), ""),
        lambda draft, x: draft.conv(draft.conv(x, 4, 6), 6, 6, size=3, group=6),
        lambda draft, x: draft.conv(x, 4, 6, size=3, group=2, dilations=[2, 2], pads=[2] * 4),
    ],
    ids=["1x1", "stride", "no bias", "empty bias", "depthwise", "groups"],
)
@pytest.mark.parametrize("settings", [{}, {"epsilon": 0.5}, {"momentum": 0.1}])
@pytest.mark.parametrize("opset", [13, 14, 21])
def test_folded(conv: Callable[[Sketch, str], str], settings: dict[str, float], opset: int) -> None:
    draft = Sketch(opset)
    y = draft.norm(conv(draft, draft.input(*BATCH)), 6, **settings)
    model = draft.model(y)
    after, outcome = rewritten(model)
    assert set(kinds(after)) == {"Conv"}
    assert outcome == Outcome(("1 folded",))
    assert_same(model, after)


def test_by_hand() -> None:
    """2·(3·x + 4) - 1 where the norm has scale 4, shift -1, mean 0 and variance 3 + epsilon 1."""
    draft = Sketch()
    weight, bias = draft.constant([[[[3.0]]]]), draft.constant([4.0])
    x = draft.node("Conv", draft.input(1, 1, 2, 2), weight, bias)
    values = [draft.constant([value]) for value in (4.0, -1.0, 0.0, 3.0)]
    y = draft.node("BatchNormalization", x, *values, epsilon=1.0)
    after, _ = rewritten(draft.model(y))
    stored = [numpy_helper.to_array(tensor).item() for tensor in after.graph.initializer]
    assert sorted(stored) == [6.0, 7.0]


def test_two_norms_in_a_row() -> None:
    draft = Sketch()
    y = draft.norm(draft.norm(draft.conv(draft.input(*BATCH), 4, 6), 6), 6)
    model = draft.model(draft.node("Relu", y))
    after, outcome = rewritten(model)
    assert kinds(after) == ["Conv", "Relu"]
    assert outcome.places == ("2 folded",)
    assert_same(model, after)


def test_weights_that_two_convolutions_share() -> None:
    draft = Sketch()
    x, weight = draft.input(*BATCH), draft.weight(6, 4, 3, 3)
    sides = [draft.norm(draft.node("Conv", x, weight), 6) for _ in range(2)]
    model = draft.model(draft.node("Sub", *sides))
    after, outcome = rewritten(model)
    assert kinds(after) == ["Conv", "Conv", "Sub"]
    assert outcome.places == ("2 folded",)
    assert_same(model, after)


def read_by_two(draft: Sketch) -> str:
    x = draft.conv(draft.input(*BATCH), 4, 6)
    return draft.node("Add", draft.norm(x, 6), draft.node("Relu", x))


def without_a_convolution(draft: Sketch) -> str:
    return draft.norm(draft.node("Relu", draft.input(*BATCH)), 4)


def at_the_input(draft: Sketch) -> str:
    return draft.norm(draft.input(*BATCH), 4)


def after_a_transposed_convolution(draft: Sketch) -> str:
    x = draft.node("ConvTranspose", draft.input(*BATCH), draft.weight(4, 6, 2, 2))
    return draft.norm(x, 6)


def training(draft: Sketch) -> str:
    return draft.norm(draft.conv(draft.input(*BATCH), 4, 6), 6, training_mode=1)


def training_of_old(draft: Sketch) -> str:
    """Up to operator set 13 the outputs beside the first said so."""
    return draft.norm(draft.conv(draft.input(*BATCH), 4, 6), 6, count=5)


def computed(draft: Sketch) -> str:
    weight = draft.node("Relu", draft.input(6, 4, 1, 1))
    return draft.norm(draft.node("Conv", draft.input(*BATCH), weight), 6)


def computed_bias(draft: Sketch) -> str:
    bias = draft.node("Relu", draft.input(6))
    return draft.norm(draft.node("Conv", draft.input(*BATCH), draft.weight(6, 4, 1, 1), bias), 6)


def computed_statistics(draft: Sketch) -> str:
    x = draft.conv(draft.input(*BATCH), 4, 6)
    mean = draft.node("ReduceMean", x, draft.constant([0, 2, 3], dtype=np.int64), keepdims=0)
    held = draft.conv(draft.input(*BATCH), 4, 6)
    values = (draft.positive(6), draft.weight(6), mean, draft.positive(6))
    return draft.node("BatchNormalization", held, *values)


@pytest.mark.parametrize(
    ("write", "opset", "reason"),
    [
        (read_by_two, 18, "its convolution is also read by others"),
        (without_a_convolution, 18, "does not follow a convolution"),
        (at_the_input, 18, "does not follow a convolution"),
        (after_a_transposed_convolution, 18, "does not follow a convolution"),
        (training, 18, "is in training mode"),
        (training_of_old, 13, "is in training mode"),
        (computed, 18, "its parameters are not constant"),
        (computed_bias, 18, "its parameters are not constant"),
        (computed_statistics, 18, "its parameters are not constant"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_left_alone(write: Callable[[Sketch], str], opset: int, reason: str) -> None:
    draft = Sketch(opset)
    y = write(draft)
    norm = next(n.output[0] for n in draft.nodes if n.op_type == "BatchNormalization")
    model = draft.model(y)
    after, outcome = rewritten(model)
    assert outcome == Outcome(left=(f"{norm}: {reason}",))
    assert list(after.graph.node) == list(model.graph.node)


def test_a_convolution_whose_output_leaves_the_graph() -> None:
    draft = Sketch()
    x = draft.conv(draft.input(*BATCH), 4, 6)
    model = draft.model(draft.norm(x, 6), x)
    after, outcome = rewritten(model)
    assert kinds(after) == ["Conv", "BatchNormalization"]
    assert len(outcome.left) == 1
