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
from tests.builders.sketch import Sketch

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


def test_a_resize_of_operator_set_10_is_left_alone() -> None:
    """It maps pixels asymmetrically, without saying so."""
    sketch = Sketch(opset=10)
    small = sketch.node("Identity", sketch.input(1, 3, 8, 8))
    big = sketch.node("Resize", small, sketch.constant([1.0, 1.0, 2.0, 2.0]), mode="linear")
    model = sketch.model(big)
    assert drop_last_resize(model) == (model, None)


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


def test_a_network_of_two_outputs_is_left_alone(small_model: Model) -> None:
    model = small_model()
    model.graph.output.append(helper.make_tensor_value_info("p", 1, [1, 3, 8, 8]))
    assert drop_last_resize(model)[1] is None


def looked_up(start: int, stop: int, source: str = "small") -> onnx.ModelProto:
    """An enlargement to sizes of a tensor from `start` to `stop` and then to those of the picture,
    which floating point hides from shape inference."""
    sketch = Sketch()
    image = sketch.input(1, 3, "h", "w", name="input")
    coarse = sketch.node("AveragePool", image, kernel_shape=[4, 4], strides=[4, 4])
    small = sketch.conv(coarse, 3, 5)

    def part(sizes: str, *ends: int) -> str:
        return sketch.node("Slice", sizes, *(sketch.constant([at], dtype=np.int64) for at in ends))

    kept = part(sketch.node("Shape", small if source == "small" else image), start, stop)
    floats = sketch.node("Cast", sketch.node("Shape", image), to=onnx.TensorProto.FLOAT)
    whole = sketch.node("Cast", sketch.node("Floor", floats), to=onnx.TensorProto.INT64)
    sizes = sketch.node("Concat", kept, part(whole, stop, 4), axis=0)
    return sketch.model(sketch.node("Resize", small, "", "", sizes, mode="linear"), rank=4)


def test_classes_that_are_kept_at_run_time_are_seen() -> None:
    model = looked_up(0, 2)
    cut, rule = drop_last_resize(model)
    assert rule == "half_pixel"
    assert [node.op_type for node in cut.graph.node] == ["AveragePool", "Conv"]
    batch = np.random.default_rng(0).normal(size=(1, 3, 16, 24)).astype(np.float32)
    rows, columns = Axis(16).on_grid(4, 16, rule), Axis(24).on_grid(6, 24, rule)
    found = upsample.enlarge(run(cut, batch)[0], rows, columns)
    np.testing.assert_allclose(found, run(model, batch)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("start", "stop", "source"), [(0, 1, "small"), (0, 2, "image"), (1, 2, "small")]
)
def test_classes_that_may_change_at_run_time_are_left_alone(
    start: int, stop: int, source: str
) -> None:
    assert drop_last_resize(looked_up(start, stop, source))[1] is None
