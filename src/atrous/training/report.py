"""The page of a run: its curves, its score, and the command that repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from atrous.evaluation.report import STYLE
from atrous.evaluation.result import Result
from atrous.files import write_atomic
from atrous.training.checkpoint import State
from atrous.training.config import Recipe
from atrous.training.progress import Entry

PAGE = "report.html"
SMOOTH = 40
"""A curve is also drawn as means over this part of its points."""

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 760, 240, 64, 24

CURVES = """
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui; fill: currentColor; }
svg line { stroke: var(--line); } svg polyline { fill: none; stroke: var(--bar); }
svg .raw { opacity: .35; } svg .mean { stroke-width: 2; } svg circle { fill: var(--bar); }
pre { background: var(--soft); padding: .6rem .9rem; overflow-x: auto; } p { max-width: 60rem; }
"""

Points = Sequence[tuple[float, float]]


def write_page(
    folder: Path, recipe: Recipe, state: State, entries: Sequence[Entry], result: Result | None
) -> Path:
    """Write `report.html` of a run that has ended, or is under way.

    Args:
        folder: of the run.
        recipe: of the run.
        state: where it stands.
        entries: of its log.
        result: the score of the last iteration on all images, once it is there.

    Returns:
        The page.
    """
    title = f"{folder.name}: {recipe.network}"
    losses = [(e.iteration, e.loss) for e in entries if e.loss is not None]
    rates = [(e.iteration, e.rate) for e in entries if e.rate is not None]
    scores = [(e.iteration, e.score) for e in entries if e.score is not None]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>{escape(title)}</title><style>{STYLE}{CURVES}</style><h1>{escape(title)}</h1>",
        _numbers(recipe, state, result),
        *(f"<p class=health>{escape(problem)}" for problem in (result.health if result else ())),
        _curve("Loss", losses, smooth=True),
        _curve(f"mIoU, %, {recipe.validation.protocol}", scores, dots=True),
        _shipped(state, result),
        _classes(result),
        _curve("Learning rate of the head", rates),
        "<h2>What it started from</h2>",
        "".join(f"<p>{escape(line)}" for line in state.start),
        "<h2>To repeat it</h2>",
        f"<pre>atrous train {escape(str(folder))}/recipe.yaml output=runs/again</pre>",
        f"<p>{state.train.name}: {state.train.images} images, ids {state.train.ids}. "
        f"atrous {escape(state.atrous)}.</p><pre>{escape(recipe.to_yaml())}</pre></html>\n",
    ]
    path = folder / PAGE
    content = "\n".join(part for part in parts if part).encode()
    write_atomic(path, lambda file: file.write(content))
    return path


def _numbers(recipe: Recipe, state: State, result: Result | None) -> str:
    images = state.iteration * recipe.train.batch
    numbers = {
        "iterations": f"{state.iteration} of {recipe.train.iterations}",
        "images seen": f"{images}",
        "hours": f"{state.seconds / 3600:.2f}",
        "steps skipped, loss not a number": f"{state.skipped}",
    }
    if result is not None:
        numbers = {"mIoU of the last iteration": f"{result.mean_iou:.2f} %"} | numbers
    cells = "".join(f"<div><b>{value}</b>{name}</div>" for name, value in numbers.items())
    return f"<div class=numbers>{cells}</div>"


def _shipped(state: State, result: Result | None) -> str:
    parts = []
    if result is not None:
        stamp = result.stamp
        parts.append(
            f"last.safetensors is the network of the last iteration: {result.mean_iou:.3f} % mIoU, "
            f"{stamp.protocol}, {stamp.images} images of {stamp.data} (ids {stamp.ids})."
        )
    if state.best is not None:
        parts.append(
            f"best.safetensors had the highest score on the way, of {len(state.scores)}, "
            f"{state.best:.3f} %. A highest score was chosen on the very images it was measured "
            "on, and flatters: ship the last."
        )
    return "".join(f"<p>{escape(part)}" for part in parts)


def _classes(result: Result | None) -> str:
    if result is None:
        return ""
    rows = []
    for name, value in sorted(result.iou.items(), key=lambda item: -(item[1] or -1)):
        text = "does not occur" if value is None else f"{value:.1f}"
        bar = f"<i style='width:{value or 0:.1f}%'></i>"
        rows.append(f"<tr><th>{escape(name)}<td>{text}<td class=bar>{bar}")
    return (
        f"<h2>IoU per class, %</h2><table class=bars>{''.join(rows)}</table>"
        "<p><a href='evaluation/index.html'>The whole evaluation, with images</a></p>"
    )


def _curve(heading: str, points: Points, *, smooth: bool = False, dots: bool = False) -> str:
    if not points:
        return ""
    x, y = np.array(points, np.float64).T
    lowest, highest = float(y.min()), float(y.max())
    spread = (highest - lowest) or 1.0
    last = float(x.max()) or 1.0

    def at(iterations: np.ndarray, values: np.ndarray) -> list[str]:
        across = _LEFT + (_WIDTH - _LEFT - 8) * iterations / last
        down = 8 + (_HEIGHT - _BOTTOM - 8) * (highest - values) / spread
        return [f"{a:.1f},{d:.1f}" for a, d in zip(across, down, strict=True)]

    thin = smooth and len(points) > 2 * SMOOTH
    lines = [f"<polyline class={'raw' if thin else 'mean'} points='{' '.join(at(x, y))}'/>"]
    if thin:
        parts = zip(np.array_split(x, SMOOTH), np.array_split(y, SMOOTH), strict=True)
        means = np.array([(a.mean(), b.mean()) for a, b in parts]).T
        lines.append(f"<polyline class=mean points='{' '.join(at(*means))}'/>")
    if dots:
        places = (place.split(",") for place in at(x, y))
        lines += [f"<circle cx={across} cy={down} r=3 />" for across, down in places]
    floor = _HEIGHT - _BOTTOM
    return (
        f"<h2>{escape(heading)}</h2><svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role=img>"
        f"<line x1={_LEFT} y1=8 x2={_LEFT} y2={floor} />"
        f"<line x1={_LEFT} y1={floor} x2={_WIDTH - 8} y2={floor} />"
        f"<text x={_LEFT - 6} y=14 text-anchor=end>{highest:.3g}</text>"
        f"<text x={_LEFT - 6} y={floor} text-anchor=end>{lowest:.3g}</text>"
        f"<text x={_WIDTH - 8} y={_HEIGHT - 6} text-anchor=end>{last:.0f} iterations</text>"
        f"{''.join(lines)}</svg>"
    )
