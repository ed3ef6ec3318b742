import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from atrous.exporters.half import store_half
from tests.builders.sketch import Sketch, assert_same


@pytest.mark.parametrize(
    ("largest", "count", "stored"),
    [
        (65504, 64, TensorProto.FLOAT16),
        (65520, 64, TensorProto.FLOAT),  # would be infinite
        (np.inf, 64, TensorProto.FLOAT),
        (np.nan, 64, TensorProto.FLOAT),
        (1, 63, TensorProto.FLOAT),  # too small to be worth a node
    ],
)
def test_what_half_precision_holds(largest: float, count: int, stored: int) -> None:
    draft = Sketch()
    values = np.ones(count, np.float32)
    values[0] = largest
    model = draft.model(draft.node("Add", draft.input(count), draft.constant(values, "w")))
    half = store_half(model)
    [tensor] = half.graph.initializer
    assert tensor.data_type == stored
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), values.astype(np.float32))
    if np.isfinite(largest):
        assert_same(model, half)


def test_names_that_are_taken() -> None:
    draft = Sketch()
    weight = draft.constant(np.ones(64), "w")
    model = draft.model(draft.node("Add", draft.input(64, name="w_fp16"), weight))
    half = store_half(model)
    onnx.checker.check_model(half, full_check=True)
    assert_same(model, half)
