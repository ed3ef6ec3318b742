"""What a benchmark found, kept as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from atrous import texts
from atrous.bench.load import Facts
from atrous.bench.machine import Machine
from atrous.bench.plan import Plan
from atrous.bench.statistics import Latency, StepTime, Throughput
from atrous.bench.warmup import WarmUp
from atrous.errors import ConfigError
from atrous.files import write_whole
from atrous.record import Record


class ServerFigures(Record):
    """What is known of scenario `server` only.

    Attributes:
        rate: images per second that arrived.
        searched: whether that is the highest rate found that holds the bound.
        holds: whether the 99th percentile of the latency holds it; `None` without a bound.
        unserved: queries that had found no room at the end.
    """

    rate: float
    searched: bool = False
    holds: bool | None = None
    unserved: int = 0


class Measurement(Record):
    """One measurement.

    Attributes:
        plan: what was asked for.
        facts: what was opened, and what it was fed.
        machine: where.
        warm_up: before it.
        seconds: that it took.
        queries: that were answered.
        samples: images in one query.
        throughput: images per second.
        latency: of queries, milliseconds.
        steps: where the time went.
        cpu: share of the machine's CPU time that it used, 0–1.
        others: the same of everything else on the machine.
        memory: bytes at the peak, of all its processes.
        server: in scenario `server`.
        noise: why the figures may not repeat; empty if nothing was noticed.
        bottleneck: what holds the throughput back, or makes up most of the latency.
        advice: what would help, settings of the plan in backquotes.
    """

    kind: Literal["atrous bench"] = "atrous bench"
    plan: Plan
    facts: Facts
    machine: Machine
    warm_up: WarmUp
    seconds: float
    queries: int
    samples: int
    throughput: Throughput
    latency: Latency
    steps: tuple[StepTime, ...]
    cpu: float
    others: float
    memory: int
    server: ServerFigures | None = None
    noise: tuple[str, ...] = ()
    bottleneck: str = ""
    advice: tuple[str, ...] = ()


class Sweep(Record):
    """Measurements that differ in instances, processes and batch alone."""

    kind: Literal["atrous bench --sweep"] = "atrous bench --sweep"
    results: tuple[Measurement, ...]


def save(found: Measurement | Sweep, path: Path) -> None:
    """Write JSON, whole or not at all."""
    write_whole(path, found.model_dump_json(indent=2).encode() + b"\n")


def load(path: Path) -> Measurement:
    """Read a `Measurement` that `save` wrote.

    Raises:
        ConfigError: the file is missing, or holds something else.
    """
    try:
        content = texts.read_json(path)
        if isinstance(content, dict) and content.get("kind") == "atrous bench --sweep":
            raise ValueError("it holds a sweep; compare single measurements")
        return Measurement.model_validate(content)
    except (OSError, ValueError) as error:
        reason: object = error
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ConfigError(f"{path}: not a result of atrous bench --json-file: {reason}") from None
