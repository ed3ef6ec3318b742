"""The page of a comparison: one self-contained HTML file, with pictures."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.compiler.explain.explanation import Explanation, Figures
from atrous.compiler.explain.layers import CLEAN, LayerNoise
from atrous.compiler.report.page import TABLES, bar, section
from atrous.evaluation.report import STYLE
from atrous.files import write_atomic
from atrous.formatting import as_share, megabytes
from atrous.image import overlay
from atrous.labels import LabelSet

SHOWN = 12
"""Layers in the list of the worst."""

Pixels = NDArray[np.uint8]

_WIDTH = 420
_RED = (225, 40, 40)
_HEIGHT, _LENGTH, _MARGIN = 250, 1000, 34  # of the chart

_OWN_STYLE = """
svg { width: 100%; height: auto; display: block; margin: .5rem 0; overflow: visible; }
svg text { font-size: 12px; fill: currentColor; opacity: .7; }
svg .grid { stroke: var(--line); stroke-width: 1; } svg .way { stroke: var(--bar); }
svg .way { fill: none; stroke-width: 1.6; } svg circle { fill: var(--bar); }
svg circle.worst { fill: #d43b3b; } summary { cursor: pointer; margin: .6rem 0; }
.swatch { display: inline-block; width: .7rem; height: .7rem; border-radius: 50%; }
.bars i.lost { background: #d43b3b; } .pictures p small { opacity: .7; }
@media (max-width: 50rem) { .pictures .row { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
"""


def save(one: Explanation, folder: Path) -> None:
    """Write `explain.json` and `explain.html`, each whole or not at all."""
    text, html = one.model_dump_json(indent=2), page(one)
    write_atomic(folder / "explain.json", lambda file: file.write(text.encode()))
    write_atomic(folder / "explain.html", lambda file: file.write(html.encode()))


def page(one: Explanation) -> str:
    """The whole page."""
    title = f"{_called(one, 'before')} → {_called(one, 'after')}"
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>{escape(title)}</title><style>{STYLE}{TABLES}{_OWN_STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        _numbers(one),
        *(f"<p class=health>{escape(text)}</p>" for text in one.notes),
        *(f"<p class=health>left out: {escape(text)}</p>" for text in one.unreadable),
        _way(one),
        _worst(one),
        _pictures(one),
        _all(one.layers),
        _compared(one),
        "</html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _called(one: Explanation, which: str) -> str:
    side = one.before if which == "before" else one.after
    return f"{side.name or side.file}{f' ({side.precision})' if side.precision else ''}"


def _numbers(one: Explanation) -> str:
    count = len(one.images)
    cells = [(as_share(one.agreement), "pixels of the same class", f"{count} images")]
    if count == 1:
        cells = [(as_share(one.agreement), "pixels of the same class", one.images[0].image)]
    else:
        cells.append(
            (as_share(one.least.agreement), "on the image that differs most", one.least.image)
        )
    last = one.layers[-1]
    cells.append((last.shown, "signal to noise in the last layer", last.name))
    if one.worst:
        worst = one.worst[0]
        cells.append((f"-{worst.lost:.1f} dB", "lost by the worst layer", worst.name))
    sizes = (one.before.bytes, one.after.bytes)
    cells.append((f"{megabytes(sizes[1])}", "file", f"{megabytes(sizes[0])} before"))
    shown = "".join(
        f"<div><b>{number}</b>{name}<small>{escape(more)}</small></div>"
        for number, name, more in cells
    )
    return f"<div class=numbers>{shown}</div>"


def _way(one: Explanation) -> str:
    """The ratio along the network, as a chart."""
    layers = one.layers
    ratios = [math.inf if layer.decibels is None else layer.decibels for layer in layers]
    finite = sorted(ratio for ratio in ratios if ratio < math.inf) or [CLEAN]
    # Layers before the first rounding are exact up to float noise, and would flatten the rest.
    high = 10 * math.ceil(min(finite[-1], max(CLEAN, finite[len(finite) // 2]) + 15) / 10)
    low = min(10 * math.floor(finite[0] / 10), high - 10)

    def at(index: int, ratio: float) -> tuple[float, float]:
        across = _MARGIN + (_LENGTH - _MARGIN - 8) * index / max(1, len(layers) - 1)
        share = (min(max(ratio, low), high) - low) / (high - low)
        return across, 8 + (_HEIGHT - 16) * (1 - share)

    lines = []
    for level in range(low, high + 1, 10 if high - low <= 80 else 20):
        y = at(0, level)[1]
        label = f"≥{level}" if level == high and ratios and max(ratios) > high else str(level)
        lines.append(
            f"<line class=grid x1={_MARGIN} x2={_LENGTH} y1={y:.1f} y2={y:.1f} />"
            f"<text x={_MARGIN - 6} y={y + 4:.1f} text-anchor=end>{label}</text>"
        )
    points = [at(index, ratio) for index, ratio in enumerate(ratios)]
    worst = {layer.tensor for layer in one.worst[:SHOWN]}
    dots = "".join(
        f"<circle cx={x:.1f} cy={y:.1f} r={'4.5 class=worst' if layer.tensor in worst else '3'}>"
        f"<title>{escape(_described(layer))}</title></circle>"
        for layer, (x, y) in zip(layers, points, strict=True)
    )
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        "<h2>Signal to noise along the network, dB</h2>"
        f"<svg viewBox='0 0 {_LENGTH} {_HEIGHT}' role=img aria-label='dB of each layer'>"
        f"{''.join(lines)}<polyline class=way points='{way}'/>{dots}</svg>"
        f"<p class=soft>{len(layers)} tensors that both models make, from the image on the left to "
        "the logits on the right; a point shows its name. Each inherits the noise of those before "
        "it. 40 dB is noise of 1 % of the signal, 20 dB of 10 %. Red: the layers that lose most."
    )


def _described(layer: LayerNoise) -> str:
    lost = f", loses {layer.lost:.1f} dB" if layer.lost else ""
    return f"{layer.name} ({layer.operator} {layer.tensor}): {layer.shown}{lost}"


def _worst(one: Explanation) -> str:
    worst = one.worst[:SHOWN]
    longest = max((layer.lost for layer in worst), default=0) or 1
    rows = [
        f"<tr><th>{_name(layer)}<td>{escape(layer.operator)}<td class=n>{layer.shown}"
        f"<td class='n best'>-{layer.lost:.1f} dB<td class=bar>{bar(layer.lost / longest, 'lost')}"
        for layer in worst
    ]
    if not rows:
        return (
            "<h2>Layers that lose most</h2>"
            f"<p>None: whatever is made of clean inputs stays above {CLEAN:.0f} dB."
        )
    head = (
        "<thead><tr><th>layer<th>operator<th class=n>signal to noise<th class=n>lost<th></thead>"
        "<tbody>"
    )
    table = section(
        "Layers that lose most",
        f"<div class=scroll><table class='bars layers'>{head}{''.join(rows)}",
        rows,
    )
    return (
        f"{table}<p class=soft>Lost: against the noisiest of the tensors that the layer reads, "
        f"where {CLEAN:.0f} dB counts as clean. <code>backend.quantize.exclude_layers</code> "
        "leaves a layer in float, by the small name beside it; <code>max_drop</code> chooses by "
        "itself."
    )


def _name(layer: LayerNoise) -> str:
    known = layer.excluded_as or layer.tensor
    return escape(layer.name) + (f" <small>{escape(known)}</small>" if known != layer.name else "")


def _all(layers: Sequence[LayerNoise]) -> str:
    highest = max(
        (min(layer.decibels, 2 * CLEAN) for layer in layers if layer.decibels is not None),
        default=CLEAN,
    )
    rows = [
        f"<tr><th>{_name(layer)}<td>{escape(layer.operator)}<td class=n>{layer.shown}"
        f"<td class=n>{f'-{layer.lost:.1f}' if layer.lost else ''}"
        f"<td class=bar>{bar(_share(layer, highest))}"
        for layer in layers
    ]
    head = "<thead><tr><th>layer<th>operator<th class=n>signal to noise<th class=n>lost<th></thead>"
    table = f"<table class='bars layers'>{head}<tbody>{''.join(rows)}</table>"
    return (
        f"<h2>Every layer</h2><details><summary>{len(layers)} layers, in the order of the network"
        f"</summary><div class=scroll>{table}</div></details>"
    )


def _share(layer: LayerNoise, highest: float) -> float:
    return 1 if layer.decibels is None else min(1, max(0, layer.decibels / (highest or 1)))


def _pictures(one: Explanation) -> str:
    rows = []
    for seen, shown in one.pictures:
        change = f" <small>mostly {escape(seen.change)}</small>" if seen.change else ""
        pictures = "".join(
            f"<figure><img alt='{name}' src='{source}'><figcaption>{name}</figcaption></figure>"
            for name, source in shown.items()
        )
        rows.append(
            f"<div class=row><p><b>{escape(seen.image)}</b>: same class on "
            f"{as_share(seen.agreement)} of the pixels{change}</p>{pictures}</div>"
        )
    heading = "Images that differ most" if len(one.images) > 1 else "The image"
    return f"<h2>{heading}</h2><div class=pictures>{''.join(rows)}</div>" if rows else ""


def _compared(one: Explanation) -> str:
    facts = {}
    for name, side in (("before", one.before), ("after", one.after)):
        facts[name] = side.file
        facts[f"{name}, identity"] = side.identity
    facts["class maps"] = f"{one.engine} {one.engine_version}, {len(one.images)} images"
    facts["layers"] = (
        f"ONNX Runtime without fusions, quantised layers in float between their quantisers, "
        f"{one.measured} images"
    )
    facts["atrous"] = one.atrous
    rows = "".join(f"<tr><th>{name}<td>{escape(text)}" for name, text in facts.items())
    return f"<h2>What was compared</h2><table class=facts>{rows}</table>"


def figures(image: Pixels, before: Pixels, after: Pixels, labels: LabelSet) -> Figures:
    """The pictures of one image.

    Args:
        image: `(H, W, 3)` uint8, RGB.
        before: `(H, W)` class map of the one model.
        after: of the other.
        labels: names and colours.
    """
    width = min(_WIDTH, image.shape[1])
    size = (width, max(1, round(image.shape[0] * width / image.shape[1])))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    pictures = {"image": small}
    for name, class_map in (("before", before), ("after", after)):
        nearest = cv2.resize(class_map, size, interpolation=cv2.INTER_NEAREST)
        pictures[name] = overlay(small, np.asarray(nearest, np.uint8), labels)
    # A line of one pixel, which differs most often, has to survive the reduction.
    share = cv2.resize((before != after).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    strength = np.minimum(1, 3 * np.asarray(share))[:, :, None]
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)[:, :, None] * np.float32(0.8)
    pictures["difference"] = (grey * (1 - strength) + np.array(_RED, np.float32) * strength).astype(
        np.uint8
    )
    return {name: _embedded(picture) for name, picture in pictures.items()}


def _embedded(picture: Pixels) -> str:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
