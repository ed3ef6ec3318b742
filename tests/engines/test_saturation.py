"""An int8 network says where this processor makes less of it."""

import logging

import numpy as np
import onnx
import pytest

import atrous.engines
from atrous import artifact
from atrous.engines import processor, saturation
from atrous.engines.onnx_model import OnnxModel
from atrous.engines.session import run_once
from tests.builders.sketch import Sketch


def network(largest: int, dtype: type = np.int8) -> OnnxModel:
    """A layer whose weights are stored as bytes, beside a vector of zero points."""
    draft = Sketch()
    x = draft.input(1, 3, 8, 8, name="input")
    weight = np.zeros((4, 3, 1, 1), dtype)
    weight[0, 0] = largest
    scale = draft.constant(np.ones(4, np.float32))
    zero = draft.constant(np.full(4, 100 if dtype is np.int8 else 0), dtype=dtype)
    back = draft.node("DequantizeLinear", draft.constant(weight, dtype=dtype), scale, zero, axis=0)
    return OnnxModel(draft.model(draft.node("Conv", x, back), rank=4), name="bytes.onnx")


@pytest.mark.parametrize(
    ("saturates", "largest", "said"),
    [(True, 127, True), (True, -127, True), (True, 64, False), (False, 127, False)],
)
def test_weights_of_8_bits(
    monkeypatch: pytest.MonkeyPatch, saturates: bool, largest: int, said: bool
) -> None:
    monkeypatch.setattr(processor, "saturates", lambda: saturates)
    assert saturation.overflows(network(largest)) == said


def test_what_is_no_weight_of_int8_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "saturates", lambda: True)
    assert not saturation.overflows(network(127, np.uint8))
    assert not saturation.overflows(OnnxModel(onnx.load(artifact.DEFAULT), name="floats"))


@pytest.mark.parametrize("saturates", [True, False])
def test_the_engine_that_is_exact_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, saturates: bool
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(processor, "saturates", lambda: saturates)
    exact = "onnxruntime" if saturates else "openvino"
    with caplog.at_level(logging.WARNING, "atrous"):
        with atrous.engines.open_engine(network(127)) as opened:
            assert opened.name == exact
        assert not caplog.messages
        with atrous.engines.open_engine(network(127), engine="openvino") as opened:
            assert opened.name == "openvino"
    said = "bytes.onnx: its int8 weights have 8 bits, whose products overflow in OpenVINO"
    assert [one.startswith(said) for one in caplog.messages] == [True] * saturates


def test_onnx_runtime_adds_products_of_8_bits_exactly() -> None:
    """They overflow 16 bits on processors without VNNI; on others this cannot fail."""
    draft = Sketch()
    x = draft.input(1, 64, 8, 8, name="input")
    step = draft.constant(np.float32(1 / 255))
    zero = draft.constant(np.uint8(0), dtype=np.uint8)
    pair = draft.node("QuantizeLinear", x, step, zero)
    pair = draft.node("DequantizeLinear", pair, step, zero)
    weight = draft.constant(np.full((8, 64, 1, 1), 127), dtype=np.int8)
    back = draft.node(
        "DequantizeLinear", weight, draft.constant(np.float32(1)), draft.constant(0, dtype=np.int8)
    )
    y = draft.node("Conv", pair, back)
    large, none = draft.constant(np.float32(64)), draft.constant(np.uint8(0), dtype=np.uint8)
    y = draft.node("DequantizeLinear", draft.node("QuantizeLinear", y, large, none), large, none)
    found = run_once(draft.model(y, rank=4), "bytes", np.ones((1, 64, 8, 8), np.float32))
    assert np.unique(found).tolist() == [127 * 64]
