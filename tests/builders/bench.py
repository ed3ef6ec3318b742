"""Recordings and results with known contents."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from atrous.bench.load import Facts, Loaded
from atrous.bench.load_generator import Recording, ThreadGroup
from atrous.bench.machine import Machine
from atrous.bench.measurement import Measurement
from atrous.bench.plan import Plan
from atrous.bench.statistics import Latency, StepTime, Throughput
from atrous.bench.warmup import WarmUp
from atrous.engines.fake import FakeEngine
from atrous.labels import generic
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor

FACTS = Facts("m.onnx", "abc", "fp32", "onnxruntime", "1.0", (1, 3, 8, 8), "float32", "noise")


def recording(ends: Any, latency: float = 0.1, samples: int = 1, **changes: Any) -> Recording:
    """Queries that end at `ends`, the work of one thread from 0 to the last end."""
    finished = np.array(ends, float)
    found = Recording(
        begins=finished - latency,
        ends=finished,
        samples=samples,
        began=0.0,
        ended=float(finished.max()),
        crews=(ThreadGroup(("infer",), 1),),
        busy={"infer": latency * len(finished)},
        spent={"infer": latency},
    )
    return replace(found, **changes)


def result(
    rate: float = 100.0,
    half: float | None = 1.0,
    milliseconds: float = 10.0,
    **changes: Any,
) -> Measurement:
    """A quiet measurement of a float model."""
    names = ("mean", "min", "max", "p50", "p90", "p95", "p99")
    found = Measurement(
        plan=Plan(model="m.onnx"),
        facts=FACTS,
        machine=Machine("a processor", 4, "Linux x86_64"),
        warm_up=WarmUp(30, 1.5, stable=True),
        seconds=10.0,
        queries=1000,
        samples=1,
        throughput=Throughput(mean=rate, half=half, spread=0.01),
        latency=Latency(**dict.fromkeys(names, milliseconds)),
        steps=(StepTime(name="infer", milliseconds=10, threads=1, busy=1.0, crew=0),),
        cpu=0.95,
        others=0.0,
        memory=100 * 2**20,
        bottleneck="infer",
    )
    return found.model_copy(update=changes)


def loaded(function: Callable[..., Any], plan: Plan, *, batch: int = 1, size: int = 8) -> Loaded:
    """A fake engine and what a plan feeds it: one input for each instance, all different."""
    engine = FakeEngine(function, num_classes=3)
    engine.streams = plan.instances
    facts = replace(FACTS, shape=(batch, 3, size, size))
    if plan.feed == "tensors":
        inputs: Any = [
            np.full((batch, 3, size, size), number, np.float32) for number in range(plan.instances)
        ]
        return Loaded(engine, None, inputs, facts)
    predictor = Predictor(engine, Preprocess(size=(size, size)), generic(3))
    inputs = [np.full((6, 9, 3), number, np.uint8) for number in range(4)]
    return Loaded(engine, predictor, inputs, facts)


def logits(batch: Any) -> Any:
    """Half as wide and high as the batch."""
    return batch[:, :, ::2, ::2]


PHOTOGRAPH = Path(__file__).parents[2] / "src" / "atrous" / "assets" / "photograph.jpg"


def text(table: Any) -> str:
    """A table of rich as it is printed."""
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    return captured.get()
