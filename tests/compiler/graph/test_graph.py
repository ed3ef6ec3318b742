"""Look up makers, readers, shapes and constants of a graph, and exchange its parts."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from atrous.compiler.graph.graph import Graph, attributes
from tests.builders.sketch import Sketch, assert_same, body, feeds, kinds, run


def chain() -> onnx.ModelProto:
    """`x (1, 2, 4, 4)` → conv `a` → relu `b` → `c = a + b`."""
    draft = Sketch()
    x = draft.input(1, 2, 4, 4, name="x")
    a = draft.node("Conv", x, draft.weight(3, 2, 1, 1, name="w"), name="a")
    b = draft.node("Relu", a, name="b")
    return draft.model(draft.node("Add", a, b, name="c"))


def test_look_up() -> None:
    graph = Graph(chain())
    assert (graph.inputs, graph.outputs, graph.opset) == (["x"], ["c"], 18)
    assert graph.maker("x") is graph.maker("w") is graph.maker("missing") is None
    assert graph.maker("a") is graph.nodes[0]
    assert [node.output[0] for node in graph.readers("a")] == ["b", "c"]
    assert graph.readers("c") == []
    assert graph.shape("c") == (1, 3, 4, 4)
    assert graph.shape("w") == (3, 2, 1, 1)
    assert graph.constant("x") is graph.constant("missing") is None
    assert np.asarray(graph.constant("w")).shape == (3, 2, 1, 1)


def test_the_only_reader() -> None:
    graph = Graph(chain())
    assert graph.only_reader("a") is None  # two read it
    assert graph.only_reader("b") is graph.nodes[2]
    assert graph.only_reader("c") is None  # it is an output


def test_an_output_has_no_only_reader() -> None:
    model = chain()
    model.graph.output.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, None))
    assert Graph(model).only_reader("b") is None


def test_the_model_given_is_not_changed() -> None:
    model = chain()
    before = model.SerializeToString()
    graph = Graph(model)
    graph.nodes[1].input[0] = "x"
    graph.add_constant(np.zeros(3), "w")
    graph.set_input("x", TensorProto.UINT8, (1, 2, 4, 4))
    graph.refresh()
    assert model.SerializeToString() == before


def test_what_nothing_reads_goes() -> None:
    model = chain()
    model.graph.node.insert(1, helper.make_node("Neg", ["a"], ["unread"]))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3), "unread_too"))
    after = Graph(model).to_model()
    assert kinds(after) == ["Conv", "Relu", "Add"]
    assert [tensor.name for tensor in after.graph.initializer] == ["w"]


def test_a_model_goes_through_unchanged() -> None:
    model = chain()
    model.metadata_props.append(onnx.StringStringEntryProto(key="atrous", value="{}"))
    model.producer_name = "me"
    after = Graph(model).to_model()
    assert_same(model, after)
    assert after == model


def test_shapes_of_free_sizes() -> None:
    draft = Sketch()
    x = draft.input("n", 2, 4, 4)
    y = draft.node("Flatten", draft.node("Relu", x, name="r"), name="f")
    graph = Graph(draft.model(y))
    assert graph.shape("r") is graph.shape("f") is graph.shape("missing") is None


def test_shapes_behind_arithmetic_on_shapes() -> None:
    draft = Sketch()
    x, rest = draft.input(1, 2, 4, 6), draft.constant([-1], dtype=np.int64)
    sizes = draft.node("Concat", draft.node("Shape", x, start=2), rest, axis=0)
    graph = Graph(draft.model(draft.node("Reshape", x, sizes, name="y"), rank=3))
    assert graph.shape("y") == (4, 6, 2)


def test_large_constants_have_shapes_too() -> None:
    draft = Sketch()
    y = draft.node("MatMul", draft.input(1, 64), draft.weight(64, 128, name="w"), name="y")
    graph = Graph(draft.model(y))
    assert graph.inputs == ["x0"]
    assert graph.shape("w") == (64, 128)
    assert graph.shape("y") == (1, 128)


def test_shapes_that_are_wrong_in_the_file_do_not_stop_it() -> None:
    model = chain()
    value = helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 7, 9, 9])
    model.graph.output[0].CopyFrom(value)
    assert Graph(model).shape("b") == (1, 3, 4, 4)


def test_names_are_free() -> None:
    graph = Graph(chain())
    assert graph.free_name("new") == "new"
    assert graph.free_name("a") == "a_2"
    assert graph.add_constant(np.zeros(2), "x") == "x_2"
    assert graph.add_constant(np.zeros(2), "x") == "x_3"


def test_a_free_name_is_given_once() -> None:
    graph = Graph(chain())
    assert len({graph.free_name("new"), graph.free_name("new"), graph.free_name("new_2")}) == 3


def test_names_inside_bodies_are_not_free() -> None:
    graph = Graph(branching())
    assert graph.free_name("inner") == "inner_2"


@pytest.mark.parametrize("values", [np.array(3), np.zeros((0,)), np.ones((2, 3)).T])
def test_constants_keep_their_shapes(values: np.ndarray) -> None:
    graph = Graph(chain())
    stored = np.asarray(graph.constant(graph.add_constant(values, "new")))
    assert stored.shape == values.shape
    np.testing.assert_array_equal(stored, values)


def test_bypass() -> None:
    model = chain()
    graph = Graph(model)
    assert graph.bypass(graph.nodes[1], "a")
    graph.refresh()
    after = graph.to_model()
    assert kinds(after) == ["Conv", "Add"]
    [doubled], [a] = run(after), run(model)
    assert list(after.graph.node[1].input) == ["a", "a"]
    assert doubled.shape == a.shape


def test_bypass_of_an_output_changes_nothing() -> None:
    model = chain()
    model.graph.output.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [None] * 4))
    graph = Graph(model)
    assert not graph.bypass(graph.nodes[1], "a")
    assert graph.to_model() == model


def test_bypass_of_what_nobody_reads_changes_nothing() -> None:
    draft = Sketch()
    x = draft.input(4)
    y = draft.node("Dropout", x, count=2)
    model = draft.model(f"{y}.1", dtype=TensorProto.BOOL)
    graph = Graph(model)
    assert not graph.bypass(graph.nodes[0], x)


def branching(kind: str = "Identity") -> onnx.ModelProto:
    """`x` → a node `a` → an `If` whose branches read `a` and `w` from outside."""
    draft = Sketch()
    x = draft.input(2, 3, name="x")
    w = draft.weight(2, 3, name="w")
    a = draft.node(kind, x, name="a")
    condition = draft.node("Greater", draft.node("ReduceMax", x, keepdims=0), draft.constant(0.0))
    yes = body([helper.make_node("Add", [a, w], ["inner"])], "inner")
    deep = body([helper.make_node("Sub", [a, w], ["deep"])], "deep")
    nested = helper.make_node("If", [condition], ["no"], then_branch=deep, else_branch=deep)
    no = body([nested], "no")
    return draft.model(draft.node("If", condition, then_branch=yes, else_branch=no))


def test_bodies_read_from_outside() -> None:
    graph = Graph(branching())
    assert [node.op_type for node in graph.readers("a")] == ["If"] * 3
    assert kinds(graph.to_model()) == kinds(branching())
    assert graph.constant("w") is not None
    assert graph.only_reader("a") is None


def test_bypass_reaches_into_bodies() -> None:
    model = branching()
    graph = Graph(model)
    assert graph.bypass(graph.nodes[0], "x")
    graph.refresh()
    assert kinds(graph.to_model()) == ["ReduceMax", "Greater", "If"]
    assert_same(model, graph.to_model())


def test_weights_listed_as_inputs_are_no_inputs() -> None:
    """As files of before IR version 4 list them, which could not do otherwise."""
    model = chain()
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 2, 1, 1]))
    graph = Graph(model)
    assert graph.inputs == ["x"]
    assert_same(model, graph.to_model())


def test_a_weight_that_goes_does_not_become_an_input() -> None:
    model = chain()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 2, 1, 1]))
    graph = Graph(model)
    graph.nodes[0].input[1] = graph.add_constant(np.ones((3, 2, 1, 1), np.float32), "w")
    graph.refresh()
    assert graph.inputs == ["x"]
    assert [value.name for value in graph.to_model().graph.input] == ["x"]


def test_sparse_weights_stay() -> None:
    draft = Sketch()
    model = draft.model(draft.node("Add", draft.input(2, 3), "sparse", name="y"), rank=2)
    values = numpy_helper.from_array(np.array([5.0], np.float32), "sparse")
    indices = numpy_helper.from_array(np.array([4], np.int64), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 3]))
    graph = Graph(model)
    assert graph.constant("sparse") is None
    [before], [after] = run(model), run(graph.to_model())
    np.testing.assert_array_equal(after, before)


def test_set_input() -> None:
    graph = Graph(chain())
    graph.set_input("x", TensorProto.FLOAT, (2, 2, 8, 8))
    graph.refresh()
    assert graph.shape("c") == (2, 3, 8, 8)
    assert feeds(graph.to_model())["x"].shape == (2, 2, 8, 8)


def test_replace() -> None:
    model = chain()
    graph = Graph(model)
    first = helper.make_node("Neg", ["a"], ["n"])
    graph.replace(graph.nodes[1], [first, helper.make_node("Abs", ["n"], ["b"])])
    graph.refresh()
    assert kinds(graph.to_model()) == ["Conv", "Neg", "Abs", "Add"]
    onnx.checker.check_model(graph.to_model(), full_check=True)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {}),
        ({"mode": "linear", "antialias": 0}, {"mode": "linear", "antialias": 0}),
        ({"pads": [1, 1]}, {"pads": [1, 1]}),
        ({"epsilon": 0.5}, {"epsilon": 0.5}),
    ],
)
def test_attributes(settings: dict, expected: dict) -> None:  # type: ignore[type-arg]
    assert attributes(helper.make_node("Any", ["x"], ["y"], **settings)) == expected
