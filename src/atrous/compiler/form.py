"""How a compiled model is written for one engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from atrous.compiler.rewrites.base import Layout
from atrous.compiler.sections import Quantize
from atrous.engines import processor


@dataclass(frozen=True, slots=True)
class Form:
    """What one engine wants of a model's graph; the only place that knows engines by their names.

    Every engine runs every form. But each lays out activations in its own way, and fuses quantisers
    into a layer on its own conditions; what does not meet them is computed in float, between
    conversions that cost more than int8 wins.

    Attributes:
        layout: of the matrix products that the rewrite `commute-enlargement` writes. OpenVINO keeps
            activations channels-last on CPUs, ONNX Runtime in planes of channels.
        per_channel: one scale for each output channel of the weights, not one for all.
        bits: of the weights: 8, or 7 where int8 products saturate, which ONNX Runtime and TensorRT
            are kept from.
        symmetric: activations as int8 with zero point 0 and biases in float, which is what
            TensorRT's parser wants; otherwise activations are uint8 and biases int32.
        float_outputs: leave the results of layers that only float nodes read in float, which
            OpenVINO fuses.
        int8_outputs: a layer is int8 only if its result is, as ONNX Runtime computes any other in
            float, whatever its weights are stored as.
    """

    layout: Layout = "planar"
    per_channel: bool = True
    bits: int = 8
    symmetric: bool = False
    float_outputs: bool = False
    int8_outputs: bool = False

    @classmethod
    def of(cls, engine: str, settings: Quantize) -> Self:
        """The form for an engine, on this processor.

        Args:
            engine: what the file is written for, `onnxruntime`, `openvino` or `tensorrt`.
            settings: of the compile file.
        """
        tensorrt = engine == "tensorrt"
        saturates = engine == "openvino" and processor.saturates()
        return cls(
            layout="channels-last" if engine == "openvino" else "planar",
            per_channel=settings.quantize_per_channel,
            bits=settings.weight_bits or (7 if saturates else 8),
            symmetric=tensorrt,
            float_outputs=engine == "openvino",
            int8_outputs=engine == "onnxruntime",
        )

    @property
    def levels(self) -> int:
        """Steps between the ends of an activation's range."""
        return 254 if self.symmetric else 255
