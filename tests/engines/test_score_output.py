"""What the end of somebody else's network says of its scores."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from atrous import engines
from atrous.engines.base import Options
from atrous.engines.onnx_model import OnnxModel
from atrous.errors import ArtifactError
from tests.builders.sketch import Sketch
from tests.builders.theirs import (
    HEIGHT,
    WIDTH,
    Build,
    Pixels,
    build,
    check,
    corners,
    enlarged,
    model,
    numbers,
    one,
    one_score,
    quarter,
    red,
    scores_of,
    small_build,
    start,
)

BOOL = TensorProto.BOOL


def opened(made: onnx.ModelProto) -> OnnxModel:
    return engines.read_model(OnnxModel(made, name="theirs.onnx"), Options())


def turned(sketch: Sketch, scores: str, kind: str = "Softmax") -> str:
    """A function of the classes, brought to the last axis and back, as old exporters have it."""
    there = sketch.node("Transpose", scores, perm=[0, 3, 2, 1])
    settings = {} if kind == "Relu" else {"axis": 3}
    return sketch.node("Transpose", sketch.node(kind, there, **settings), perm=[0, 3, 2, 1])


def fourfold(sketch: Sketch, small: str) -> str:
    """Enlarged by operators of before set 10."""
    return sketch.node("Upsample", small, sketch.constant(np.float32([1, 1, 4, 4])), mode="linear")


OLD = {
    "softmax": (build(turned, opset=12), "none"),
    "log_softmax": (build(lambda s, x: turned(s, x, "LogSoftmax"), opset=12), "none"),
    "softmax_of_upsample": (small_build(lambda s, x: turned(s, fourfold(s, x)), opset=9),
                            "softmax"),
    "no_softmax": (build(lambda s, x: turned(s, x, "Relu"), opset=12), "softmax"),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_a_softmax_between_two_exchanges_of_axes(name: str) -> None:
    made, activation = OLD[name]
    check(made(), corners)
    meaning = opened(made()).meaning
    assert meaning is not None
    assert meaning.activation == activation


def around_a_half(sketch: Sketch, scores: str) -> str:
    tenth = sketch.node("Mul", scores, sketch.constant([0.1]))
    return sketch.node("Add", tenth, sketch.constant([0.5]))


def clipped(sketch: Sketch, scores: str, *ends: float) -> str:
    return sketch.node("Clip", scores, *(sketch.constant(np.float32(end)) for end in ends))


PROBABLE = {
    "clipped": one(lambda s, x: clipped(s, around_a_half(s, x), 0, 1)),
    "clipped_by_attributes": one(
        lambda s, x: s.node("Clip", around_a_half(s, x), min=0.0, max=1.0), opset=10
    ),
    "resize_of_clipped": one(
        lambda s, x: enlarged(s, clipped(s, around_a_half(s, x), 0, 1), 1), grid=True
    ),
    "hard_sigmoid": one(lambda s, x: s.node("HardSigmoid", x)),
    "of_the_background": one(lambda s, x: s.node(
        "Sub", s.constant([1.0]), s.node("Sigmoid", s.node("Neg", x)))),
    "of_two_looks": one(lambda s, x: s.node(
        "Div", s.node("Add", s.node("Sigmoid", x), s.node("Sigmoid", x)), s.constant([2.0]))),
    "of_both": one(lambda s, x: s.node("Mul", s.node("Sigmoid", x), s.node("Sigmoid", x))),
    "of_tanh": one(lambda s, x: s.node(
        "Mul", s.node("Add", s.node("Tanh", x), s.constant([1.0])), s.constant([0.5]))),
    "tanh": one(lambda s, x: s.node("Tanh", x)),
    "clipped_to_more": one(lambda s, x: clipped(s, x, -3, 3)),
    "clipped_below": one(lambda s, x: clipped(s, x, -3)),
    "divided": one(lambda s, x: s.node("Div", x, s.constant([2.0]))),
    "divided_by_a_length": one(lambda s, x: s.node("Div", x, s.node("Abs", x))),
    "divided_by_a_sum": one(
        lambda s, x: s.node("Div", x, s.node("Add", s.node("Abs", x), s.constant([0.1])))
    ),
}  # fmt: skip
LOGITS = (
    "tanh",
    "clipped_to_more",
    "clipped_below",
    "divided",
    "divided_by_a_length",
    "divided_by_a_sum",
)


@pytest.mark.parametrize("name", PROBABLE)
def test_what_lies_between_0_and_1_is_a_probability_and_nothing_else(name: str) -> None:
    made = PROBABLE[name]()
    check(made, red)
    meaning = opened(made).meaning
    assert meaning is not None
    assert meaning.activation == ("sigmoid" if name in LOGITS else "none")


def test_the_mean_of_two_softmaxes_excludes_classes() -> None:
    def mean(sketch: Sketch, scores: str) -> str:
        likely = [sketch.node("Softmax", scores, axis=1) for _ in range(2)]
        return sketch.node("Mul", sketch.node("Sum", *likely), sketch.constant([0.5]))

    read = opened(build(mean)())
    assert read.meaning is not None
    assert (read.meaning.activation, read.notes) == ("none", ())


COMPARED: dict[str, tuple[Build, Callable[[Pixels], Pixels], str]] = {
    "number_below": (
        one(lambda s, x: s.node("Less", s.constant([0.0]), x), BOOL), red, "a comparison with 0:"
    ),
    "logit_over_a_number": (
        one(lambda s, x: s.node("GreaterOrEqual", x, s.constant([2.0])), BOOL),
        red,
        "probability over 0.880797",
    ),
    "probability_over_a_number": (
        one(lambda s, x: s.node("Greater", s.node("Sigmoid", x), s.constant([0.7])), BOOL),
        red,
        "probability over 0.7",
    ),
    "of_resize": (
        one(lambda s, x: s.node("Greater", s.node("Sigmoid", enlarged(s, x, 1)), s.constant(0.7)),
            BOOL, grid=True),
        red,
        "probability over 0.7",
    ),
    "score_below_a_number": (
        one(lambda s, x: s.node("Less", x, s.constant([0.0])), BOOL),
        lambda image: 1 - red(image),
        "class ids (bool)",
    ),
    "one_score_over_another": (
        one(lambda s, x: s.node("Greater", x, s.node("Neg", x)), BOOL), red, "class ids (bool)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPARED)
def test_a_comparison_at_the_end(name: str, caplog: pytest.LogCaptureFixture) -> None:
    made, meant, said = COMPARED[name]
    check(made(), meant)
    assert said in caplog.text


def test_a_comparison_of_scores_whose_size_the_graph_hides(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sketch, image = start("h", "w")
    small = one_score(sketch, quarter(sketch, image))
    sizes = sketch.node("Cast", sketch.node("Shape", small), to=TensorProto.FLOAT)
    sizes = sketch.node("Mul", sizes, sketch.constant(np.float32([1, 1, 4, 4])))
    sizes = sketch.node("Cast", sketch.node("Floor", sizes), to=TensorProto.INT64)
    large = sketch.node("Resize", small, "", "", sizes, mode="linear", name="large")
    over = sketch.node("Greater", large, sketch.constant(0.0))
    check(sketch.model(over, dtype=BOOL, rank=4), red)
    assert "ends in a comparison with 0: cut at large before it" in caplog.text


def test_a_comparison_of_several_classes_is_no_class_map() -> None:
    made = build(lambda s, x: s.node("Greater", x, s.constant(0.0), name="over"), BOOL)
    with pytest.raises(ArtifactError) as error:
        opened(made())
    assert str(error.value) == (
        "theirs.onnx: its output over holds whole numbers of the shape 1×8×24×40, which is not a "
        "class map (N, h, w) over a picture of 24×40; `output_name` says which output is"
    )


@pytest.mark.parametrize("grid", [False, True])
def test_a_softmax_over_one_score_is_cut_off(grid: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It is 1 everywhere, of whatever score."""
    made = one(lambda s, x: s.node("Softmax", enlarged(s, x, 1) if grid else x, axis=1), grid=grid)
    check(made(), red)
    assert "its one score has been through a softmax, which is 1 everywhere" in caplog.text


