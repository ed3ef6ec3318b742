"""Whether an int8 network loses accuracy on this processor, whatever it had when it was made.

x86 before VNNI adds two products of bytes in 16 bits, which overflows with weights of 8 bits.
ONNX Runtime can be told to add them exactly, at some cost of speed, and is, in
`atrous.engines.session`; OpenVINO cannot.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from atrous.engines import processor
from atrous.engines.onnx_model import OnnxModel

FITS = 64
"""Largest weight of 7 bits. Two products of these and of bytes fit 16 bits, with a sign."""


def overflows(model: OnnxModel) -> bool:
    """Whether sums of a network's products overflow on this processor, but on ONNX Runtime."""
    return processor.saturates() and has_wide_weights(model.proto)


def has_wide_weights(model: onnx.ModelProto) -> bool:
    """Whether weights are int8 and take more than 7 bits."""
    return any(map(_is_wide, model.graph.initializer))


def note(model: OnnxModel) -> str:
    """What is to be said of a network that overflows."""
    return (
        f"{model.name}: its int8 weights have 8 bits, whose products overflow in OpenVINO on this "
        f"processor ({processor.instructions()}, no VNNI), so that masks are less accurate; engine "
        "onnxruntime adds them exactly"
    )


def _is_wide(stored: TensorProto) -> bool:
    """Vectors hold zero points."""
    if stored.data_type != TensorProto.INT8 or len(stored.dims) < 2:
        return False
    values = numpy_helper.to_array(stored).astype(np.int16)
    return bool(values.size) and int(np.abs(values).max()) > FITS
