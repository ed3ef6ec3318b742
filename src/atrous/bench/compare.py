"""Two results side by side, and which layers make int8 slower than float where it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from atrous.bench.advice import disturbances
from atrous.bench.measurement import Measurement
from atrous.engines.base import Options
from atrous.engines.profile import Profile, profile_both
from atrous.errors import ConfigError, EngineError

RUNS = 10
"""Runs of each model whose layers are timed."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What takes longer in the one model than in the other.

    Attributes:
        layer: its name.
        before: milliseconds in the first; 0 if it has none of this name.
        after: milliseconds in the second.
        operators: in the second, as the engine calls them, slowest first.
    """

    layer: str
    before: float
    after: float
    operators: str


def check(names: tuple[str, str], pair: tuple[Measurement, Measurement]) -> list[str]:
    """Refuse to compare what was measured differently.

    Args:
        names: of the results.
        pair: the results.

    Returns:
        differences besides the one looked for that may explain another figure.

    Raises:
        ConfigError: the two differ in scenario, shape, batch or what was fed.
    """
    first, second = map(_measured, pair)
    for what, value in first.items():
        if value != second[what]:
            raise ConfigError(
                f"{names[0]} and {names[1]} cannot be compared: {what} is {value} in the one and "
                f"{second[what]} in the other; measure both the same way"
            )
    one, other = pair
    found = []
    if one.machine != other.machine:
        found.append(f"different machines: {_machine(one)}, and {_machine(other)}")
    engines = [f"{each.facts.engine} {each.facts.version}" for each in pair]
    if one.facts.engine == other.facts.engine and engines[0] != engines[1]:
        found.append(f"different versions: {engines[0]}, and {engines[1]}")
    for name, each in zip(names, pair, strict=True):
        found += [f"{name}: {reason}" for reason in each.noise]
    return found


def comparable(pair: tuple[Measurement, Measurement]) -> bool:
    """Whether a difference in throughput between two results can be one between the models.

    The confidence interval of a run covers what changes within it. It does not cover that other
    processes took more of the CPU in one run than in the other, or that the machine is another.
    """
    return pair[0].machine == pair[1].machine and not any(map(_disturbed, pair))


def _disturbed(one: Measurement) -> bool:
    spread = one.throughput.spread
    return bool(disturbances(one.others, spread, one.plan.scenario, one.warm_up.stable))


def _measured(one: Measurement) -> dict[str, str]:
    """What has to be equal, in words."""
    batch, _, height, width = one.facts.shape
    fed = one.facts.fed if one.plan.feed != "tensors" else ""
    server = one.server if one.plan.scenario == "server" else None
    rate = "" if server is None or server.searched else f", {one.plan.rate:g} images/s"
    bound = "" if one.plan.bound is None else f", p99 under {one.plan.bound:g} ms"
    return {
        "the scenario": f"{one.plan.scenario}{rate}{bound}",
        "the shape": f"[3,{height},{width}]",
        "the batch": str(batch),
        "what is fed": f"{one.plan.feed}{f' ({fed}; {one.facts.ids})' if fed else ''}",
        "the forward mode": "1 (synchronous)" if one.plan.synchronous else "0",
    }


def _machine(one: Measurement) -> str:
    return f"{one.machine.processor} ({one.machine.cores} cores)"


def int8_is_slower(pair: tuple[Measurement, Measurement]) -> tuple[Measurement, Measurement] | None:
    """The float and the int8 result of a pair of one engine, if int8 is surely the slower."""
    if not comparable(pair):
        return None
    by = {one.facts.precision == "int8": one for one in pair}
    if len(by) < 2 or not by[False].facts.precision:
        return None
    before, after = by[False], by[True]
    runners = [(each.facts.engine, each.facts.arithmetic) for each in (before, after)]
    if runners[0] != runners[1]:
        return None
    ratio, half = after.throughput.ratio(before.throughput)
    return (before, after) if ratio + (half or 0) < 1 else None


def slower_layers(before: Measurement, after: Measurement, most: int = 5) -> list[Growth]:
    """The layers whose time grew most from one model to the other, timed here and now.

    Args:
        before: of the float model.
        after: of the int8 model.
        most: how many.

    Raises:
        EngineError: a model is no longer what was measured, or layers cannot be timed.
    """
    files = []
    for one in (before, after):
        path = Path(one.facts.file)
        if not path.is_file():
            raise EngineError(f"{path}: gone, so its layers cannot be timed")
        files.append(path)
    plan = after.plan
    options = Options(plan.device, plan.own_threads, precision=plan.precision)
    timed = profile_both(*files, engine=after.facts.engine, options=options, runs=RUNS)
    return growth(*timed)[:most]


def growth(before: Profile, after: Profile) -> list[Growth]:
    """The layers that take longer in the second profile, the largest difference first.

    What rewrites and quantisers made of a layer bears its name and something behind `_`, and counts
    as that layer; a change of layout `a → b` counts as `b`.
    """
    old: dict[str, float] = {}
    new: dict[str, float] = {}
    operators: dict[str, list[str]] = defaultdict(list)
    for layer in before.layers:
        name = _whole(layer.name, ())
        old[name] = old.get(name, 0.0) + layer.milliseconds
    for layer in after.layers:
        name = _whole(layer.name, old)
        new[name] = new.get(name, 0.0) + layer.milliseconds
        if layer.operator not in operators[name]:
            operators[name].append(layer.operator)
    found = [
        Growth(name, round(old.get(name, 0.0), 4), round(time, 4), ", ".join(operators[name]))
        for name, time in new.items()
        if time > old.get(name, 0.0)
    ]
    return sorted(found, key=lambda one: one.before - one.after)


def _whole(name: str, known: Collection[str]) -> str:
    """The longest known name that a name begins with, itself if there is none."""
    name = name.split(" → ")[-1]
    parts = name.split("_")
    starts = ("_".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((start for start in starts if start in known), name)
