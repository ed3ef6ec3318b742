"""The rules, on made-up results."""

from dataclasses import replace
from typing import Any

import pytest

from atrous.bench import advice
from atrous.bench.measurement import ServerFigures
from atrous.bench.plan import Plan
from atrous.bench.statistics import StepTime
from tests.builders.bench import FACTS, result


def steps(**busy: float) -> tuple[StepTime, ...]:
    """Decode and preprocess share their threads; every step takes 100 ms times its share."""
    crews = {"decode": 0, "preprocess": 0, "infer": 1, "postprocess": 2}
    found = [
        StepTime(name=name, milliseconds=100 * share, threads=1, busy=share, crew=crews[name])
        for name, share in busy.items()
    ]
    return (*found, StepTime(name="queue", milliseconds=999))


OFFLINE = Plan(feed="pixels")


@pytest.mark.parametrize(
    ("plan", "busy", "cpu", "where"),
    [
        (OFFLINE, {"decode": 0.1, "preprocess": 0.1, "infer": 0.99, "postprocess": 0.1}, 0.9, "in"),
        # Neither is always at work, but the thread that does both is.
        (OFFLINE, {"decode": 0.5, "preprocess": 0.4, "infer": 0.6, "postprocess": 0.1}, 0.5, "dec"),
        (OFFLINE, {"decode": 0.2, "preprocess": 0.7, "infer": 0.6, "postprocess": 0.1}, 0.5, "pre"),
        (OFFLINE, {"decode": 0.1, "infer": 0.3, "postprocess": 0.95}, 0.5, "post"),
        (OFFLINE, {"decode": 0.3, "infer": 0.8}, 0.4, ""),
        (OFFLINE, {"decode": 0.3, "infer": 0.5}, 0.99, "infer"),
        (Plan(scenario="single-stream"), {"decode": 0.6, "infer": 0.3}, 0.5, "decode"),
        (Plan(scenario="multi-stream"), {"decode": 0.2, "infer": 0.3}, 0.5, "infer"),
        (Plan(scenario="server", rate=5.0), {"infer": 0.5}, 0.5, "arrivals"),
        (Plan(scenario="server", rate=5.0), {"infer": 0.95}, 0.5, "infer"),
    ],
)
def test_bottleneck(plan: Plan, busy: dict[str, float], cpu: float, where: str) -> None:
    found = advice.bottleneck(plan, steps(**busy), cpu)
    assert found.startswith(where)
    assert bool(found) == bool(where)


INT8 = replace(FACTS, precision="int8")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # The network, with cores to spare
        ({"cpu": 0.5, "facts": INT8}, ["`instances` 2: cores are idle"]),
        ({"cpu": 0.5}, ["`instances` 2: cores are idle", "int8: atrous compile"]),
        ({"cpu": 0.5, "facts": INT8, "plan": Plan(threads=1)}, ["`threads` 4: cores are idle"]),
        ({"cpu": 0.5, "facts": INT8, "plan": Plan(threads=1, processes=4)}, ["`instances` 2"]),
        # The network, and nothing to spare
        ({"cpu": 0.97}, ["every core has work: int8"]),
        ({"cpu": 0.97, "facts": INT8}, ["every core has work: a smaller `size`"]),
        ({"cpu": 0.95, "plan": Plan(scenario="single-stream"), "facts": INT8}, ["every core"]),
        ({"cpu": 0.4, "plan": Plan(scenario="single-stream"), "facts": INT8}, []),
        # A GPU
        ({"cpu": 0.1, "plan": Plan(device="cuda")}, ["`batch` 2: GPUs"]),
        # Beside the network
        ({"bottleneck": "decode", "cpu": 0.5}, ["`processes` 2: cores are idle"]),
        ({"bottleneck": "decode", "cpu": 0.95}, ["every core has work: smaller files"]),
        (
            {"bottleneck": "postprocess", "plan": Plan(scenario="single-stream", feed="pixels")},
            ["`synchronous` 0 with `scenario` offline lets postprocess overlap"],
        ),
        # Nothing, or nothing to be said
        ({"bottleneck": ""}, []),
        ({"bottleneck": "decode", "cpu": 0.5, "others": 0.3}, ["other processes hold the CPU"]),
        (
            {"bottleneck": "arrivals", "server": ServerFigures(rate=5)},
            ["the model waits for work: it would serve a higher `rate`"],
        ),
        ({"bottleneck": "arrivals", "server": ServerFigures(rate=5, searched=True)}, []),
        # Too many threads come first
        (
            {"cpu": 0.97, "facts": INT8, "plan": Plan(threads=4, processes=2)},
            ["2 processes with 4 threads each share 4 cores: `threads` 2", "every core"],
        ),
    ],
)
def test_advice(changes: dict[str, Any], expected: list[str]) -> None:
    found = advice.advice(result(**changes))
    assert len(found) == len(expected), found
    for text, start in zip(found, expected, strict=True):
        assert text.startswith(start)


def quiet(**changes: Any) -> tuple[str, ...]:
    settings = {"others": 0.01, "spread": 0.02, "scenario": "offline", "stable": True}
    return advice.noise(**{**settings, "queries": 500, **changes})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"others": 0.2}, "other processes took 20% of the CPU"),
        ({"spread": 0.08}, "throughput spread by 8%"),
        ({"stable": False}, "times were still changing"),
        ({"queries": 99}, "99 queries: p99 is hardly more than the largest"),
    ],
)
def test_noise(changes: dict[str, Any], text: str) -> None:
    [found] = quiet(**changes)
    assert found.startswith(text)


def test_no_noise() -> None:
    assert quiet() == ()
    assert quiet(spread=None) == ()
    assert quiet(spread=0.5, scenario="server") == ()  # arrivals spread by themselves
