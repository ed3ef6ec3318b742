"""The page of a run: its curves, its score, and the command that repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

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


def write_page(
    folder: Path, recipe: Recipe, state: State, entries: Sequence[Entry], result: Evaluation | None
) -> None:
    """Write `report.html` of a run that has ended, or is under way.

    Args:
        folder: of the run.
        recipe: of the run.
        state: where it stands.
        entries: of its log.
        result: the score of the last iteration on all images, once it is there.
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
        loss=_curve("Loss", losses, smooth=True),
        score=_curve(f"mIoU, %, {recipe.validation.protocol}", scores, dots=True),
        rate=_curve("Learning rate of the head", rates),
    )
    write_whole(folder / PAGE, html)


def _curve(label: str, points: Points, *, smooth: bool = False, dots: bool = False) -> Chart | None:
    """A chart of values over iterations; `None` without any."""
    if not points:
        return None
    x, y = np.array(points, np.float64).T
    lines = levels(float(y.min()), float(y.max()))
    last = float(x.max())
    chart = Chart(label, (0, last), (min(lines), max(lines)), f"{last:.0f} iterations")
    for value, text in lines.items():
        chart.level(value, text)
    thin = smooth and len(points) > 2 * SMOOTH
    chart.line(points, "raw" if thin else "mean")
    if thin:
        parts = zip(np.array_split(x, SMOOTH), np.array_split(y, SMOOTH), strict=True)
        chart.line([(float(a.mean()), float(b.mean())) for a, b in parts])
    for iteration, value in points if dots else ():
        chart.dot(iteration, value, title=f"iteration {iteration}: {value:.2f}")
    return chart
