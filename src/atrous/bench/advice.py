"""What holds a measurement back, and which setting of the plan would help: a table of rules.

A step is the bottleneck if its threads hardly ever wait. Whether more of them would help depends on
the processor: where its cores have work all the time, threads only change places.
"""

from __future__ import annotations

from collections.abc import Sequence

from atrous.bench.measurement import Measurement
from atrous.bench.plan import Plan
from atrous.bench.statistics import StepTime
from atrous.engines import processor

BUSY = 0.85
"""Share of its time from which on a thread counts as always at work."""

FULL = 0.9
"""Share of the CPU, of the benchmark and of others together, from which on it counts as full."""

OTHERS = 0.05
"""Share of the CPU that others may take before it is worth a word."""

CROWDED = 0.25
"""Share of the CPU that others take from which on no advice about it would hold."""

SPREAD = 0.05
"""Standard deviation of the slices, over their mean, that is worth a word."""


def disturbances(
    others: float, spread: float | None, scenario: str, stable: bool
) -> tuple[str, ...]:
    """Why a throughput may not repeat.

    Args:
        others: share of the machine's CPU time that went elsewhere, 0–1.
        spread: of the slices; random arrivals spread by themselves.
        scenario: of the plan.
        stable: whether the warm-up ended because times had stopped changing.
    """
    found = []
    if others > OTHERS:
        found.append(f"other processes took {others:.0%} of the CPU meanwhile")
    if spread is not None and spread > SPREAD and scenario != "server":
        found.append(f"throughput spread by {spread:.0%} (standard deviation) over time")
    if not stable:
        found.append("times were still changing when the warm-up ended")
    return tuple(found)


def noise(
    others: float, spread: float | None, scenario: str, stable: bool, queries: int
) -> tuple[str, ...]:
    """Why figures may not repeat; the arguments are those of `disturbances` and one more.

    Args:
        others: share of the machine's CPU time that went elsewhere, 0–1.
        spread: of the slices.
        scenario: of the plan.
        stable: whether the warm-up ended because times had stopped changing.
        queries: that were answered.
    """
    found = [*disturbances(others, spread, scenario, stable)]
    if queries < 100:
        found.append(
            f"{queries} queries: p99 is hardly more than the largest; `seconds` makes it longer"
        )
    return tuple(found)


def bottleneck(plan: Plan, steps: Sequence[StepTime], cpu: float) -> str:
    """What holds the throughput back, or, one image at a time, makes up most of the latency.

    Args:
        plan: what was measured.
        steps: of the result.
        cpu: share of the machine's CPU time that was used by all, 0–1.

    Returns:
        the name of a step, `arrivals` where the model waits for work, empty if nothing stands out.
    """
    work = [step for step in steps if step.name != "queue"]
    if plan.scenario in ("single-stream", "multi-stream"):
        return max(work, key=lambda step: step.milliseconds).name
    crews: dict[int, list[StepTime]] = {}
    for step in work:
        crews.setdefault(step.crew, []).append(step)
    busiest = max(crews.values(), key=lambda crew: sum(step.busy for step in crew))
    if sum(step.busy for step in busiest) >= BUSY:
        return max(busiest, key=lambda step: step.busy).name
    if plan.scenario == "server":
        return "arrivals"
    # No thread is always at work, as they wait for a core: then the most work is the bottleneck.
    return max(work, key=lambda step: step.busy * step.threads).name if cpu >= FULL else ""


def advice(one: Measurement) -> tuple[str, ...]:
    """What would help against the bottleneck of a result, most effective first."""
    plan, where = one.plan, one.bottleneck
    cores, cpu = one.machine.cores, one.cpu + one.others
    asked = plan.processes * (plan.own_threads or cores)
    found = []
    if plan.device == "cpu" and plan.processes > 1 and asked > cores:
        found.append(
            f"{plan.processes} processes with {plan.own_threads} threads each share {cores} cores: "
            f"`threads` {max(1, cores // plan.processes)}"
        )
    if one.others > CROWDED:
        found.append("other processes hold the CPU: measure again when they are done")
        return tuple(found)
    if where == "arrivals" and one.server is not None and not one.server.searched:
        found.append("the model waits for work: it would serve a higher `rate`")
    if where in ("decode", "preprocess", "postprocess"):
        found += _beside(one, cpu)
    elif where == "infer":
        found += _network(one, cpu)
    return tuple(found)


def _beside(one: Measurement, cpu: float) -> list[str]:
    """Against a bottleneck before the network or after it."""
    plan, where = one.plan, one.bottleneck
    if plan.synchronous or plan.scenario in ("single-stream", "multi-stream"):
        return [f"`synchronous` 0 with `scenario` offline lets {where} overlap with the network"]
    if cpu < FULL:
        return [
            f"`processes` {2 * plan.processes}: cores are idle, and processes bring threads to "
            f"{where}"
        ]
    smaller = {"decode": "smaller files", "preprocess": "smaller images"}.get(where)
    return [f"every core has work: {smaller or 'smaller images'}, or more cores"]


def _network(one: Measurement, cpu: float) -> list[str]:
    """Against a network that is the bottleneck."""
    plan, cores = one.plan, one.machine.cores
    found = []
    if plan.device != "cpu":
        if plan.scenario == "offline":
            found.append(
                f"`batch` {2 * one.facts.shape[0]}: GPUs do more at once with larger batches"
            )
        return found
    if cpu < FULL and plan.threads and plan.processes * plan.threads < cores:
        found.append(f"`threads` {cores // plan.processes}: cores are idle")
    elif cpu < FULL and plan.scenario in ("offline", "server"):
        found.append(
            f"`instances` {2 * plan.instances}: cores are idle while one call waits for another"
        )
    if one.facts.precision != "int8":
        found.append(
            f"every core has work: int8 (atrous compile … backend.dtype=int8; this processor has "
            f"{processor.instructions()}), or a smaller `size`"
            if cpu >= FULL
            else "int8: atrous compile … backend.dtype=int8"
        )
    elif cpu >= FULL:
        found.append("every core has work: a smaller `size`, or more cores")
    return found
