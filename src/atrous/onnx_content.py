"""What onnx's checker lets pass, and whoever reads the model later would stumble over."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, numpy_helper


def check(message: Any) -> None:
    """Look at every text, and make an array of every tensor of raw bytes.

    Protocol buffers give a text that is not UTF-8 as bytes, and do not take it back; onnx compares
    the bytes of a tensor with its shape only when it makes an array of them, which copies nothing.

    Args:
        message: an ONNX model, or a part of it.

    Raises:
        ValueError: a text is not UTF-8, or the bytes of a tensor do not fill its shape.
    """
    if isinstance(message, TensorProto):
        _check_size(message)
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            for text in [value] if isinstance(value, str | bytes) else value:
                if isinstance(text, bytes):
                    text.decode()
        elif field.type == field.TYPE_MESSAGE:
            for part in [value] if hasattr(value, "ListFields") else value:
                check(part)


def _check_size(tensor: onnx.TensorProto) -> None:
    if tensor.HasField("raw_data") and tensor.data_type != TensorProto.STRING:
        try:
            numpy_helper.to_array(tensor)
        except ValueError as error:
            raise ValueError(f"tensor {tensor.name!r}: {error}") from None
