"""Open what is measured, and have ready what it is fed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous import engines, image
from atrous.artifact import Arithmetic
from atrous.bench.plan import Plan
from atrous.engines import dry_run
from atrous.engines.base import Engine, Options
from atrous.errors import ConfigError
from atrous.evaluation.result import hash_ids
from atrous.jobs.sources import find
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from atrous.vastai import npz as npz_files
from atrous.vastai import vdsp

PHOTOGRAPH = (375, 500)
"""Height and width of random pixels: the commonest of VOC."""

KEPT = 64
"""Images that are held in memory, decoded or prepared; files are read again and again."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was opened.

    Attributes:
        file: the model.
        identity: hash of its graph and weights.
        precision: of its weights, empty if it does not say.
        engine: what runs it.
        version: of the engine.
        shape: of one network input, `(N, 3, H, W)`.
        dtype: of the network input.
        fed: what is fed, for people.
        ids: hash of the names of the images, empty for random ones.
        arithmetic: what the engine computes floats in.
    """

    file: str
    identity: str
    precision: str
    engine: str
    version: str
    shape: tuple[int, ...]
    dtype: str
    fed: str
    ids: str = ""
    arithmetic: Arithmetic = "fp32"

    @property
    def computed(self) -> str:
        """` in bf16`, to be said behind the engine; nothing for fp32."""
        return "" if self.arithmetic == "fp32" else f" in {self.arithmetic}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """An engine, and what it is fed.

    Attributes:
        engine: to be closed.
        predictor: around the engine, `None` where tensors are fed.
        inputs: files, pixels `(H, W, 3)`, or batches `(N, 3, H, W)`, to be taken in turn.
        facts: about both.
    """

    engine: Engine
    predictor: Predictor | None
    inputs: Sequence[Any]
    facts: Facts


def load(plan: Plan, open_engine: Callable[..., Engine] = engines.open_engine) -> Loaded:
    """Open the model of a plan and make its inputs.

    Args:
        plan: what to measure.
        open_engine: like `atrous.engines.open_engine`.

    Raises:
        ConfigError: shape or batch do not fit the model.
        InputError: the folder holds no images, or one cannot be read.
        AtrousError: the model cannot be opened.
    """
    random = plan.images is None and plan.npz is None
    predictor = None
    if plan.feed == "tensors" and random:
        engine = open_engine(plan.model, engine=plan.engine, options=_options(plan))
    else:
        predictor = open_predictor(plan)
        engine = predictor.engine
    try:
        shape = _shape(plan, engine, predictor)
        inputs, fed, ids = _inputs(plan, engine, predictor, shape)
    except BaseException:
        engine.close()
        raise
    known = engine.metadata
    facts = Facts(
        file=str(engines.find_model(plan.model, plan.device)),
        identity=engine.identity,
        precision=known.precision if known else "",
        engine=engine.name,
        version=engines.version(engine.name),
        shape=shape,
        dtype=engine.signature.dtype,
        fed=fed,
        ids=ids,
        arithmetic=engine.arithmetic,
    )
    return Loaded(engine, None if plan.feed == "tensors" else predictor, inputs, facts)


def open_predictor(plan: Plan) -> Predictor:
    """Open the model of a plan with its preprocessing.

    Raises:
        AtrousError: it cannot be opened, or does not fit the plan.
    """
    return Predictor.open(
        plan.model,
        engine=plan.engine,
        options=_options(plan),
        preprocess=_preprocess(plan),
        size=plan.size,
    )


def _options(plan: Plan) -> Options:
    return Options(
        plan.device,
        plan.own_threads,
        plan.instances,
        plan.cache,
        plan.layout,
        plan.output_name,
        plan.threshold,
        precision=plan.precision,
    )


def _preprocess(plan: Plan) -> Preprocess | None:
    return vdsp.read(plan.vdsp, plan.size) if plan.vdsp else None


def _shape(plan: Plan, engine: Engine, predictor: Predictor | None) -> tuple[int, ...]:
    """Of one network input; raises `ConfigError` if the plan wants another than the model."""
    own, own_size = engine.signature.batch, engine.signature.size
    batch = plan.batch or own or 1
    if own not in (None, batch):
        raise ConfigError(
            f"`batch` {batch}: the network takes {own} image{'s' * (own != 1)} at a time; export "
            f"or compile it with batch {batch}, or with a free one"
        )
    alone = plan.synchronous and plan.feed != "tensors"
    if batch > 1 and (alone or plan.scenario == "single-stream"):
        what = "`synchronous` 1" if alone else "`scenario` single-stream"
        raise ConfigError(
            f"{what} is one image at a time, and the network takes {batch}; export or compile it "
            "with batch 1"
        )
    said = engine.metadata.preprocess if engine.metadata else None
    prepared = predictor.preprocess if predictor else _preprocess(plan) or said
    size = plan.size or (prepared.size if prepared else None)
    if size is None:
        size = dry_run.choose(engine, str(plan.model)).size
    if predictor is None and plan.size is None:
        size = (own_size[0] or size[0], own_size[1] or size[1])
    if any(have not in (None, want) for have, want in zip(own_size, size, strict=True)):
        raise ConfigError(
            f"`size` {size[0]},{size[1]}: the network takes {own_size[0]},{own_size[1]}; leave "
            "`size` out, or export or compile it with that shape"
        )
    dry_run.check(engine, str(plan.model), size)
    return (batch, 3, *size)


def _inputs(
    plan: Plan, engine: Engine, predictor: Predictor | None, shape: tuple[int, ...]
) -> tuple[Sequence[Any], str, str]:
    """What is fed, what that is called, and a hash of its names."""
    noise = np.random.default_rng(0)
    if predictor is None:
        tensors = [_random(noise, shape, engine.signature.dtype) for _ in range(plan.instances)]
        return tensors, "random tensors", ""
    sources = _sources(plan)
    if not sources:
        height, width = PHOTOGRAPH
        pixels = [_random(noise, (height, width, 3), "uint8") for _ in range(8)]
        return pixels, f"random pixels, {height}×{width}", ""
    ids = hash_ids([path.name for path in sources])
    if plan.feed == "images":
        return sources, f"{len(sources)} images of {plan.images}", ids
    kept = sources[:KEPT]
    read = image.read if plan.npz is None else npz_files.read_input
    of = f"of {plan.npz or plan.images}, in memory"
    fed = f"{len(kept)} {of}" if len(kept) == len(sources) else f"the first {len(kept)} {of}"
    ids = hash_ids([path.name for path in kept])
    if plan.feed == "pixels":
        return [read(path) for path in kept], f"pixels: {fed}", ids
    tensors = [predictor.prepare(read(path))[0] for path in kept]
    count = max(plan.instances, len(tensors) // shape[0])
    turns = iter(np.resize(np.arange(len(tensors)), count * shape[0]))
    batches = [np.stack([tensors[i] for i in islice(turns, shape[0])]) for _ in range(count)]
    return batches, f"tensors: {fed}", ids


def _sources(plan: Plan) -> list[Path]:
    if plan.npz is not None:
        return npz_files.read_list(plan.npz)
    return [source.path for source in find([plan.images])] if plan.images is not None else []


def _random(noise: np.random.Generator, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Values such as networks see: standard-normal, or 0–255 where they are uint8."""
    if dtype == "uint8":
        return noise.integers(0, 256, shape, np.uint8)
    return noise.standard_normal(shape, np.float32)


def with_share(plan: Plan) -> Plan:
    """The plan of one of its processes."""
    rate = plan.rate / plan.processes if plan.rate else None
    queries = -(-plan.queries // plan.processes)
    return replace(plan, processes=1, threads=plan.own_threads, rate=rate, queries=queries)
