"""The page of a run: its curves, its score, and the command that repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atrous.evaluation.report import PictureRow
from atrous.evaluation.result import Evaluation
from atrous.files import write_whole
from atrous.pages.figures import Chart, levels
from atrous.pages.page import render
from atrous.training.checkpoint import State
from atrous.training.config import Recipe
from atrous.training.progress import Entry

PAGE = "report.html"
SMOOTH = 40
"""A curve is also drawn as means over this part of its points."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a validation showed.

    Attributes:
        rows: the worst, the median and the best image.
        legend: names and colours of the classes.
        problems: what is wrong with the network.
    """

    rows: Sequence[PictureRow] = ()
    legend: Sequence[tuple[str, str]] = ()
    problems: Sequence[str] = ()


def write_page(
    folder: Path,
    recipe: Recipe,
    state: State,
    entries: Sequence[Entry],
    result: Evaluation | None,
    seen: Shown,
) -> None:
    """Write `report.html` of a run that has ended, or is under way.

    Args:
        folder: of the run.
        recipe: of the run.
        state: where it stands.
        entries: of its log.
        result: the score of the last iteration on all images, once it is there.
        seen: what the last validation showed.
    """
    losses = [(e.iteration, e.loss) for e in entries if e.loss is not None]
    rates = [(e.iteration, e.rate) for e in entries if e.rate is not None]
    scores = [(e.iteration, e.score) for e in entries if e.score is not None]
    html = render(
        "training",
        title=f"{folder.name}: {recipe.network}",
        folder=folder,
        recipe=recipe,
        state=state,
        result=result,
        problems=seen.problems,
        shown=seen.rows,
        legend=seen.legend,
        scored=bool(scores),
        curves=_curves(losses, scores) if losses else None,
        rate=_plane("learning rate of the head", rates, (560, 110)) if rates else None,
        classes=_classes(entries),
    )
    write_whole(folder / PAGE, html)


def _plane(
    label: str,
    points: Points,
    size: tuple[int, int],
    across: tuple[float, float] | None = None,
    up: tuple[float, float] | None = None,
) -> Chart:
    """A small chart of one curve, with values on both axes."""
    x, y = np.array(points, np.float64).T
    first, last = across or (0.0, float(x.max()))
    lines = levels(*(up or (float(y.min()), float(y.max()))))
    if size[1] < 150:  # the outer lines alone in little room
        lines = {value: lines[value] for value in (min(lines), max(lines))}
    chart = Chart(label, (first, last), (min(lines), max(lines)), size=size)
    _scales(chart, lines, last)
    chart.line(points)
    return chart


def _scales(chart: Chart, lines: dict[float, str], last: float) -> None:
    """Values at the left and below."""
    for value, text in lines.items():
        chart.level(value, text)
    inside = [one for one in levels(0, last).items() if 0 <= one[0] <= 0.92 * last]
    for value, text in inside[:: 2 if chart.width < 400 else 1]:
        chart.tick(value, text)
    chart.tick(last, f"{last:.0f}")


def _curves(losses: Points, scores: Points) -> Chart:
    """Loss by the scale at the left, mIoU by the one at the right."""
    x, y = np.array(losses, np.float64).T
    lines, last = levels(float(y.min()), float(y.max())), float(x.max())
    chart = Chart("loss and mIoU", (0, last), (min(lines), max(lines)), size=(760, 280), right=50)
    _scales(chart, lines, last)
    thin = len(losses) > 2 * SMOOTH
    chart.line(losses, "raw" if thin else "mean")
    if thin:
        parts = zip(np.array_split(x, SMOOTH), np.array_split(y, SMOOTH), strict=True)
        chart.line([(float(a.mean()), float(b.mean())) for a, b in parts])
    if scores:
        values = [value for _, value in scores]
        chart.second(levels(min(values), max(values)))
        chart.line(scores, "score", second=True)
    for iteration, value in scores:
        title = f"iteration {iteration}: mIoU {value:.2f} %"
        chart.dot(iteration, value, "score", title, second=True)
    return chart


def _classes(entries: Sequence[Entry]) -> list[tuple[str, Chart]]:
    """A caption and a chart for each class that occurs; none before a second score."""
    scored = [(entry.iteration, entry.iou) for entry in entries if entry.iou]
    if len(scored) < 2:
        return []
    last = max((iteration for iteration, _ in scored), default=0)
    names = dict.fromkeys(name for _, iou in scored for name in iou)
    charts = []
    for name in names:
        points = [(i, value) for i, iou in scored if (value := iou.get(name)) is not None]
        if not points:
            continue
        chart = _plane(f"IoU of {name}", points, (300, 110), (0, last), (0, 100))
        for iteration, value in points:
            chart.dot(iteration, value, title=f"iteration {iteration}: {value:.1f} %")
        charts.append((f"{name}: {points[-1][1]:.1f}", chart))
    return charts
