"""From a plan to a measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from atrous.bench import advice, server, statistics
from atrous.bench.load_generator import Load, Recording
from atrous.bench.machine import CpuWatch, Machine
from atrous.bench.measurement import Measurement, ServerFigures
from atrous.bench.plan import Plan
from atrous.bench.processes import Processes, open_processes
from atrous.bench.statistics import Latency, Throughput

CONFIRM = 5
"""Measurements of full length that a search may end with, the last one counts in any case."""

Say = Callable[[str], None]


def _silent(step: str) -> None:
    """Say nothing."""


def measure(plan: Plan, *, apart: bool = False, say: Say = _silent) -> Measurement:
    """Open a model, warm it up, and measure it.

    Args:
        plan: what to measure.
        apart: in a process of its own, so that memory and CPU time of this one do not count.
        say: called with a few words as each part begins.

    Raises:
        ConfigError: plan and model do not fit.
        AtrousError: the model cannot be opened, or fails.
    """
    say("opening and warming up")
    with open_processes(plan, apart=apart) as processes:
        return measured(plan, processes, say)


def measured(plan: Plan, processes: Processes, say: Say = _silent) -> Measurement:
    """Measure what is open and warm; see `measure`."""
    rate, searched = plan.rate, False
    if plan.scenario == "server" and rate is None:
        rate, searched = _search(plan, processes, say), True
    for attempt in range(CONFIRM):
        say("measuring" if rate is None else f"measuring at {rate:.1f} images/s")
        load = Load(plan.seconds, plan.queries, rate, seed=attempt)
        watch = CpuWatch()
        recordings = processes.run(load)
        others = watch.others(sum(one.cpu for one in recordings))
        if not searched or _holds(plan, recordings):
            break
        if rate is not None and attempt + 1 < CONFIRM:
            rate *= server.BACK
    return _result(plan, processes, recordings, others, rate, searched)


def _search(plan: Plan, processes: Processes, say: Say) -> float:
    """The highest rate that holds the bound in short measurements."""
    seconds, queries = plan.seconds / 2, max(1, plan.queries // 2)
    say("measuring how much is served at most")
    most = Throughput.of(processes.run(Load(seconds / 2, queries))).mean
    tried = 0

    def holds(rate: float) -> bool:
        nonlocal tried
        tried += 1
        say(f"searching: {rate:.1f} images/s, {tried} of {server.STEPS}")
        return _holds(plan, processes.run(Load(seconds, queries, rate, seed=tried)))

    return server.highest(holds, most)


def _holds(plan: Plan, recordings: Sequence[Recording]) -> bool:
    assert plan.bound is not None
    return Latency.of(statistics.latencies(recordings)).p99 <= plan.bound


def _result(
    plan: Plan,
    processes: Processes,
    recordings: Sequence[Recording],
    others: float,
    rate: float | None,
    searched: bool,
) -> Measurement:
    machine, seconds = Machine.here(), statistics.seconds(recordings)
    throughput, steps = Throughput.of(recordings), statistics.steps(recordings)
    cpu = min(1.0, sum(one.cpu for one in recordings) / (seconds * machine.cores))
    queries = sum(len(one.ends) for one in recordings)
    found = Measurement(
        plan=plan,
        facts=processes.facts,
        machine=machine,
        warm_up=processes.warm,
        seconds=round(seconds, 4),
        queries=queries,
        samples=recordings[0].samples,
        throughput=throughput,
        latency=Latency.of(statistics.latencies(recordings)),
        steps=steps,
        cpu=round(cpu, 4),
        others=round(others, 4),
        memory=sum(one.memory for one in recordings),
        server=None
        if rate is None
        else ServerFigures(
            rate=round(rate, 4),
            searched=searched,
            holds=None if plan.bound is None else _holds(plan, recordings),
            unserved=sum(len(one.waited) for one in recordings),
        ),
        noise=advice.noise(
            others, throughput.spread, plan.scenario, processes.warm.stable, queries
        ),
        bottleneck=advice.bottleneck(plan, steps, cpu + others),
    )
    return found.model_copy(update={"advice": advice.advice(found)})
