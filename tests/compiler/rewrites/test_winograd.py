"""Dense 3×3 convolutions in fewer products."""

from typing import Any, get_args

import numpy as np
import onnx
import pytest

from atrous.compiler.graph import macs
from atrous.compiler.graph.graph import Graph
from atrous.compiler.rewrites.base import Layout, Outcome
from atrous.compiler.rewrites.winograd import rewrite as winograd
from atrous.compiler.rewrites.winograd.algorithm import LARGEST, Minimal, TiledAxis
from tests.builders.sketch import Sketch, assert_same, feeds, kinds, run

LAYOUTS = get_args(Layout)


def convolution(
    shape: tuple[int | str, ...] = (1, 5, 9, 11), outputs: int = 4, size: int = 3, **how: Any
) -> onnx.ModelProto:
    draft = Sketch()
    x = draft.input(*shape)
    channels = shape[1]
    assert isinstance(channels, int)
    y = draft.conv(x, channels, outputs, size=size, name="head", **how)
    return draft.model(draft.node("Relu", y))


def rewritten(
    model: onnx.ModelProto, layout: Layout = "channels-last"
) -> tuple[onnx.ModelProto, Outcome]:
    graph = Graph(model)
    outcome = winograd.rewrite(graph, layout)
    return graph.to_model(), outcome


