"""The models of a server by name, and how a request reaches one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import TypeVar

from starlette.requests import Request

from atrous.runtime.predictor import Predictor
from atrous.serve.body import Intake
from atrous.serve.logs import Trace
from atrous.serve.metrics import Metrics
from atrous.serve.model import Model
from atrous.serve.refusal import ClientGone, Refusal
from atrous.serve.settings import Settings

T = TypeVar("T")


class Service:
    """What the routes work with.

    Args:
        predictors: name → network; closed with the service. The first is the default.
        settings: limits.

    Attributes:
        models: by name.
        intake: reads bodies.
        metrics: counts.
        draining: told to end, it takes nothing more in.

    Raises:
        ConfigError: a model does not fit the settings.
    """

    def __init__(self, predictors: Mapping[str, Predictor], settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.intake = Intake(settings)
        self.draining = False
        self.models: dict[str, Model] = {}
        for name, predictor in predictors.items():
            model = Model(name, predictor, settings, self.metrics)
            self.models[name] = model
            self.metrics.model(
                name,
                model.places,
                partial(getattr, model, "under_way"),
                precision=precision(model),
                engine=predictor.engine.title,
                identity=predictor.engine.identity[:16],
            )

    @property
    def ready(self) -> bool:
        """Whether it takes requests."""
        return not self.draining and self.alive

    @property
    def alive(self) -> bool:
        """Whether all models work; only a new start helps if not."""
        return not any(model.broken for model in self.models.values())

    def model(self, request: Request, name: str | None, version: str = "1") -> Model:
        """The model that a request names, the first if it names none.

        Raises:
            Refusal: there is none.
        """
        found = self.models.get(name) if name is not None else next(iter(self.models.values()))
        if found is None or version != "1":
            known = ", ".join(self.models)
            asked = f"{name!r}" + f", version {version!r}" * (version != "1")
            raise Refusal(404, f"no model {asked}; there are {known}, each in version 1")
        trace_of(request).model = found.name
        return found

    def admit(self, model: Model) -> None:
        """Raise `Refusal` if nothing is taken in: asked before a body is read."""
        if self.draining:
            raise Refusal(503, "the server is shutting down; try again")
        model.check_room()

    def close(self, *, wait: bool = True) -> None:
        """Close all models."""
        for model in self.models.values():
            model.close(wait=wait)


def precision(model: Model) -> str:
    """Of its weights, empty if it does not say."""
    metadata = model.predictor.engine.metadata
    return "" if metadata is None else metadata.precision


def trace_of(request: Request) -> Trace:
    """What is remembered of a request."""
    trace: Trace = request.scope["atrous.trace"]
    return trace


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Await `work`, and cancel it if the client goes away; the body must have been read.

    Raises:
        ClientGone: it went away.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        task.cancel()
        gone.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
