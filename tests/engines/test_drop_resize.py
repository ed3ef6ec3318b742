from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper

from atrous import upsample
from atrous.engines.drop_resize import drop_last_resize
from atrous.geometry import Axis

Model = Callable[..., onnx.ModelProto]


def run(model: onnx.ModelProto, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"input": batch})[0])


@pytest.mark.parametrize("rule", ["half_pixel", "pytorch_half_pixel", "align_corners"])
@pytest.mark.parametrize("size", [32, 4])
def test_our_enlargement_is_the_dropped_one(rule: str, size: int, small_model: Model) -> None:
    model = small_model(size=size, rule=rule)
    batch = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    cut, found = drop_last_resize(model)
    assert found == rule
    assert [node.op_type for node in cut.graph.node] == ["AveragePool", "Conv"]
    onnx.checker.check_model(cut)
    small = run(cut, batch)[0]
    axis = Axis(size).on_grid(size // 4, size, found)
    expected = run(model, batch)[0]
    np.testing.assert_allclose(upsample.enlarge(small, axis, axis), expected, atol=1e-5)


def test_the_model_given_stays_whole(small_model: Model) -> None:
    model = small_model()
    before = model.SerializeToString(deterministic=True)
    drop_last_resize(model)
    assert model.SerializeToString(deterministic=True) == before


def test_free_sizes(small_model: Model) -> None:
    cut, rule = drop_last_resize(small_model(size="side"))
    assert rule is None or len(cut.graph.node) == 2
    batch = np.zeros((1, 3, 16, 24), np.float32)
    assert run(cut, batch).shape[1] == 3


@pytest.mark.parametrize(
    "options",
    [
        {"rule": "asymmetric"},
        {"mode": "nearest"},
        {"rule": "align_corners", "enlarge_to": 24},  # does not compose over another size
    ],
    ids=str,
)
def test_what_we_cannot_do_exactly_is_left_alone(
    options: dict[str, object], small_model: Model
) -> None:
    model = small_model(**options)
    cut, rule = drop_last_resize(model)
    assert rule is None
    assert cut is model


@pytest.mark.parametrize(
    "attribute", [{"antialias": 1}, {"keep_aspect_ratio_policy": "not_larger"}]
)
def test_other_resizes_are_left_alone(attribute: dict[str, object], small_model: Model) -> None:
    model = small_model()
    for name, value in attribute.items():
        model.graph.node[-1].attribute.append(helper.make_attribute(name, value))
    assert drop_last_resize(model)[1] is None


def test_a_resize_in_the_middle_is_left_alone(small_model: Model) -> None:
    model = small_model()
    model.graph.node[-1].output[0] = "enlarged"
    model.graph.node.append(helper.make_node("Relu", ["enlarged"], ["output"]))
    assert drop_last_resize(model)[1] is None


def test_a_resize_of_the_classes_is_left_alone(small_model: Model) -> None:
    model = small_model()
    sizes = next(tensor for tensor in model.graph.initializer if tensor.name == "sizes")
    sizes.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 6, 32, 32]), "sizes"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 6
    assert drop_last_resize(model)[1] is None
