"""`/v1`: a picture in, its mask, an overlay or JSON out; and what models there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from atrous.errors import ConfigError
from atrous.image import Reading
from atrous.palette import OPACITY
from atrous.pictures.samples import Notes, Picture, Taking
from atrous.runtime.stages import Frame
from atrous.serve import legend, pictures
from atrous.serve.body import Body, form_file
from atrous.serve.documents import (
    BINARY,
    BODY_ERRORS,
    ClassLabel,
    InputSize,
    Labels,
    ModelEntry,
    Models,
    Segmentation,
    refusals,
)
from atrous.serve.model import ImageJob, Model
from atrous.serve.refusal import Refusal
from atrous.serve.service import Service, precision, while_connected
from atrous.serve.timing import server_timing

Output = Literal["mask", "overlay", "json"]

_ASKED = ("model", "output", "opacity", "range", "bands")
_NUMBER = r"-?[0-9]{1,12}(\.[0-9]{1,12})?"
_RANGE = f"^{_NUMBER},{_NUMBER}$"
_BANDS = r"^[0-9]{1,4}(,[0-9]{1,4}){0,3}$"

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": BINARY,
            "application/octet-stream": BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": BINARY["schema"]},
                }
            },
        },
    }
}


def router(service: Service) -> APIRouter:
    """The routes below `/v1`."""
    routes = APIRouter(prefix="/v1", tags=["Pictures"])

    @routes.get("/models", response_model=Models, responses=refusals(401))
    async def models() -> Models:
        """What models there are, the default first."""
        entries = [describe(model) for model in service.models.values()]
        entries[0].default = True
        return Models(models=entries)

    answers: dict[int | str, dict[str, Any]] = {
        200: {"model": Segmentation, "content": {"image/png": BINARY}},
        **refusals(*BODY_ERRORS),
    }

    @routes.post("/segment", response_class=Response, responses=answers, openapi_extra=_BODY)
    async def segment(
        request: Request,
        model: Annotated[str | None, Query(description="Default: the first.")] = None,
        output: Annotated[
            Output, Query(description="mask: palette PNG; overlay: PNG to look at; json: runs.")
        ] = "mask",
        opacity: Annotated[
            float, Query(ge=0, le=1, allow_inf_nan=False, description="Of an overlay's paint.")
        ] = OPACITY,
        value_range: Annotated[
            str | None,
            Query(
                alias="range",
                pattern=_RANGE,
                description="LOW,HIGH: stored values that are black and white, where samples have "
                "more than 8 bits, a sign or a fraction.",
            ),
        ] = None,
        bands: Annotated[
            str | None,
            Query(
                pattern=_BANDS,
                description="Bands to take, from 1: one, or three as red, green and blue, and one "
                "more as transparency.",
            ),
        ] = None,
    ) -> Response:
        """Segment a picture.

        The body is an image file, or a multipart form whose field `image` holds one.
        """
        _check_names(request)
        chosen = service.model(request, model)
        service.admit(chosen)
        async with service.intake.body(request) as body:
            kind = request.headers.get("content-type", "")
            said: list[str] = []
            reading = _reading(chosen, value_range, bands, service.settings.max_pixels, said)
            job = job_of(chosen, body, kind, output, opacity, reading, said)
            [item] = await while_connected(request, chosen.run([job]))
            data = _content(job.answer, item.seconds) if output == "json" else job.answer
            service.intake.hold_answer(request, len(data))
        headers = {"Server-Timing": server_timing(item.seconds)}
        if said:
            headers["Atrous-Note"] = " | ".join(said).encode("latin-1", "replace").decode("latin-1")
        kind = "application/json" if output == "json" else "image/png"
        return Response(data, media_type=kind, headers=headers)

    return routes


def _check_names(request: Request) -> None:
    """Raise `Refusal` if the query asks for something that there is not."""
    strange = [name for name in request.query_params if name not in _ASKED]
    if strange:
        raise Refusal(422, f"query.{strange[0]}: unknown; expected {', '.join(_ASKED)}")


def job_of(
    model: Model,
    body: Body,
    content_type: str,
    output: Output,
    opacity: float,
    reading: Reading,
    said: list[str],
) -> ImageJob:
    """What is done to a picture; the answer is a PNG, or JSON up to its seconds and its runs.

    `said` is filled with what was decided about its samples.
    """
    labels = model.predictor.labels

    def read() -> Picture:
        form = content_type.lower().startswith("multipart/form-data")
        data = form_file(body, content_type, "image") if form else body
        return pictures.decode(data, reading)

    def finish(frame: Frame) -> Any:
        class_map = frame.class_map
        assert class_map is not None
        if output == "mask":
            return pictures.mask_png(class_map, labels)
        if output == "overlay":
            assert frame.pixels is not None
            return pictures.overlay_png(frame.pixels, class_map, labels, opacity)
        document = {
            "model": model.name,
            "width": class_map.shape[1],
            "height": class_map.shape[0],
            "notes": said,
            "classes": pictures.classes_of(class_map, labels, frame.valid),
        }
        return to_json(document)[:-1], pictures.runs_json(pictures.runs(class_map))

    return ImageJob(finish, pixels=read, keep_pixels=output == "overlay")


def _content(answer: tuple[bytes, bytes], seconds: Mapping[str, float]) -> bytes:
    """The document that `job_of` began, with what was not known there."""
    head, runs = answer
    took = to_json({name: round(value, 6) for name, value in seconds.items()})
    return b"".join([head, b',"seconds":', took, b',"runs":', runs, b"}"])


def _reading(
    model: Model, value_range: str | None, bands: str | None, max_pixels: int, said: list[str]
) -> Reading:
    """How a picture is read, as the request or the model says; notes go to `said`.

    Raises:
        Refusal: the request says it wrongly.
    """
    try:
        low, high = map(float, value_range.split(",")) if value_range else (0.0, 1.0)
        numbers = tuple(map(int, bands.split(","))) if bands else None
        taking = Taking((low, high) if value_range else None, numbers)
    except ConfigError as error:
        raise Refusal(422, str(error).replace("`value_range`", "`range`")) from None
    own = model.predictor.preprocess.value_range
    notes = Notes(lambda text: said.append(text.replace("`value_range`", "`range`")))
    return Reading(taking, max_pixels, notes).by_default(own)


def describe(model: Model) -> ModelEntry:
    """What the page shows of a model."""
    predictor = model.predictor
    metadata, labels = predictor.engine.metadata, predictor.labels
    height, width = predictor.preprocess.size
    classes = [legend.describe(labels, i) for i in range(labels.num_classes)]
    return ModelEntry(
        name=model.name,
        default=False,
        precision=precision(model),
        engine=predictor.engine.title,
        identity=predictor.engine.identity,
        licence=metadata.licence if metadata else "",
        labels=Labels(
            name=labels.name,
            ignore_index=labels.ignore_index,
            classes=[ClassLabel(**entry) for entry in classes],
        ),
        input=InputSize(height=height, width=width),
        accuracies=list(metadata.accuracies) if metadata else [],
    )
