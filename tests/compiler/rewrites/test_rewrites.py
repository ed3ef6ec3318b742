"""All rewrites together: what runs, what is said of it, and networks that are none of ours."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from atrous.compiler import rewrites
from atrous.compiler.graph import macs
from atrous.compiler.graph.graph import Graph
from atrous.compiler.rewrites import REWRITES, Rewrite
from atrous.errors import ConfigError
from tests.builders.sketch import Sketch, assert_same, kinds


def deeplab(opset: int = 18) -> onnx.ModelProto:
    """A DeepLabV3+ in small: weights behind casts, norms, pooled branch, decoder, last resize."""
    draft = Sketch(opset)
    x = draft.input(1, 3, 32, 40, name="input")
    half = draft.constant(np.linspace(-1, 1, 4 * 3 * 4 * 4).reshape(4, 3, 4, 4), dtype=np.float16)
    weight = draft.node("Cast", half, to=TensorProto.FLOAT)
    low = draft.norm(draft.node("Conv", x, weight, strides=[4, 4]), 4)
    high = draft.conv(low, 4, 6, size=3, strides=[4, 4])
    pool = draft.conv(draft.node("GlobalAveragePool", high), 6, 3)
    joined = draft.node("Concat", high, draft.resize(pool, 1, 3, 2, 3), axis=1)
    high = draft.node("Relu", draft.conv(joined, 9, 6, name="aspp"))
    joined = draft.node("Concat", low, draft.resize(high, 1, 6, 8, 10), axis=1)
    y = draft.node("Relu", draft.conv(joined, 10, 8, size=3, name="head"))
    grid = draft.conv(y, 8, 5, name="logits")
    return draft.model(draft.resize(grid, 1, 5, 32, 40, name="output"))


def test_all_of_them() -> None:
    model = deeplab()
    before = model.SerializeToString()
    after, changes = rewrites.apply(model)
    assert model.SerializeToString() == before
    assert_same(model, after)
    assert kinds(after).count("Resize") == 1
    assert [change.name for change in changes] == list(REWRITES)
    assert [change.places for change in changes] == [
        ("nodes removed: 1",),
        ("1 folded",),
        ("aspp",),
        ("head over maps of 2×3",),
        (),
    ]
    # aspp: 9 → 6 on 2·3 pixels, of which 3 now on 1; head: 10 → 8 on 8·10 pixels
    counts = [round(1e9 * change.saved) for change in changes]
    decoder = 80 * 6 * 8 * 9 - 8 * (9 * 6 * 6 + 3 * 2 * 10 * 3 * 3 + 8 * 10 * 3 * 2)
    assert counts == [0, 0, 5 * 3 * 6, decoder, 0]
    assert round(1e9 * changes[-1].gmacs_after) == macs.count(Graph(after))


def test_places_are_called_by_the_module_of_their_weights() -> None:
    model = deeplab()
    for number, module in enumerate(("aspp.project.0", "classifier.0")):
        conv = next(node for node in model.graph.node if node.output[0] == ("aspp", "head")[number])
        [stored] = [one for one in model.graph.initializer if one.name == conv.input[1]]
        stored.name = conv.input[1] = f"{module}.weight"
        conv.output[0] = f"getitem_{number}"
        for node in model.graph.node:
            node.input[:] = [
                conv.output[0] if n == ("aspp", "head")[number] else n for n in node.input
            ]
    _, changes = rewrites.apply(model)
    called = {change.name: change.places for change in changes}
    assert called["pooled-branch"] == ("aspp.project.0",)
    assert called["commute-enlargement"] == ("classifier.0 over maps of 2×3",)


def test_once_is_enough() -> None:
    once, _ = rewrites.apply(deeplab())
    twice, changes = rewrites.apply(once)
    assert not any(change.places for change in changes)
    assert twice == once


def test_what_is_beside_the_graph_stays() -> None:
    model = deeplab()
    model.metadata_props.append(onnx.StringStringEntryProto(key="atrous", value="{}"))
    after, _ = rewrites.apply(model)
    assert (after.ir_version, after.opset_import) == (model.ir_version, model.opset_import)
    assert after.metadata_props == model.metadata_props


@pytest.mark.parametrize("name", REWRITES)
def test_skip_one(name: str) -> None:
    model = deeplab()
    after, changes = rewrites.apply(model, skip=(name,))
    assert {change.name for change in changes if change.skipped} == {name}
    [skipped] = [change for change in changes if change.skipped]
    assert str(skipped) == f"{name}: switched off"
    assert skipped.places == skipped.left == ()
    assert skipped.saved == 0
    assert_same(model, after)


def test_of_no_use_to_what_is_made() -> None:
    after, changes = rewrites.apply(deeplab(), unfit={"commute-enlargement": "it is Tuesday"})
    [unfit] = [change for change in changes if change.name == "commute-enlargement"]
    assert str(unfit) == "commute-enlargement: not applied; left alone: it is Tuesday"
    assert not unfit.skipped
    assert kinds(after).count("Resize") == 2


def test_skip_all() -> None:
    model = deeplab()
    after, _ = rewrites.apply(model, skip=tuple(REWRITES))
    assert after == model


@pytest.mark.parametrize(
    ("skip", "message"),
    [
        (
            ("decode",),
            "no rewrite is called decode; known: "
            "fold-constants, batch-norm, pooled-branch, commute-enlargement, winograd",
        ),
        (("z", "decoder", "a"), "no rewrite is called a, z; known"),
    ],
)
def test_unknown_names(skip: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rewrites.apply(deeplab(), skip=skip)


def test_sizes_that_become_known_save_nothing() -> None:
    """The target of the resize is arithmetic that shape inference does not follow."""
    draft = Sketch()
    x = draft.input(1, 2, 4, 4)
    size = draft.node("ReduceProd", draft.node("Shape", x, start=2, end=3), keepdims=1)
    shape = draft.node("Concat", draft.node("Shape", x, end=2), size, size, axis=0)
    y = draft.node("Resize", x, "", "", shape)
    model = draft.model(draft.conv(y, 2, 3), rank=4)
    assert macs.count(Graph(model)) == 0
    _, changes = rewrites.apply(model)
    assert (changes[0].gmacs_before, changes[0].gmacs_after) == (96e-9, 96e-9)


@pytest.mark.parametrize(
    ("places", "left", "before", "after", "expected"),
    [
        ((), (), 5, 5, "x: its pattern is not in this network"),
        (
            (),
            ("a: is odd", "b: is even"),
            5,
            5,
            "x: not applied; left alone: a: is odd; b: is even",
        ),
        (("3 folded",), (), 5, 5, "x: 3 folded"),
        (("a", "b"), (), 3, 1, "x: a; b, 2.000 GMAC saved"),
        (
            ("a",),
            ("b: is odd",),
            2.345678901,
            1,
            "x: a, 1.346 GMAC saved; left alone: b: is odd",
        ),
    ],
)
def test_lines(
    places: tuple[str, ...], left: tuple[str, ...], before: float, after: float, expected: str
) -> None:
    one = Rewrite(
        name="x",
        summary="It does x.",
        places=places,
        left=left,
        gmacs_before=before,
        gmacs_after=after,
    )
    assert str(one) == expected


# Networks of other architectures -----------------------------------------------------------------


def unet() -> onnx.ModelProto:
    """Transposed convolutions with norms on one level, nearest resize on the other."""
    draft = Sketch()
    x = draft.input(1, 3, 16, 16)
    one = draft.node("Relu", draft.conv(x, 3, 4, size=3))
    two = draft.node("Relu", draft.conv(draft.node("MaxPool", one, **POOL), 4, 6, size=3))
    three = draft.node("Relu", draft.conv(draft.node("MaxPool", two, **POOL), 6, 8, size=3))
    up = draft.node("ConvTranspose", three, draft.weight(8, 6, 2, 2), strides=[2, 2])
    up = draft.norm(up, 6, name="norm")
    two = draft.node("Relu", draft.conv(draft.node("Concat", two, up, axis=1), 12, 6, size=3))
    up = draft.resize(two, 1, 6, 16, 16, mode="nearest")
    joined = draft.node("Concat", one, up, axis=1)
    return draft.model(draft.conv(joined, 10, 4, size=3, name="head"))


POOL: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}


def lraspp() -> onnx.ModelProto:
    """Of torchvision: a pooled gate on the high level, which is enlarged to be classified."""
    draft = Sketch()
    low, high = draft.input(1, 4, 16, 20), draft.input(1, 6, 4, 5)
    gate = draft.node("Sigmoid", draft.conv(draft.node("GlobalAveragePool", high), 6, 8))
    x = draft.node("Mul", draft.node("Relu", draft.conv(high, 6, 8)), gate)
    up = draft.resize(x, 1, 8, 16, 20)
    return draft.model(
        draft.node("Add", draft.conv(low, 4, 3), draft.conv(up, 8, 3, name="classifier"))
    )


def fcn() -> onnx.ModelProto:
    draft = Sketch()
    x = draft.node("Relu", draft.conv(draft.input(1, 3, 16, 16), 3, 4, size=3, strides=[4, 4]))
    return draft.model(draft.resize(draft.conv(x, 4, 5), 1, 5, 16, 16))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            unet(),
            [
                "fold-constants: its pattern is not in this network",
                "batch-norm: not applied; left alone: norm: does not follow a convolution",
                "pooled-branch: its pattern is not in this network",
                "commute-enlargement: head over maps of 8×8, 0.000 GMAC saved",
                "winograd: not applied; left alone: "
                "5 convolutions of 3×3 that would gain nothing by it",
            ],
        ),
        (
            lraspp(),
            [
                "fold-constants: its pattern is not in this network",
                "batch-norm: its pattern is not in this network",
                "pooled-branch: its pattern is not in this network",
                "commute-enlargement: classifier over maps of 4×5, 0.000 GMAC saved",
                "winograd: its pattern is not in this network",
            ],
        ),
        (fcn(), [f"{name}: its pattern is not in this network" for name in REWRITES]),
    ],
    ids=["unet", "lraspp", "fcn"],
)
def test_other_networks(model: onnx.ModelProto, said: list[str]) -> None:
    after, changes = rewrites.apply(model)
    assert [str(change) for change in changes] == said
    assert (after == model) == (not any(change.places for change in changes))
    assert_same(model, after)


def test_folding_alone_applies_elsewhere() -> None:
    model = unet()
    node = onnx.helper.make_node("Identity", [model.graph.input[0].name], ["same"])
    model.graph.node[0].input[0] = "same"
    model.graph.node.insert(0, node)
    after, changes = rewrites.apply(model, skip=["decoder"])
    assert str(changes[0]) == "fold-constants: nodes removed: 1"
    assert after == unet()
