"""What does not depend on the image becomes a constant, and nothing else does."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from atrous.compiler.graph.graph import Graph
from atrous.compiler.rewrites import fold
from atrous.compiler.rewrites.base import Outcome
from tests.builders.sketch import Sketch, assert_same, body, kinds, run
from tests.builders.versions import needs


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model after the rewrite, which computes the same and is not rewritten again."""
    graph = Graph(model)
    outcome = fold.rewrite(graph)
    after = graph.to_model()
    fewer = len(model.graph.node) - len(after.graph.node)
    assert outcome.places == ((f"nodes removed: {fewer}",) if fewer else ())
    assert_same(model, after)
    assert fold.rewrite(Graph(after)).places == ()
    return after


def constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def sizes_of_a_resize(draft: Sketch) -> str:
    """As the older exporter of torch writes `interpolate(high, low.shape[2:])`."""

    def cut(x: str, start: int, end: int) -> str:
        bounds = [draft.node("Constant", value_ints=[at]) for at in (start, end, 0)]
        return draft.node("Slice", draft.node("Shape", x), *bounds)

    return draft.node("Concat", cut("high", 0, 2), cut("low", 2, 4), axis=0)


def sizes_by_scalars(draft: Sketch) -> str:
    """As it does without constant folding: sizes one by one, picked by scalars."""
    zero = draft.node("Constant", value_ints=[0])

    def picked(x: str, axis: int) -> str:
        at = draft.node("Constant", value=numpy_helper.from_array(np.array(axis)))
        return draft.node("Unsqueeze", draft.node("Gather", draft.node("Shape", x), at), zero)

    parts = (picked(x, axis) for x, axis in (("high", 0), ("high", 1), ("low", 2), ("low", 3)))
    return draft.node("Concat", *parts, axis=0)


@pytest.mark.parametrize(
    "write",
    [
        sizes_of_a_resize,
        sizes_by_scalars,
        lambda draft: draft.constant([1, 3, 16, 20], dtype=np.int64),
        lambda draft: draft.node("Constant", value_ints=[1, 3, 16, 20]),
        lambda draft: draft.node(
            "Constant", value=numpy_helper.from_array(np.array([1, 3, 16, 20]))
        ),
    ],
    ids=["slices", "scalars", "initializer", "integers", "tensor"],
)
def test_sizes_of_a_resize_become_known(write: Callable[[Sketch], str]) -> None:
    draft = Sketch()
    draft.input(1, 2, 16, 20, name="low")
    high = draft.input(1, 3, 4, 5, name="high")
    y = draft.node("Resize", high, "", "", write(draft), mode="linear")
    model = draft.model(draft.node("Relu", y))
    after = folded(model)
    assert kinds(after) == ["Resize", "Relu"]
    [known] = after.graph.initializer
    assert numpy_helper.to_array(known).tolist() == [1, 3, 16, 20]
    assert Graph(after).shape(after.graph.node[0].output[0]) == (1, 3, 16, 20)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [2, 3, 5, 7]),
        ({"start": 2}, [5, 7]),
        ({"start": -1}, [7]),
        ({"end": -1}, [2, 3, 5]),
        ({"start": 1, "end": 9}, [3, 5, 7]),
    ],
)
def test_shape(settings: dict[str, Any], expected: list[int]) -> None:
    draft = Sketch()
    x = draft.input(2, 3, 5, 7)
    size = draft.node("ReduceProd", draft.node("Shape", x, **settings), keepdims=0)
    total = draft.node("Add", size, draft.node("Size", x))
    model = draft.model(draft.node("Mul", x, draft.node("Cast", total, to=TensorProto.FLOAT)))
    after = folded(model)
    assert kinds(after) == ["Mul"]
    [known] = after.graph.initializer
    assert numpy_helper.to_array(known) == np.prod(expected) + 210


def test_free_sizes_stay_arithmetic() -> None:
    draft = Sketch()
    x = draft.input(1, 2, "h", "w")
    shape = draft.node("Cast", draft.node("Shape", x), to=TensorProto.FLOAT)
    model = draft.model(shape)
    assert kinds(folded(model)) == ["Shape", "Cast"]


def test_half_weights_behind_casts_become_float() -> None:
    draft = Sketch()
    half = draft.constant(np.linspace(-1, 1, 4 * 64 * 3 * 3).reshape(64, 4, 3, 3), dtype=np.float16)
    weight = draft.node("Cast", half, to=TensorProto.FLOAT)
    model = draft.model(draft.node("Conv", draft.input(1, 4, 5, 5), weight))
    after = folded(model)
    assert kinds(after) == ["Conv"]
    [stored] = after.graph.initializer
    assert (stored.data_type, list(stored.dims)) == (TensorProto.FLOAT, [64, 4, 3, 3])


