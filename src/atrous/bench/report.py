"""Results as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from atrous.bench.compare import Growth, comparable
from atrous.bench.measurement import Measurement
from atrous.bench.sweep import best
from atrous.bench.warmup import BLOCKS, WITHIN
from atrous.engines import model_name

_FIGURES = ("mean", "min", "max", "p50", "p90", "p95", "p99")


def heading(one: Measurement) -> Iterator[str]:
    """What was measured, on what, and how."""
    plan, facts, warm = one.plan, one.facts, one.warm_up
    precision = f" ({facts.precision})" if facts.precision else ""
    count = plan.own_threads or one.machine.cores
    threads = f"{count} thread{'s' * (count != 1)}"
    yield (
        f"{plan.model or 'the model in the package'}{precision} on {facts.engine} {facts.version}"
        f"{facts.computed}, "
        f"{plan.device}, {threads}{' each' * (plan.processes > 1)}"
    )
    batch, _, height, width = facts.shape
    mode = ", synchronous" if plan.synchronous else ""
    yield (
        f"scenario {plan.scenario}{mode}, fed with {facts.fed}; -i {plan.instances} "
        f"-p {plan.processes} -b {batch} -s [3,{height},{width}] {facts.dtype}"
    )
    how = (
        f"until {BLOCKS} blocks agreed within {WITHIN:.0%}"
        if warm.stable
        else "and still not stable"
    )
    yield (
        f"warm-up {warm.queries} queries, {warm.seconds:.1f} s, {how}; measured {one.queries} "
        f"queries, {one.seconds:.1f} s"
    )


def lines(one: Measurement) -> Iterator[str]:
    """The figures of one result, without its tables."""
    rate = one.throughput
    sure = (
        "no confidence interval, as queries were too few"
        if rate.half is None
        else f"± {number(rate.half)}, 95 % confidence by batch means"
    )
    yield f"throughput {number(rate.mean)} images/s ({sure})"
    if one.server is not None:
        yield _server(one)
    what = "a query" if one.samples == 1 else f"a query of {one.samples} images"
    shown = "  ".join(f"{name} {number(getattr(one.latency, name))}" for name in _FIGURES)
    yield f"latency of {what}, ms: {shown}"


def _server(one: Measurement) -> str:
    server = one.server
    assert server is not None
    text = f"arrivals {number(server.rate)} images/s (Poisson)"
    if server.searched:
        text += ", the highest rate found" if server.holds else ", no rate was found that holds"
    if server.holds is not None:
        verdict = "holds" if server.holds else "breaks"
        text += f"; p99 {number(one.latency.p99)} ms {verdict} the bound of {one.plan.bound:g} ms"
    if server.unserved:
        text += f"; {server.unserved} queries found no room: the rate is more than is served"
    return text


def steps(one: Measurement) -> Table:
    """Where the time of a result went."""
    table = Table("step", box=None, pad_edge=False)
    for name in ("mean ms", "threads", "busy"):
        table.add_column(name, justify="right")
    for step in one.steps:
        mine = ("", "") if step.name == "queue" else (str(step.threads), f"{step.busy:.0%}")
        table.add_row(step.name, number(step.milliseconds), *mine)
    return table


def verdict(one: Measurement) -> Iterator[str]:
    """Use of the machine, bottleneck, advice, and what makes the figures doubtful."""
    yield (
        f"CPU {one.cpu:.0%} of {one.machine.cores} cores, others {one.others:.0%}; peak memory "
        f"{one.memory / 2**20:,.0f} MiB"
    )
    yield f"bottleneck: {one.bottleneck or 'none stands out'}"
    for text in one.advice:
        yield f"would help: {text}"
    for text in one.noise:
        yield f"noisy: {text}"


def swept(results: Sequence[Measurement]) -> Table:
    """A sweep, the best throughput and the best latency marked."""
    table = Table(box=None, pad_edge=False)
    for name in ("-i", "-p", "-b", "images/s", "±", "p50 ms", "p99 ms", "CPU", "MiB"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("bottleneck", no_wrap=True)
    table.add_column("")
    fastest, quickest = best(results)
    for one in results:
        half = one.throughput.half
        marks = ["best throughput"] * (one is fastest) + ["best latency"] * (one is quickest)
        table.add_row(
            *map(str, (one.plan.instances, one.plan.processes, one.facts.shape[0])),
            number(one.throughput.mean),
            "" if half is None else number(half),
            number(one.latency.p50),
            number(one.latency.p99),
            f"{one.cpu:.0%}",
            f"{one.memory / 2**20:,.0f}",
            one.bottleneck,
            ", ".join(marks),
        )
    return table


def compared(names: tuple[str, str], pair: tuple[Measurement, Measurement]) -> Table:
    """Two results in columns, and how the second relates to the first."""
    first, second = pair
    table = Table("", *names, "ratio", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    ratio, half = second.throughput.ratio(first.throughput)
    sure = "" if half is None else f" ± {half:.3f}"
    table.add_row("model", *(model_name(one.facts.file) for one in pair), "")
    shown = [
        f"{one.facts.engine} {one.facts.precision}".strip() + one.facts.computed for one in pair
    ]
    table.add_row("engine, precision", *shown, "")
    combined = [f"-i {one.plan.instances} -p {one.plan.processes}" for one in pair]
    table.add_row("instances, processes", *combined, "")
    rates = [number(one.throughput.mean) for one in pair]
    table.add_row("images/s", *rates, f"{ratio:.3f}{sure}")
    for name in _FIGURES:
        old, new = getattr(first.latency, name), getattr(second.latency, name)
        table.add_row(f"latency {name} ms", number(old), number(new), f"{new / old:.3f}")
    table.add_row("CPU", f"{first.cpu:.0%}", f"{second.cpu:.0%}", "")
    sizes = [f"{one.memory / 2**20:,.0f}" for one in pair]
    table.add_row("peak memory MiB", *sizes, f"{second.memory / first.memory:.3f}")
    return table


def difference(names: tuple[str, str], pair: tuple[Measurement, Measurement]) -> str:
    """Whether one is faster, in a sentence; nothing is concluded from disturbed measurements."""
    ratio, half = pair[1].throughput.ratio(pair[0].throughput)
    first, second = (
        f"{model_name(one.facts.file)} ({name})" for name, one in zip(names, pair, strict=True)
    )
    if not comparable(pair):
        return (
            f"No conclusion about {first} and {second}: for the reasons noted below the difference "
            "may come from the machine. Measure both again on one that has nothing else to do."
        )
    if half is None:
        return (
            f"No conclusion about {first} and {second}: there are too few queries to tell a "
            "difference from chance. Measure for longer (`seconds`)."
        )
    if abs(ratio - 1) <= half:
        return (
            f"These measurements show no difference in throughput between {first} and {second} "
            f"(ratio 1 ± {half:.3f})."
        )
    way = "more" if ratio > 1 else "fewer"
    return (
        f"{second} processes {abs(ratio - 1):.1%} (± {half:.1%}) {way} images per second than "
        f"{first}."
    )


def grown(found: Sequence[Growth]) -> Table:
    """Layers that take longer in int8."""
    table = Table("layer", "int8 operators", box=None, pad_edge=False)
    for name in ("float ms", "int8 ms", "more"):
        table.add_column(name, justify="right")
    for one in found:
        more = one.after - one.before
        old = number(one.before) if one.before else "none"
        table.add_row(one.layer, one.operators, old, number(one.after), f"+{number(more)}")
    return table


def number(value: float) -> str:
    """Three significant digits or more, never in powers of ten."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.1f}"
