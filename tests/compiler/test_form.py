"""What each engine wants of a graph."""

from typing import Any

import pytest

from atrous.compiler.form import Form
from atrous.compiler.sections import Quantize
from atrous.engines import processor


@pytest.mark.parametrize(
    ("engine", "settings", "saturates", "expected"),
    [
        ("onnxruntime", {}, True, Form(int8_outputs=True)),
        ("onnxruntime", {"weight_bits": 7}, True, Form(bits=7, int8_outputs=True)),
        ("openvino", {}, True, Form("channels-last", bits=7, float_outputs=True)),
        ("openvino", {}, False, Form(layout="channels-last", float_outputs=True)),
        ("tensorrt", {}, True, Form(symmetric=True)),
        ("tensorrt", {"weight_bits": 7}, False, Form(bits=7, symmetric=True)),
        ("tensorrt", {"quantize_per_channel": False}, True, Form("planar", False, symmetric=True)),
    ],
)  # fmt: skip
def test_one_form_for_each_engine(
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    settings: dict[str, Any],
    saturates: bool,
    expected: Form,
) -> None:
    monkeypatch.setattr(processor, "saturates", lambda: saturates)
    assert Form.of(engine, Quantize(**settings)) == expected


def test_symmetric_bytes_have_one_step_less() -> None:
    assert (Form().levels, Form(symmetric=True).levels) == (255, 254)