@pytest.mark.parametrize("opset", [13, 21])
def test_quantised_weights_stay_small(opset: int) -> None:
    draft = Sketch(opset)
    stored = draft.constant(np.arange(24).reshape(3, 2, 2, 2), dtype=np.int8)
    scale, zero = draft.node("Constant", value_float=0.1), draft.constant(2, dtype=np.int8)
    weight = draft.node("DequantizeLinear", stored, scale, zero)
    model = draft.model(draft.node("Conv", draft.input(1, 2, 5, 5), weight))
    after = folded(model)
    assert kinds(after) == ["DequantizeLinear", "Conv"]
    assert constants(after)[stored].data_type == TensorProto.INT8


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("RandomNormalLike", {}),
        ("RandomUniformLike", {}),
        ("RandomUniform", {"shape": [2, 3]}),
        ("Bernoulli", {}),
    ],
)
def test_random_numbers_stay_random(kind: str, settings: dict[str, Any]) -> None:
    draft = Sketch()
    inputs = [draft.constant(np.full((2, 3), 0.5))] if kind not in ("RandomUniform",) else []
    noise = draft.node(kind, *inputs, **settings)
    graph = Graph(draft.model(draft.node("Add", draft.input(2, 3), noise)))
    assert fold.rewrite(graph).places == ()
    assert kinds(graph.to_model()) == [kind, "Add"]


def test_outputs_that_are_constant_keep_their_names() -> None:
    draft = Sketch()
    x = draft.input(2, 3)
    known = draft.node("Neg", draft.constant(np.ones((2, 3))), name="known")
    model = draft.model(draft.node("Add", x, known, name="sum"), known)
    after = folded(model)
    assert [value.name for value in after.graph.output] == ["sum", "known"]


def test_bodies_read_what_was_folded() -> None:
    """Branches read a `Constant` node, a folded sum and the input of an `Identity` from outside."""
    draft = Sketch()
    x = draft.input(2, 3, name="x")
    one = draft.node("Constant", value=numpy_helper.from_array(np.ones((2, 3), np.float32)))
    two = draft.node("Add", one, one)
    same = draft.node("Identity", x)
    condition = draft.node("Greater", draft.node("ReduceMax", x, keepdims=0), draft.constant(9.0))
    nested = helper.make_node("Add", [same, two], ["n"])
    deep = helper.make_node(
        "If",
        [condition],
        ["no"],
        then_branch=body([nested], "n"),
        else_branch=body([helper.make_node("Mul", [same, two], ["m"])], "m"),
    )
    yes = body([helper.make_node("Sub", [same, one], ["yes"])], "yes")
    model = draft.model(
        draft.node("If", condition, then_branch=yes, else_branch=body([deep], "no"))
    )
    assert kinds(folded(model)) == ["ReduceMax", "Greater", "If"]


def test_a_loop_reads_what_was_folded() -> None:
    draft = Sketch()
    x = draft.input(2, 3)
    step = draft.node("Neg", draft.constant(np.full((2, 3), 0.5)))
    nodes = [
        helper.make_node("Add", ["carried", step], ["next"]),
        helper.make_node("Identity", ["go"], ["go_on"]),
    ]
    inputs = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("carried", TensorProto.FLOAT, [2, 3]),
    ]
    loop = body(nodes, "next", inputs)
    loop.output.insert(0, helper.make_tensor_value_info("go_on", TensorProto.BOOL, []))
    start = draft.constant(True, dtype=np.bool_)
    trips = draft.node("Constant", value_int=3)
    model = draft.model(draft.node("Loop", trips, start, x, body=loop), rank=2)
    after = folded(model)
    assert kinds(after) == ["Loop"]
    # The body's own nodes are its own business.
    assert [node.op_type for node in after.graph.node[0].attribute[0].g.node] == ["Add", "Identity"]


