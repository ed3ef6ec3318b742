"""The page of a comparison: one self-contained HTML file, with pictures."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.compiler.explain.explanation import Explanation, Figures, Side
from atrous.compiler.explain.layers import CLEAN, LayerNoise
from atrous.files import write_whole
from atrous.labels import LabelSet
from atrous.pages.figures import Chart, embedded, painted, scaled
from atrous.pages.page import render

SHOWN = 12
"""Layers in the list of the worst."""

Pixels = NDArray[np.uint8]

_WIDTH = 420
_RED = (225, 40, 40)


def save(one: Explanation, folder: Path) -> None:
    """Write `explain.json` and `explain.html`, each whole or not at all."""
    text, html = one.model_dump_json(indent=2), page(one)
    write_whole(folder / "explain.json", text)
    write_whole(folder / "explain.html", html)


def page(one: Explanation) -> str:
    """The whole page."""
    known = [layer.decibels for layer in one.layers if layer.decibels is not None]
    highest = max((min(ratio, 2 * CLEAN) for ratio in known), default=CLEAN) or 1
    shares = [
        1 if ratio is None else min(1, max(0, ratio / highest))
        for ratio in (layer.decibels for layer in one.layers)
    ]
    return render(
        "explain",
        title=f"{_called(one.before)} → {_called(one.after)}",
        one=one,
        worst=one.worst[:SHOWN],
        chart=_chart(one),
        shares=list(zip(one.layers, shares, strict=True)),
        clean=f"{CLEAN:.0f}",
    )


def _called(side: Side) -> str:
    return f"{side.name or side.file}{f' ({side.precision})' if side.precision else ''}"


def _chart(one: Explanation) -> Chart:
    """The ratio along the network."""
    ratios = [math.inf if layer.decibels is None else layer.decibels for layer in one.layers]
    finite = sorted(ratio for ratio in ratios if ratio < math.inf) or [CLEAN]
    # Layers before the first rounding are exact up to float noise, and would flatten the rest.
    high = 10 * math.ceil(min(finite[-1], max(CLEAN, finite[len(finite) // 2]) + 15) / 10)
    low = min(10 * math.floor(finite[0] / 10), high - 10)
    chart = Chart("dB of each layer", (0, len(ratios) - 1), (low, high))
    for level in range(low, high + 1, 10 if high - low <= 80 else 20):
        chart.level(level, f"≥{level}" if level == high and max(ratios) > high else str(level))
    chart.line(enumerate(ratios))
    worst = {layer.tensor for layer in one.worst[:SHOWN]}
    for index, layer in enumerate(one.layers):
        kind = "worst" if layer.tensor in worst else ""
        chart.dot(index, ratios[index], kind, _described(layer))
    return chart


def _described(layer: LayerNoise) -> str:
    lost = f", loses {layer.lost:.1f} dB" if layer.lost else ""
    return f"{layer.name} ({layer.operator} {layer.tensor}): {layer.shown}{lost}"


def figures(image: Pixels, before: Pixels, after: Pixels, labels: LabelSet) -> Figures:
    """The pictures of one image.

    Args:
        image: `(H, W, 3)` uint8, RGB.
        before: `(H, W)` class map of the one model.
        after: of the other.
        labels: names and colours.
    """
    width = min(_WIDTH, image.shape[1])
    small = scaled(image, width)
    # A line of one pixel, which differs most often, has to survive the reduction.
    share = scaled((before != after).astype(np.float32), width)
    strength = np.minimum(1, 3 * share)[:, :, None]
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)[:, :, None] * np.float32(0.8)
    difference = grey * (1 - strength) + np.array(_RED, np.float32) * strength
    shown = {
        "image": small,
        "before": painted(image, before, labels, width),
        "after": painted(image, after, labels, width),
        "difference": difference.astype(np.uint8),
    }
    return {name: embedded(picture) for name, picture in shown.items()}
