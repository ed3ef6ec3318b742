"""The same measurement over instances, processes and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product

from atrous.bench.measurement import Measurement
from atrous.bench.plan import Plan
from atrous.bench.run import Say, measure
from atrous.cores import cores
from atrous.errors import AtrousError, ConfigError

Measure = Callable[..., Measurement]


def plans(
    plan: Plan,
    instances: Sequence[int],
    processes: Sequence[int],
    batches: Sequence[int],
) -> list[Plan]:
    """Every combination; what was left empty gets values that fit the machine.

    Args:
        plan: everything else.
        instances: of each process, by default 1, 2, 4 … up to the cores.
        processes: by default the same.
        batches: by default the model's own.

    Raises:
        ConfigError: a combination is none.
    """
    powers = [2**n for n in range(cores().bit_length())]
    given = bool(instances) and bool(processes)
    most = max([powers[-1], *instances, *processes])
    sizes: Sequence[int | None] = batches or [plan.batch]
    return [
        replace(plan, instances=i, processes=p, batch=b)
        for i, p in product(instances or powers, processes or powers)
        for b in sizes
        if given or i * p <= most
    ]


def sweep(plans: Sequence[Plan], *, say: Say, measure: Measure = measure) -> Iterator[Measurement]:
    """Measure one plan after the other, each in processes of its own.

    Args:
        plans: what to measure.
        say: called with progress.
        measure: see `atrous.bench.run.measure`.

    Raises:
        ConfigError: a plan does not fit the model.
        AtrousError: a measurement failed; names it.
    """
    for number, plan in enumerate(plans, 1):
        where = label(plan.instances, plan.processes, plan.batch)
        prefix = f"{number} of {len(plans)}, {where}: "
        try:
            yield measure(plan, apart=True, say=lambda step, prefix=prefix: say(prefix + step))
        except AtrousError as error:
            kind = ConfigError if isinstance(error, ConfigError) else AtrousError
            raise kind(f"{where}: {error}") from error


def label(instances: int, processes: int, batch: int | None) -> str:
    """A combination in words."""
    settings = {"instances": instances, "processes": processes, "batch": batch}
    return " ".join(f"`{name}` {value}" for name, value in settings.items() if value is not None)


def best(results: Sequence[Measurement]) -> tuple[Measurement, Measurement]:
    """The highest throughput, and the lowest median latency of a query."""
    return (
        max(results, key=lambda one: one.throughput.mean),
        min(results, key=lambda one: one.latency.p50),
    )
