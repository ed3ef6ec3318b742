"""Heads of other networks than DeepLab: the same function in less arithmetic."""

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import onnx
import pytest

from atrous.compiler.graph import macs
from atrous.compiler.graph.graph import Graph
from atrous.compiler.rewrites.base import Layout, Outcome
from atrous.compiler.rewrites.commute import rewrite
from atrous.engines.drop_resize import drop_last_resize
from tests.builders.sketch import Sketch, assert_same, kinds

LAYOUTS: tuple[Layout, ...] = get_args(Layout)
RULES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]


def check(model: onnx.ModelProto, layout: Layout = "planar", share: float = 1) -> onnx.ModelProto:
    """Rewritten, the same, in at most `share` of the arithmetic."""
    graph = Graph(model)
    outcome = rewrite.rewrite(graph, layout)
    graph.refresh()
    after = graph.to_model()
    assert outcome.places
    assert macs.count(Graph(after)) < share * macs.count(Graph(model))
    assert_same(model, after)
    return after


def tokens(draft: Sketch, x: str, of: int, to: int, size: tuple[int, int], bias: bool) -> str:
    """A linear layer over tokens and back to a map, as SegFormer's head has it."""
    tall, wide = size
    flat = draft.node("Reshape", x, draft.constant([1, of, tall * wide], dtype=np.int64))
    y = draft.node("MatMul", draft.node("Transpose", flat, perm=[0, 2, 1]), draft.weight(of, to))
    if bias:
        y = draft.node("Add", draft.weight(to), y)
    y = draft.node("Transpose", y, perm=[0, 2, 1])
    return draft.node("Reshape", y, draft.constant([1, to, tall, wide], dtype=np.int64))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rule", RULES)
def test_linear_layers_before_a_projection(layout: Layout, bias: bool, rule: str) -> None:
    """SegFormer: every level becomes as wide as the head, is enlarged, joined and projected."""
    draft, wide = Sketch(), 24
    levels = [(4, (16, 20)), (6, (8, 10)), (8, (4, 5)), (10, (2, 3))]
    ups = []
    for of, size in levels:
        x = draft.node("Relu", draft.input(1, of, *size))
        y = tokens(draft, x, of, wide, size, bias)
        if size != (16, 20):
            y = draft.resize(y, 1, wide, 16, 20, coordinate_transformation_mode=rule)
        ups.append(y)
    joined = draft.node("Concat", *reversed(ups), axis=1)
    fused = draft.node("Conv", joined, draft.weight(wide, 4 * wide, 1, 1))
    model = draft.model(draft.conv(draft.node("Relu", fused), wide, 5))
    after = check(model, layout, 0.3)
    assert "Transpose" not in kinds(after)
    # Each level once: the width of the head costs nothing more than its projection.
    folded = sum(of * size[0] * size[1] for of, size in levels) * wide
    enlarging = macs.count(Graph(after)) - folded - 16 * 20 * wide * 5
    assert enlarging == 0 if layout == "channels-last" else enlarging > 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_a_projection_of_four_levels(layout: Layout, mode: str) -> None:
    """HRNet: 1×1 over the concatenation of four levels."""
    draft = Sketch()
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3)]
    ups = []
    for at, size in enumerate(sizes):
        x = draft.node("Relu", draft.input(1, 4 << at, *size))
        ups.append(draft.resize(x, 1, 4 << at, 16, 24, mode=mode) if at else x)
    joined = draft.node("Concat", *ups, axis=1)
    model = draft.model(draft.node("Relu", draft.conv(joined, 60, 30)))
    check(model, layout, 0.6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("factors", [(2, 2), (3, 3), (2, 4), (4, 1)])
@pytest.mark.parametrize("skip", [0, 3])
def test_repeated_pixels(layout: Layout, factors: tuple[int, int], skip: int) -> None:
    """U-Net: nearest enlargement before a 3×3 convolution, beside a skip connection or alone."""
    draft = Sketch()
    large = (6 * factors[0], 5 * factors[1])
    up = draft.resize(
        draft.node("Relu", draft.input(1, 8, 6, 5)), 1, 8, *large, mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )  # fmt: skip
    if skip:
        up = draft.node("Concat", up, draft.input(1, skip, *large), axis=1)
    model = draft.model(draft.node("Relu", draft.conv(up, 8 + skip, 7, 3)))
    after = check(model, layout)
    distinct = (factors[0] + 2 * (factors[0] > 1) or 3) * (factors[1] + 2)
    if factors[1] > 1:
        rest = large[0] * large[1] * 9 * skip * 7
        assert macs.count(Graph(after)) == 6 * 5 * 8 * 7 * distinct + rest


def test_nearest_by_other_rules() -> None:
    """What counts is which pixel is repeated, not how the rule is called."""
    for rule, rounding, applies in [
        ("half_pixel", "round_prefer_floor", True),
        ("half_pixel", "round_prefer_ceil", True),
        ("asymmetric", "floor", True),
        ("asymmetric", "round_prefer_floor", True),
        ("asymmetric", "round_prefer_ceil", False),
        ("half_pixel", "ceil", False),
    ]:
        draft = Sketch()
        how: dict[str, Any] = {"coordinate_transformation_mode": rule, "nearest_mode": rounding}
        up = draft.resize(draft.input(1, 8, 6, 5), 1, 8, 12, 10, mode="nearest", **how)
        model = draft.model(draft.conv(up, 8, 7, 3))
        if applies:
            check(model)
        else:
            assert not rewrite.rewrite(Graph(model)).places


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [1, 3])
def test_layers_that_mix_channels_fold(layout: Layout, size: int) -> None:
    """A 1×1 convolution, a norm, a scale and a shift lie before the enlargement and after it."""
    draft = Sketch()
    x = draft.node("Relu", draft.input(2, 4, 5, 6))
    y = draft.norm(draft.conv(x, 4, 16), 16)
    y = draft.node("Mul", y, draft.constant([0.5]))
    y = draft.resize(y, 2, 16, 20, 24)
    y = draft.node("Add", draft.node("Mul", draft.weight(1, 16, 1, 1), y), draft.weight(16, 1, 1))
    model = draft.model(draft.node("Relu", draft.conv(y, 16, 6, size)))
    after = check(model, layout, 0.5)
    assert not {"BatchNormalization", "Mul"} & set(kinds(after))


