"""The Open Inference Protocol's requests and answers, JSON with binary tensors behind it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from atrous.serve import json_tensor
from atrous.serve.body import Body
from atrous.serve.refusal import Refusal

DTYPES = {"float32": "FP32", "uint8": "UINT8"}
LOGITS_BYTES = 2**28
"""Logits of one request may take this much."""

SMALL: Final = 2**16
"""Bytes of JSON that are parsed in no time."""

_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_OPTIONAL = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
_WHERE = re.compile(r" - at `\$\.?(.*)`$")


class InputParameters(msgspec.Struct):
    """`binary_data_size`: bytes of the tensor behind the JSON."""

    binary_data_size: _Size | None = None


class OutputParameters(msgspec.Struct):
    """`binary_data`: whether the tensor comes behind the JSON. The others are not offered."""

    binary_data: bool | None = None
    classification: msgspec.Raw = _OPTIONAL
    shared_memory_region: msgspec.Raw = _OPTIONAL


class RequestParameters(msgspec.Struct):
    """`binary_data_output`: whether all tensors come behind the JSON of the answer."""

    binary_data_output: bool | None = None


class RequestInput(msgspec.Struct):
    """One tensor; `data` flat or nested, row by row, unless it comes behind the JSON."""

    name: str
    shape: Annotated[list[_Size], msgspec.Meta(max_length=8)]
    datatype: str
    parameters: InputParameters | None = None
    data: msgspec.Raw = _OPTIONAL


class RequestOutput(msgspec.Struct):
    """A wanted tensor."""

    name: str
    parameters: OutputParameters | None = None


class InferRequest(msgspec.Struct):
    """An inference request of the Open Inference Protocol."""

    inputs: tuple[RequestInput]
    id: Annotated[str, msgspec.Meta(max_length=1024)] | None = None
    outputs: list[RequestOutput] | None = None
    parameters: RequestParameters | None = None


class _Envelope(msgspec.Struct):
    """A request before a look at what it holds."""

    id: msgspec.Raw = _OPTIONAL
    outputs: msgspec.Raw = _OPTIONAL
    parameters: msgspec.Raw = _OPTIONAL


_envelope = msgspec.json.Decoder(_Envelope)
_request = msgspec.json.Decoder(InferRequest)


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
    body: Body,
    header: str | None,
    dtype: str,
    size: tuple[int, int],
    max_pixels: int,
    max_pictures: int,
) -> Request:
    """Read a request.

    Args:
        body: JSON, and behind it binary tensors.
        header: the field `Inference-Header-Content-Length`, the bytes of JSON, if it was sent.
        dtype: of the network input.
        size: height and width of the network input.
        max_pixels: of one image.
        max_pictures: of one request.

    Raises:
        Refusal: it is not what the protocol or the model asks for; says where.
    """
    end = json_bytes(body, header)
    request = _decoded(memoryview(body)[:end])
    [given] = request.inputs
    kinds = {"input": (dtype, (None, 3, *size)), "image": ("uint8", (None, None, None, 3))}
    if given.name not in kinds:
        raise Refusal(400, f"inputs: expected one of input and image, got {given.name[:80]!r}")
    wanted, shape = kinds[given.name]
    _check_shape(given, DTYPES[wanted], shape)
    if given.name == "image" and given.shape[1] * given.shape[2] > max_pixels:
        raise Refusal(413, f"image: {given.shape} has more than {max_pixels} pixels, the limit")
    if given.shape[0] > max_pictures:
        raise Refusal(
            413,
            f"{given.name}: {given.shape[0]} pictures in one request, the limit is {max_pictures}; "
            "send them in several",
        )
    tensor = _tensor(given, np.dtype(wanted), memoryview(body)[end:])
    return Request(request.id or "", given.name, tensor, _outputs(request))


def json_bytes(body: Body, header: str | None) -> int:
    """How many bytes of a body are JSON.

    Raises:
        Refusal: the header field says nonsense.
    """
    end = len(body)
    if header is None:
        return end
    if not (header.isascii() and header.isdigit() and len(header) < 19 and int(header) <= end):
        raise Refusal(
            400,
            f"Inference-Header-Content-Length: expected 0 to {end}, the bytes of JSON at the "
            f"start of the body, got {header[:40]!r}",
        )
    return int(header)


def answer(
    model: str,
    request_id: str,
    tensors: dict[str, list[NDArray[Any]]],
    binary: dict[str, bool],
) -> tuple[list[bytes | memoryview], int | None]:
    """Write an answer.

    Args:
        model: its name.
        request_id: as the client sent it.
        tensors: output → what it holds for each picture, all of one shape.
        binary: output → whether it comes behind the JSON.

    Returns:
        the parts of the body, and how many bytes of it are JSON if more follows.
    """
    outputs: list[dict[str, Any]] = []
    blobs: list[bytes | memoryview] = []
    for name, each in tensors.items():
        output: dict[str, Any] = {
            "name": name,
            "datatype": DTYPES[str(each[0].dtype)],
            "shape": [len(each), *each[0].shape],
        }
        if binary[name]:
            output["parameters"] = {"binary_data_size": len(each) * each[0].nbytes}
            blobs += [np.ascontiguousarray(one).reshape(-1).view(np.uint8).data for one in each]
        else:
            parts = [json_tensor.write(one)[1:-1] for one in each]
            output["data"] = msgspec.Raw(b"[" + b",".join(parts) + b"]")
        outputs.append(output)
    document: dict[str, Any] = {"model_name": model, "model_version": "1", "outputs": outputs}
    if request_id:
        document["id"] = request_id
    head = msgspec.json.encode(document)
    return [head, *blobs], len(head) if blobs else None


def _decoded(text: memoryview) -> InferRequest:
    try:
        if len(text) > SMALL:
            json_tensor.check_size(text)
            around = _envelope.decode(text)
            parts = (around.id, around.outputs, around.parameters)
            if sum(len(memoryview(part)) for part in parts) > SMALL:
                raise Refusal(413, f"request: more than {SMALL} bytes of JSON beside the tensors")
        return _request.decode(text)
    except RecursionError:
        raise Refusal(400, "request: Invalid JSON: recursion limit exceeded") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        where = _WHERE.search(str(error))
        said = _WHERE.sub("", str(error))
        if not isinstance(error, msgspec.ValidationError):
            said = f"Invalid JSON: {said}"
        raise Refusal(400, f"{(where and where[1]) or 'request'}: {said}") from None


def _check_shape(given: RequestInput, datatype: str, shape: tuple[int | None, ...]) -> None:
    fits = len(given.shape) == len(shape) and all(
        got >= 1 and want in (None, got) for want, got in zip(shape, given.shape, strict=True)
    )
    if given.datatype == "BYTES":
        raise Refusal(
            400,
            f"{given.name}: BYTES is not taken here: send {datatype}, or the image file itself to "
            "/v1/segment",
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
    size = given.parameters.binary_data_size if given.parameters else None
    data = None if _is_null(given.data) else bytes(given.data)
    if size is None:
        if data is None:
            raise Refusal(400, f"{given.name}: expected data, or binary_data_size")
        if rest:
            raise Refusal(400, f"{len(rest)} bytes behind the JSON belong to no tensor")
        return json_tensor.read(data, given.name, given.shape, dtype)
    if data is not None:
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
    default = bool(request.parameters and request.parameters.binary_data_output)
    result: dict[str, bool] = {}
    for output in request.outputs or ():
        if output.name not in ("classmap", "logits") or output.name in result:
            raise Refusal(
                400, f"outputs: expected classmap and logits, each once, got {output.name[:80]!r}"
            )
        told = output.parameters or OutputParameters()
        for name in ("classification", "shared_memory_region"):
            if not _is_null(getattr(told, name)):
                raise Refusal(400, f"outputs: {output.name}: {name} is not offered here")
        result[output.name] = default if told.binary_data is None else told.binary_data
    return result or {"classmap": default}


def _is_null(value: msgspec.Raw) -> bool:
    return bytes(memoryview(value)[:5]).strip() == b"null"
