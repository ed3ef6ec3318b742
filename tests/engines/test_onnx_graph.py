"""Looking up and changing a graph reaches the bodies of its nodes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from atrous.engines.onnx_graph import OnnxGraph
from tests.builders.sketch import Sketch, body
from tests.builders.theirs import (
    HEIGHT,
    SIGNS,
    WIDTH,
    check,
    corners,
    first,
    model,
    scores_of,
)


def branching(sketch: Sketch, image: str) -> str:
    """The eight scores, made in the body of an `If` that reads the picture and weights from
    outside."""
    weight = sketch.constant(SIGNS.reshape(8, 3, 1, 1))
    bias = sketch.constant(-SIGNS.sum(1) / 2)
    outside = sketch.node("Neg", scores_of(sketch, image))
    total = sketch.node("ReduceSum", image, keepdims=0)
    inside = helper.make_node("Conv", [image, weight, bias], ["inside"])
    other = helper.make_node("Identity", [outside], ["other"])
    return sketch.node(
        "If",
        sketch.node("Greater", total, sketch.constant(-1.0)),
        then_branch=body([inside], "inside"),
        else_branch=body([other], "other"),
    )


def test_a_network_whose_scores_are_made_in_a_body() -> None:
    """Its input is channels-last, so that what reads the picture has to be led to another."""
    sketch = Sketch()
    image = sketch.input(1, HEIGHT, WIDTH, 3, name="image")
    whole = sketch.node("Identity", image)
    scores = branching(sketch, first(sketch, whole))
    check(sketch.model(scores, rank=4), corners)


@pytest.fixture
def graph() -> OnnxGraph:
    sketch = Sketch()
    image = sketch.input(1, 3, 8, 8, name="image")
    scores = branching(sketch, image)
    sketch.node("Relu", scores, name="unread")
    made = sketch.model(scores, rank=4)
    made.graph.value_info.append(helper.make_tensor_value_info("unread", 1, [1, 8, 8, 8]))
    return OnnxGraph(made)


def test_readers_are_found_by_what_their_bodies_read(graph: OnnxGraph) -> None:
    [scores] = graph.graph.output
    assert [node.op_type for node in graph.readers("image")] == ["Conv", "ReduceSum", "If"]
    assert [node.op_type for node in graph.readers(scores.name)] == ["Relu"]


def test_what_a_body_reads_stays_when_the_rest_is_dropped(graph: OnnxGraph) -> None:
    graph.prune()
    assert [node.op_type for node in graph.graph.node] == [
        "Conv", "Neg", "ReduceSum", "Greater", "If"
    ]  # fmt: skip
    assert not graph.graph.value_info
    onnx.checker.check_model(graph.model)


def test_bodies_read_another_tensor_after_a_redirection(graph: OnnxGraph) -> None:
    graph.redirect("image", "another")
    assert graph.readers("image") == []
    assert [node.op_type for node in graph.readers("another")] == ["Conv", "ReduceSum", "If"]


def test_names_of_bodies_are_taken(graph: OnnxGraph) -> None:
    assert graph.free_name("inside") == "inside_2"
    assert graph.free_name("image") == "image_2"
    assert graph.free_name("nobody") == "nobody"


@pytest.mark.parametrize("version", [12, 13])
def test_axes_are_an_attribute_or_an_input(version: int) -> None:
    sketch = Sketch(version)
    image = sketch.input(3, 8, 8, name="image")
    made = sketch.model(sketch.node("Relu", image))
    graph = OnnxGraph(made)
    source = graph.with_axes("Unsqueeze", graph.graph.output[0].name, [0], "more")
    graph.set_output(source, [1, 3, 8, 8], TensorProto.FLOAT)
    onnx.checker.check_model(graph.model, full_check=True)
    assert OnnxGraph(graph.model).dims(source) == (1, 3, 8, 8)


def test_constants_of_nodes_and_of_initialisers_are_known() -> None:
    sketch = Sketch()
    image = sketch.input(1, 3, 8, 8, name="image")
    value = onnx.numpy_helper.from_array(np.float32([2]))
    two = sketch.node("Constant", value=value)
    graph = OnnxGraph(model(sketch, sketch.node("Mul", image, two, name="y")))
    found = graph.constant(two)
    assert found is not None
    assert found.tolist() == [2]
    assert graph.dims(two) == (1,)
    assert graph.constant("image") is None
    assert graph.dims("nobody") is None
    assert graph.kind("nobody") == 0