def test_a_softmax_over_one_score_that_is_enlarged_is_refused() -> None:
    made = one(lambda s, x: enlarged(s, s.node("Softmax", x, axis=1), 1), grid=True)
    with pytest.raises(ArtifactError, match="a softmax over a single one, which is 1 everywhere; "):
        opened(made())


@pytest.mark.parametrize("tail", [
    lambda s, x: s.node("Squeeze", x, numbers(s, 0, 1)),
    lambda s, x: s.node("Sigmoid", s.node("Squeeze", x, numbers(s, 0, 1))),
    lambda s, x: s.node("Squeeze", s.node("Sigmoid", x), numbers(s, 0, 1)),
], ids=["logit", "sigmoid_of_squeezed", "squeezed_sigmoid"])  # fmt: skip
def test_one_score_without_any_axis_for_more(tail: Callable[[Sketch, str], str]) -> None:
    check(one(tail)(), red)


def test_classification_of_eight_pictures_is_no_map_of_8_rows() -> None:
    sketch, image = start(32, 32, batch=8)
    mean = sketch.node("ReduceMean", scores_of(sketch, image), numbers(sketch, 2, 3), keepdims=0)
    with pytest.raises(ArtifactError, match="has the shape 8×8, which is not a map of scores"):
        opened(model(sketch, mean))


@pytest.mark.parametrize(
    ("perm", "dims"),
    [([0, 1, 3, 2], f"1×8×{WIDTH}×{HEIGHT}"), ([0, 3, 2, 1], f"1×{WIDTH}×{HEIGHT}×8")],
    ids=["classes_first", "classes_last"],
)
def test_rows_and_columns_that_are_exchanged_are_refused(perm: list[int], dims: str) -> None:
    made = build(lambda s, x: s.node("Transpose", x, perm=perm, name="turned"))
    with pytest.raises(ArtifactError) as error:
        opened(made())
    assert str(error.value) == (
        f"theirs.onnx: its output turned has the shape {dims}, whose rows are the "
        f"columns of a picture of {HEIGHT}×{WIDTH}; export the network with scores (N, C, h, w)"
    )


def test_a_picture_may_be_its_own_scores() -> None:
    sketch, image = start()
    scores = sketch.node("Softmax", sketch.node("Identity", image), axis=1)
    check(model(sketch, scores), lambda pixels: pixels.argmax(-1).astype(np.uint8))


def test_six_axes_are_no_map_of_scores() -> None:
    made = build(lambda s, x: s.node("Unsqueeze", x, numbers(s, 0, 1), name="y"))
    with pytest.raises(
        ArtifactError, match=r"output y float32 \(1, 1, 1, 8, 24, 40\) is no map of scores; Atrous"
    ):
        opened(made())
