"""Segment images on many machines with Ray Data: the side that hands them out.

Every worker is an actor that holds one engine (`node.py`) and takes a batch of images at a time.
The results themselves are the record of what is done: whoever takes a batch leaves out the images
whose masks are there, be it from before the job was stopped or from a worker that was lost.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from atrous import external_data
from atrous.engines.base import Options
from atrous.errors import ConfigError, EngineError, InputError
from atrous.image import Reading
from atrous.jobs.cluster import remote
from atrous.jobs.cluster.node import MOST_TRIES, ClusterJob, Reply, Segmenter, Tries
from atrous.jobs.output import (
    MASKS,
    OVERLAYS,
    ImageResult,
    Output,
    Results,
    join,
    make_folder,
    remove_unfinished,
)
from atrous.jobs.renaming import follow_names
from atrous.runtime.predictor import Predictor

_LARGEST_BATCH = 32
_PATIENCE = 5.0
_SETTINGS = b"\4"
# HTTP/2's first words and an empty frame of settings; a server answers with its settings.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + _SETTINGS + bytes(5)


def segment(
    predictor: Predictor,
    model: Path,
    images: Sequence[remote.RemoteImage],
    output: Output,
    *,
    address: str = "local",
    workers: int = 0,
    options: Options | None = None,
    reading: Reading | None = None,
) -> Generator[ImageResult]:
    """Segment images as `folder.segment` does, on many machines; results come as they are made.

    An image that fails becomes a result that says why. A worker that is lost is replaced, and what
    it had not finished is done again; an image that takes one worker after the other with it, in a
    batch and alone, fails.

    Args:
        predictor: the network as it was opened here, on any device; says what is the same for all.
        model: its file. Its content is sent to the workers.
        images: see `remote.find`; paths must name the same files on all machines.
        output: its place is a folder that all machines share, or a URL.
        address: of the cluster, as `ray.init` takes it: `local` starts one here, `auto` joins the
            one that runs here or that `RAY_ADDRESS` names.
        workers: actors, 0 for as many as there is room for.
        options: of the engine of a worker.
        reading: how images are read.

    Raises:
        ConfigError: Ray is not installed or not there, or no machine has room for a worker.
        InputError: `output` cannot be made a folder.
        AtrousError: no worker can do the work.
    """
    options, reading = options or Options(threads=1), reading or Reading()
    _follow_names(predictor, images, output, reading)
    job = ClusterJob(
        model=None,
        identity=predictor.engine.identity,
        engine=engine_name(predictor, options),
        options=options,
        preprocess=predictor.preprocess,
        labels=predictor.labels,
        output=output,
        token="",
        taking=reading.taking,
        max_pixels=reading.max_pixels,
    )
    with _shared(str(output.place)) as (place, token), joined(address) as ray:
        files = ray.put(model_files(model))
        job = replace(job, model=files, output=replace(output, place=place), token=token)
        for one in images:
            if one.error:
                yield ImageResult(one.place, "failed", error=one.error)
        left = dict(enumerate(one for one in images if not one.error))
        # A batch that was given up is tried once more image by image: one of them is to blame.
        for alone in (False, True):
            for reply in _replies(ray, job, left, workers, alone):
                for kind, text in reply.notes.items():
                    reading.notes.say(kind, text)
                if reply.failure is not None:
                    raise reply.failure
                if reply.result is not None:
                    yield _named(reply.result, left.pop(reply.index), output)
        for one in left.values():
            reason = f"{one.place}: {2 * MOST_TRIES} workers that took it were lost; out of memory?"
            yield ImageResult(one.place, "failed", error=reason)


def _follow_names(
    predictor: Predictor, images: Sequence[remote.RemoteImage], output: Output, reading: Reading
) -> None:
    """Do what `folder.segment` does before, for images and results on our own file system."""
    place = remote.local(str(output.place))
    if place is not None:
        here = [(remote.local(one.place), Path(one.stem)) for one in images]
        results = Results(replace(output, place=place), predictor, str(reading.taking))
        follow_names(results, ((path, stem) for path, stem in here if path is not None))


def engine_name(predictor: Predictor, options: Options) -> str:
    """The engine that workers use: one for all, whatever `auto` would choose on their machines."""
    name = predictor.engine.name
    return name if options.device == "cpu" or name == "torch" else "onnxruntime"


def model_files(model: Path) -> dict[str, bytes]:
    """Name → content of a model's file and of those beside it that hold its weights.

    Raises:
        ArtifactError: one is missing.
        InputError: one cannot be read.
    """
    files = {model.name: model}
    try:
        if model.suffix == ".onnx":
            graph = onnx.load(model, load_external_data=False)
            beside = sorted(external_data.locations(graph))
            files |= {name: external_data.found(model, name) for name in beside}
        return {name: file.read_bytes() for name, file in files.items()}
    except OSError as error:
        raise InputError(f"{model}: cannot be read: {error.strerror}") from None


def _replies(
    ray: Any, job: ClusterJob, left: dict[int, remote.RemoteImage], workers: int, alone: bool
) -> Iterator[Reply]:
    """Hand out what is left, batch by batch."""
    if not left:
        return
    room = _room(ray, job.options)
    workers = min(workers or room, len(left))
    if not room:
        what = "GPU" if job.options.device != "cpu" else f"{job.options.threads} CPUs (`threads`)"
        raise ConfigError(f"`address`: no machine of the cluster has {what} for a worker")
    batch = 1 if alone else max(1, min(_LARGEST_BATCH, len(left) // (16 * workers)))
    places = [_absolute(one.place) for one in left.values()]
    rows = [
        {"index": number, "place": os.fsencode(place), "stem": os.fsencode(one.stem)}
        for (number, one), place in zip(left.items(), places, strict=True)
    ]
    here = ray.get_runtime_context().get_node_id()
    beside = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
    tries = ray.remote(num_cpus=0, scheduling_strategy=beside)(Tries).remote()
    away = not alone and any(map(remote.is_url, [str(job.output.place), *places]))
    replies = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // batch)).map_batches(
        Segmenter,
        batch_size=None,
        fn_constructor_args=(job, lambda number: ray.get(tries.begin.remote(number)), ray.get),
        num_cpus=job.options.threads,
        num_gpus=None if job.options.device == "cpu" else 1,
        compute=ray.data.ActorPoolStrategy(
            size=workers,
            # One batch on its way through the network, one to or from the network's images.
            max_concurrent_calls_per_actor=2 if away else 1,
            enable_true_multi_threading=away,
        ),
    )
    try:
        for found in replies.iter_batches(batch_size=None, prefetch_batches=0):
            yield from map(pickle.loads, found["reply"])
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise EngineError(f"Ray: {lines[-1].strip()}") from error


def _room(ray: Any, options: Options) -> int:
    """How many workers the machines of the cluster hold together."""
    total = 0
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            room = has.get("CPU", 0) // options.threads
            total += int(room if options.device == "cpu" else min(room, has.get("GPU", 0)))
    return total


def _named(result: ImageResult, one: remote.RemoteImage, output: Output) -> ImageResult:
    """The result of a worker by the names that were given here."""
    names = output.names(one.stem)
    return replace(
        result,
        source=one.place,
        mask=result.mask and join(output.place, names[MASKS]),
        overlay=result.overlay and join(output.place, names[OVERLAYS]),
        error=result.error.replace(_absolute(one.place), one.place),
    )


def _absolute(place: str) -> str:
    """What names the same file on every machine that has it."""
    path = remote.local(place)
    return place if path is None else str(path.absolute())


@contextmanager
def _shared(output: str) -> Iterator[tuple[str, str]]:
    """Make the folder of the results, with a file in it by which workers know it.

    What workers that were lost have half written is removed at the end.
    """
    folder = remote.local(output)
    if folder is None:
        yield output, ""
        return
    folder = folder.absolute()
    make_folder(folder)
    token = folder / f".atrous-{uuid.uuid4().hex}"
    try:
        token.touch()
    except OSError as error:
        raise InputError(f"{output}: cannot be written into: {error.strerror}") from None
    try:
        yield str(folder), token.name
    finally:
        token.unlink(missing_ok=True)
        remove_unfinished(folder)


@contextmanager
def joined(address: str) -> Iterator[Any]:
    """Join a cluster, or start one, without a word on the terminal.

    Raises:
        ConfigError: Ray is not installed, or no cluster is there.
    """
    _knock(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # Ray would report its use to its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise ConfigError(f"a cluster needs Ray ({error}): pip install 'atrous[cluster]'") from None
    # It prints on standard output when a node is lost; there is no public switch for that.
    ray._private.worker._worker_logs_enabled = False
    # It stumbles over a command line that is no UTF-8, which it only shows.
    ray._private.utils.get_entrypoint_name = lambda: "atrous"
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield ray
        return
    try:
        with _silence():
            ray.init(
                address=address,
                include_dashboard=False if address == "local" else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except ConnectionError:
        raise ConfigError(
            f"`address` {address}: no Ray runs on this machine, and RAY_ADDRESS names none that "
            "answers; `ray start --head` starts one"
        ) from None
    except (RuntimeError, ValueError) as error:  # other versions of Ray or Python there
        raise ConfigError(f"`address` {address}: {' '.join(str(error).split())}") from None
    except SystemExit:  # what Ray makes of a server that is no Ray, after minutes
        raise ConfigError(f"`address` {address}: no Ray of version {ray.__version__}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep Ray's C++ part from saying on standard error that it will say nothing."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _knock(address: str) -> None:
    """See that a server of gRPC listens at HOST:PORT: Ray itself would try for minutes.

    Raises:
        ConfigError: nobody does, or it is no address.
    """
    if address in ("local", "auto"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise ConfigError(f"`address`: expected local, auto or HOST:PORT, got {address!r}")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _PATIENCE) as link:
            link.sendall(_HELLO)
            answer = link.recv(4)
    except OSError as error:
        raise ConfigError(
            f"`address` {address}: nothing answers there ({error}); `ray start --head` starts a "
            "cluster and prints its address"
        ) from None
    if answer[3:] != _SETTINGS and os.environ.get("RAY_USE_TLS") != "1":
        raise ConfigError(
            f"`address` {address}: what answers there is not Ray; expected the port that "
            "`ray start --head` printed, by default 6379"
        )
