"""`/v2`: the Open Inference Protocol of KServe and Triton."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from atrous import __version__
from atrous.runtime.stages import Frame
from atrous.serve import json_tensor
from atrous.serve.body import Body
from atrous.serve.documents import (
    BINARY,
    BODY_ERRORS,
    Error,
    IndexEntry,
    InferResponse,
    ModelMetadata,
    ServerMetadata,
    TensorMetadata,
    json_schema,
    refusals,
)
from atrous.serve.model import ImageJob, Model
from atrous.serve.refusal import Refusal
from atrous.serve.service import Service, while_connected
from atrous.serve.settings import Settings
from atrous.serve.tensors import (
    DTYPES,
    LOGITS_BYTES,
    SMALL,
    InferRequest,
    answer,
    json_bytes,
    parse,
)
from atrous.serve.tensors import Request as TensorRequest
from atrous.serve.timing import server_timing

_INLINE = 2**20
_HEADER = "Inference-Header-Content-Length"
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": json_schema(InferRequest)},
            "application/octet-stream": BINARY,
        },
    },
    "parameters": [
        {
            "name": _HEADER,
            "in": "header",
            "required": False,
            "description": "Bytes of JSON at the start of the body; binary tensors follow.",
            "schema": {"type": "integer", "minimum": 0},
        }
    ],
}


_INFERRED: dict[int | str, dict[str, Any]] = {
    200: {
        "model": InferResponse,
        "content": {"application/octet-stream": BINARY},
    },
    **refusals(*BODY_ERRORS),
}


def router(service: Service) -> APIRouter:
    """The routes below `/v2`."""
    routes = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
    _add_server(routes, service)
    _add_models(routes, service)
    return routes


def _add_server(routes: APIRouter, service: Service) -> None:
    """What the server is, whether it works, and what models it has."""

    @routes.get("", response_model=ServerMetadata, responses=refusals(401))
    async def server() -> ServerMetadata:
        """What this server is."""
        extensions = ["binary_tensor_data", "model_repository"]
        return ServerMetadata(name="atrous", version=__version__, extensions=extensions)

    @routes.get("/health/live", response_class=Response, responses=refusals(503))
    async def live() -> Response:
        """Whether the server works; only a new start helps if not."""
        return _yes_or_503(service.alive, "a model has stopped; start the server again")

    @routes.get("/health/ready", response_class=Response, responses=refusals(503))
    async def ready() -> Response:
        """Whether the server takes requests."""
        return _yes_or_503(service.ready, "the server takes no requests")

    @routes.post("/repository/index", response_model=list[IndexEntry], responses=refusals(401))
    async def index() -> list[IndexEntry]:
        """The models."""
        return [
            IndexEntry(
                name=model.name,
                version="1",
                state="UNAVAILABLE" if model.broken else "READY",
                reason=model.broken,
            )
            for model in service.models.values()
        ]


def _add_models(routes: APIRouter, service: Service) -> None:
    """What is asked of one model, with its version in the path and without."""

    async def metadata(request: Request, name: str, version: str = "1") -> ModelMetadata:
        """What a model takes, one of its inputs at a time, and what it gives."""
        return describe(service.model(request, name, version))

    async def model_ready(request: Request, name: str, version: str = "1") -> Response:
        """Whether a model takes requests."""
        model = service.model(request, name, version)
        usable = service.ready and not model.broken
        return _yes_or_503(usable, f"model {model.name!r} takes no requests")

    async def infer(request: Request, name: str, version: str = "1") -> Response:
        """Segment a batch.

        One input: `image`, RGB pictures of any size, or `input`, what the network itself takes.
        Outputs: `classmap` (the default) and `logits`, both at the size of the input.
        """
        return await _infer(service, request, service.model(request, name, version))

    for base in ("/models/{name}", "/models/{name}/versions/{version}"):
        routes.get(base, response_model=ModelMetadata, responses=refusals(401, 404, 422))(metadata)
        unready = {**refusals(401, 404, 422), 503: {"model": Error}}
        routes.get(f"{base}/ready", response_class=Response, responses=unready)(model_ready)
        routes.post(
            f"{base}/infer", response_class=Response, responses=_INFERRED, openapi_extra=_BODY
        )(infer)


async def _infer(service: Service, request: Request, model: Model) -> Response:
    service.admit(model)
    header = request.headers.get(_HEADER)
    tensors_at = int(header) if header and header.isdecimal() and len(header) < 19 else 0
    most = json_tensor.MOST_BYTES if header is None else None
    async with service.intake.body(request, tensors_at, most) as body:
        wanted = await _parsed(model, body, header, service.settings)
        size = answer_bytes(model, wanted)
        if size > _INLINE:
            service.intake.hold_answer(request, size)
        jobs = jobs_of(wanted)
        items = await while_connected(request, model.run(jobs))
        results = [job.answer for job in jobs]
        seconds = items[0].seconds
        if size > _INLINE or not all(wanted.binary.values()):
            parts, length = await asyncio.to_thread(_answer, model, wanted, results)
        else:
            parts, length = _answer(model, wanted, results)
    headers = {"Server-Timing": server_timing(seconds)}
    if length is None:
        return Parts(parts, "application/json", headers)
    headers[_HEADER] = str(length)
    return Parts(parts, "application/octet-stream", headers)


class Parts(Response):
    """A body in parts, which are not put together."""

    def __init__(
        self, parts: Sequence[bytes | memoryview], media_type: str, headers: dict[str, str]
    ) -> None:
        length = str(sum(len(part) for part in parts))
        super().__init__(media_type=media_type, headers={**headers, "content-length": length})
        # What is small goes out in one piece: two would wait for each other.
        self._parts = [b"".join(parts)] if int(length) <= _INLINE else parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        for number, part in enumerate(self._parts, 1):
            more = number < len(self._parts)
            await send({"type": "http.response.body", "body": part, "more_body": more})


def describe(model: Model) -> ModelMetadata:
    """What a model takes and gives."""
    predictor = model.predictor
    classes = predictor.labels.num_classes
    return ModelMetadata(
        name=model.name,
        versions=["1"],
        platform=f"atrous_{predictor.engine.name}",
        inputs=[
            TensorMetadata(
                name="input",
                datatype=DTYPES[predictor.engine.signature.dtype],
                shape=[-1, 3, *predictor.preprocess.size],
            ),
            TensorMetadata(name="image", datatype="UINT8", shape=[-1, -1, -1, 3]),
        ],
        outputs=[
            TensorMetadata(name="classmap", datatype="UINT8", shape=[-1, -1, -1]),
            TensorMetadata(name="logits", datatype="FP32", shape=[-1, classes, -1, -1]),
        ],
    )


def answer_bytes(model: Model, wanted: TensorRequest) -> int:
    """What an answer takes, about.

    Raises:
        Refusal: too much.
    """
    shape = wanted.tensor.shape
    height, width = shape[2:] if wanted.name == "input" else shape[1:3]
    pixels = shape[0] * height * width
    total = 0
    for name, binary in wanted.binary.items():
        logits = name == "logits"
        count = pixels * (model.predictor.labels.num_classes if logits else 1)
        size = count * (4 if logits else 1)
        if logits and size > LOGITS_BYTES:
            raise Refusal(
                413,
                f"logits: {size} bytes, the limit is {LOGITS_BYTES}; send fewer or smaller images, "
                "or ask for classmap alone",
            )
        text = json_tensor.answered_bytes(count, np.dtype("f4" if logits else "u1"))
        if not binary and text > json_tensor.MOST_ANSWERED:
            raise Refusal(
                413,
                f"{name}: {count} values are too many for JSON; ask for them in binary "
                "(binary_data true, or binary_data_output)",
            )
        total += size if binary else size + text
    return total


def jobs_of(wanted: TensorRequest) -> list[ImageJob]:
    """One job for each image of a request."""

    def finish(frame: Frame) -> dict[str, NDArray[Any]]:
        assert frame.class_map is not None
        result: dict[str, NDArray[Any]] = {}
        for name in wanted.binary:
            logits = name == "logits"
            result[name] = frame.outputs["infer"].logits() if logits else frame.class_map
        return result

    if wanted.name == "input":
        return [ImageJob(finish, tensor=tensor) for tensor in wanted.tensor]
    return [ImageJob(finish, pixels=partial(_same, pixels)) for pixels in wanted.tensor]


def _yes_or_503(yes: bool, why: str) -> Response:
    if not yes:
        raise Refusal(503, why)
    return Response()


def _same(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels


async def _parsed(
    model: Model, body: Body, header: str | None, settings: Settings
) -> TensorRequest:
    predictor = model.predictor
    details = (
        predictor.engine.signature.dtype,
        predictor.preprocess.size,
        settings.max_pixels,
        max(settings.max_pictures, model.batch),
    )
    if json_bytes(body, header) > SMALL:
        return await asyncio.to_thread(parse, body, header, *details)
    return parse(body, header, *details)


def _answer(
    model: Model, wanted: TensorRequest, results: list[dict[str, NDArray[Any]]]
) -> tuple[list[bytes | memoryview], int | None]:
    tensors = {name: [result[name] for result in results] for name in wanted.binary}
    return answer(model.name, wanted.id, tensors, wanted.binary)