def test_a_layer_that_others_read_too_is_computed_once() -> None:
    draft = Sketch()
    y = draft.conv(draft.node("Relu", draft.input(1, 64, 5, 6)), 64, 16)
    up = draft.resize(y, 1, 16, 10, 12)
    model = draft.model(draft.conv(up, 16, 6), draft.node("Relu", y))
    after = check(model)
    assert kinds(after).count("Conv") == 2


def as_a_map(draft: Sketch, tokens: str) -> str:
    """Tokens `(1, 16, 8)` as a map of 8 channels."""
    turned = draft.node("Transpose", tokens, perm=[0, 2, 1])
    return draft.node("Reshape", turned, draft.constant([1, 8, 4, 4], dtype=np.int64))


def as_tokens(draft: Sketch, *size: int) -> str:
    """A map of 6 channels as tokens `(1, 16, 6)`, unless its size is not 4×4."""
    shape = draft.constant([1, 6, 16], dtype=np.int64)
    flat = draft.node("Reshape", draft.input(1, 6, *(size or (4, 4))), shape)
    return draft.node("Transpose", flat, perm=[0, 2, 1])


def linear(draft: Sketch, tokens: str) -> str:
    return draft.node("MatMul", tokens, draft.weight(6, 8))


def tokens_read_as_they_lie(draft: Sketch) -> str:
    """As a reshape without the transpose before it, which mixes pixels into channels."""
    shape = draft.constant([1, 8, 4, 4], dtype=np.int64)
    return draft.node("Reshape", linear(draft, as_tokens(draft)), shape)


def tokens_of_attention(draft: Sketch) -> str:
    y = draft.node("Softmax", linear(draft, as_tokens(draft)), axis=1)
    return as_a_map(draft, y)


