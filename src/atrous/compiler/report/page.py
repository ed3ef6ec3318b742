"""The page of a compile: one self-contained HTML file."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrous.compiler.report.report import SAME_WORK, CompileReport, StageScores
from atrous.exporters.standalone import VIEWS
from atrous.files import write_whole
from atrous.pages.page import render

SHOWN = 25
"""Layers in a list on the page: the slowest, the noisiest."""


@dataclass(frozen=True, slots=True)
class StageBar:
    """What a stage did to the accuracy, as a bar.

    Attributes:
        stage: the stage.
        points: of mIoU that it added, negative if it took some.
        left: where its bar begins, as a share of the width.
        width: of the bar, likewise.
    """

    stage: StageScores
    points: float
    left: float
    width: float


def save(report: CompileReport, folder: Path, place: Path | None = None) -> None:
    """Write `report.json` and `report.html`, each whole or not at all.

    Args:
        report: to write.
        folder: to write into.
        place: where that folder is found later, if not here.
    """
    text, html = report.to_json(), page(report, place or folder)
    write_whole(folder / "report.json", text)
    write_whole(folder / "report.html", html)


def page(report: CompileReport, place: Path) -> str:
    """The whole page of a report whose model lies in the folder `place`."""
    int8 = report.int8
    floats, noise = {}, []
    if int8 is not None:
        returned = dict.fromkeys(int8.returned, "returned to float, to hold max_drop")
        floats = returned | int8.kept
        noise = sorted(int8.noise.items(), key=lambda item: item[1])
    before = report.source if report.source.endswith(".onnx") else "FLOAT.onnx"
    after = report.after.by_operator() if report.after is not None else {}
    return render(
        "compile",
        title=f"{report.name}, {report.precision_text}",
        report=report,
        compared=shlex.join((before, str(place / "mod"))),
        shown=SHOWN,
        same_work=SAME_WORK,
        views=VIEWS,
        floats=floats,
        noise=noise,
        operators_before=report.before.by_operator() if report.before is not None else {},
        operators_after=dict(sorted(after.items(), key=lambda item: -item[1])),
        **_steps(report.stages),
    )


def _steps(stages: Sequence[StageScores]) -> dict[str, Any]:
    """Accuracy on the way from the input to the compiled model, each step on its own."""
    if len(stages) < 2:
        return {"steps": []}
    scores = [one.mean_iou for one in stages]
    # From 0 no step would be seen; a model that fell apart takes the whole width all the same.
    edge = max(0.1, 0.15 * (max(scores) - min(scores)))
    low, high = max(0.0, min(scores) - edge), min(100.0, max(scores) + edge)
    steps: list[StageBar] = []
    before = low
    for stage in stages:
        left, right = sorted((before, stage.mean_iou))
        points = stage.mean_iou - before if steps else 0.0
        span = high - low
        steps.append(StageBar(stage, points, (left - low) / span, (right - left) / span))
        before = stage.mean_iou
    return {"steps": steps, "low": low, "high": high}
