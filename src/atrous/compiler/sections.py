"""The parts of a compile file that other modules than `config` read."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StrictBool, StrictInt, model_validator

from atrous.errors import ConfigError
from atrous.evaluation.protocols import Protocol
from atrous.record import Record


def _protocol(name: str) -> str:
    try:
        Protocol.parse(name)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return name


Indices = tuple[StrictInt, ...]
ProtocolName = Annotated[str, AfterValidator(_protocol)]
"""A name that `atrous.evaluation.protocols` knows."""


class Quantize(Record):
    """How int8 is made; layers are numbered as nodes of their kind in the input ONNX.

    Attributes:
        calibrate_mode: how a range of values becomes one of 256 steps.
        calibrate_range: for `percentile`, as 99.99 or 0.9999.
        quantize_per_channel: one scale for each output channel of the weights, not one for all.
        weight_bits: 8, or 7 for processors whose int8 products saturate; `None` looks at this one.
        max_drop: points of mIoU that int8 may lose under `evaluate`; layers return to float until
            it holds.
        skip_conv_layers: convolutions that stay in float.
        skip_matmul_layers: matrix products that stay in float.
        exclude_layers: layers that stay in float, by the index of their node among all or by name.
        ops_usingfp: operators with weights that stay in float.
    """

    calibrate_mode: Literal["percentile", "kl_divergence", "max", "mse"] = "percentile"
    calibrate_range: Any = None
    quantize_per_channel: StrictBool = True
    weight_scale: Literal["max", "power2"] = "max"
    weight_bits: Literal[7, 8] | None = None
    max_drop: Annotated[float, Field(ge=0)] | None = None
    skip_conv_layers: Indices = ()
    skip_matmul_layers: Indices = ()
    exclude_layers: tuple[StrictInt | str, ...] = ()
    ops_usingfp: tuple[str, ...] = ()


class Closed(Record):
    """A section with no key that means something here."""


class Backend(Record):
    """What is made of it.

    Attributes:
        dtype: how weights are stored, and for `int8` computed with.
        engine: what the file is laid out for and measured on; `auto` takes the fastest that is
            installed. `tensorrt` writes int8 as its parser wants it, and measures on ONNX Runtime.
        precision: what floats are computed in; `bf16` on OpenVINO, where the processor has it.
        uint8_input: whether the model takes RGB as bytes and normalises them itself.
        standalone: whether the model is also written as one graph that needs nothing around it.
        no_rewrite: names of rewrites that are left out.
        quantize: for `int8`.
    """

    dtype: Literal["fp32", "fp16", "int8"] = "fp32"
    engine: Literal["auto", "onnxruntime", "openvino", "tensorrt"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    uint8_input: StrictBool = False
    standalone: StrictBool = False
    no_rewrite: tuple[str, ...] = ()
    compile: Closed = Closed()
    dynamic_params: Closed = Closed()
    quantize: Quantize = Quantize()

    @model_validator(mode="after")
    def _computable(self) -> Self:
        if self.precision == "bf16" and self.engine not in ("auto", "openvino"):
            raise ValueError(
                f"precision: bf16 is computed by engine openvino, found engine {self.engine}"
            )
        if self.precision == "bf16" and self.standalone:
            raise ValueError(
                "standalone: a graph cannot say that it is computed in bf16; leave one of the two "
                "out, and tell the runtime that runs it"
            )
        return self

    @property
    def unfit(self) -> dict[str, str]:
        """Rewrites that are of no use to such a model, and why."""
        if self.engine == "tensorrt":
            return {"winograd": "TensorRT does that itself"}
        if self.dtype != "fp32" or self.precision != "fp32":
            what = self.dtype if self.dtype != "fp32" else self.precision
            return {"winograd": f"made for fp32, whose digits it needs, not for {what}"}
        return {}

    @property
    def measured_on(self) -> str:
        """The engine that runs it here, or `auto`."""
        if self.precision == "bf16":
            return "openvino"
        return "onnxruntime" if self.engine == "tensorrt" else self.engine

    def written_for(self, runner: str) -> str:
        """The engine that the file is laid out for, given the one that runs it here."""
        return self.engine if self.engine == "tensorrt" else runner


class Evaluate(Record):
    """Where accuracy is measured before and after: as the options of `atrous eval`.

    Attributes:
        data: `KIND:ROOT:SPLIT`.
        protocol: see `atrous.evaluation.protocols`; by default that of the training run, or squash
            at the size of the input.
        ids: a file of ids, one a line, to keep to; by default the whole split.
    """

    data: str
    protocol: ProtocolName | None = None
    ids: str | None = None