def tokens_with_a_shortcut(draft: Sketch) -> str:
    y = linear(draft, as_tokens(draft))
    return as_a_map(draft, draft.node("Add", y, draft.input(1, 16, 8)))


def tokens_with_places(draft: Sketch) -> str:
    """An embedding that is added pixel by pixel, not channel by channel."""
    y = linear(draft, as_tokens(draft))
    return as_a_map(draft, draft.node("Add", y, draft.weight(1, 16, 8)))


def tokens_by_tokens(draft: Sketch) -> str:
    weight = draft.node("Relu", draft.input(6, 8))
    return as_a_map(draft, draft.node("MatMul", as_tokens(draft), weight))


def tokens_by_image(draft: Sketch) -> str:
    """A weight of its own for each of one image, over maps of one channel."""
    shape = draft.constant([1, 1, 16], dtype=np.int64)
    flat = draft.node("Reshape", draft.input(1, 1, 4, 4), shape)
    tokens = draft.node("Transpose", flat, perm=[0, 2, 1])
    return as_a_map(draft, draft.node("MatMul", tokens, draft.weight(1, 1, 8)))


def tokens_without_a_batch(draft: Sketch) -> str:
    """Only the bias makes an axis for the batch."""
    flat = draft.node("Reshape", draft.input(1, 6, 4, 4), draft.constant([6, 16], dtype=np.int64))
    y = linear(draft, draft.node("Transpose", flat, perm=[1, 0]))
    return as_a_map(draft, draft.node("Add", y, draft.weight(1, 1, 8)))


def tokens_from_the_start(draft: Sketch) -> str:
    return as_a_map(draft, linear(draft, draft.input(1, 16, 6)))


def tokens_of_a_sequence(draft: Sketch) -> str:
    """Pixels come first and images second, as attention in torch wants them by default."""
    tokens = draft.node("Transpose", draft.input(16, 1, 6), perm=[1, 0, 2])
    return as_a_map(draft, linear(draft, tokens))


def tokens_of_planes(draft: Sketch) -> str:
    tokens = draft.node("Transpose", draft.input(1, 6, 16), perm=[0, 2, 1])
    return as_a_map(draft, linear(draft, tokens))


def tokens_of_another_grid(draft: Sketch) -> str:
    return as_a_map(draft, linear(draft, as_tokens(draft, 2, 8)))


def mixed(draft: Sketch) -> str:
    """What a 1×1 convolution makes, which would go away with the layer after it."""
    return draft.conv(draft.input(1, 8, 4, 4), 8, 8)


def scale_of_pixels(draft: Sketch) -> str:
    return draft.node("Mul", mixed(draft), draft.weight(1, 1, 4, 4))


def scale_of_values(draft: Sketch) -> str:
    return draft.node("Mul", mixed(draft), draft.weight(1, 8, 4, 4))


def shift_of_pixels(draft: Sketch) -> str:
    return draft.node("Add", draft.weight(1, 1, 4, 4), mixed(draft))


def norm_by_a_computed_scale(draft: Sketch) -> str:
    """As normalisation that an image conditions."""
    scale = draft.node("Relu", draft.input(8))
    values = (draft.weight(8), draft.weight(8), draft.positive(8))
    return draft.node("BatchNormalization", mixed(draft), scale, *values)


@pytest.mark.parametrize(
    "build",
    [
        tokens_read_as_they_lie,
        tokens_of_attention,
        tokens_with_a_shortcut,
        tokens_with_places,
        tokens_by_tokens,
        tokens_by_image,
        tokens_without_a_batch,
        tokens_from_the_start,
        tokens_of_a_sequence,
        tokens_of_planes,
        tokens_of_another_grid,
        scale_of_pixels,
        scale_of_values,
        shift_of_pixels,
        norm_by_a_computed_scale,
    ],
)
def test_what_only_looks_like_mixing_channels_stays(build: Callable[[Sketch], str]) -> None:
    """The convolution moves before the enlargement, and takes nothing that lies before that."""
    draft = Sketch()
    up = draft.resize(build(draft), 1, 8, 16, 16)
    model = draft.model(draft.conv(up, 8, 5, 3, name="y"))
    graph = Graph(model)
    assert rewrite.rewrite(graph) == Outcome(("y over maps of 4×4",))
    after = graph.to_model()
    assert kinds(after)[: len(kinds(model)) - 2] == kinds(model)[:-2]
    assert_same(model, after)


