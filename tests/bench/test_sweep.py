"""Sweeps: which combinations, which is best, what the picture shows."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.bench import measurement, plot, report, sweep
from atrous.bench.measurement import Measurement, Sweep
from atrous.bench.plan import Plan
from atrous.errors import AtrousError, ConfigError
from tests.builders.bench import FACTS, text
from tests.builders.bench import result as made


def point(instances: int, processes: int, batch: int, rate: float, latency: float) -> Measurement:
    return made(
        rate,
        rate / 50,
        latency,
        plan=Plan(instances=instances, processes=processes),
        facts=replace(FACTS, shape=(batch, 3, 8, 8)),
    )


POINTS = [point(1, 1, 1, 20, 50), point(2, 1, 1, 30, 66), point(2, 1, 2, 31, 130)]


def combined(*given: Any, cores: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    monkeypatch.setattr("atrous.bench.sweep.cores", lambda: cores)
    found = sweep.plans(Plan(), *given)
    return [(one.instances, one.processes, one.batch or 0) for one in found]


def test_combinations(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(*given: Any, cores: int = 4) -> list[tuple[int, ...]]:
        return combined(*given, cores=cores, monkeypatch=monkeypatch)

    assert of([1, 3], [2], [1, 4]) == [(1, 2, 1), (1, 2, 4), (3, 2, 1), (3, 2, 4)]
    assert of([], [], []) == [(1, 1, 0), (1, 2, 0), (1, 4, 0), (2, 1, 0), (2, 2, 0), (4, 1, 0)]
    assert of([], [], [], cores=1) == [(1, 1, 0)]
    assert of([3], [], [], cores=2) == [(3, 1, 0)]
    assert of([9], [9], []) == [(9, 9, 0)]


def test_a_plan_that_is_none() -> None:
    with pytest.raises(ConfigError, match="single-stream is one image at a time"):
        sweep.plans(Plan(scenario="single-stream"), [1, 2], [1], [])


def test_each_is_measured_apart() -> None:
    said: list[str] = []
    asked: list[Plan] = []

    def measure(plan: Plan, *, apart: bool, say: Callable[[str], None]) -> Measurement:
        assert apart
        say("working")
        asked.append(plan)
        return made()

    plans = sweep.plans(Plan(), [1, 2], [1], [])
    assert len(list(sweep.sweep(plans, say=said.append, measure=measure))) == 2
    assert asked == plans
    assert said == [
        "1 of 2, `instances` 1 `processes` 1: working",
        "2 of 2, `instances` 2 `processes` 1: working",
    ]


@pytest.mark.parametrize("kind", [ConfigError, AtrousError])
def test_a_failure_says_where(kind: type[AtrousError]) -> None:
    def measure(plan: Plan, **how: Any) -> Measurement:
        raise kind("broken")

    with pytest.raises(kind, match=r"`instances` 1 `processes` 1 `batch` 2: broken"):
        list(sweep.sweep([Plan(batch=2)], say=print, measure=measure))


def test_the_best_are_marked() -> None:
    assert sweep.best(POINTS) == (POINTS[2], POINTS[0])
    rows = text(report.swept(POINTS)).splitlines()
    assert "best latency" in rows[1]
    assert "best" not in rows[2]
    assert "best throughput" in rows[3]
    assert rows[3].split()[:7] == ["2", "1", "2", "31.00", "0.62", "130.0", "130.0"]
    [row] = text(report.swept(POINTS[:1])).splitlines()[1:]
    assert "best throughput, best latency" in row


@pytest.mark.heavy
def test_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pictures = []
    for name, points in (("all", POINTS), ("one", POINTS[:1])):
        plot.draw(points, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as picture:
            pictures.append(np.asarray(picture.convert("RGB")))

    def count(picture: NDArray[np.uint8], code: str) -> int:
        colour = [int(code[start : start + 2], 16) for start in (1, 3, 5)]
        return int((picture == colour).all(-1).sum())

    assert all(count(pictures[0], code) > 50 for code in (plot._RED, plot._GREEN, plot._BLUE))
    # One point is the best in both, and there is no other.
    assert count(pictures[1], plot._RED) > 50
    assert count(pictures[1], plot._BLUE) == count(pictures[1], plot._GREEN) == 0


def test_labels_do_not_cover_each_other() -> None:
    pytest.importorskip("matplotlib")
    from itertools import combinations

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    close = [point(i, p, 1, 30 + 0.01 * i, 60 + p) for i in (1, 2) for p in (1, 2)]
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    labels = plot._points(axes, [*close, POINTS[0]])
    figure.draw_without_rendering()
    plot._place(axes, labels)
    boxes = [label.get_window_extent() for label in labels]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(AtrousError, match=r"pip install 'atrous\[report\]'"):
        plot.draw(POINTS, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_without_matplotlib_nothing_is_measured_for_a_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(AtrousError, match=r"x\.png: plots need .* pip install 'atrous\[report\]'"):
        plot.check(tmp_path / "x.png")


def test_kept(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    measurement.save(Sweep(results=tuple(POINTS)), path)
    assert Sweep.model_validate_json(path.read_text()).results == tuple(POINTS)
    with pytest.raises(ConfigError, match="it holds a sweep; compare single measurements"):
        measurement.load(path)