@pytest.mark.parametrize("write", ["Identity", "Dropout", "ratio", "mode"])
def test_nodes_that_hand_on_what_they_get(write: str) -> None:
    draft = Sketch()
    x = draft.node("Relu", draft.input(2, 3))
    options = {
        "Identity": (),
        "Dropout": (),
        "ratio": (draft.constant(0.1),),
        "mode": (draft.constant(0.1), draft.constant(False, dtype=np.bool_)),
    }[write]
    y = draft.node("Identity" if write == "Identity" else "Dropout", x, *options)
    model = draft.model(draft.node("Identity", draft.node("Exp", y)))
    # The last `Identity` gives the output its name.
    assert kinds(folded(model)) == ["Relu", "Exp", "Identity"]


def test_dropout_of_old_operator_sets() -> None:
    draft = Sketch(opset=11)
    y = draft.node("Dropout", draft.input(2, 3), ratio=0.5)
    assert kinds(folded(draft.model(draft.node("Exp", y)))) == ["Exp"]


@pytest.mark.parametrize("mask", ["read", "output", "training"])
def test_dropout_that_does_something(mask: str) -> None:
    draft = Sketch()
    x = draft.input(2, 3)
    options = [draft.constant(0.5), draft.constant(True, dtype=np.bool_)]
    y = draft.node("Dropout", x, *(options if mask == "training" else []), count=2)
    z = draft.node("Exp", y)
    if mask == "read":
        z = draft.node("Where", f"{y}.1", z, x)
    model = draft.model(z)
    if mask == "output":
        model.graph.output.append(helper.make_tensor_value_info(f"{y}.1", TensorProto.BOOL, [2, 3]))
    graph = Graph(model)
    fold.rewrite(graph)
    assert "Dropout" in kinds(graph.to_model())
    assert mask == "training" or run(graph.to_model())[0].shape == (2, 3)


def test_a_chain_of_reshapes_back_to_the_start() -> None:
    """As torch's newer exporter writes `as_strided`: flatten, gather 0, 1, 2, …, reshape."""
    draft = Sketch()
    x = draft.node("Relu", draft.input(1, 2, 3, 5))
    flat = draft.node("Reshape", x, draft.constant([-1], dtype=np.int64))
    order = draft.constant(np.arange(30).reshape(2, 3, 5), dtype=np.int64)
    picked = draft.node("Gather", flat, order)
    back = draft.node("Unsqueeze", picked, draft.constant([0], dtype=np.int64))
    model = draft.model(draft.node("Exp", back))
    assert kinds(folded(model)) == ["Relu", "Exp"]


@pytest.mark.parametrize(
    ("indices", "left"),
    [
        (np.arange(30)[::-1].reshape(1, 2, 3, 5), 3),  # another order
        (np.arange(29).reshape(1, 29), 3),  # not all
        (np.arange(30).reshape(1, 2, 5, 3), 3),  # another shape
    ],
)
def test_gathers_that_do_something(indices: np.ndarray, left: int) -> None:
    draft = Sketch()
    flat = draft.node("Reshape", draft.input(1, 2, 3, 5), draft.constant([-1], dtype=np.int64))
    picked = draft.node("Gather", flat, draft.constant(indices, dtype=np.int64))
    after = folded(draft.model(draft.node("Exp", picked)))
    assert len(after.graph.node) == left


def test_a_chain_read_halfway() -> None:
    draft = Sketch()
    x = draft.node("Relu", draft.input(1, 2, 3, 5))
    flat = draft.node("Flatten", x)
    back = draft.node("Reshape", flat, draft.constant([1, 2, 3, 5], dtype=np.int64))
    model = draft.model(draft.node("Exp", back), draft.node("Neg", flat))
    assert kinds(folded(model)) == ["Relu", "Flatten", "Exp", "Neg"]


LARGE = 1 << 22


def filled(draft: Sketch) -> str:
    return draft.node("ConstantOfShape", draft.constant([LARGE], dtype=np.int64))


