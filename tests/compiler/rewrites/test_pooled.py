"""A branch that is the same everywhere becomes a vector that is added."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest

from atrous.compiler.graph import macs
from atrous.compiler.graph.graph import Graph
from atrous.compiler.rewrites import pooled
from atrous.compiler.rewrites.base import Outcome
from tests.builders.sketch import Sketch, assert_same, kinds

CHANNELS, HEIGHT, WIDTH = 4, 5, 7
Write = Callable[[Sketch, str], str]


def rewritten(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Outcome]:
    graph = Graph(model)
    outcome = pooled.rewrite(graph)
    graph.refresh()
    return graph.to_model(), outcome


def average(draft: Sketch, x: str) -> str:
    return draft.node("GlobalAveragePool", x)


def mean(draft: Sketch, x: str) -> str:
    return draft.node("ReduceMean", x, draft.constant([-1, -2], dtype=np.int64), keepdims=1)


def linear(draft: Sketch, x: str, batch: int = 1) -> str:
    return draft.resize(x, batch, 3, HEIGHT, WIDTH)


def by_scales(draft: Sketch, x: str) -> str:
    scales = draft.constant([1.0, 1.0, HEIGHT, WIDTH])
    return draft.node("Resize", x, "", scales, mode="nearest")


def expand(draft: Sketch, x: str) -> str:
    return draft.node("Expand", x, draft.constant([1, 3, HEIGHT, WIDTH], dtype=np.int64))


def tile(draft: Sketch, x: str) -> str:
    return draft.node("Tile", x, draft.constant([1, 1, HEIGHT, WIDTH], dtype=np.int64))


def branch(draft: Sketch, x: str, pool: Write = average, enlarge: Write = linear) -> str:
    """Pooling, a projection to 3 channels, and the enlargement."""
    return enlarge(draft, draft.node("Relu", draft.conv(pool(draft, x), CHANNELS, 3)))


def aspp(
    draft: Sketch,
    order: Sequence[str] = ("wide", "pooled"),
    pool: Write = average,
    enlarge: Write = linear,
    batch: int = 1,
    **settings: Any,
) -> str:
    """The `Concat` of branches: `wide` has 2 channels, `pooled` 3; returns its name."""
    x = draft.input(batch, CHANNELS, HEIGHT, WIDTH)
    parts = [
        branch(draft, x, pool, enlarge) if kind == "pooled" else draft.conv(x, CHANNELS, 2)
        for kind in order
    ]
    return draft.node("Concat", *parts, **{"axis": 1, **settings})


@pytest.mark.parametrize("pool", [average, mean])
@pytest.mark.parametrize("enlarge", [linear, by_scales, expand, tile])
@pytest.mark.parametrize("bias", [True, False])
def test_forms(pool: Write, enlarge: Write, bias: bool) -> None:
    draft = Sketch()
    inputs = [aspp(draft, pool=pool, enlarge=enlarge), draft.weight(6, 5, 1, 1)]
    y = draft.node("Conv", *inputs, *[draft.weight(6)] * bias, name="y")
    model = draft.model(draft.node("Relu", y))
    after, outcome = rewritten(model)
    assert outcome == Outcome(("y",))
    assert not {"Concat", "Resize", "Expand", "Tile"} & set(kinds(after))
    assert_same(model, after)


@pytest.mark.parametrize(
    ("order", "concats"),
    [
        (("wide", "pooled"), 0),
        (("pooled", "wide"), 0),
        (("wide", "wide", "pooled"), 1),
        (("wide", "pooled", "wide", "wide"), 1),
        (("pooled", "wide", "pooled"), 1),
        (("pooled", "wide", "pooled", "wide"), 2),
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("axis", [1, -3])
def test_orders(order: tuple[str, ...], concats: int, batch: int, axis: int) -> None:
    draft = Sketch()

    def enlarge(draft: Sketch, x: str) -> str:
        return linear(draft, x, batch)

    x = aspp(draft, order, enlarge=enlarge, batch=batch, axis=axis)
    model = draft.model(draft.conv(x, sum(2 if kind == "wide" else 3 for kind in order), 6))
    after, outcome = rewritten(model)
    assert len(outcome.places) == 1
    assert kinds(after).count("Concat") == concats
    assert "Resize" not in kinds(after)
    assert_same(model, after)


def test_arithmetic_by_hand() -> None:
    draft = Sketch()
    model = draft.model(draft.conv(aspp(draft), 5, 6))
    after, _ = rewritten(model)
    pixels = HEIGHT * WIDTH
    branches = CHANNELS * 2 * pixels + CHANNELS * 3
    assert macs.count(Graph(model)) == branches + 5 * 6 * pixels
    assert macs.count(Graph(after)) == branches + 2 * 6 * pixels + 3 * 6


def test_two_readers_of_the_concat() -> None:
    draft = Sketch()
    x = aspp(draft)
    y = draft.node("Add", draft.conv(x, 5, 6), draft.conv(x, 5, 6))
    model = draft.model(y)
    after, outcome = rewritten(model)
    assert len(outcome.places) == 2
    assert "Concat" not in kinds(after)
    assert_same(model, after)


def test_another_reader_keeps_the_concat() -> None:
    draft = Sketch()
    x = aspp(draft)
    model = draft.model(draft.conv(x, 5, 6), draft.node("Relu", x))
    after, outcome = rewritten(model)
    assert len(outcome.places) == 1
    assert kinds(after).count("Concat") == 1
    assert_same(model, after)


def test_a_name_that_is_taken() -> None:
    draft = Sketch()
    x = aspp(draft)
    y = draft.conv(x, 5, 6, name="y")
    model = draft.model(draft.node("Relu", y, name="y_pooled"), y)
    after, _ = rewritten(model)
    assert_same(model, after)


PLAIN = "the convolution after the pooled branch is not a plain 1×1"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"size": 3}, PLAIN),
        ({"strides": [2, 2]}, PLAIN),
        ({"pads": [1, 1, 1, 1]}, PLAIN),
        ({"group": 5, "outputs": 5}, PLAIN),
        ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, PLAIN),
    ],
)
def test_other_convolutions(settings: dict[str, Any], reason: str) -> None:
    draft = Sketch()
    x = aspp(draft)
    outputs, size = settings.pop("outputs", 6), settings.pop("size", 1)
    if "auto_pad" in settings:
        y = draft.node("Conv", x, draft.weight(6, 5, 1, 1), name="y", **settings)
    else:
        y = draft.conv(x, 5, outputs, size, name="y", **settings)
    model = draft.model(y)
    after, outcome = rewritten(model)
    assert outcome == Outcome(left=(f"y: {reason}",))
    assert list(after.graph.node) == list(model.graph.node)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_padding_that_pads_nothing(auto_pad: str) -> None:
    draft = Sketch()
    y = draft.node("Conv", aspp(draft), draft.weight(6, 5, 1, 1), auto_pad=auto_pad)
    model = draft.model(y)
    after, outcome = rewritten(model)
    assert len(outcome.places) == 1
    assert_same(model, after)


def only_pooled(draft: Sketch) -> str:
    return draft.conv(aspp(draft, ("pooled", "pooled")), 6, 6, name="y")


def computed_weights(draft: Sketch) -> str:
    weight = draft.node("Relu", draft.input(6, 5, 1, 1))
    return draft.node("Conv", aspp(draft), weight, name="y")


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (only_pooled, "nothing but pooled branches"),
        (computed_weights, "its weights or sizes are not known"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_left_alone(write: Callable[[Sketch], str], reason: str) -> None:
    draft = Sketch()
    model = draft.model(write(draft))
    after, outcome = rewritten(model)
    assert outcome == Outcome(left=(f"y: {reason}",))
    assert list(after.graph.node) == list(model.graph.node)


def of_two_pixels(draft: Sketch) -> str:
    x = draft.input(1, CHANNELS, HEIGHT, WIDTH)
    rows = draft.node("AveragePool", x, kernel_shape=[1, WIDTH])
    return draft.node("Concat", draft.resize(rows, 1, CHANNELS, HEIGHT, WIDTH), x, axis=1)


def along_the_rows(draft: Sketch) -> str:
    x = draft.input(1, CHANNELS, HEIGHT, WIDTH)
    tall = draft.resize(x, 1, CHANNELS, 2 * HEIGHT, WIDTH)
    flat = draft.node("GlobalAveragePool", x)
    both = [draft.resize(flat, 1, CHANNELS, HEIGHT, WIDTH), x]
    return draft.node("Add", draft.node("Concat", *both, axis=2), tall)


def below_each_other(draft: Sketch) -> str:
    """The pooled branch makes more rows, not more channels."""
    x = draft.input(1, CHANNELS, HEIGHT, WIDTH)
    flat = draft.node("GlobalAveragePool", x)
    wide = draft.resize(flat, 1, CHANNELS, HEIGHT, WIDTH)
    return draft.node("Concat", wide, x, axis=-2)


def pixel_to_pixel(draft: Sketch) -> str:
    x = draft.input(1, CHANNELS, 1, 1)
    return draft.node("Concat", draft.resize(x, 1, CHANNELS, 1, 1), x, axis=1)


def outside_its_box(draft: Sketch) -> str:
    """`tf_crop_and_resize` fills what lies outside its region with another value."""
    x = draft.input(1, CHANNELS, HEIGHT, WIDTH)
    region = draft.constant([0, 0, -1, -1, 1, 1, 2, 2], dtype=np.float32)
    sizes = draft.constant([1, CHANNELS, HEIGHT, WIDTH], dtype=np.int64)
    wide = draft.node(
        "Resize",
        *(average(draft, x), region, "", sizes),
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=9.0,
    )
    return draft.node("Concat", wide, x, axis=1)


@pytest.mark.parametrize(
    ("write", "channels"),
    [
        (of_two_pixels, 2 * CHANNELS),
        (along_the_rows, CHANNELS),
        (below_each_other, CHANNELS),
        (pixel_to_pixel, 2 * CHANNELS),
        (outside_its_box, 2 * CHANNELS),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_no_pattern(write: Callable[[Sketch], str], channels: int) -> None:
    draft = Sketch()
    model = draft.model(draft.conv(write(draft), channels, 6))
    after, outcome = rewritten(model)
    assert outcome == Outcome()
    assert list(after.graph.node) == list(model.graph.node)
    assert_same(model, after)
