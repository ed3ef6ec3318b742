"""Convolving before enlarging gives what convolving after it gives, where that is done at all."""

from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from atrous.compiler.graph import macs
from atrous.compiler.graph.graph import Graph
from atrous.compiler.rewrites.base import Layout, Outcome
from atrous.compiler.rewrites.commute import enlargement, rewrite
from tests.builders.sketch import Sketch, assert_same, kinds, run
from tests.builders.versions import needs

LAYOUTS: tuple[Layout, ...] = get_args(Layout)
LOW, OUTPUTS = 2, 4


def rewritten(model: onnx.ModelProto, layout: Layout = "planar") -> tuple[onnx.ModelProto, Outcome]:
    graph = Graph(model)
    outcome = rewrite.rewrite(graph, layout)
    graph.refresh()
    return graph.to_model(), outcome


def write(
    grids: Sequence[tuple[int, int]] = ((4, 5),),
    large: tuple[int, int] = (16, 20),
    order: str = "low 0",
    *,
    channels: int = 6,
    batch: int = 1,
    opset: int = 18,
    bias: bool = True,
    scales: bool = False,
    seed: int = 0,
    resize: dict[str, Any] | None = None,
    conv: dict[str, Any] | None = None,
) -> onnx.ModelProto:
    """A decoder: maps of `grids` are enlarged, joined with `low`, and convolved 3×3 to `y`.

    Args:
        grids: sizes of the maps that are enlarged.
        large: size to which they are.
        order: of the joined maps: `low`, or the number of a grid. One alone is not joined.
        channels: of the first grid; every other has one more than the one before.
        batch: number of images.
        opset: version of the operators.
        bias: whether the convolution has one.
        scales: whether the resizes say scales instead of sizes, where scales in float32 can: of
            5 · 3.6 ONNX makes 17.
        seed: of the weights.
        resize: attributes of the resizes beside `mode`.
        conv: attributes of the convolution beside `pads`; `size` and `low` are taken from it.
    """
    draft = Sketch(opset, seed)
    conv = {"size": 3, **(conv or {})}
    size, joined, total = conv.pop("size"), [], 0
    for name in order.split():
        if name == "low":
            joined.append(draft.node("Relu", draft.input(batch, LOW, *large)))
            total += LOW
            continue
        of, grid = channels + int(name), grids[int(name)]
        x = draft.node("Relu", draft.input(batch, of, *grid))
        settings = {"mode": "linear", **(resize or {})}
        factors = np.divide(large, grid, dtype=np.float32)
        if scales and tuple(np.floor(factors.astype(np.float64) * grid)) == large:
            up = draft.node("Resize", x, "", draft.constant([1.0, 1.0, *factors]), **settings)
        else:
            up = draft.resize(x, batch, of, *large, **settings)
        joined.append(up)
        total += of
    x = draft.node("Concat", *joined, axis=1) if len(joined) > 1 else joined[0]
    weight = draft.weight(OUTPUTS, total // conv.get("group", 1), size, size)
    if "auto_pad" not in conv:
        conv = {"pads": [size // 2] * 4, **conv}
    y = draft.node("Conv", x, weight, *[draft.weight(OUTPUTS)] * bias, name="y", **conv)
    return draft.model(draft.node("Relu", y))


def check(model: onnx.ModelProto, layout: Layout) -> onnx.ModelProto:
    """Rewritten, without resizes, in less arithmetic, and the same."""
    after, outcome = rewritten(model, layout)
    assert len(outcome.places) == 1
    assert outcome.left == ()
    assert "Resize" not in kinds(after)
    assert macs.count(Graph(after)) < macs.count(Graph(model))
    assert_same(model, after)
    return after


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("grid", "large"),
    [((4, 5), (16, 20)), ((5, 5), (17, 18)), ((5, 4), (17, 18)), ((1, 3), (9, 8))],
)
@pytest.mark.parametrize(
    "rule", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
)
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("scales", [False, True], ids=["sizes", "scales"])
def test_rules(
    layout: Layout,
    grid: tuple[int, int],
    large: tuple[int, int],
    rule: str,
    batch: int,
    scales: bool,
) -> None:
    resize = {"coordinate_transformation_mode": rule}
    check(write([grid], large, batch=batch, scales=scales, resize=resize), layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(
    ("order", "kept"),
    [
        ("0", 0),
        ("low 0", 1),
        ("0 low", 1),
        ("0 1", 0),
        ("0 low 1", 1),
        ("low 1 low 0", 2),
        ("low 0 0", 1),
    ],
)
def test_orders(layout: Layout, bias: bool, order: str, kept: int) -> None:
    model = write([(4, 5), (3, 3)], order=order, bias=bias, batch=2)
    after = check(model, layout)
    # Maps that were large before are convolved together; the taps of one map are joined where
    # channels come last.
    taps = len(order.replace("low", "").split()) if layout == "channels-last" else 0
    assert kinds(after).count("Concat") == (kept > 1) + taps


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("scales", [False, True], ids=["sizes", "scales"])
def test_operator_sets(layout: Layout, opset: int, scales: bool) -> None:
    check(write(opset=opset, scales=scales), layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "conv",
    [
        {"strides": [1, 1], "dilations": [1, 1], "group": 1, "kernel_shape": [3, 3]},
        {"auto_pad": "NOTSET", "pads": [1, 1, 1, 1]},
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER"},
    ],
)
def test_ways_to_write_the_convolution(layout: Layout, conv: dict[str, Any]) -> None:
    check(write(conv=conv), layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "axes",
    [
        [2, 3],
        [3, 2],
        pytest.param(
            [-2, -1],
            marks=needs("onnxruntime", "1.27", "counts axes from the front"),
        ),
    ],
)
def test_resizes_that_name_their_axes(layout: Layout, axes: list[int]) -> None:
    draft = Sketch()
    x = draft.node("Relu", draft.input(1, 6, 4, 4))
    target = draft.constant([16, 16], dtype=np.int64)
    up = draft.node("Resize", x, "", "", target, mode="linear", axes=axes)
    check(draft.model(draft.conv(up, 6, OUTPUTS, 3)), layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_empty_bias(layout: Layout) -> None:
    model = write(order="0", bias=False)
    model.graph.node[-2].input.append("")
    check(model, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_bias_that_is_computed(layout: Layout) -> None:
    draft = Sketch()
    x = draft.input(1, 6, 4, 5)
    bias = draft.node("ReduceMean", x, draft.constant([0, 2, 3], dtype=np.int64), keepdims=0)
    up = draft.resize(x, 1, 6, 16, 20)
    model = draft.model(draft.node("Conv", up, draft.weight(6, 6, 3, 3), bias, pads=[1] * 4))
    check(model, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arithmetic_by_hand(layout: Layout) -> None:
    model = write([(4, 5)], (16, 20), channels=8)
    after, _ = rewritten(model, layout)
    assert macs.count(Graph(model)) == 16 * 20 * 4 * (2 + 8) * 9
    fine = 16 * 20 * 4 * 2 * 9
    taps = 9 * 4 * 8 * (4 * 5)
    columns = 4 * 3 * 4 * 20 * (3 * 5)  # planes, taps, rows, made columns, read columns
    rows = 4 * 16 * 20 * (3 * 4)
    assert macs.count(Graph(after)) == fine + taps + columns + rows


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_axis_alone(layout: Layout) -> None:
    check(write([(2, 12)], (16, 12), channels=16), layout)


def test_two_convolutions_over_one_enlarged_map() -> None:
    draft = Sketch()
    up = draft.resize(draft.input(1, 6, 4, 5), 1, 6, 16, 20)
    joined = draft.node("Concat", up, draft.input(1, LOW, 16, 20), axis=1)
    first, second = (draft.conv(joined, 8, OUTPUTS, 3, name=name) for name in "ab")
    model = draft.model(draft.node("Sub", first, second))
    after, outcome = rewritten(model)
    assert outcome == Outcome(("a over maps of 4×5", "b over maps of 4×5"))
    assert not {"Resize", "Concat"} & set(kinds(after))
    assert_same(model, after)


def test_the_enlarged_map_is_read_elsewhere_too() -> None:
    draft = Sketch()
    up = draft.resize(draft.input(1, 6, 4, 5), 1, 6, 16, 20)
    model = draft.model(draft.conv(up, 6, OUTPUTS, 3), draft.node("Relu", up), up)
    after, outcome = rewritten(model)
    assert len(outcome.places) == 1
    assert kinds(after).count("Resize") == 1
    assert_same(model, after)


def test_names_that_are_taken() -> None:
    draft = Sketch()
    up = draft.resize(draft.input(1, 6, 4, 5), 1, 6, 16, 20)
    y = draft.conv(draft.node("Concat", up, up, axis=1), 12, OUTPUTS, 3, name="y")
    names = ["y_coarse0", "y_coarse0_2_1", "y_sum3", "y_coarse0_2"]
    model = draft.model(*(draft.node("Neg", y, name=name) for name in names))
    after, outcome = rewritten(model)
    assert len(outcome.places) == 1
    assert_same(model, after)


def test_one_map_of_two_is_enlarged_enough() -> None:
    model = write([(4, 5), (15, 19)], order="0 1 low")
    after, outcome = rewritten(model)
    assert outcome.places == ("y over maps of 4×5",)
    assert kinds(after).count("Resize") == 1
    assert_same(model, after)


# What is left alone ------------------------------------------------------------------------------


KIND = "needs a 1×1 or 3×3 convolution of stride 1 that keeps the size, found"
OTHER = f"{KIND} 3×3 of another kind"
FIVE = f"{KIND} 5×5"
LINEAR = "the resize is neither plainly linear nor nearest"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"conv": {"strides": [2, 2]}}, OTHER),
        ({"conv": {"strides": [1, 2]}}, OTHER),
        ({"conv": {"dilations": [2, 2], "pads": [2, 2, 2, 2]}}, OTHER),
        ({"conv": {"dilations": [2, 2]}}, OTHER),
        ({"conv": {"group": 2}}, "its groups reach over several maps"),
        ({"conv": {"pads": [0, 0, 0, 0]}}, OTHER),
        ({"conv": {"pads": [2, 1, 0, 1]}}, OTHER),
        ({"conv": {"auto_pad": "VALID"}}, OTHER),
        ({"conv": {"auto_pad": "SAME_UPPER", "strides": [2, 2]}}, OTHER),
        ({"conv": {"size": 5}}, FIVE),
        (
            {"resize": {"mode": "nearest"}, "large": (14, 20)},
            "the resize does not repeat every pixel the same number of times",
        ),
        ({"resize": {"mode": "cubic"}}, LINEAR),
        ({"resize": {"antialias": 1}}, LINEAR),
        (
            {"resize": {"coordinate_transformation_mode": "half_pixel_symmetric"}, "opset": 19},
            "resizes by the rule half_pixel_symmetric",
        ),
        ({"grids": [(15, 19)]}, "enlarges too little to save arithmetic"),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_left_alone(options: dict[str, Any], reason: str, layout: Layout) -> None:
    model = write(**options)
    after, outcome = rewritten(model, layout)
    assert outcome == Outcome(left=(f"y: {reason}",))
    assert list(after.graph.node) == list(model.graph.node)


def computed_weights(draft: Sketch) -> str:
    weight = draft.node("Relu", draft.input(OUTPUTS, 6, 3, 3))
    up = draft.resize(draft.input(1, 6, 4, 5), 1, 6, 16, 20)
    return draft.node("Conv", up, weight, pads=[1] * 4, name="y")


def free_sizes(draft: Sketch) -> str:
    scales = draft.constant([1.0, 1.0, 4.0, 4.0])
    up = draft.node("Resize", draft.input(1, 6, "h", "w"), "", scales, mode="linear")
    return draft.conv(up, 6, OUTPUTS, 3, name="y")


def free_batch(draft: Sketch) -> str:
    scales = draft.constant([1.0, 1.0, 4.0, 4.0])
    up = draft.node("Resize", draft.input("n", 6, 4, 4), "", scales, mode="linear")
    return draft.conv(up, 6, OUTPUTS, 3, name="y")


def free_map(draft: Sketch) -> str:
    """Only what the map is enlarged to is known, as after an operator that inference stops at."""
    up = draft.resize(draft.input(1, 6, "h", "w"), 1, 6, 16, 20)
    return draft.conv(up, 6, OUTPUTS, 3, name="y")


def aspect_kept(draft: Sketch) -> str:
    policy = "not_larger"
    x = draft.input(1, 6, 4, 5)
    up = draft.resize(x, 16, 20, axes=[2, 3], keep_aspect_ratio_policy=policy)
    return draft.conv(up, 6, OUTPUTS, 3, name="y")


def more_channels(draft: Sketch) -> str:
    up = draft.resize(draft.input(1, 6, 4, 5), 1, 8, 16, 20)
    return draft.conv(up, 8, OUTPUTS, 3, name="y")


def other_scales(draft: Sketch) -> str:
    """As `interpolate(scale_factor=3.3, recompute_scale_factor=False)`: 4 → 13, not 13.2."""
    scales = draft.constant([1.0, 1.0, 3.3, 3.3])
    up = draft.node("Resize", draft.input(1, 6, 4, 5), "", scales, mode="linear")
    return draft.conv(up, 6, OUTPUTS, 3, name="y")


def other_scales_unfolded(draft: Sketch) -> str:
    """Shape inference looks into `Constant` nodes, so that the sizes are known all the same."""
    values = draft.node("Constant", value_floats=[1.0, 1.0, 3.3, 3.3])
    up = draft.node("Resize", draft.input(1, 6, 4, 5), "", values, mode="linear")
    return draft.conv(up, 6, OUTPUTS, 3, name="y")


def half_precision(draft: Sketch) -> str:
    x = draft.node("Cast", draft.input(1, 6, 4, 5), to=TensorProto.FLOAT16)
    up = draft.resize(x, 1, 6, 16, 20)
    weight = draft.constant(np.ones((OUTPUTS, 6, 3, 3)), dtype=np.float16)
    y = draft.node("Conv", up, weight, pads=[1] * 4, name="y")
    return draft.node("Cast", y, to=TensorProto.FLOAT)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (computed_weights, "its weights are not constant"),
        (free_sizes, "its sizes are not fixed"),
        (free_batch, "its sizes are not fixed"),
        (free_map, "the sizes of the resize are not fixed"),
        (aspect_kept, "the resize keeps the aspect ratio"),
        (more_channels, "the resize changes more than height and width"),
        (other_scales, "the scales of the resize are not the ratio of its sizes"),
        (other_scales_unfolded, "the scales of the resize are not constant"),
        (half_precision, "its weights are float16"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_left_alone_too(build: Callable[[Sketch], str], reason: str) -> None:
    draft = Sketch()
    model = draft.model(build(draft))
    after, outcome = rewritten(model)
    assert outcome == Outcome(left=(f"y: {reason}",))
    assert list(after.graph.node) == list(model.graph.node)


def other_axis(draft: Sketch) -> str:
    up = draft.resize(draft.input(1, 6, 4, 5), 1, 6, 16, 20)
    joined = draft.node("Concat", up, draft.input(1, 6, 16, 20), axis=2)
    return draft.conv(joined, 6, OUTPUTS, 3)


def no_resize(draft: Sketch) -> str:
    joined = draft.node("Concat", draft.input(1, 6, 16, 20), draft.input(1, 2, 16, 20), axis=1)
    return draft.conv(joined, 8, OUTPUTS, 3)


def activation_between(draft: Sketch) -> str:
    up = draft.resize(draft.input(1, 6, 4, 5), 1, 6, 16, 20)
    return draft.conv(draft.node("Relu", up), 6, OUTPUTS, 3)


def same_size(draft: Sketch) -> str:
    up = draft.resize(draft.input(1, 6, 16, 20), 1, 6, 16, 20)
    return draft.conv(up, 6, OUTPUTS, 3)


@pytest.mark.parametrize("build", [other_axis, no_resize, activation_between, same_size])
def test_no_pattern(build: Callable[[Sketch], str]) -> None:
    draft = Sketch()
    model = draft.model(build(draft))
    after, outcome = rewritten(model)
    assert outcome == Outcome()
    assert list(after.graph.node) == list(model.graph.node)


# The parts by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "target", "rule", "expected"),
    [
        (2, 4, "half_pixel", [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]),
        (2, 4, "pytorch_half_pixel", [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]),
        (2, 3, "align_corners", [[1, 0], [0.5, 0.5], [0, 1]]),
        (2, 4, "asymmetric", [[1, 0], [0.5, 0.5], [0, 1], [0, 1]]),
        (1, 3, "half_pixel", [[1], [1], [1]]),
        (2, 1, "half_pixel", [[0.5, 0.5]]),
        (2, 1, "pytorch_half_pixel", [[1, 0]]),
        (2, 1, "align_corners", [[1, 0]]),
        (3, 3, "half_pixel", np.eye(3)),
    ],
)
def test_interpolation(size: int, target: int, rule: str, expected: list[list[float]]) -> None:
    np.testing.assert_allclose(enlargement.interpolation(size, target, rule), expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(30))
def test_random_decoders(seed: int) -> None:
    random = np.random.default_rng(seed)
    large = (int(random.integers(12, 24)), int(random.integers(12, 24)))
    grids = [tuple(int(size) for size in random.integers(1, 7, 2)) for _ in range(2)]
    order = random.permutation(["low", "0", "1"])[: int(random.integers(1, 4))]
    if "low" in order and len(order) == 1:
        order = np.append(order, "0")
    model = write(
        grids,  # type: ignore[arg-type]
        large,
        " ".join(order),
        channels=int(random.integers(6, 12)),
        batch=int(random.integers(1, 4)),
        bias=bool(random.integers(2)),
        scales=bool(random.integers(2)),
        opset=int(random.integers(13, 22)),
        seed=seed,
        resize={
            "coordinate_transformation_mode": str(
                random.choice(["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
            )
        },
    )
    check(model, LAYOUTS[seed % 2])


def test_a_wrong_rewrite_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison that all of the above rests on notices one pixel at the border."""
    shifted = enlargement._shifted

    def wrong(matrix: enlargement.Matrix, taps: int) -> enlargement.Matrix:
        found = shifted(matrix, taps)
        found[0, 0] = matrix[0]
        return found

    model = write()
    monkeypatch.setattr(enlargement, "_shifted", wrong)
    after, _ = rewritten(model)
    assert run(after)[0].shape == run(model)[0].shape
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same(model, after)
