"""`atrous serve`."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atrous.cli import options
from atrous.errors import ConfigError

if TYPE_CHECKING:
    from atrous.runtime.predictor import Predictor

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--model",
            help="MODEL or NAME=MODEL, where MODEL is as for atrous predict. Repeat it for "
            "several models; the first is the default. Default: the model in the package.",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="The address to listen on. An address that other machines can reach needs an API "
            "key."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port to listen on; 0 means any free one.", min=0, max=65535)
    ] = 8000,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="The file that holds the API key. The variable ATROUS_API_KEY can hold it instead."
        ),
    ] = None,
    no_api_key: Annotated[
        bool,
        typer.Option(
            "--no-api-key", help="Serve everyone who can reach the address, without an API key."
        ),
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Accept requests for this host name too, such as that of a proxy; repeat it "
            "for several. Without a key, a server on loopback only accepts requests for "
            "localhost.",
        ),
    ] = None,
    batch: options.BatchOption = None,
    wait_ms: Annotated[
        float, typer.Option(help="How many milliseconds to wait for a batch to fill.", min=0)
    ] = 5.0,
    queue: Annotated[
        int,
        typer.Option(
            help="How many images a model may have in progress; further requests are told to "
            "try again later. 0 means two for each image that it works on at once.",
            min=0,
        ),
    ] = 0,
    max_body: Annotated[
        int, typer.Option(help="The largest size of a request in MiB, after decompression.", min=1)
    ] = 64,
    max_pixels: Annotated[
        int, typer.Option(help="The largest number of pixels in an image.", min=1)
    ] = 2**26,
    max_pictures: Annotated[
        int, typer.Option(help="The largest number of pictures in a request.", min=1)
    ] = 32,
    body_seconds: Annotated[
        float, typer.Option(help="How many seconds a request may take to arrive.", min=0.001)
    ] = 30.0,
    answer_seconds: Annotated[
        float, typer.Option(help="How many seconds an answer may take to compute.", min=0.001)
    ] = 60.0,
    send_seconds: Annotated[
        float,
        typer.Option(help="How many seconds a client may take to receive its answer.", min=0.001),
    ] = 60.0,
    grace_seconds: Annotated[
        float,
        typer.Option(
            help="How many seconds there are after SIGTERM to finish requests in progress.", min=0
        ),
    ] = 30.0,
    log_format: Annotated[
        Literal["text", "json"], typer.Option(help="The format of the log on standard error.")
    ] = "text",
    engine: options.EngineOption = "auto",
    device: options.DeviceOption = "cpu",
    instances: options.InstancesOption = 0,
    threads: options.ThreadsOption = 0,
    cache: options.CacheOption = None,
    labels: options.LabelsOption = None,
    vdsp_params: options.VdspOption = None,
    size: options.SizeOption = None,
    value_range: options.RangeOption = None,
    layout: options.LayoutOption = None,
    output_name: options.OutputNameOption = None,
    threshold: options.ThresholdOption = None,
    precision: options.PrecisionOption = None,
) -> None:
    """Serve models over HTTP: the Open Inference Protocol v2, pictures in and masks out, metrics.

    Example: atrous serve -m fp16=default -m int8=default-int8

    tritonclient[http] works unchanged, and so does plain curl: `curl --data-binary @photograph.jpg
    'http://127.0.0.1:8000/v1/segment?output=overlay' -o overlay.png`. The API is described at
    /openapi.json. After SIGTERM or Ctrl-C the server finishes the requests in progress and exits;
    the exit code is 1 if it had to abandon one.
    """
    try:
        from atrous.serve import logs, server, settings
        from atrous.serve.service import Service
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"serve needs {error.name}, which is not installed: pip install 'atrous[serve]'"
        ) from None

    told = settings.Settings(
        host=host,
        port=port,
        key=settings.read_key(api_key_file, host, no_api_key=no_api_key),
        hosts=tuple(allow_host or ()),
        batch=batch,
        wait=wait_ms / 1e3,
        queue=queue,
        max_body=max_body * 2**20,
        max_pixels=max_pixels,
        max_pictures=max_pictures,
        body_seconds=body_seconds,
        answer_seconds=answer_seconds,
        send_seconds=send_seconds,
        grace_seconds=grace_seconds,
    )
    logs.set_up(log_format)
    if told.key is None and not settings.is_loopback(host):
        logs.log.warning("no API key: everybody who reaches %s may use this server", host)
    bound = server.listen(told)
    with bound, ExitStack() as opened:
        predictors: dict[str, Predictor] = {}
        for given in [*model] if model else [None]:
            name, source = _named(given)
            network = options.ModelOptions(
                source, engine, device, threads, instances, cache, labels, vdsp_params, size,
                value_range, layout, output_name, threshold, precision,
            )  # fmt: skip
            predictor = opened.enter_context(network.open())
            # Which of its files the default is depends on the machine, its name does not.
            name = name or ("default" if source is None else _own_name(predictor, source))
            if name in predictors:
                raise ConfigError(f"two models are called {name!r}: name them with -m NAME=MODEL")
            predictors[name] = predictor
        service = Service(predictors, told)
        where = server.url_of(bound)
        logs.log.info("models: %s", ", ".join(predictors))
        finished = server.run(service, bound, lambda _: logs.log.info("listening on %s", where))
    if not finished:
        sys.exit(1)


def _named(given: str | None) -> tuple[str, str | None]:
    """Name and model of `NAME=MODEL`, or an empty name; a file whose name has a = is a file."""
    if given is None or "=" not in given or Path(given).exists():
        return "", given
    name, _, source = given.partition("=")
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"-m {given}: expected NAME=MODEL with a name of letters, digits, '.', '_' and '-'"
        )
    if not source:
        raise ConfigError(f"-m {given}: expected NAME=MODEL, and behind the = stands no model")
    return name, source


def _own_name(predictor: Predictor, source: str | None) -> str:
    """What a model calls itself, or its file; as a name that fits into a URL."""
    metadata = predictor.engine.metadata
    name = metadata.name if metadata and metadata.name else Path(source or "default").stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "model"
