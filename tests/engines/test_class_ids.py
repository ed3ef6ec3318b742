"""Class ids at the end of somebody else's network, whatever was done to them there."""

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
    INT32,
    INT64,
    UINT8,
    Build,
    Pixels,
    argmax,
    build,
    check,
    corners,
    enlarged,
    last,
    numbers,
    one,
    picture,
    red,
    segmented,
    small_build,
)

BOOL, FLOAT = TensorProto.BOOL, TensorProto.FLOAT
TABLE = np.array([5, 0, 7, 1, 1, 2, 4, 9])


def floats(sketch: Sketch, scores: str) -> str:
    return sketch.node("Cast", argmax(sketch, scores), to=FLOAT)


def with_number(kind: str, number: float) -> Callable[[Sketch, str], str]:
    return lambda s, x: s.node(kind, floats(s, x), s.constant(float(number)), name="y")


def nearest(sketch: Sketch, ids: str) -> str:
    return enlarged(sketch, ids, 1, mode="nearest")


def upsampled(sketch: Sketch, scores: str) -> str:
    return sketch.node(
        "Upsample", floats(sketch, scores), sketch.constant(np.float32([1, 1, 4, 4]))
    )


KEPT: dict[str, tuple[Build, Callable[[Pixels], Pixels]]] = {
    "enlarged": (small_build(lambda s, x: nearest(s, floats(s, x))), corners),
    "enlarged_whole": (
        small_build(
            lambda s, x: nearest(s, s.node("Cast", argmax(s, x), to=INT32)), INT32
        ), corners
    ),
    "enlarged_by_an_old_network": (small_build(upsampled, opset=9), corners),
    "times_one": (build(with_number("Mul", 1)), corners),
    "plus_one": (build(with_number("Add", 1)), lambda image: corners(image) + 1),
    "from_seven": (
        build(lambda s, x: s.node("Sub", s.constant(7.0), floats(s, x))),
        lambda image: 7 - corners(image),
    ),
    "last": (build(lambda s, x: last(s, floats(s, x))), corners),
    "times_36": (build(with_number("Mul", 36)), corners),
    "times_36_whole": (
        build(lambda s, x: s.node("Cast", with_number("Mul", 36)(s, x), to=UINT8), UINT8), corners
    ),
    "looked_up": (
        build(lambda s, x: s.node("Gather", s.constant(TABLE), argmax(s, x)), INT64),
        lambda image: TABLE[corners(image)].astype(np.uint8),
    ),
    "looked_up_as_floats": (
        build(lambda s, x: s.node("Gather", s.constant(np.float32(TABLE)), argmax(s, x))),
        lambda image: TABLE[corners(image)].astype(np.uint8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_ids_behind_an_argmax_are_ids(name: str, caplog: pytest.LogCaptureFixture) -> None:
    made, meant = KEPT[name]
    check(made(), meant)
    assert "holds class ids" in caplog.text
    classes = {"plus_one": 9, "looked_up": 10, "looked_up_as_floats": 10}.get(name, 8)
    assert found_classes(made()) == classes


def found_classes(made: onnx.ModelProto) -> int:
    read = engines.read_model(OnnxModel(made), Options())
    return int(read.proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value)


def masked(sketch: Sketch, scores: str) -> str:
    """Ids where a score is positive, by what no constant says."""
    sure = sketch.node("ReduceMax", scores, numbers(sketch, 1))
    sure = sketch.node("Greater", sure, sketch.constant(0.0))
    return sketch.node("Where", sure, floats(sketch, scores), sketch.constant(0.0), name="y")


REFUSED = {
    "mixed": (
        small_build(lambda s, x: enlarged(s, floats(s, x), 1, name="y")),
        "mixes the class ids of neighbours, by a resize of mode linear",
    ),
    "scaled": (
        build(with_number("Div", 7)), "makes other numbers of class ids: 0, 0.142857, 0.285714, …"
    ),
    "below_0": (build(with_number("Sub", 1)), "makes other numbers of class ids: -1, 0, 1, …"),
    "masked": (build(masked), r"makes other numbers of class ids \(Where\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_that_were_ids_are_refused_with_a_way_out(name: str) -> None:
    made, said = REFUSED[name]
    way_out = "; `output_name` scores takes the scores that the classes are chosen by"
    with pytest.raises(ArtifactError, match=f"output y {said}.*{way_out}"):
        segmented(made())
    check(made(), corners, output_name="scores")


def test_whole_numbers_behind_what_no_constant_says_are_ids() -> None:
    check(build(lambda s, x: s.node("Cast", masked(s, x), to=INT32), INT32)(), corners)


def over(sketch: Sketch, score: str, kind: str = "Greater") -> str:
    return sketch.node(kind, sketch.node("Sigmoid", score), sketch.constant(0.5))


def shown(sketch: Sketch, mask: str, white: float = 255) -> str:
    return sketch.node("Mul", sketch.node("Cast", mask, to=FLOAT), sketch.constant(float(white)))


def white(sketch: Sketch, score: str) -> str:
    return sketch.node("Cast", shown(sketch, over(sketch, score)), to=UINT8)


def either(sketch: Sketch, score: str) -> str:
    """A mask of which no score can be cut off."""
    both = sketch.node("Or", over(sketch, score), over(sketch, score))
    return sketch.node("Where", both, *(sketch.constant(n, dtype=np.uint8) for n in (255, 0)))


def chosen(sketch: Sketch, score: str, *values: float) -> str:
    return sketch.node("Where", over(sketch, score), *map(sketch.constant, values))


def not_red(image: Pixels) -> Pixels:
    return 1 - red(image)


TWO: dict[str, tuple[Build, Callable[[Pixels], Pixels], str]] = {
    "white": (one(white, UINT8), red, "a comparison with 0.5: cut"),
    "white_as_floats": (one(lambda s, x: shown(s, over(s, x))), red, "comparison with 0.5: cut"),
    "white_enlarged": (one(lambda s, x: nearest(s, shown(s, over(s, x))), grid=True), red, "cut"),
    "white_by_choice": (one(lambda s, x: chosen(s, x, 255.0, 0.0)), red, "cut"),
    "black": (one(lambda s, x: chosen(s, x, 0.0, 255.0)), not_red, "class ids times 255"),
    "below": (one(lambda s, x: shown(s, over(s, x, "Less"))), not_red, "class ids times 255"),
    "not": (one(lambda s, x: s.node("Not", over(s, x)), BOOL), not_red, "class ids (bool)"),
    "either": (one(either, UINT8), red, "class ids times 255"),
    "ids": (one(lambda s, x: chosen(s, x, 2.0, 1.0)), lambda image: red(image) + 1, "class ids"),
    "signs": (one(lambda s, x: chosen(s, x, 1.0, -1.0)), red, "scores (logits)"),
}  # fmt: skip


@pytest.mark.parametrize("name", TWO)
def test_a_mask_of_two_values(name: str, caplog: pytest.LogCaptureFixture) -> None:
    made, meant, said = TWO[name]
    check(made(), meant)
    assert said in caplog.text
    assert found_classes(made()) == (3 if name == "ids" else 2)


@pytest.mark.parametrize("looked_up", [False, True])
def test_the_better_of_two_classes_as_black_and_white(looked_up: bool) -> None:
    def tail(sketch: Sketch, score: str) -> str:
        both = sketch.node("Concat", sketch.node("Neg", score), score, axis=1)
        if looked_up:
            return sketch.node("Gather", numbers(sketch, 0, 255), argmax(sketch, both))
        return sketch.node("Mul", argmax(sketch, both), numbers(sketch, 255))

    made = one(tail, INT64)
    check(made(), red)
    assert found_classes(made()) == 2


def test_several_masks_are_no_class_ids() -> None:
    made = build(lambda s, x: s.node("Cast", s.node("Greater", x, s.constant(0.0)), to=FLOAT))
    assert found_classes(made()) == 8


def in_bytes(sketch: Sketch, scores: str, scale: float, zero: int) -> str:
    steps = sketch.constant(np.float32(scale)), sketch.constant(zero, dtype=np.uint8)
    return sketch.node("QuantizeLinear", scores, *steps)


def times_255(sketch: Sketch, score: str) -> str:
    return sketch.node("Mul", sketch.node("Sigmoid", score), sketch.constant(255.0))


UNITS: dict[str, tuple[Build, Callable[[Pixels], Pixels]]] = {
    "scores": (build(lambda s, x: in_bytes(s, x, 0.1, 128), UINT8), corners),
    "scores_last": (build(lambda s, x: in_bytes(s, last(s, x), 0.1, 128), UINT8), corners),
    "last_scores": (build(lambda s, x: last(s, in_bytes(s, x, 0.1, 128)), UINT8), corners),
    "probability": (
        one(lambda s, x: in_bytes(s, s.node("Sigmoid", x), 1 / 255, 0), UINT8), red
    ),
    "ids": (build(lambda s, x: in_bytes(s, floats(s, x), 1, 0), UINT8), corners),
    "grey": (one(lambda s, x: s.node("Cast", times_255(s, x), to=UINT8), UINT8), red),
    "grey_rounded": (
        one(lambda s, x: s.node("Cast", s.node("Round", times_255(s, x)), to=UINT8), UINT8), red
    ),
    "grey_as_floats": (one(times_255), red),
    "percent": (
        build(lambda s, x: s.node("Mul", s.node("Softmax", x, axis=1), s.constant(100.0))), corners
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNITS)
def test_scores_in_other_units_are_cut_before_them(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    made, meant = UNITS[name]
    check(made(), meant)
    assert "holds scores in other units: cut at " in caplog.text


def test_quantised_scores_that_nothing_was_before_are_refused() -> None:
    sketch = Sketch()
    image = sketch.input(1, 3, 8, 8, name="image")
    scale, zero = sketch.constant(np.float32(0.1)), sketch.constant(0, dtype=np.uint8)
    seen = sketch.node("QuantizeLinear", image, scale, zero)
    weight = sketch.constant(np.ones((1, 3, 1, 1)), dtype=np.uint8)
    sketch.node("QLinearConv", seen, scale, zero, weight, scale, zero, scale, zero, name="y")
    made = OnnxModel(sketch.model("y", dtype=UINT8), name="theirs.onnx")
    with pytest.raises(ArtifactError, match=r"holds quantised scores \(QLinearConv\) and no class"):
        engines.read_model(made, Options())


def levels(*ends: float) -> onnx.ModelProto:
    """Whole numbers of probabilities that no operator says anything of."""
    sketch = Sketch()
    image = sketch.input(1, 3, "h", "w", name="image")
    red_one = sketch.node("Slice", image, *(numbers(sketch, n) for n in (0, 1, 1)), name="red")
    size = sketch.node("Abs", red_one)
    share = sketch.node("Div", size, sketch.node("Max", size, sketch.constant(0.5)))
    level = sketch.node("Mul", share, share) if not ends else sketch.node("Floor", share)
    grey = sketch.node("Mul", level, sketch.node("Abs", sketch.constant(255.0)))
    return sketch.model(sketch.node("Cast", grey, to=UINT8, name="y"), dtype=UINT8)


@pytest.mark.parametrize(
    ("made", "said"), [(levels(0), "nothing but 0 and 255"), (levels(), r"\d+ numbers up to 255")]
)
def test_grey_levels_that_the_graph_hides_are_refused(made: onnx.ModelProto, said: str) -> None:
    with pytest.raises(
        ArtifactError,
        match=rf"its output y gave {said} to noise, which are grey levels rather than class ids; "
        "`output_name` takes the tensor",
    ):
        segmented(made)


def test_two_labels_take_black_and_white() -> None:
    found = segmented(levels(0), names=("background", "red"))
    assert np.array_equal(found, red(picture()))


def test_a_threshold_moves_behind_white_too() -> None:
    assert not segmented(one(white, UINT8)(), threshold=0.9999).any()


def test_one_name_is_that_of_the_foreground() -> None:
    read = engines.read_model(OnnxModel(one(either, UINT8)()), Options(names=("road",)))
    assert read.meaning is not None
    assert read.meaning.names == ("background", "road")


def test_ids_whose_number_of_classes_the_graph_hides_are_counted_in_a_run() -> None:
    made = small_build(
        lambda s, x: nearest(
            s, floats(s, s.node("Compress", x, s.constant(np.ones(8), dtype=bool), axis=1))
        )
    )()
    assert found_classes(made) == 8
