"""What onnx's checker lets pass, and whoever reads the model later would stumble over."""

from __future__ import annotations

import math
from typing import Any

import onnx
from onnx import TensorProto, helper

_HALF_BYTES = (TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1)


def check(model: onnx.ModelProto) -> None:
    """Look at every text, and at the size of every tensor.

    Protocol buffers give a text that is not UTF-8 as bytes, and do not take it back; onnx compares
    the bytes of a tensor with its shape when it makes an array of them.

    Raises:
        ValueError: a text is not UTF-8, or the bytes of a tensor do not fill its shape.
    """
    _check(model)


def _check(message: Any) -> None:
    if isinstance(message, TensorProto):
        _check_size(message)
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            for text in [value] if isinstance(value, str | bytes) else value:
                if isinstance(text, bytes):
                    text.decode()
        elif field.type == field.TYPE_MESSAGE:
            for part in [value] if hasattr(value, "ListFields") else value:
                _check(part)


def _check_size(tensor: TensorProto) -> None:
    if not tensor.HasField("raw_data") or tensor.data_type == TensorProto.STRING:
        return
    half = tensor.data_type in _HALF_BYTES
    bits = 4 if half else 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    wanted, found = -(-math.prod(tensor.dims) * bits // 8), len(tensor.raw_data)
    if found != wanted:
        shape = "×".join(map(str, tensor.dims)) or "a number"
        raise ValueError(f"tensor {tensor.name!r} has {found} bytes, its shape ({shape}) {wanted}")