def filled_late(draft: Sketch) -> str:
    half = draft.node("Constant", value_ints=[LARGE // 2])
    return draft.node("ConstantOfShape", draft.node("Add", half, half))


def filled_unseen(draft: Sketch) -> str:
    """Shape inference does not follow this product."""
    factors = draft.node("Constant", value_ints=[2, LARGE // 2])
    return draft.node("ConstantOfShape", draft.node("ReduceProd", factors, keepdims=1))


def expanded(draft: Sketch) -> str:
    shape = draft.node("Constant", value_ints=[LARGE])
    return draft.node("Expand", draft.constant([2.0]), shape)


def tiled(draft: Sketch) -> str:
    return draft.node("Tile", draft.constant([2.0]), draft.constant([LARGE], dtype=np.int64))


def counted(draft: Sketch) -> str:
    return draft.node("Range", *(draft.constant(float(at)) for at in (0, LARGE, 1)))


@pytest.mark.parametrize("write", [filled, filled_late, filled_unseen, expanded, tiled, counted])
def test_large_fillings_are_not_made(write: Callable[[Sketch], str]) -> None:
    draft = Sketch()
    large = write(draft)
    model = draft.model(draft.node("Add", draft.input(1), draft.node("ReduceMax", large)))
    tracemalloc.start()
    after = folded(model)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert after.ByteSize() < 1000
    assert peak < LARGE  # of bytes; the filling has four times as many


def test_small_fillings_are_made() -> None:
    draft = Sketch()
    half = draft.node("Constant", value_ints=[2])
    small = draft.node("ConstantOfShape", draft.node("Add", half, half))
    assert kinds(folded(draft.model(draft.node("Add", draft.input(4), small)))) == ["Add"]


@needs("onnxruntime", "1.26", "does not run a MaxPool whose second output has no name")
def test_a_node_without_one_of_its_outputs() -> None:
    draft = Sketch()
    x = draft.constant(np.arange(16).reshape(1, 1, 4, 4), dtype=np.float32)
    parts = draft.node("MaxPool", x, count=2, kernel_shape=[2, 2])
    draft.nodes[-1].output[1] = ""
    model = draft.model(draft.node("Add", draft.input(1, 1, 3, 3), parts))
    assert kinds(folded(model)) == ["Add"]


def test_a_node_of_several_outputs() -> None:
    draft = Sketch()
    parts = draft.node("Split", draft.constant(np.arange(6.0)), count=2, num_outputs=2)
    y = draft.node("Sub", draft.node("Mul", draft.input(3), parts), f"{parts}.1")
    assert kinds(folded(draft.model(y))) == ["Mul", "Sub"]


def test_sequences_are_no_tensors() -> None:
    draft = Sketch()
    x = draft.input(2)
    parts = draft.node("SequenceConstruct", draft.constant([1.0, 2.0]), draft.constant([3.0, 4.0]))
    joined = draft.node("ConcatFromSequence", draft.node("SequenceInsert", parts, x), axis=0)
    model = draft.model(joined, rank=1)
    assert kinds(folded(model)) == ["SequenceConstruct", "SequenceInsert", "ConcatFromSequence"]


def test_division_by_zero_is_not_worth_a_warning() -> None:
    draft = Sketch()
    infinite = draft.node("Div", draft.constant([1.0]), draft.constant([0.0]))
    model = draft.model(draft.node("Min", draft.input(1), infinite))
    assert kinds(folded(model)) == ["Min"]


def test_operators_of_others_stay() -> None:
    draft = Sketch()
    gelu = draft.node("Gelu", draft.constant([1.0, 2.0]), domain="com.microsoft")
    model = draft.model(draft.node("Add", draft.input(2), gelu), rank=1)
    assert kinds(folded(model)) == ["Gelu", "Add"]


def test_an_operator_that_is_not_known_here_is_left_to_the_runtime() -> None:
    """onnx's evaluator, which computes constants, does not have every operator."""
    draft = Sketch()
    length = draft.node("GlobalLpPool", draft.positive(1, 2, 3, 3))
    model = draft.model(draft.node("Mul", draft.input(1, 2, 4, 4), length))
    assert kinds(folded(model)) == ["GlobalLpPool", "Mul"]


def test_operators_of_the_same_name_stay() -> None:
    draft = Sketch()
    x = draft.input(2)
    model = draft.model(draft.node("Add", x, draft.node("Shape", x, domain="my")), rank=1)
    assert fold.rewrite(Graph(model)) == Outcome()


def test_branches_stay() -> None:
    """Even where the condition is known: what is inside may be random."""
    draft = Sketch()
    known = draft.constant(True, dtype=np.bool_)
    noise = body([helper.make_node("RandomNormal", [], ["noise"], shape=[2])], "noise")
    y = draft.node("If", known, then_branch=noise, else_branch=noise)
    model = draft.model(draft.node("Add", draft.input(2), y))
    assert fold.rewrite(Graph(model)) == Outcome()


def test_text_stays() -> None:
    draft = Sketch()
    text = draft.node("Constant", value_string="resize")
    model = draft.model(draft.node("Identity", text), dtype=TensorProto.STRING)
    assert kinds(Graph(model).to_model()) == ["Constant", "Identity"]
    assert fold.rewrite(Graph(model)) == Outcome()
