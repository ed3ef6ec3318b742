"""uint8 pixels in, and inside the graph what the preprocessing did outside."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from atrous.compiler import rewrites
from atrous.errors import ArtifactError
from atrous.preprocess import Preprocess
from tests.builders.sketch import CLOSE, Sketch, body, kinds, run

SIZE = (6, 8)


def first_conv(draft: Sketch, x: str) -> str:
    return draft.conv(x, 3, 4, size=3)


def depthwise(draft: Sketch, x: str) -> str:
    return draft.conv(x, 3, 3, size=3, group=3)


def two_readers(draft: Sketch, x: str) -> str:
    return draft.node("Concat", draft.conv(x, 3, 4, size=3), x, axis=1)


def computed_weights(draft: Sketch, x: str) -> str:
    weight = draft.node("Neg", draft.weight(4, 3, 3, 3))
    return draft.node("Conv", x, weight, pads=[1] * 4)


def no_conv(draft: Sketch, x: str) -> str:
    return draft.node("Relu", x)


def branch(draft: Sketch, x: str) -> str:
    """Which reads the image from inside."""
    yes = body([helper.make_node("Neg", [x], ["yes"])], "yes")
    no = body([helper.make_node("Exp", [x], ["no"])], "no")
    true = draft.constant(True, dtype=np.bool_)
    return draft.node("If", true, then_branch=yes, else_branch=no)


OWN = "input as uint8, normalised by a node of its own"
FOLDED = "input as uint8, scale folded into the first convolution"


@pytest.mark.parametrize(
    ("write", "place"),
    [
        (first_conv, FOLDED),
        (depthwise, OWN),
        (two_readers, OWN),
        (computed_weights, OWN),
        (no_conv, OWN),
        (branch, OWN),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize(
    "normalisation", ["div255-mean-std", "mean-std", "div255", "div127.5-minus-one", "none"]
)
def test_the_same_of_the_same_pixels(
    write: Callable[[Sketch, str], str], place: str, normalisation: str
) -> None:
    draft = Sketch()
    model = draft.model(write(draft, draft.input(1, 3, *SIZE, name="input")), rank=4)
    preprocess = Preprocess.from_dict(
        {**Preprocess(size=SIZE).to_dict(), "normalisation": normalisation}
    )
    after, taken, change = rewrites.take_uint8(model, preprocess)
    onnx.checker.check_model(after, full_check=True)
    assert change.places == (place,)
    assert change.saved == 0
    assert after.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    [expected] = run(model, {"input": preprocess(pixels)[None]})
    raw = taken(pixels, taken.empty("uint8"))[None]
    assert raw.dtype == np.uint8
    [actual] = run(after, {"input": raw})
    np.testing.assert_allclose(actual, expected, rtol=0, atol=CLOSE * np.ptp(expected))


def test_nothing_is_subtracted_where_zero_is_zero() -> None:
    draft = Sketch()
    model = draft.model(first_conv(draft, draft.input(1, 3, *SIZE, name="input")))
    preprocess = Preprocess.from_dict(
        {**Preprocess(size=SIZE).to_dict(), "normalisation": "div255"}
    )
    after, _, _ = rewrites.take_uint8(model, preprocess)
    assert kinds(after) == ["Cast", "Conv"]


def test_an_input_of_free_size() -> None:
    draft = Sketch()
    model = draft.model(first_conv(draft, draft.input(1, 3, "h", "w", name="input")))
    with pytest.raises(ArtifactError, match="input: expected an input of fixed size that is read"):
        rewrites.take_uint8(model, Preprocess(size=SIZE))
