"""What somebody else's network takes, where its declaration says little."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from atrous.engines.image_input import find
from atrous.engines.onnx_graph import OnnxGraph
from atrous.errors import ArtifactError
from tests.builders.sketch import Sketch
from tests.builders.theirs import (
    HEIGHT,
    INT64,
    WIDTH,
    Pixels,
    check,
    corners,
    first,
    last,
    model,
    scores_of,
    start,
)


def bright(image: Pixels) -> Pixels:
    return (image @ [0.299, 0.587, 0.114] > 127.5).astype(np.uint8)


def test_the_only_input_is_the_picture_whatever_it_is_called() -> None:
    sketch = Sketch()
    image = sketch.input(1, 1, HEIGHT, WIDTH, name="masked_image")
    weight = sketch.constant(np.full((1, 1, 1, 1), 10.0))
    check(model(sketch, sketch.node("Conv", image, weight, sketch.constant([-5.0]))), bright)


def test_a_mask_of_four_axes_is_filled_in() -> None:
    sketch, image = start("h", "w", batch="n")
    mask = sketch.input("n", 1, "h", "w", dtype=INT64, name="pixel_mask")
    seen = sketch.node("Cast", mask, to=1)
    check(model(sketch, sketch.node("Mul", scores_of(sketch, image), seen)), corners)


def test_an_input_without_a_shape_is_taken_as_pictures() -> None:
    sketch, image = start()
    made = model(sketch, scores_of(sketch, image))
    made.graph.input[0].type.tensor_type.ClearField("shape")
    check(made, corners)


def behind_and_back(sketch: Sketch, image: str) -> str:
    """Centred with the channels behind the pixels, as tf2onnx leaves it."""
    centred = sketch.node("Sub", last(sketch, image), sketch.constant([0.5, 0.5, 0.5]))
    return sketch.node("Add", first(sketch, centred), sketch.constant([0.5]))


def many_steps(sketch: Sketch, image: str) -> str:
    for _ in range(20):
        image = sketch.node("Add", image, sketch.constant([0.0]))
    return image


def two_readers(sketch: Sketch, image: str) -> str:
    return sketch.node(
        "Add", sketch.node("Neg", image), sketch.node("Mul", image, sketch.constant([2.0]))
    )


FIRST_STEPS = {
    "behind_and_back": behind_and_back, "many_steps": many_steps, "two_readers": two_readers,
}  # fmt: skip


@pytest.mark.parametrize("name", FIRST_STEPS)
def test_channels_come_first_where_nothing_says_it(name: str) -> None:
    sketch = Sketch()
    image = sketch.input("n", "c", "h", "w", name="image")
    made = model(sketch, scores_of(sketch, FIRST_STEPS[name](sketch, image)))
    found = find(OnnxGraph(made), "theirs.onnx")
    assert (found.channels, found.last, found.size) == (3, False, (None, None))
    check(made, corners)


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("where", ["first", "last"])
def test_the_first_convolution_says_how_many_channels_there_are(channels: int, where: str) -> None:
    sketch = Sketch()
    axes = ("n", "c", "h", "w") if where == "first" else ("n", "h", "w", "c")
    image = sketch.input(*axes, name="image")
    planes = image if where == "first" else first(sketch, image)
    made = model(sketch, sketch.conv(planes, channels, 4))
    found = find(OnnxGraph(made), "theirs.onnx")
    assert (found.channels, found.last) == (channels, where == "last")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (lambda: onnx.helper.make_tensor_sequence_value_info("frames", 1, None),
         "frames (sequence_type)"),
        (lambda: onnx.helper.make_tensor_value_info("text", onnx.TensorProto.STRING, [1, 3, 8, 8]),
         "text string (1, 3, 8, 8)"),
        (lambda: onnx.helper.make_tensor_value_info("bits", 999, [1, 3, 8, 8]),
         "bits unknown type 999 (1, 3, 8, 8)"),
        (lambda: None, "none"),
    ],
    ids=["sequence", "text", "unknown", "none"],
)  # fmt: skip
def test_what_is_no_picture_is_named(given: Callable[[], onnx.ValueInfoProto], found: str) -> None:
    graph = onnx.GraphProto()
    if (value := given()) is not None:
        graph.input.append(value)
    with pytest.raises(ArtifactError) as error:
        find(OnnxGraph(onnx.ModelProto(graph=graph)), "theirs.onnx")
    assert str(error.value) == (
        "theirs.onnx: expected an input of pictures (N, 3, H, W) or (N, H, W, 3), found " + found
    )
