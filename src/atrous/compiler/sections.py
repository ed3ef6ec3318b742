"""The parts of a compile file that other modules than `config` read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictInt

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
