"""An application for Ray Serve: the routes of the server, on replicas that hold engines.

    serve run atrous.serve.ray:application no_api_key=true

`examples/deploy/ray-serve.yaml` is a configuration for `serve deploy`.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from atrous import strict_yaml
from atrous.engines.base import Device, Options
from atrous.errors import ConfigError, EngineError
from atrous.jobs.cluster.node import claim_cores
from atrous.runtime.predictor import Predictor
from atrous.serve import logs
from atrous.serve.app import make_app
from atrous.serve.guard import Guard
from atrous.serve.service import Service
from atrous.serve.settings import LogFormat, Settings, read_key

NAME = "atrous"
"""Of the deployment, by which a configuration of Ray Serve overrides its options."""

_ANY_HOST = "0.0.0.0"
_DEFAULT = Settings()
_WAITING = 16
_STARTS = 3

ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Replication(BaseModel):
    """What every replica is, and how many there are.

    Attributes:
        models: name → model as of `Predictor.open`; files under the same path on every machine.
            The first is the default. Without any, the model in the package.
        engine: `auto`, or the name of an engine.
        device: `cpu`, `cuda` or `tensorrt`; on the last two a replica has a GPU of its own.
        threads: CPUs of a replica, and threads of its engines.
        instances: images that a network works on at once; they share the threads.
        batch: images that a network sees at once; by default its own number, 1 if it is free.
        min_replicas: of which there are so many at least.
        max_replicas: and so many at most. In between, one for as many requests under way and
            waiting as its networks work on at once.
        queue: requests that wait at one proxy for a replica; more are told to try again. 0 for 16
            for each replica that there may be.
        api_key_file: holds the API key; without one the variable `ATROUS_API_KEY` does.
        no_api_key: serve everybody.
        log_format: of what replicas log, into Ray's logs.
    """

    model_config = ConfigDict(extra="forbid")

    models: dict[ModelName, str] = {}
    engine: str = "auto"
    device: Device = "cpu"
    threads: int = Field(1, ge=1)
    instances: int = Field(1, ge=1)
    batch: int | None = Field(None, ge=1)
    min_replicas: int = Field(1, ge=1)
    max_replicas: int = Field(1, ge=1)
    queue: int = Field(0, ge=0)
    api_key_file: Path | None = None
    no_api_key: bool = False
    log_format: LogFormat = "text"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas: expected min_replicas ({self.min_replicas}) or more, got "
                f"{self.max_replicas}"
            )
        return self

    @property
    def at_once(self) -> int:
        """Requests of one picture that a replica's networks work on at once."""
        return self.instances * (self.batch or 1) * max(1, len(self.models))


class Replica:
    """One process: its engines, and the application around them.

    Args:
        told: what it is.

    Raises:
        AtrousError: a model cannot be opened, or there is no API key where there must be one.
    """

    def __init__(self, told: Replication) -> None:
        logs.set_up(told.log_format)
        key = read_key(told.api_key_file, _ANY_HOST, no_api_key=told.no_api_key)
        settings = Settings(
            host=_ANY_HOST,
            key=key,
            batch=told.batch,
            # Ray has a queue in front: what it lets through is not refused here.
            queue=2 * told.at_once * _DEFAULT.max_pictures,
        )
        if told.device == "cpu":
            self._cores = claim_cores(told.threads)
        options = Options(device=told.device, threads=told.threads, streams=told.instances)
        sources: dict[str, str | None] = {**told.models} or {"default": None}
        with ExitStack() as opened:
            predictors = {
                name: opened.enter_context(
                    Predictor.open(source, engine=told.engine, options=options)
                )
                for name, source in sources.items()
            }
            self.service = Service(predictors, settings)
            opened.pop_all()

    def __serve_build_asgi_app__(self) -> Guard:
        """Called by Ray Serve in the event loop of the replica."""
        return make_app(self.service)

    def check_health(self) -> None:
        """Called by Ray Serve, which puts another replica in the place of one that raises."""
        if not self.service.alive:
            raise EngineError("a model has stopped")

    def __del__(self) -> None:
        """Called by Ray Serve when what was under way has been finished."""
        if hasattr(self, "service"):
            self.service.close()


def application(arguments: dict[str, Any]) -> Any:
    """Build the application.

    Args:
        arguments: fields of `Replication`.

    Returns:
        A `ray.serve.Application`.

    Raises:
        ConfigError: an argument is wrong, or Ray Serve is not installed.
    """
    try:
        told = Replication.model_validate(arguments)
    except ValidationError as error:
        said = strict_yaml.complaint(error, {"": Replication}, {}, {})
        raise ConfigError(f"arguments of the application: {said}") from None
    try:
        from ray import serve
    except ImportError as error:
        raise ConfigError(
            f"Ray Serve is not whole ({error}): pip install 'atrous[ray-serve]'"
        ) from None
    deployed = serve.deployment(
        name=NAME,
        # For each image in a network one that is ready when it comes out.
        max_ongoing_requests=2 * told.at_once,
        max_queued_requests=told.queue or _WAITING * told.max_replicas,
        backpressure_config={"retry_after_s": 1},
        autoscaling_config={
            "min_replicas": told.min_replicas,
            "max_replicas": told.max_replicas,
            "target_ongoing_requests": told.at_once,
        },
        ray_actor_options={
            "num_cpus": told.threads,
            "num_gpus": 0 if told.device == "cpu" else 1,
        },
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=_DEFAULT.grace_seconds,
        max_constructor_retry_count=_STARTS,
    )
    return deployed(serve.ingress()(Replica)).bind(told)
