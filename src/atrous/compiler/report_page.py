"""The page of a compile: one self-contained HTML file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from atrous.engines.profile import Layer, Profile
from atrous.evaluation.report import STYLE

if TYPE_CHECKING:
    from atrous.compiler.report import AccuracyChange, Report, Rewrite

SHOWN = 25
"""Layers on the page, the slowest."""

_OWN_STYLE = """
.numbers small, td small, .soft { opacity: .7; font-size: 13px; } p { max-width: 60rem; }
.numbers small { display: block; }
td, th { vertical-align: top; } thead th { border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; white-space: nowrap; } td.best { font-weight: 600; }
.rewrites td, .rewrites th { padding: .35rem 1.2rem .35rem 0; }
.rewrites td { border-bottom: 1px solid var(--soft); }
.rewrites td small { display: block; } .off { opacity: .7; }
.bars td.bar { width: 18rem; max-width: 30vw; vertical-align: middle; }
.bars tbody th { font-weight: 400; min-width: 9rem; } .layers tbody th { min-width: 20rem; }
.facts td { overflow-wrap: anywhere; }
.bars i.was { background: #8888; margin-bottom: 2px; } .pair i { height: .45rem; }
th.group { text-align: center; }
.keys code { display: inline-block; margin: 0 1.2rem .2rem 0; }
"""


def page(report: Report) -> str:
    """The whole page."""
    title = f"{report.name}, {report.precision}"
    facts = {
        "source": report.source,
        "sha256": report.source_sha256,
        "input": report.input_text,
        "precision": report.precision,
        "engine": report.engine_text,
        "atrous": report.atrous,
    }
    rows = "".join(f"<tr><th>{name}<td>{escape(text)}" for name, text in facts.items() if text)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>{escape(title)}</title><style>{STYLE}{_OWN_STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        _numbers(report),
        *(f"<p class=health>{escape(w)}</p>" for one in report.accuracies for w in one.warnings),
        _rewrites(report.rewrites),
        _accuracies(report.accuracies),
        _times(report),
        _layers(report.after),
        _operators(report),
        f"<h2>What was compiled</h2><table class=facts>{rows}</table>",
        _list("Notes", report.notes),
        _keys(report.without_effect),
        "</html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _numbers(report: Report) -> str:
    cells = []
    if report.after is not None:
        cells.append((as_ms(report.after.milliseconds), "a run", ""))
        if report.before is not None:
            was = f"{as_ms(report.before.milliseconds)} before"
            cells[-1] = (
                f"{report.faster:.2f}×",
                "as fast",
                f"{as_ms(report.after.milliseconds)}, {was}",
            )
    cells.append(
        (
            f"{report.gmacs_after:.2f} GMAC",
            as_change(report.gmacs_before, report.gmacs_after),
            f"{report.gmacs_before:.2f} before",
        )
    )
    cells.append(
        (
            megabytes(report.bytes_after),
            as_change(report.bytes_before, report.bytes_after),
            f"{megabytes(report.bytes_before)} before",
        )
    )
    if report.agreement is not None:
        one = report.agreement
        cells.append(
            (as_share(one.agreement), "pixels of the same class", f"on {one.images} images")
        )
    for accuracy in report.accuracies[:1]:
        cells.append(
            (
                f"{accuracy.after.mean_iou:.2f} %",
                f"mIoU, {as_points(accuracy.mean_iou_points)} points",
                f"{accuracy.protocol} on {accuracy.data}",
            )
        )
    shown = "".join(
        f"<div><b>{number}</b>{escape(name)}<small>{escape(more)}</small></div>"
        for number, name, more in cells
    )
    return f"<div class=numbers>{shown}</div>"


def _rewrites(rewrites: Sequence[Rewrite]) -> str:
    rows = []
    for one in rewrites:
        where = "; ".join(map(escape, one.where))
        left = "".join(f"<small>left alone: {escape(text)}</small>" for text in one.left)
        saved = f"{one.saved:.3f}" if one.saved else ""
        rows.append(
            f"<tr{'' if one.places else ' class=off'}><td><b>{escape(one.name)}</b>"
            f"<small>{escape(one.summary)}</small><td>{where}{left}"
            f"<td class=n>{saved}<td class=n>{one.gmacs_after:.3f}"
        )
    head = "<thead><tr><th>rewrite<th>where<th class=n>GMAC saved<th class=n>GMAC left</thead>"
    return _section("What was rewritten", f"<table class=rewrites>{head}{''.join(rows)}", rows)


def _accuracies(accuracies: Sequence[AccuracyChange]) -> str:
    rows = [
        f"<tr><th>{escape(one.protocol)}<td>{escape(one.data)}<td class=n>{one.images}"
        f"<td class=n>{one.before.mean_iou:.2f}<td class=n>{one.after.mean_iou:.2f}"
        f"<td class='n best'>{as_points(one.mean_iou_points)}"
        f"<td class=n>{one.before.pixel_accuracy:.2f}<td class=n>{one.after.pixel_accuracy:.2f}"
        f"<td class='n best'>{as_points(one.pixel_accuracy_points)}"
        for one in accuracies
    ]
    head = "<th class=n>before<th class=n>after<th class=n>points"
    head = (
        "<thead><tr><th><th><th><th class=group colspan=3>mIoU, %<th class=group colspan=3>"
        f"pixel accuracy, %<tr><th>protocol<th>data<th class=n>images{head}{head}</thead>"
    )
    return _section("Accuracy", f"<div class=scroll><table>{head}{''.join(rows)}", rows)


def _times(report: Report) -> str:
    rows = [
        f"<tr><th>{name}<td class=n>{as_ms(one.milliseconds)}"
        f"<td class=n>{as_ms(one.spread[0])} – {as_ms(one.spread[1])}<td class=n>{one.runs}"
        f"<td>{'the whole model' if one.head else 'up to the logits, before the last resize'}"
        for name, one in (("before", report.before), ("after", report.after))
        if one is not None
    ]
    head = (
        "<thead><tr><th><th class=n>median<th class=n>10th – 90th percentile<th class=n>runs"
        "<th>what was run</thead>"
    )
    heading = f"Time of a run on {report.engine_text}"
    table = _section(heading, f"<div class=scroll><table>{head}{''.join(rows)}", rows)
    if report.before is None or report.after is None or report.before.head == report.after.head:
        return table
    return (
        f"{table}<p class=soft>The input model is run whole, as any other tool would run it. The "
        "compiled one stops before its last resize, which Atrous does together with the argmax; "
        "neither is in its time."
    )


def _layers(profile: Profile | None) -> str:
    layers = profile.layers if profile is not None else ()
    longest = max((layer.milliseconds for layer in layers), default=0) or 1
    rows = [
        f"<tr><th>{escape(layer.name)}<td>{_operator(layer)}"
        f"<td class=n>{layer.milliseconds:.2f}<td class=n>{100 * layer.share:.1f}"
        f"<td class=bar>{_bar(layer.milliseconds / longest)}"
        for layer in layers[:SHOWN]
    ]
    rest = layers[SHOWN:]
    if rest:
        rows.append(
            f"<tr class=off><th>{len(rest)} faster ones<td>"
            f"<td class=n>{sum(layer.milliseconds for layer in rest):.2f}"
            f"<td class=n>{100 * sum(layer.share for layer in rest):.1f}<td>"
        )
    head = "<thead><tr><th>layer<th>operator<th class=n>ms<th class=n>%<th></thead><tbody>"
    heading = "Slowest layers of the compiled model"
    return _section(
        heading, f"<div class=scroll><table class='bars layers'>{head}{''.join(rows)}", rows
    )


def _operators(report: Report) -> str:
    after = report.after.by_operator() if report.after is not None else {}
    before = report.before.by_operator() if report.before is not None else {}
    longest = max((*after.values(), *before.values()), default=0) or 1
    rows = []
    for name in sorted({*after, *before}, key=lambda name: -after.get(name, 0)):
        old, new = before.get(name), after.get(name)
        bars = (_bar(old / longest, "was") if old else "") + (_bar(new / longest) if new else "")
        was = f"<td class=n>{_plain(old)}" if before else ""
        rows.append(
            f"<tr><th>{escape(name)}{was}<td class=n>{_plain(new)}"
            f"<td class='bar{' pair' if before else ''}'>{bars}"
        )
    was = "<th class=n>ms before" if before else ""
    head = (
        f"<thead><tr><th>operator{was}<th class=n>ms{' after' if before else ''}<th></thead><tbody>"
    )
    return _section("Time by operator", f"<table class=bars>{head}{''.join(rows)}", rows)


def _list(heading: str, texts: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(text)}" for text in texts)
    return f"<h2>{heading}</h2><ul>{items}</ul>" if items else ""


def _keys(names: Sequence[str]) -> str:
    keys = "".join(f"<code>{escape(name)}</code>" for name in names)
    return (
        "<h2>No effect here</h2><p>These keys of the compile file speak to other hardware or other "
        f"precisions. They were read and left alone.<p class=keys>{keys}</p>"
        if keys
        else ""
    )


def _section(heading: str, table: str, rows: Sequence[str]) -> str:
    """A table below its heading; nothing without rows."""
    close = "</table></div>" if table.startswith("<div") else "</table>"
    return f"<h2>{escape(heading)}</h2>{table}{close}" if rows else ""


def _operator(layer: Layer) -> str:
    kernel = f" <small>{escape(layer.kernel)}</small>" if layer.kernel else ""
    return escape(layer.operator) + kernel


def _bar(share: float, kind: str = "") -> str:
    return f"<i{f' class={kind}' if kind else ''} style='width:{100 * share:.1f}%'></i>"


def _plain(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.2f}"


def as_ms(milliseconds: float) -> str:
    """Milliseconds with three digits."""
    digits = 1 if milliseconds >= 10 else 2 if milliseconds >= 1 else 3
    return f"{milliseconds:.{digits}f} ms"


def as_points(points: float) -> str:
    """A difference in points, and no sign before zero."""
    return f"{points:+.2f}" if abs(points) >= 0.005 else "0.00"


def as_change(before: float, after: float) -> str:
    """By how much something grew."""
    if before == after:
        return "unchanged"
    return f"{100 * (after / before - 1):+.1f} %" if before else "new"


def as_share(share: float) -> str:
    """A share in percent that says 100 only if it is all."""
    return f"{math.floor(share * 1e6) / 1e4:.4f} %" if share < 1 else "100 %"


def megabytes(size: int) -> str:
    """Bytes in MB."""
    return f"{size / 1e6:.1f} MB"


def shortened(texts: Sequence[str], most: int, separator: str = "; ") -> str:
    """The first texts and how many more there are."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return separator.join(texts[:most]) + more
