"""What is run to see what a graph hides, and what is said where it does not run."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from atrous import engines
from atrous.engines.base import Options
from atrous.engines.onnx_model import OnnxModel
from atrous.errors import ArtifactError
from atrous.preprocess import Preprocess
from tests.builders.sketch import Sketch
from tests.builders.theirs import (
    HEIGHT,
    INT32,
    INT64,
    PLAIN,
    SIGNS,
    UINT8,
    WIDTH,
    Pixels,
    argmax,
    batched,
    check,
    corners,
    first,
    last,
    model,
    numbers,
    quarter,
    scaled,
    scores_of,
    sides,
    start,
)

BYTES = Preprocess(size=(HEIGHT, WIDTH), normalisation="none")


def fused(sketch: Sketch, image: str, name: str = "scores", domain: str = "com.microsoft") -> str:
    """The eight scores by an operator of ONNX Runtime's own, as networks have that it optimised:
    onnx does not know what it makes."""
    channels = 3 if name == "scores" else 1
    weight = SIGNS if channels == 3 else np.float32([[-10], [10]])
    return sketch.node(
        "FusedConv",
        image,
        sketch.constant(weight.reshape(*weight.shape, 1, 1)),
        sketch.constant(-SIGNS.sum(1) / 2 if channels == 3 else [5.0, -5.0]),
        name=name,
        domain=domain,
        activation="Tanh",
    )


def read(made: onnx.ModelProto) -> OnnxModel:
    return engines.read_model(OnnxModel(made, name="theirs.onnx"), Options())


def shape(made: OnnxModel) -> list[int | str]:
    dims = made.proto.graph.output[0].type.tensor_type.shape.dim
    return [dim.dim_value or dim.dim_param for dim in dims]


@pytest.mark.parametrize(
    ("tail", "dtype"),
    [(lambda s, x: x, 1), (last, 1), (argmax, INT64)],
    ids=["first", "last", "argmax"],
)
@pytest.mark.parametrize("free", [False, True], ids=["fixed", "free"])
def test_the_shape_of_the_scores(
    tail: Callable[[Sketch, str], str], dtype: int, free: bool
) -> None:
    sketch, image = start("h", "w") if free else start()
    made = model(sketch, tail(sketch, fused(sketch, image)), dtype=dtype)
    check(made, corners)
    assert read(made).proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value == 3


TAKEN: dict[str, tuple[int, tuple[int, ...], Callable[[Sketch, str], str]]] = {
    "last": (1, (1, HEIGHT, WIDTH, 3), first),
    "two_at_a_time": (1, (2, 3, HEIGHT, WIDTH), lambda s, x: x),
    "one_picture": (1, (3, HEIGHT, WIDTH), batched),
    "bytes": (UINT8, (1, 3, HEIGHT, WIDTH), scaled),
    "bytes_last": (UINT8, (1, HEIGHT, WIDTH, 3), lambda s, x: first(s, scaled(s, x))),
}


@pytest.mark.parametrize("name", TAKEN)
def test_it_is_given_what_it_takes(name: str) -> None:
    kind, dims, steps = TAKEN[name]
    sketch = Sketch()
    image = sketch.input(*dims, dtype=kind, name="image")
    made = model(sketch, last(sketch, fused(sketch, steps(sketch, image))))
    check(made, corners, preprocess=PLAIN if kind == 1 else BYTES)


def bright(image: Pixels) -> Pixels:
    return (image @ [0.299, 0.587, 0.114] > 127.5).astype(np.uint8)


def test_it_is_given_one_channel() -> None:
    sketch = Sketch()
    image = sketch.input(1, HEIGHT, WIDTH, 1, name="image")
    check(model(sketch, last(sketch, fused(sketch, first(sketch, image), "grey"))), bright)


@pytest.mark.parametrize("axes", [("n", "h", "w"), ("n", 1, "h", "w")])
def test_it_is_given_masks(axes: tuple[int | str, ...]) -> None:
    sketch, image = start("h", "w", batch="n")
    mask = sketch.node("Cast", sketch.input(*axes, dtype=INT64, name="pixel_mask"), to=1)
    plane = mask if len(axes) == 4 else sketch.node("Unsqueeze", mask, numbers(sketch, 1))
    check(model(sketch, sketch.node("Mul", fused(sketch, image), plane)), corners)


def two_heads(sketch: Sketch, image: str) -> str:
    halves = []
    for half in (SIGNS[:4], SIGNS[4:]):
        weight = sketch.constant(half.reshape(4, 3, 1, 1))
        halves.append(sketch.node("Conv", image, weight, sketch.constant(-half.sum(1) / 2)))
    return sketch.node("Concat", *halves, axis=1)


def one_head(sketch: Sketch, image: str) -> str:
    return sketch.node("Relu", scores_of(sketch, image))


def pooled_head(sketch: Sketch, image: str) -> str:
    return sketch.node("MaxPool", scores_of(sketch, image), kernel_shape=[1, 1])


@pytest.mark.parametrize("head", [one_head, two_heads, pooled_head])
def test_the_number_of_classes(head: Callable[[Sketch, str], str]) -> None:
    """Sizes that went through floating point say nothing of it."""
    sketch, image = start("h", "w")
    small = head(sketch, quarter(sketch, image))
    sizes = sketch.node("Cast", sketch.node("Shape", small), to=1)
    sizes = sketch.node("Mul", sizes, sketch.constant(np.float32([1, 1, 4, 4])))
    sizes = sketch.node("Cast", sketch.node("Floor", sizes), to=INT64)
    large = sketch.node("Resize", small, "", "", sizes, mode="linear")
    check(sketch.model(last(sketch, large), rank=4), corners)


def test_one_score_a_class_is_no_map() -> None:
    sketch, image = start()
    pooled = sketch.node("GlobalAveragePool", fused(sketch, image), name="y")
    with pytest.raises(ArtifactError) as error:
        read(model(sketch, pooled))
    assert str(error.value) == (
        "theirs.onnx: its output y has the shape 1×8×1×1, which is not a map of scores (N, C, h, "
        "w) or (N, h, w, C) over a picture of 24×40; Atrous runs networks that give every pixel a "
        "class; `output_name` says which output does"
    )


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_map_that_was_folded(channels_last: bool) -> None:
    """As transformers have it: rows and columns are one axis until the end."""
    sketch, image = start("h", "w")
    scores = scores_of(sketch, image)
    flat = sketch.node("Reshape", last(sketch, scores), numbers(sketch, 1, -1, 8))
    parts = [numbers(sketch, 1), sides(sketch, image, 2, 4)]
    if channels_last:
        parts.append(numbers(sketch, -1))
    else:
        flat = sketch.node("Transpose", flat, perm=[0, 2, 1])
        parts.insert(1, numbers(sketch, -1))
    shape = sketch.node("Concat", *parts, axis=0)
    made = sketch.model(sketch.node("Reshape", flat, shape), rank=4)
    check(made, corners)


def multiples_and_one(sketch: Sketch, scores: str) -> str:
    """Scores that take part in their own enlargement, which fits at 32 n + 1 rows alone."""
    small = sketch.node("MaxPool", scores, kernel_shape=[1, 1], strides=[32, 32])
    ends = sketch.node("Sub", sides(sketch, small, 2, 4), numbers(sketch, 1, 1))
    ends = sketch.node(
        "Add", sketch.node("Mul", ends, numbers(sketch, 32, 32)), numbers(sketch, 1, 1)
    )
    sizes = sketch.node("Concat", sides(sketch, small, 0, 2), ends, axis=0)
    large = sketch.node("Resize", small, "", "", sizes, mode="nearest")
    return sketch.node("Add", scores, sketch.node("Mul", large, sketch.constant([0.0])))


def test_sizes_are_tried_until_one_works() -> None:
    sketch, image = start("h", "w")
    made = model(sketch, last(sketch, multiples_and_one(sketch, fused(sketch, image))))
    assert shape(read(made))[:2] == [1, 8]


def fits_nothing(sketch: Sketch, image: str) -> str:
    """A number for which the picture is added to a map of 7×7, which none is."""
    unlike = sketch.node("Add", image, sketch.constant(np.zeros((1, 1, 7, 7))))
    return sketch.node("ReduceMax", unlike, keepdims=0)


def test_scores_of_no_size_that_was_tried() -> None:
    sketch, image = start("h", "w")
    with pytest.raises(ArtifactError) as error:
        read(model(sketch, sketch.node("Add", fused(sketch, image), fits_nothing(sketch, image))))
    said = str(error.value)
    assert said.startswith("theirs.onnx: does not say what it makes, and does not run: ")
    assert "Add" in said
    assert "\n" not in said


def test_class_ids_of_no_size_that_was_tried() -> None:
    sketch, image = start("h", "w")
    values = sketch.node("ReduceMax", image, numbers(sketch, 1))
    values = sketch.node("Add", values, fits_nothing(sketch, image))
    made = model(sketch, sketch.node("Cast", values, to=INT32), dtype=INT32)
    with pytest.raises(ArtifactError) as error:
        read(made)
    said = str(error.value)
    assert said.startswith(
        "theirs.onnx: how many classes its ids name cannot be seen, as it does not run: "
    )
    assert said.endswith("; `labels` says it")


def test_operators_that_nobody_here_has() -> None:
    sketch, image = start()
    made = model(sketch, fused(sketch, image, domain="their.own"))
    with pytest.raises(ArtifactError, match=r"theirs\.onnx: ONNX Runtime refuses it: .*their\.own"):
        read(made)