@pytest.fixture
def anything_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewrite what gains nothing too."""
    monkeypatch.setattr(winograd, "WORTH", float("-inf"))


@pytest.mark.parametrize("outputs", range(1, LARGEST + 1))
def test_fewer_products_for_the_same_outputs(outputs: int) -> None:
    random, minimal = np.random.default_rng(0), Minimal(outputs)
    taps, tile = random.normal(size=3), random.normal(size=outputs + 2)
    products = (minimal.weights @ taps) * (minimal.inputs @ tile)
    assert products.shape == (minimal.products,) == (outputs + 2,)
    expected = np.correlate(tile, taps, "valid")
    np.testing.assert_allclose(minimal.results @ products, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "dilation", "outputs", "tiles"),
    [(1, 1, 1, 1), (2, 1, 2, 1), (6, 1, 3, 2), (33, 1, 4, 9), (33, 6, 3, 12), (33, 18, 2, 18)],
)
def test_tiles_that_need_the_fewest_products(
    size: int, dilation: int, outputs: int, tiles: int
) -> None:
    axis = TiledAxis(size, size, dilation, dilation)
    assert (axis.minimal.outputs, axis.tiles) == (outputs, tiles)
    assert axis.outputs.shape == (outputs, tiles)
    assert sorted(axis.outputs.flat) == list(range(axis.results))
    assert axis.inputs.max() == axis.padded - 1


def test_taps_on_padding_are_no_work() -> None:
    assert TiledAxis(33, 33, 18, 18).direct == 33 + 2 * 15
    assert TiledAxis(5, 7, 0, 1).direct == 15
    assert TiledAxis(2, 2, 4, 4).direct == 2


PADDED: list[dict[str, Any]] = [
    {"pads": [1, 1, 1, 1]},
    {"pads": [0, 0, 0, 0]},
    {"pads": [0, 2, 1, 0]},
    {"pads": [3, 1, 2, 4]},
    {"dilations": [2, 2], "pads": [2, 2, 2, 2]},
    {"dilations": [3, 1], "pads": [3, 1, 3, 1]},
    {"dilations": [6, 4], "pads": [6, 4, 6, 4]},
    {"dilations": [9, 12], "pads": [9, 12, 9, 12]},
    {"dilations": [2, 3], "pads": [0, 1, 3, 0]},
    {"auto_pad": "SAME_UPPER"},
    {"auto_pad": "SAME_LOWER"},
    {"auto_pad": "VALID"},
]


@pytest.mark.usefixtures("anything_goes")
@pytest.mark.parametrize("how", PADDED, ids=str)
@pytest.mark.parametrize("size", [(9, 11), (4, 8), (13, 6)], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_same_function(batch: int, size: tuple[int, int], how: dict[str, Any]) -> None:
    model = convolution((batch, 5, *size), **how)
    after, outcome = rewritten(model)
    assert len(outcome.places) == 1
    assert "Conv" not in kinds(after)
    assert_same(model, after)


@pytest.mark.usefixtures("anything_goes")
def test_without_a_bias_and_with_a_computed_one() -> None:
    draft = Sketch()
    x = draft.input(1, 4, 8, 8)
    bare = draft.node("Conv", x, draft.weight(4, 4, 3, 3), pads=[1] * 4)
    bias = draft.node("ReduceMean", x, draft.constant([0, 2, 3], dtype=np.int64), keepdims=0)
    y = draft.node("Conv", bare, draft.weight(4, 4, 3, 3), bias, pads=[1] * 4)
    model = draft.model(y)
    after, outcome = rewritten(model)
    assert len(outcome.places) == 2
    assert_same(model, after)


@pytest.mark.usefixtures("anything_goes")
@pytest.mark.parametrize(
    ("shape", "how"),
    [
        ((1, 4, 8, 8), {"strides": [2, 2]}),
        ((1, 4, 8, 8), {"group": 2}),
        ((1, 4, 8, 8), {"group": 4}),
        ((1, 4, 8, 8), {"size": 1}),
        ((1, 4, 8, 8), {"size": 5}),
        ((1, 4, "h", "w"), {}),
        (("n", 4, 8, 8), {}),
    ],
    ids=str,
)
def test_other_convolutions_stay(shape: tuple[int | str, ...], how: dict[str, Any]) -> None:
    model = convolution(shape, **how)
    after, outcome = rewritten(model)
    assert outcome == Outcome()
    assert kinds(after) == kinds(model)


@pytest.mark.usefixtures("anything_goes")
def test_weights_that_are_computed_or_not_fp32_stay() -> None:
    draft = Sketch()
    x = draft.input(1, 4, 8, 8)
    computed = draft.node("Relu", draft.weight(4, 4, 3, 3))
    y = draft.node("Conv", x, computed, pads=[1] * 4)
    doubled = draft.node("Cast", y, to=onnx.TensorProto.DOUBLE)
    double = draft.constant(np.ones((4, 4, 3, 3)), dtype=np.float64)
    z = draft.node("Conv", doubled, double, pads=[1] * 4)
    assert rewritten(draft.model(z, dtype=onnx.TensorProto.DOUBLE))[1] == Outcome()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_where_it_pays(layout: Layout) -> None:
    """256 channels at a sixteenth of 513 pixels, the last convolution of DeepLabV3."""
    model = convolution((1, 256, 33, 33), outputs=256)
    after, outcome = rewritten(model, layout)
    assert outcome == Outcome(("head by F(4×4, 3×3) on 33×33",))
    tiles = 9 * 9
    products = tiles * 36 * 256 * 256
    assert macs.count(Graph(after)) == products + tiles * 36 * 256 * (36 + 16)
    assert_same(model, after)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("channels", "outputs", "size", "dilation"),
    [(18, 18, 128, 1), (48, 256, 128, 1), (64, 64, 129, 1), (320, 256, 33, 18)],
)
def test_where_it_does_not(
    layout: Layout, channels: int, outputs: int, size: int, dilation: int
) -> None:
    how = {"dilations": [dilation] * 2, "pads": [dilation] * 4}
    model = convolution((1, channels, size, size), outputs=outputs, **how)
    after, outcome = rewritten(model, layout)
    assert outcome == Outcome(left=("1 convolution of 3×3 that would gain nothing by it",))
    assert kinds(after) == kinds(model)


def test_files_stay_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    draft = Sketch()
    x = draft.input(1, 256, 32, 32)
    for number in range(3):
        x = draft.conv(x, 256, 256, size=3, name=f"conv{number}")
    model = draft.model(x)
    weights = 3 * 256 * 256 * 9 * 4
    # Two of them become four times as large.
    monkeypatch.setattr(winograd, "LARGEST_FILE", weights + 2 * weights + 4096)
    after, outcome = rewritten(model)
    assert [place.split()[0] for place in outcome.places] == ["conv0", "conv1"]
    assert outcome.left == ("1 convolution of 3×3 whose weights would make the file too large",)
    assert after.ByteSize() < winograd.LARGEST_FILE + (1 << 20)
    assert kinds(after).count("Conv") == 1


def test_it_loses_few_digits() -> None:
    """Over many channels, and after a ReLU, as in a head."""
    draft = Sketch()
    x = draft.node("Relu", draft.input(1, 512, 32, 32))
    model = draft.model(draft.conv(x, 512, 512, size=3))
    after, outcome = rewritten(model)
    assert outcome.places
    values = feeds(model)
    [expected], [actual] = run(model, values), run(after, values)
    assert np.abs(actual - expected).max() < 1e-5 * np.ptp(expected)


@pytest.mark.usefixtures("anything_goes")
@pytest.mark.parametrize("how", PADDED[:8:3], ids=str)
def test_openvino_computes_the_same(how: dict[str, Any]) -> None:
    openvino = pytest.importorskip("openvino")
    model = convolution((2, 5, 9, 11), **how)
    after, _ = rewritten(model)
    values = feeds(model)
    [expected] = run(model, values)
    read = openvino.Core().read_model(after.SerializeToString())
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(read, "CPU", hint)
    actual = compiled([*values.values()])[0]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.ptp(expected))
