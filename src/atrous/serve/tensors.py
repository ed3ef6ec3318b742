"""The Open Inference Protocol's requests and answers, JSON with binary tensors behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from atrous.serve.body import Body
from atrous.serve.refusal import Refusal

DTYPES = {"float32": "FP32", "uint8": "UINT8"}
LOGITS_BYTES = 2**28
"""Logits of one request may take this much."""

_INT64 = 2**63 - 1
_Size = Annotated[int, Field(ge=0, le=_INT64)]


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class InputParameters(_Open):
    """`binary_data_size`: bytes of the tensor behind the JSON."""

    binary_data_size: _Size | None = None


class OutputParameters(_Open):
    """`binary_data`: whether the tensor comes behind the JSON of the answer."""

    binary_data: bool | None = None


class RequestParameters(_Open):
    """`binary_data_output`: whether all tensors come behind the JSON of the answer."""

    binary_data_output: bool = False


class RequestInput(BaseModel):
    """One tensor; `data` flat or nested, row by row, unless it comes behind the JSON."""

    name: str
    shape: Annotated[list[_Size], Field(max_length=8)]
    datatype: str
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = None


class RequestOutput(BaseModel):
    """A wanted tensor."""

    name: str
    parameters: OutputParameters = OutputParameters()


class InferRequest(BaseModel):
    """An inference request of the Open Inference Protocol."""

    id: str = ""
    inputs: Annotated[list[RequestInput], Field(min_length=1, max_length=1)]
    outputs: list[RequestOutput] = []
    parameters: RequestParameters = RequestParameters()


@dataclass(frozen=True, slots=True)
class Request:
    """What a client wants.

    Attributes:
        id: its own name for the request.
        name: `input`, a network input; or `image`, pictures.
        tensor: `(N, 3, H, W)` of the network's dtype, or `(N, H, W, 3)` uint8 RGB.
        binary: wanted output → whether it comes behind the JSON.
    """

    id: str
    name: str
    tensor: NDArray[Any]
    binary: dict[str, bool]


def parse(
    body: Body, header: str | None, dtype: str, size: tuple[int, int], max_pixels: int
) -> Request:
    """Read a request.

    Args:
        body: JSON, and behind it binary tensors.
        header: the field `Inference-Header-Content-Length`, the bytes of JSON, if it was sent.
        dtype: of the network input.
        size: height and width of the network input.
        max_pixels: of one image.

    Raises:
        Refusal: it is not what the protocol or the model asks for; says where.
    """
    end = len(body)
    if header is not None:
        if not (header.isascii() and header.isdigit() and len(header) < 19 and int(header) <= end):
            raise Refusal(
                400,
                f"Inference-Header-Content-Length: expected 0 to {end}, the bytes of JSON at the "
                f"start of the body, got {header[:40]!r}",
            )
        end = int(header)
    try:
        request = InferRequest.model_validate_json(bytes(memoryview(body)[:end]))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "request"
        raise Refusal(400, f"{where}: {first['msg']}") from None
    [given] = request.inputs
    kinds = {"input": (dtype, (None, 3, *size)), "image": ("uint8", (None, None, None, 3))}
    if given.name not in kinds:
        raise Refusal(400, f"inputs: expected one of input and image, got {given.name[:80]!r}")
    wanted, shape = kinds[given.name]
    _check_shape(given, DTYPES[wanted], shape)
    if given.name == "image" and given.shape[1] * given.shape[2] > max_pixels:
        raise Refusal(413, f"image: {given.shape} has more than {max_pixels} pixels, the limit")
    tensor = _tensor(given, np.dtype(wanted), memoryview(body)[end:])
    return Request(request.id, given.name, tensor, _outputs(request))


def answer(
    model: str, request_id: str, tensors: dict[str, NDArray[Any]], binary: dict[str, bool]
) -> tuple[bytes, int | None]:
    """Write an answer.

    Args:
        model: its name.
        request_id: as the client sent it.
        tensors: output → what it holds.
        binary: output → whether it comes behind the JSON.

    Returns:
        the body, and how many bytes of it are JSON if more follows.
    """
    outputs, blobs = [], []
    for name, tensor in tensors.items():
        output: dict[str, Any] = {
            "name": name,
            "datatype": DTYPES[str(tensor.dtype)],
            "shape": list(tensor.shape),
        }
        if binary[name]:
            output["parameters"] = {"binary_data_size": tensor.nbytes}
            blobs.append(tensor.tobytes())
        else:
            output["data"] = tensor.reshape(-1).tolist()
        outputs.append(output)
    document = {"model_name": model, "model_version": "1", "outputs": outputs}
    if request_id:
        document["id"] = request_id
    head = to_json(document, inf_nan_mode="null")
    return b"".join([head, *blobs]), len(head) if blobs else None


def _check_shape(given: RequestInput, datatype: str, shape: tuple[int | None, ...]) -> None:
    fits = len(given.shape) == len(shape) and all(
        got >= 1 and want in (None, got) for want, got in zip(shape, given.shape, strict=True)
    )
    if given.datatype != datatype or not fits:
        told = [-1 if want is None else want for want in shape]
        raise Refusal(
            400,
            f"{given.name}: expected {datatype} {told}, got {given.datatype[:40]} {given.shape}",
        )


def _tensor(given: RequestInput, dtype: np.dtype[Any], rest: memoryview) -> NDArray[Any]:
    count = 1
    for extent in given.shape:
        count *= extent
    size = given.parameters.binary_data_size
    if size is None:
        if given.data is None:
            raise Refusal(400, f"{given.name}: expected data, or binary_data_size")
        if rest:
            raise Refusal(400, f"{len(rest)} bytes behind the JSON belong to no tensor")
        try:
            with np.errstate(over="ignore"):
                tensor = np.array(given.data, dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise Refusal(400, f"{given.name}: data: {error}") from None
        if tensor.size != count:
            raise Refusal(
                400, f"{given.name}: shape {given.shape} has {count} values, data has {tensor.size}"
            )
        return tensor.reshape(given.shape)
    if given.data is not None:
        raise Refusal(400, f"{given.name}: expected either data or binary_data_size, got both")
    if size != len(rest) or size != count * dtype.itemsize:
        raise Refusal(
            400,
            f"{given.name}: {given.datatype} {given.shape} has {count * dtype.itemsize} bytes, "
            f"binary_data_size is {size}, and {len(rest)} bytes follow the JSON",
        )
    return (
        np.frombuffer(rest, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(given.shape)
    )


def _outputs(request: InferRequest) -> dict[str, bool]:
    """Wanted output → whether it comes behind the JSON."""
    default = request.parameters.binary_data_output
    result: dict[str, bool] = {}
    for output in request.outputs:
        if output.name not in ("classmap", "logits") or output.name in result:
            raise Refusal(
                400, f"outputs: expected classmap and logits, each once, got {output.name[:80]!r}"
            )
        extra = set(output.parameters.model_extra or {})
        if unknown := extra & {"classification", "shared_memory_region"}:
            raise Refusal(400, f"outputs: {output.name}: {min(unknown)} is not offered here")
        binary = output.parameters.binary_data
        result[output.name] = default if binary is None else binary
    return result or {"classmap": default}