def scale_of_images(draft: Sketch) -> str:
    """`(4, 1, 1, 1)`, with as many images as channels."""
    y = draft.conv(draft.input(4, 4, 4, 4), 4, 4)
    return draft.node("Mul", y, draft.weight(4, 1, 1, 1))


def shift_of_images(draft: Sketch) -> str:
    y = draft.conv(draft.input(4, 4, 4, 4), 4, 4)
    return draft.node("Add", y, draft.weight(4, 1, 1, 1))


def of_fours(
    draft: Sketch,
    *shift: str,
    before: tuple[int, ...] = (0, 2, 1),
    after: tuple[int, ...] = (0, 2, 1),
) -> str:
    """A linear layer over tokens of four images, of four pixels and four channels."""
    flat = draft.node("Reshape", draft.input(4, 4, 2, 2), draft.constant([4] * 3, dtype=np.int64))
    y = draft.node("MatMul", draft.node("Transpose", flat, perm=before), draft.weight(4, 4))
    for constant in shift:
        y = draft.node("Add", y, constant)
    y = draft.node("Transpose", y, perm=after)
    return draft.node("Reshape", y, draft.constant([4, 4, 2, 2], dtype=np.int64))


def shift_of_tokens(draft: Sketch) -> str:
    return of_fours(draft, draft.weight(4, 1))


def shift_of_a_batch(draft: Sketch) -> str:
    return of_fours(draft, draft.weight(4, 1, 1))


def tokens_of_other_axes(draft: Sketch) -> str:
    return of_fours(draft, before=(2, 1, 0))


def tokens_back_to_other_axes(draft: Sketch) -> str:
    return of_fours(draft, after=(1, 2, 0))


def tokens_of_absolute_values(draft: Sketch) -> str:
    """Of maps of one row, a sum over rows gives the shape that a reshape gives."""
    row = draft.constant([2], dtype=np.int64)
    flat = draft.node("ReduceL1", draft.input(4, 4, 1, 4), row, keepdims=0)
    y = draft.node("MatMul", draft.node("Transpose", flat, perm=[0, 2, 1]), draft.weight(4, 4))
    y = draft.node("Transpose", y, perm=[0, 2, 1])
    return draft.node("Reshape", y, draft.constant([4, 4, 1, 4], dtype=np.int64))


@pytest.mark.parametrize(
    "build",
    [
        scale_of_images,
        shift_of_images,
        shift_of_tokens,
        shift_of_a_batch,
        tokens_of_other_axes,
        tokens_back_to_other_axes,
        tokens_of_absolute_values,
    ],
)
def test_shapes_alone_do_not_tell_what_mixes_channels(build: Callable[[Sketch], str]) -> None:
    """There are as many images and pixels as channels."""
    draft = Sketch()
    up = draft.resize(build(draft), 4, 4, 16, 16)
    check(draft.model(draft.conv(up, 4, 5, 3)))


def test_the_bias_of_a_folded_layer_is_added_to_one_that_is_computed() -> None:
    draft = Sketch()
    x = draft.input(1, 8, 4, 5)
    bias = draft.node("ReduceMean", x, draft.constant([0, 2, 3], dtype=np.int64), keepdims=0)
    up = draft.resize(draft.conv(x, 8, 16), 1, 16, 16, 20)
    model = draft.model(draft.node("Conv", up, draft.weight(8, 16, 1, 1), bias, name="y"))
    after = check(model, "channels-last")
    assert kinds(after) == ["ReduceMean", "Add", "Conv", "Resize"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [1, 3])
