"""From a plan to a result."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from atrous.bench import advice, server, statistics
from atrous.bench.load_generator import Load, Recording
from atrous.bench.machine import Machine, Watch
from atrous.bench.measurement import Result, Server
from atrous.bench.plan import Plan
from atrous.bench.processes import Team, gather
from atrous.bench.statistics import Latency, Throughput

CONFIRM = 5
"""Measurements of full length that a search may end with, the last one counts in any case."""

Say = Callable[[str], None]


def _silent(step: str) -> None:
    """Say nothing."""


def measure(plan: Plan, *, apart: bool = False, say: Say = _silent) -> Result:
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
    with gather(plan, apart=apart) as team:
        return measured(plan, team, say)


def measured(plan: Plan, team: Team, say: Say = _silent) -> Result:
    """Measure what is open and warm; see `measure`."""
    rate, searched = plan.rate, False
    if plan.scenario == "server" and rate is None:
        rate, searched = _search(plan, team, say), True
    for attempt in range(CONFIRM):
        say("measuring" if rate is None else f"measuring at {rate:.1f} images/s")
        load = Load(plan.seconds, plan.queries, rate, seed=attempt)
        watch = Watch()
        recordings = team.run(load)
        others = watch.others(sum(one.cpu for one in recordings))
        if not searched or _holds(plan, recordings):
            break
        if rate is not None and attempt + 1 < CONFIRM:
            rate *= server.BACK
    return _result(plan, team, recordings, others, rate, searched)


def _search(plan: Plan, team: Team, say: Say) -> float:
    """The highest rate that holds the bound in short measurements."""
    seconds, queries = plan.seconds / 2, max(1, plan.queries // 2)
    say("measuring how much is served at most")
    most = Throughput.of(team.run(Load(seconds / 2, queries))).mean
    tried = 0

    def holds(rate: float) -> bool:
        nonlocal tried
        tried += 1
        say(f"searching: {rate:.1f} images/s, {tried} of {server.STEPS}")
        return _holds(plan, team.run(Load(seconds, queries, rate, seed=tried)))

    return server.highest(holds, most)


def _holds(plan: Plan, recordings: Sequence[Recording]) -> bool:
    assert plan.bound is not None
    return Latency.of(statistics.latencies(recordings)).p99 <= plan.bound


def _result(
    plan: Plan,
    team: Team,
    recordings: Sequence[Recording],
    others: float,
    rate: float | None,
    searched: bool,
) -> Result:
    machine, seconds = Machine.here(), statistics.seconds(recordings)
    throughput, steps = Throughput.of(recordings), statistics.steps(recordings)
    cpu = min(1.0, sum(one.cpu for one in recordings) / (seconds * machine.cores))
    queries = sum(len(one.ends) for one in recordings)
    found = Result(
        plan=plan,
        facts=team.facts,
        machine=machine,
        warm_up=team.warm,
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
        else Server(
            rate=round(rate, 4),
            searched=searched,
            holds=None if plan.bound is None else _holds(plan, recordings),
            unserved=sum(len(one.waited) for one in recordings),
        ),
        noise=advice.noise(others, throughput.spread, plan.scenario, team.warm.stable, queries),
        bottleneck=advice.bottleneck(plan, steps, cpu + others),
    )
    return found.model_copy(update={"advice": advice.advice(found)})
