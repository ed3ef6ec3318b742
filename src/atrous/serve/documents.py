"""What the server's answers look like, for its OpenAPI document."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import BaseModel

from atrous.artifact import Accuracy


class Error(BaseModel):
    """Why a request was not served."""

    error: str


class ServerMetadata(BaseModel):
    """What the server is."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """A tensor; -1 is a free dimension."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class IndexEntry(BaseModel):
    """A model in the index."""

    name: str
    version: str
    state: str
    reason: str


class ResponseOutput(BaseModel):
    """A tensor of an answer."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None
    data: list[float | None] | None = None


class InferResponse(BaseModel):
    """An answer of the Open Inference Protocol."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[ResponseOutput]


class ClassLabel(BaseModel):
    """What a class id means; `colour` is its own in masks, `paint` that in overlays, `#rrggbb`.

    Classes that are not `painted` stay bare in overlays, as a background does.
    """

    id: int
    name: str
    colour: str
    paint: str
    painted: bool


class Labels(BaseModel):
    """What the class ids of a model mean."""

    name: str
    ignore_index: int
    classes: list[ClassLabel]


class InputSize(BaseModel):
    """Of the network input, pixels."""

    height: int
    width: int


class ModelEntry(BaseModel):
    """A model as the page shows it; `precision` is empty if the model does not say."""

    name: str
    default: bool
    precision: str
    engine: str
    identity: str
    licence: str
    labels: Labels
    input: InputSize
    accuracies: list[Accuracy]


class Models(BaseModel):
    """All models, the default first."""

    models: list[ModelEntry]


class ClassShare(ClassLabel):
    """A class that occurs in an image; `share` of its pixels is 0–1."""

    pixels: int
    share: float


class Segmentation(BaseModel):
    """A class map as `[class id, length]` runs, row by row over the whole image."""

    model: str
    width: int
    height: int
    notes: list[str] = []
    classes: list[ClassShare]
    seconds: dict[str, float]
    runs: list[tuple[int, int]]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of an operation."""
    return {status: {"model": Error} for status in statuses}


BINARY = {"schema": {"type": "string", "format": "binary"}}
"""A body of bytes."""

BODY_ERRORS = (400, 401, 404, 408, 413, 415, 422, 500, 503, 504)
"""What may become of a request with a body."""


def json_schema(model: type[msgspec.Struct]) -> dict[str, Any]:
    """A schema with nothing outside of it, for the body of an operation."""
    schema = msgspec.json.schema(model)
    definitions = schema.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return inline(definitions[node["$ref"].rpartition("/")[2]])
            return {key: inline(value) for key, value in node.items()}
        return [inline(value) for value in node] if isinstance(node, list) else node

    result: dict[str, Any] = inline(schema)
    return result