def test_a_sum_of_enlarged_maps(layout: Layout, size: int) -> None:
    draft = Sketch()
    grids = [(4, 5), (2, 3), (8, 10)]
    ups = [draft.resize(draft.input(1, 40, *grid), 1, 40, 16, 20) for grid in grids]
    total = draft.node("Add", ups[0], draft.node("Add", ups[1], ups[2]))
    after = check(draft.model(draft.conv(total, 40, 6, size)), layout)
    if size == 3:
        assert "Resize" not in kinds(after)


def test_a_sum_with_a_map_that_stays_is_left() -> None:
    draft = Sketch()
    up = draft.resize(draft.input(1, 12, 4, 5), 1, 12, 16, 20)
    total = draft.node("Add", up, draft.input(1, 12, 16, 20))
    graph = Graph(draft.model(draft.conv(total, 12, 6, 3, name="y")))
    assert rewrite.rewrite(graph) == Outcome(left=(f"y: {rewrite.TOO_LITTLE}",))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [1, 3])
def test_groups_that_no_map_crosses(layout: Layout, bias: bool, size: int) -> None:
    draft = Sketch()
    up = draft.resize(draft.input(1, 16, 4, 5), 1, 16, 16, 20)
    other = draft.input(1, 8, 16, 20)
    joined = draft.node("Concat", up, other, axis=1)
    weights = [draft.weight(6, 8, size, size), *[draft.weight(6)] * bias]
    model = draft.model(draft.node("Conv", joined, *weights, group=3, pads=[size // 2] * 4))
    check(model, layout)


def test_what_one_rewrite_makes_feeds_the_next() -> None:
    """A classifier after the last enlargement becomes one before it, and the engine drops it."""
    draft = Sketch()
    x = draft.node("Relu", draft.conv(draft.input(1, 3, 16, 16), 3, 8, 3, strides=[4, 4]))
    up = draft.resize(x, 1, 8, 16, 16)
    model = draft.model(draft.conv(draft.conv(up, 8, 8), 8, 4))
    after = check(model, "channels-last", 0.5)
    assert kinds(after) == ["Conv", "Relu", "Conv", "Resize"]
    cut, rule = drop_last_resize(after)
    assert rule == "half_pixel"
    assert kinds(cut) == ["Conv", "Relu", "Conv"]


@pytest.mark.parametrize("seed", range(40))
def test_random_heads(seed: int) -> None:
    """Levels of any width and size, joined or added, with and without layers in between."""
    random = np.random.default_rng(seed)
    draft, large = Sketch(int(random.integers(13, 22)), seed), (12, 18)
    added, size = bool(random.integers(2)), int(random.choice([1, 3]))
    mode = str(random.choice(["linear", "nearest"]))
    rule = "half_pixel" if mode == "nearest" else str(random.choice(RULES))
    ups, total = [], 0
    for _ in range(int(random.integers(1, 4))):
        of = 10 if added else int(random.integers(4, 14))
        grids = [(6, 9), (4, 6), (2, 3), (1, 2), (12, 18)]
        grid = grids[int(random.integers(len(grids)))] if ups else grids[int(random.integers(3))]
        x = draft.node("Relu", draft.input(1, of, *grid))
        if random.integers(2):
            x = draft.conv(x, of, of)
        if random.integers(2):
            x = draft.node("Mul", x, draft.weight(1, of, 1, 1))
        if grid != large:
            how = {"mode": mode, "coordinate_transformation_mode": rule}
            x = draft.resize(x, 1, of, *large, **how)
        ups.append(x)
        total += of
    if len(ups) == 1:
        x = ups[0]
    elif added:
        x, total = _sum(draft, ups), 10
    else:
        x = draft.node("Concat", *ups, axis=1)
    model = draft.model(draft.node("Relu", draft.conv(x, total, 5, size)))
    graph = Graph(model)
    rewrite.rewrite(graph, LAYOUTS[seed % 2])
    graph.refresh()
    assert macs.count(graph) <= macs.count(Graph(model))
    assert_same(model, graph.to_model())


def _sum(draft: Sketch, names: list[str]) -> str:
    total = names[0]
    for name in names[1:]:
        total = draft.node("Add", total, name)
    return total
