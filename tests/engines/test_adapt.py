"""Somebody else's network, in every form that exporters leave, gives the classes that it means."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from atrous import engines
from atrous.artifact import Metadata
from atrous.engines.base import Options
from atrous.engines.onnx_model import OnnxModel
from atrous.errors import ArtifactError, AtrousError, ConfigError
from atrous.labels import generic, named
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from tests.builders.sketch import Sketch
from tests.builders.theirs import (
    HEIGHT,
    INT32,
    INT64,
    PLAIN,
    SIGNS,
    UINT8,
    WIDTH,
    Build,
    Pixels,
    argmax,
    batched,
    build,
    check,
    corners,
    enlarged,
    first,
    last,
    model,
    numbers,
    one,
    one_score,
    picture,
    quarter,
    red,
    scaled,
    scaled_first,
    scores_of,
    segmented,
    sides,
    small_build,
    start,
)

EIGHT = {
    "as_it_is": build(lambda s, x: x),
    "softmax": build(lambda s, x: s.node("Softmax", x, axis=1)),
    "channels_last": build(last),
    "channels_last_softmax": build(lambda s, x: s.node("Softmax", last(s, x), axis=-1)),
    "channels_last_at_stride_4": small_build(last),
    "channels_last_bias": build(lambda s, x: s.node("Add", last(s, x), s.constant([0.0] * 8))),
    "argmax_int64": build(argmax, INT64),
    "argmax_no_dims": build(lambda s, x: argmax(s, x, keepdims=0), INT64),
    "argmax_of_last": build(lambda s, x: argmax(s, last(s, x), axis=-1, keepdims=0), INT64),
    "argmax_int32": build(lambda s, x: s.node("Cast", argmax(s, x), to=INT32), INT32),
    "argmax_uint8_squeezed": build(
        lambda s, x: s.node(
            "Squeeze", s.node("Cast", argmax(s, x), to=UINT8), s.constant([0, 1], dtype=np.int64)
        ),
        UINT8,
    ),
    "argmax_float": build(lambda s, x: s.node("Cast", argmax(s, x), to=1)),
    "argmax_reshaped": build(
        lambda s, x: s.node("Reshape", argmax(s, x), s.constant([1, -1], dtype=np.int64)), INT64
    ),
    "argmax_of_softmax_of_resize": small_build(
        lambda s, x: argmax(s, s.node("Softmax", enlarged(s, x, 8), axis=1)), INT64
    ),
    "best_of_topk": build(
        lambda s, x: s.node("TopK", x, s.constant([1], dtype=np.int64), axis=1, count=2) + ".1",
        INT64,
    ),
    "half_at_the_end": build(lambda s, x: s.node("Cast", x, to=10), TensorProto.FLOAT16),
    "half_resize": small_build(
        lambda s, x: enlarged(s, s.node("Cast", x, to=10), 8), TensorProto.FLOAT16
    ),
    "double": build(lambda s, x: s.node("Cast", x, to=11), TensorProto.DOUBLE),
    "identity_resize": build(lambda s, x: enlarged(s, x, 8)),
    "softmax_of_resize": small_build(lambda s, x: s.node("Softmax", enlarged(s, x, 8), axis=1)),
    "resize_of_softmax": small_build(lambda s, x: enlarged(s, s.node("Softmax", x, axis=1), 8)),
    "log_softmax": small_build(lambda s, x: s.node("LogSoftmax", enlarged(s, x, 8), axis=1)),
    "sigmoid_of_resize": small_build(lambda s, x: s.node("Sigmoid", enlarged(s, x, 8))),
    "without_batch": build(
        lambda s, x: s.node("Squeeze", x, s.constant([0], dtype=np.int64))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EIGHT)
def test_eight_classes_in_every_form(name: str) -> None:
    check(EIGHT[name](), corners)


ONE = {
    "logit": one(lambda s, x: x),
    "sigmoid": one(lambda s, x: s.node("Sigmoid", x)),
    "sigmoid_last": one(lambda s, x: last(s, s.node("Sigmoid", x))),
    "sigmoid_squeezed": one(
        lambda s, x: s.node("Squeeze", s.node("Sigmoid", x), s.constant([1], dtype=np.int64))
    ),
    "sigmoid_by_hand": one(
        lambda s, x: s.node(
            "Div", s.constant([1.0]),
            s.node("Add", s.node("Exp", s.node("Neg", x)), s.constant([1.0])),
        )
    ),
    "compared": one(
        lambda s, x: s.node("Greater", s.node("Sigmoid", x), s.constant(0.5)), TensorProto.BOOL
    ),
    "compared_cast": one(
        lambda s, x: s.node("Cast", s.node("Greater", s.node("Sigmoid", x), s.constant(0.5)), to=1)
    ),
    "rounded": one(lambda s, x: s.node("Round", s.node("Sigmoid", x))),
    "resize": one(lambda s, x: enlarged(s, x, 1), grid=True),
    "sigmoid_of_resize": one(lambda s, x: s.node("Sigmoid", enlarged(s, x, 1)), grid=True),
    "resize_of_sigmoid": one(lambda s, x: enlarged(s, s.node("Sigmoid", x), 1), grid=True),
    "nearest_of_sigmoid": one(
        lambda s, x: enlarged(s, s.node("Sigmoid", x), 1, mode="nearest"), grid=True
    ),
    "softmax_of_two": one(
        lambda s, x: s.node(
            "Slice",
            s.node("Softmax", s.node("Concat", s.node("Neg", x), x, axis=1), axis=1),
            *(s.constant([value], dtype=np.int64) for value in (1, 2, 1)),
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE)
def test_one_class_in_every_form(name: str) -> None:
    check(ONE[name](), red)


def of_the_small_map(sketch: Sketch, image: str, small: str) -> list[str]:
    both = sketch.node("Shape", small)
    kept = sketch.node("Slice", both, numbers(sketch, 0), numbers(sketch, 2), numbers(sketch, 0))
    return [kept, sides(sketch, image, 2, 4)]


TARGETS: dict[str, Callable[[Sketch, str, str], list[str]]] = {
    "batch_and_classes_of_the_small_map": of_the_small_map,
    "batch_and_classes_as_numbers": lambda s, image, small: [
        numbers(s, 1, 1), sides(s, image, 2, 4)
    ],
    "four_numbers": lambda s, image, small: [
        sides(s, image, 0, 1), numbers(s, 1), sides(s, image, 2, 3), sides(s, image, 3, 4)
    ],
    "classes_computed": lambda s, image, small: [
        sides(s, image, 0, 1), sides(s, small, 1, 2), sides(s, image, 2, 4)
    ],
    "four_sides_one_a_number": lambda s, image, small: [
        side(s, image, 0), numbers(s, 1), side(s, image, 2), side(s, image, 3)
    ],
    "four_sides": lambda s, image, small: [
        side(s, small, 0), side(s, small, 1), side(s, image, 2), side(s, image, 3)
    ],
    "batch_of_the_small_map": lambda s, image, small: [
        s.node("Slice", s.node("Shape", small), *(numbers(s, at) for at in (0, 1, 0))),
        numbers(s, 1), sides(s, image, 2, 4),
    ],
    "four_times": lambda s, image, small: [
        s.node("Mul", s.node("Shape", small), numbers(s, 1, 1, 4, 4))
    ],
}  # fmt: skip
WIDENED = (
    "batch_and_classes_of_the_small_map", "batch_and_classes_as_numbers", "four_sides_one_a_number"
)  # fmt: skip
"""Those that say how many classes there are, where it can be seen."""


def side(sketch: Sketch, image: str, axis: int) -> str:
    """One of the sizes, as the older exporter of PyTorch looks it up."""
    index = sketch.constant(axis, dtype=np.int64)
    picked = sketch.node("Gather", sketch.node("Shape", image), index)
    return sketch.node("Unsqueeze", picked, numbers(sketch, 0))


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("free", [False, True], ids=["fixed", "free"])
def test_one_class_enlarged_to_computed_sizes(name: str, free: bool) -> None:
    sketch, image = start("h", "w") if free else start()
    small = one_score(sketch, quarter(sketch, image))
    parts = TARGETS[name](sketch, image, small)
    sizes = parts[0] if len(parts) == 1 else sketch.node("Concat", *parts, axis=0)
    large = sketch.node("Resize", small, "", "", sizes, mode="linear", name="large")
    made = sketch.model(sketch.node("Sigmoid", large), rank=4)
    check(made, red)
    # What is enlarged last is left to us, who are faster at it.
    ends = engines.read_model(OnnxModel(made), Options()).proto.graph.node[-1].op_type
    assert ends == ("Resize" if name in WIDENED else "Pad")


@pytest.mark.parametrize("opset", [9, 10])
@pytest.mark.parametrize("grid", [False, True])
def test_one_class_of_an_old_network(opset: int, grid: bool) -> None:
    def fourfold(sketch: Sketch, x: str) -> str:
        kind, scales = "Upsample" if opset < 10 else "Resize", np.float32([1, 1, 4, 4])
        return sketch.node(kind, x, sketch.constant(scales), mode="nearest")

    check(one(fourfold if grid else lambda s, x: x, grid=grid, opset=opset)(), red)


def test_one_class_enlarged_by_a_part_of_itself_is_padded_behind() -> None:
    def cropped(sketch: Sketch, small: str) -> str:
        whole = sketch.constant(np.float32([0, 0, 0, 0, 1, 1, 1, 1]))
        target = numbers(sketch, 1, 1, HEIGHT, WIDTH)
        settings = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}
        return sketch.node("Resize", small, whole, "", target, **settings)

    made = one(cropped, grid=True)()
    found = segmented(made)  # OpenVINO refuses this Resize
    # Corners lie on corners: the grid of 6 has its points at 0, 4.6, 9.2, …
    rows, columns = (np.round(np.linspace(0, n - 1, n // 4)).astype(int) for n in (HEIGHT, WIDTH))
    right = red(picture())[2::4, 2::4]
    assert np.array_equal(found[np.ix_(rows, columns)], right)


# Inputs


def fed(kind: int, *dims: int | str, steps: Callable[[Sketch, str], str]) -> Build:
    """The eight scores of an input of another type or order, which `steps` bring to ours."""

    def made() -> onnx.ModelProto:
        sketch = Sketch()
        image = steps(sketch, sketch.input(*dims, dtype=kind, name="image"))
        return model(sketch, scores_of(sketch, image))

    return made


BYTES = Preprocess(size=(HEIGHT, WIDTH), normalisation="none")
INPUTS = {
    "last": (fed(1, 1, HEIGHT, WIDTH, 3, steps=first), PLAIN),
    "last_free": (fed(1, "n", "h", "w", 3, steps=first), PLAIN),
    "all_free": (fed(1, "n", "c", "h", "w", steps=lambda s, x: x), PLAIN),
    "last_all_free": (fed(1, "n", "h", "w", "c", steps=first), PLAIN),
    "half": (fed(10, 1, 3, HEIGHT, WIDTH, steps=lambda s, x: s.node("Cast", x, to=1)), PLAIN),
    "double": (fed(11, 1, 3, HEIGHT, WIDTH, steps=lambda s, x: s.node("Cast", x, to=1)), PLAIN),
    "bytes": (fed(UINT8, 1, 3, HEIGHT, WIDTH, steps=scaled), BYTES),
    "bytes_last": (fed(UINT8, 1, HEIGHT, WIDTH, 3, steps=scaled_first), BYTES),
    "whole_numbers": (fed(INT32, 1, 3, HEIGHT, WIDTH, steps=scaled), BYTES),
    "one_picture": (fed(1, 3, HEIGHT, WIDTH, steps=batched), PLAIN),
    "one_picture_last": (
        fed(1, HEIGHT, WIDTH, 3, steps=lambda s, x: first(s, batched(s, x))), PLAIN
    ),
    "two_at_a_time": (fed(1, 2, HEIGHT, WIDTH, 3, steps=first), PLAIN),
}  # fmt: skip


@pytest.mark.parametrize("name", INPUTS)
def test_pictures_in_every_form(name: str) -> None:
    made, preprocess = INPUTS[name]
    check(made(), corners, preprocess=preprocess)


def bright(image: Pixels) -> Pixels:
    return (image @ [0.299, 0.587, 0.114] > 127.5).astype(np.uint8)


@pytest.mark.parametrize("kind", ["conv", "sum", "last", "bytes"])
def test_one_channel_sees_the_grey_picture(kind: str) -> None:
    sketch = Sketch()
    dims = (1, HEIGHT, WIDTH, 1) if kind == "last" else (1, 1, HEIGHT, WIDTH)
    image = sketch.input(*dims, dtype=UINT8 if kind == "bytes" else 1, name="image")
    if kind == "last":
        image = first(sketch, image)
    elif kind == "bytes":
        image = scaled(sketch, image)
    if kind == "sum":
        image = sketch.node("Add", image, sketch.constant([0.0]))
    scores = sketch.node(
        "Conv", image, sketch.constant(np.full((1, 1, 1, 1), 10.0)), sketch.constant([-5.0])
    )
    for colour in ("rgb", "bgr"):
        normalisation = "none" if kind == "bytes" else "div255"
        preprocess = Preprocess(size=(HEIGHT, WIDTH), normalisation=normalisation, colour=colour)
        check(model(sketch, scores), bright, preprocess=preprocess)


@pytest.mark.parametrize("kind", [INT64, TensorProto.BOOL, 1])
def test_masks_of_ones_are_filled_in(kind: int) -> None:
    sketch, image = start("h", "w", batch="n")
    mask = sketch.input("n", "h", "w", dtype=kind, name="pixel_mask")
    seen = sketch.node("Cast", mask, to=1)
    plane = sketch.node("Unsqueeze", seen, sketch.constant([1], dtype=np.int64))
    check(model(sketch, sketch.node("Mul", scores_of(sketch, image), plane)), corners)


# Thresholds


def sure(sharpness: float, *, tail: Callable[[Sketch, str], str]) -> onnx.ModelProto:
    """Where there is red, it is as likely as the sigmoid of a fourth of `sharpness`."""
    sketch, image = start()
    return model(sketch, tail(sketch, one_score(sketch, image, sharpness)))


@pytest.mark.parametrize("tail", [lambda s, x: x, lambda s, x: s.node("Sigmoid", x)])
def test_a_threshold_is_a_probability(tail: Callable[[Sketch, str], str]) -> None:
    made = sure(4, tail=tail)  # 0.8 for red, 0.16 elsewhere
    for threshold, meant in ((0.7, red), (0.9, np.zeros_like), (0.1, np.ones_like)):
        right = meant(red(picture())) if meant is not red else red(picture())
        assert np.array_equal(segmented(made, threshold=threshold), right)
    assert np.array_equal(segmented(made), red(picture()))


def several(sharpness: float = 8, tail: str = "Sigmoid") -> onnx.ModelProto:
    """A score for red, green and blue, each alone."""
    sketch, image = start()
    weight = sketch.constant(np.eye(3).reshape(3, 3, 1, 1) * sharpness)
    scores = sketch.node(
        "Conv",
        image,
        weight,
        sketch.constant([-sharpness / 2 - 1, -sharpness / 2, -sharpness / 2 + 1]),
    )
    return model(sketch, sketch.node(tail, scores) if tail else scores)


def test_labels_that_do_not_exclude_each_other(caplog: pytest.LogCaptureFixture) -> None:
    image = picture()
    lit = image > 127
    assert np.array_equal(
        segmented(several()),
        np.where(lit[..., 2], 2, np.where(lit[..., 1], 1, np.where(lit[..., 0], 0, 2))),
    )
    assert "do not exclude each other" in caplog.text
    above = np.where(lit[..., 2], 3, np.where(lit[..., 1], 2, np.where(lit[..., 0], 1, 0)))
    assert np.array_equal(segmented(several(), threshold=0.6), above)
    assert np.array_equal(segmented(several(tail=""), threshold=0.6), above)
    assert "a class 0 before the others, background" in caplog.text


def test_background_that_is_a_class_of_its_own_takes_what_is_left() -> None:
    lit = picture() > 127
    known = named(("background", "green", "blue"))
    found = segmented(several(), threshold=0.6, labels=known)
    assert np.array_equal(found, np.where(lit[..., 2], 2, np.where(lit[..., 1], 1, 0)))


def test_what_is_left_is_decided_behind_the_enlargement() -> None:
    """Two cells whose background scores are 6 and -10: between them it falls below the others."""
    sketch, image = start()
    weight = np.float32([[-16, 0, 0], [0, 2, 0]]).reshape(2, 3, 1, 1)
    cells = quarter(sketch, image)
    small = sketch.node("Conv", cells, sketch.constant(weight), sketch.constant([6.0, 0.0]))
    made = model(sketch, sketch.node("Sigmoid", enlarged(sketch, small, 2)))
    shown = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    shown[:, 8:, 0] = shown[..., 1] = 255
    # Over columns 6 to 9, a quarter of a cell apart: 4, 0, -4, -8 against 2 everywhere.
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[:, 7:] = 1
    known = named(("background", "green"))
    found = segmented(made, shown, threshold=0.6, labels=known)
    assert np.array_equal(found, expected)


def test_names_of_the_classes() -> None:
    def names(made: onnx.ModelProto, labels: Any = None, **hints: Any) -> tuple[str, ...]:
        with Predictor.open(
            OnnxModel(made),
            engine="onnxruntime",
            options=Options(**hints),
            preprocess=PLAIN,
            labels=labels,
        ) as opened:
            return opened.labels.names

    assert names(ONE["logit"]()) == ("background", "foreground")
    assert names(ONE["logit"](), named(("road",))) == ("background", "road")
    assert names(ONE["logit"](), named(("ground", "road"))) == ("ground", "road")
    assert names(several(), threshold=0.5) == ("background", "class 1", "class 2", "class 3")
    assert names(several(), named(("a", "b", "c")), threshold=0.5) == ("background", "a", "b", "c")
    with pytest.raises(ConfigError, match="the network has 2 classes but label set 'named' has 3"):
        names(ONE["logit"](), named(("a", "b", "c")))


def test_a_threshold_means_nothing_between_classes_that_exclude_each_other() -> None:
    with pytest.raises(
        ConfigError, match=r"`threshold`: theirs\.onnx chooses between classes that"
    ):
        segmented(EIGHT["softmax"](), threshold=0.5)


# Class maps that nothing can be cut from


def mapped(
    dtype: int = INT64,
    grid: bool = False,
    more: int = 0,
    opset: int = 18,
    tail: Callable[[Sketch, str], str] = lambda s, x: x,
) -> onnx.ModelProto:
    """Class ids, made of comparisons: 1 for red and 2 for green on top of each other."""
    sketch, image = start(opset=opset)
    image = quarter(sketch, image) if grid else image
    parts = []
    for channel in (0, 1):
        axis = [sketch.constant([value], dtype=np.int64) for value in (channel, channel + 1, 1)]
        lit = sketch.node("Greater", sketch.node("Slice", image, *axis), sketch.constant([0.5]))
        factor = sketch.constant([channel + 1 + more], dtype=np.int32)
        parts.append(sketch.node("Mul", sketch.node("Cast", lit, to=INT32), factor))
    ids = sketch.node("Cast", sketch.node("Add", *parts), to=dtype)
    return model(sketch, tail(sketch, ids), dtype=dtype)


def four(image: Pixels) -> Pixels:
    return ((image[..., :2] > 127) * np.array([1, 2])).sum(-1).astype(np.uint8)


@pytest.mark.parametrize("dtype", [INT64, INT32, UINT8])
def test_class_ids_are_taken_as_they_are(dtype: int, caplog: pytest.LogCaptureFixture) -> None:
    check(mapped(dtype), four)
    assert "holds class ids" in caplog.text


@pytest.mark.parametrize("tail", [
    last,
    lambda s, x: s.node("Squeeze", x, numbers(s, 1)),
    lambda s, x: s.node("Squeeze", x, numbers(s, 0, 1)),
], ids=["last", "no_axis_of_classes", "rows_and_columns"])  # fmt: skip
def test_class_ids_with_other_axes(tail: Callable[[Sketch, str], str]) -> None:
    check(mapped(tail=tail), four)


@pytest.mark.parametrize(("opset", "tail"), [
    (12, lambda s, x: s.node("Squeeze", x, axes=[1])),
    (13, lambda s, x: x),
], ids=["before_13", "before_18"])  # fmt: skip
def test_class_ids_of_an_old_network(opset: int, tail: Callable[[Sketch, str], str]) -> None:
    check(mapped(opset=opset, tail=tail), four)


def test_a_threshold_means_nothing_to_class_ids() -> None:
    with pytest.raises(ConfigError, match=r"`threshold`: theirs\.onnx chooses between classes"):
        segmented(mapped(), threshold=0.5)


def test_class_ids_are_enlarged_to_the_nearest() -> None:
    image = picture()
    coarse = four(image)[3::4, 3::4]
    small = np.kron(coarse, np.ones((4, 4), np.uint8))
    assert np.array_equal(segmented(mapped(grid=True)), small)
    large = np.kron(image, np.ones((3, 3, 1), np.uint8))
    assert np.array_equal(segmented(mapped(), large), four(large))


def test_ids_beyond_the_labels_are_no_class() -> None:
    known = named(("a", "b", "c", "d"))
    assert np.array_equal(segmented(mapped(), labels=known), four(picture()))
    with pytest.raises(AtrousError, match="not all numbers"):
        segmented(mapped(more=4), labels=known)


# Outputs


def two_outputs(*names: str, opset: int = 18) -> onnx.ModelProto:
    """The eight scores under the last name, and others under the first."""
    sketch, image = start(opset=opset)
    scores = scores_of(sketch, image)
    for number, name in enumerate(names):
        last_one = number == len(names) - 1
        sketch.node("Identity" if last_one else "Neg", scores, name=name)
    return model(sketch, *names)


@pytest.mark.parametrize(
    "names", [("aux", "out"), ("aux_out", "result"), ("x", "logits"), ("a", "aux_1", "output")]
)
def test_the_output_that_holds_the_scores(
    names: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    check(two_outputs(*names), corners)
    assert f"its output {names[-1]} is used, not {', '.join(names[:-1])}" in caplog.text


@pytest.mark.parametrize("ids", ["ArgMax", "TopK"])
def test_the_best_score_is_not_taken_for_the_class(ids: str) -> None:
    sketch, image = start()
    shares = sketch.node("Softmax", scores_of(sketch, image), axis=1)
    if ids == "TopK":
        one_of = sketch.constant([1], dtype=np.int64)
        sure = sketch.node("TopK", shares, one_of, name="sure", count=2, axis=1)
        best = f"{sure}.1"
    else:
        classes = sketch.constant([1], dtype=np.int64)
        sure = sketch.node("ReduceMax", shares, classes, name="sure")
        best = sketch.node("ArgMax", shares, axis=1)
    numbers_of = sketch.node("Cast", best, name="ids", to=INT64)
    made = sketch.model(sure, numbers_of)
    seen = helper.make_tensor_value_info("ids", INT64, [1, 1, HEIGHT, WIDTH])
    made.graph.output[1].CopyFrom(seen)
    check(made, corners)


def test_a_name_chooses_any_tensor(caplog: pytest.LogCaptureFixture) -> None:
    made = two_outputs("d0", "d1")
    with pytest.raises(
        ArtifactError, match=r"has 2 outputs: d0 float32 \(1, 8, 24, 40\), d1 .*`output_name` says"
    ):
        segmented(made)
    check(made, corners, output_name="d1")
    check(EIGHT["softmax"](), corners, output_name="scores")
    with pytest.raises(
        ConfigError, match=r"`output_name` d7: theirs\.onnx makes no tensor of that"
    ):
        segmented(made, output_name="d7")


@pytest.mark.parametrize("name", ["as_it_is", "argmax_int64"])
def test_a_name_chooses_what_lies_inside_one_output(name: str) -> None:
    made = EIGHT[name]()
    negated = helper.make_node("Neg", ["scores"], ["energies"])
    made.graph.node.append(negated)
    check(made, lambda image: 7 - corners(image), output_name="energies")
    check(made, corners, output_name="scores")


def test_a_name_chooses_what_lies_inside_a_network_of_ours() -> None:
    proto = EIGHT["as_it_is"]()
    proto.graph.node.append(helper.make_node("Neg", ["scores"], ["energies"]))
    own = Metadata(name="ours", labels=generic(8), preprocess=PLAIN)
    made = OnnxModel(proto, own, "ours.onnx")
    assert engines.read_model(made, Options()).proto is proto
    assert engines.read_model(made, Options(output_name="scores")).proto is proto
    found = engines.read_model(made, Options(output_name="energies"))
    assert [value.name for value in found.proto.graph.output] == ["energies"]


def test_scores_come_before_the_class_map_that_is_made_of_them() -> None:
    sketch, image = start()
    scores = scores_of(sketch, image)
    made = model(sketch, argmax(sketch, scores), dtype=INT64)
    made.graph.output.append(helper.make_tensor_value_info("scores", 1, [1, 8, HEIGHT, WIDTH]))
    check(made, corners)


# Layouts


def reshaped(side: int, channels: int) -> onnx.ModelProto:
    """Numbers for every pixel, by an operator that does not say which axis is which."""
    sketch = Sketch()
    image = sketch.input(1, 3, side, side, name="image")
    weight = np.zeros((channels, 3, 1, 1), np.float32)
    weight[:8] = SIGNS.reshape(8, 3, 1, 1)
    bias = np.full(channels, -9, np.float32)
    bias[:8] = -SIGNS.sum(1) / 2
    scores = sketch.node("Conv", image, sketch.constant(weight), sketch.constant(bias))
    shape = sketch.constant([1, side, side, channels], dtype=np.int64)
    return model(sketch, sketch.node("Reshape", last(sketch, scores), shape))


def test_sizes_say_which_axis_holds_the_classes() -> None:
    image, preprocess = picture()[:16, :16], Preprocess(size=(16, 16), normalisation="div255")
    found = segmented(reshaped(16, 14), image, preprocess=preprocess)
    assert np.array_equal(found, corners(image))


def test_the_user_says_it_where_both_readings_fit() -> None:
    image, preprocess = picture()[:16, :16], Preprocess(size=(16, 16), normalisation="div255")
    with pytest.raises(ArtifactError, match="1×16×16×16 can be read with the classes first or la"):
        segmented(reshaped(16, 16), image, preprocess=preprocess)
    found = segmented(reshaped(16, 16), image, preprocess=preprocess, layout="nhwc")
    assert np.array_equal(found, corners(image))
    for layout, classes in (("nchw", 16), ("nhwc", 48)):
        options = Options(layout=layout)  # type: ignore[arg-type]
        made = OnnxModel(reshaped(16, 48))
        with engines.open_engine(made, engine="onnxruntime", options=options) as opened:
            assert opened.signature.classes == classes


# Of no use here


def ending(*dims: int, kind: int = 1, name: str = "y") -> onnx.ModelProto:
    """A network with an output of that shape."""
    sketch, image = start(32, 32)
    mean = sketch.node("ReduceMean", image, keepdims=0)
    shape = sketch.constant(list(dims), dtype=np.int64)
    made = sketch.node("Expand", mean, shape)
    out = sketch.node("Cast", made, to=kind, name=name)
    return model(sketch, out, dtype=kind)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: ending(1, 1000), "one score a class for the whole picture"),
        (lambda: ending(1, 1000, 1, 1), "one score a class for the whole picture"),
        (lambda: ending(1, kind=INT64), "one class for a whole picture is classification"),
        (lambda: ending(1, 84, 8400), "1×84×8400, which is not a map of scores"),
        (lambda: ending(1, 100, 4, name="pred_boxes"), "finds boxes"),
        (lambda: ending(1, 3, 4, 8, 8), "scores of volumes or clips"),
        (lambda: ending(1, 1024, 21), "1×1024×21, which is not a map of scores"),
    ],
)  # fmt: skip
def test_other_networks_are_told_what_they_are(made: Build, said: str) -> None:
    with pytest.raises(ArtifactError, match=said) as error:
        segmented(made(), preprocess=Preprocess(size=(32, 32)))
    assert "\n" not in str(error.value)


def taking(*dims: int | str, kind: int = 1) -> onnx.ModelProto:
    sketch = Sketch()
    return model(sketch, sketch.node("Relu", sketch.input(*dims, dtype=kind, name="image")))


@pytest.mark.parametrize(
    ("dims", "said"),
    [
        ((1, 4, 32, 32), r"pictures of 4 channels, image float32 \(1, 4, 32, 32\)"),
        ((1, 32, 32, 6), "pictures of 6 channels"),
        ((1, 13, "h", "w"), "pictures of 13 channels"),
        ((1, 100), r"expected an input of pictures .*found image float32 \(1, 100\)"),
        ((1, 3, 16, 32, 32), "expected an input of pictures"),
    ],
)
def test_other_inputs_are_named(dims: tuple[int, ...], said: str) -> None:
    with pytest.raises(ArtifactError, match=said) as error:
        segmented(taking(*dims))
    assert "export" not in str(error.value)


def test_pictures_of_int8_are_refused_with_a_way_out() -> None:
    with pytest.raises(
        ArtifactError,
        match=r"found image int8 \(1, 3, 32, 32\); the graph does not say how pixels of 0–255 "
        "become int8: export the network with a uint8 input, or with a float32 input",
    ):
        segmented(taking(1, 3, 32, 32, kind=TensorProto.INT8))


def test_further_inputs_are_named() -> None:
    sketch, image = start()
    other = sketch.input(1, 4, name="point_coords")
    total = sketch.node("ReduceMean", other, keepdims=0)
    made = model(sketch, sketch.node("Add", scores_of(sketch, image), total))
    with pytest.raises(
        ArtifactError, match=r"takes more than a picture: point_coords float32 \(1, 4\)"
    ):
        segmented(made)


def test_a_network_in_our_form_is_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    made = OnnxModel(EIGHT["as_it_is"]())
    adapted = engines.read_model(made, Options())
    assert adapted.proto is made.proto
    assert adapted.identity == made.identity
    assert not adapted.notes
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
