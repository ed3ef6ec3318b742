"""The page of a compile: one self-contained HTML file."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path

from atrous.compiler.report.int8 import Int8
from atrous.compiler.report.report import AccuracyChange, CompileReport, Rewrite, StageScores
from atrous.engines.profile import Layer, Profile
from atrous.evaluation.report import STYLE
from atrous.files import write_atomic
from atrous.formatting import as_change, as_ms, as_points, as_share, megabytes

SHOWN = 25
"""Layers in a list on the page: the slowest, the noisiest."""

TABLES = """
.numbers small, td small, th small, .soft { opacity: .7; font-size: 13px; } p { max-width: 60rem; }
.numbers small { display: block; }
td, th { vertical-align: top; } thead th { border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; white-space: nowrap; } td.best { font-weight: 600; }
.rewrites td, .rewrites th { padding: .35rem 1.2rem .35rem 0; }
.rewrites td { border-bottom: 1px solid var(--soft); }
.rewrites td small { display: block; } .off { opacity: .7; }
.bars td.bar { width: 18rem; max-width: 30vw; vertical-align: middle; }
.bars tbody th { font-weight: 400; min-width: 9rem; } .layers tbody th { min-width: 20rem; }
.steps td.bar { width: 24rem; max-width: 40vw; vertical-align: middle; position: relative; }
.steps td.bar i { position: absolute; top: .25rem; bottom: .25rem; border-radius: 2px; }
.steps td.bar i { min-width: 3px; background: var(--bar); }
.steps td.bar i.lost { background: #d43b3b; } .steps td.bar i.won { background: #2f9e58; }
.facts + .scroll { margin-top: .8rem; } .steps tbody tr { border-top: 1px solid var(--soft); }
.facts td { overflow-wrap: anywhere; }
.bars i.was { background: #8888; margin-bottom: 2px; } .pair i { height: .45rem; }
th.group { text-align: center; }
.keys code { display: inline-block; margin: 0 1.2rem .2rem 0; }
"""


def save(report: CompileReport, folder: Path, place: Path | None = None) -> None:
    """Write `report.json` and `report.html`, each whole or not at all.

    Args:
        report: to write.
        folder: to write into.
        place: where that folder is found later, if not here.
    """
    text, html = report.to_json(), page(report, place or folder)
    write_atomic(folder / "report.json", lambda file: file.write(text.encode()))
    write_atomic(folder / "report.html", lambda file: file.write(html.encode()))


def page(report: CompileReport, place: Path) -> str:
    """The whole page of a report whose model lies in the folder `place`."""
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
        f"<title>{escape(title)}</title><style>{STYLE}{TABLES}</style>",
        f"<h1>{escape(title)}</h1>",
        _numbers(report),
        *(f"<p class=health>{escape(w)}</p>" for one in report.accuracies for w in one.warnings),
        _rewrites(report.rewrites),
        _int8(report.int8),
        _accuracies(report.accuracies),
        _stages(report.stages),
        _explained(report, place),
        _noise(report.int8),
        _times(report),
        _layers(report.after),
        _operators(report),
        f"<h2>What was compiled</h2><table class=facts>{rows}</table>",
        _list("Notes", report.notes),
        _keys(report.without_effect),
        "</html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _numbers(report: CompileReport) -> str:
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
    return section("What was rewritten", f"<table class=rewrites>{head}{''.join(rows)}", rows)


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
    return section("Accuracy", f"<div class=scroll><table>{head}{''.join(rows)}", rows)


def _int8(int8: Int8 | None) -> str:
    """How it was quantised, and what was not."""
    if int8 is None:
        return ""
    whole = int8.layers + len(int8.kept) + len(int8.returned)
    facts = {
        "layers": f"{int8.layers} of {whole} in int8",
        "calibrated": f"by {int8.method} on {int8.images} images",
        "weights": f"{int8.weight_bits} bits, on a processor with {int8.processor}",
    }
    rows = "".join(f"<tr><th>{name}<td>{escape(text)}" for name, text in facts.items())
    parts = [f"<h2>int8</h2><table class=facts>{rows}</table>"]
    floats = dict.fromkeys(int8.returned, "returned to float, to hold max_drop") | int8.kept
    items = "".join(
        f"<tr><th>{escape(name)}<td>{escape(reason)}" for name, reason in floats.items()
    )
    if items:
        head = "<thead><tr><th>in float<th>why</thead><tbody>"
        parts.append(f"<div class=scroll><table class=rewrites>{head}{items}</table></div>")
    tried = "".join(
        f"<tr><td class=n>{len(one.floats)}<td class=n>{as_points(-one.drop)}"
        for one in int8.attempts
    )
    if tried:
        head = "<thead><tr><th class=n>layers returned to float<th class=n>mIoU, points</thead>"
        parts.append(
            "<p>Attempts to hold <code>backend.quantize.max_drop</code>, each with more of the "
            f"worst layers in float:<table>{head}{tried}</table>"
        )
    if int8.unreadable:
        left = "".join(f"<li>{escape(text)}" for text in int8.unreadable)
        parts.append(f"<p>Images that were not calibrated on:<ul>{left}</ul>")
    return "".join(parts)


def _stages(stages: Sequence[StageScores]) -> str:
    """Accuracy on the way from the input to the compiled model, each step on its own."""
    if len(stages) < 2:
        return ""
    scores = [one.mean_iou for one in stages]
    # From 0 no step would be seen; a model that fell apart takes the whole width all the same.
    edge = max(0.1, 0.15 * (max(scores) - min(scores)))
    low, high = max(0.0, min(scores) - edge), min(100.0, max(scores) + edge)
    rows = []
    for index, one in enumerate(stages):
        before = scores[index - 1] if index else low
        left, right = sorted((before, one.mean_iou))
        change = one.mean_iou - before if index else 0.0
        kind = " class=lost" if change < 0 else " class=won" if change > 0 else ""
        rows.append(
            f"<tr><th>{escape(one.name)}<td class=n>{one.mean_iou:.2f}"
            f"<td class='n best'>{as_points(change) if index else ''}"
            f"<td class=n>{one.pixel_accuracy:.2f}"
            f"<td class=bar><i{kind} style='left:{100 * (left - low) / (high - low):.2f}%;"
            f"width:{100 * (right - left) / (high - low):.2f}%'></i>"
        )
    head = (
        "<thead><tr><th>stage<th class=n>mIoU, %<th class=n>points<th class=n>pixel accuracy, %"
        f"<th><small>from {low:.2f} to {high:.2f} % mIoU</small></thead><tbody>"
    )
    table = f"<div class=scroll><table class=steps>{head}{''.join(rows)}"
    return section("Where accuracy went", table, rows) + (
        "<p class=soft>Every stage was evaluated the same way; a bar is what it took from or added "
        "to the stage before."
    )


def _explained(report: CompileReport, place: Path) -> str:
    """How to see more of an int8 model whose accuracy was measured."""
    if report.int8 is None or not report.accuracies:
        return ""
    before = report.source if report.source.endswith(".onnx") else "FLOAT.onnx"
    return (
        "<p>Layer by layer, and the images that differ most, with pictures: "
        f"<code>atrous compile --explain {escape(shlex.join((before, str(place / 'mod'))))} "
        "--images FOLDER</code>."
    )


def _noise(int8: Int8 | None) -> str:
    """The layers by what each would add if it alone were int8."""
    noise = sorted(int8.noise.items(), key=lambda item: item[1]) if int8 is not None else []
    if int8 is None or not noise:
        return ""
    floats = {*int8.kept, *int8.returned}
    rows = [
        f"<tr{' class=off' if name in floats else ''}><th>{escape(name)}"
        f"{' <small>in float</small>' if name in floats else ''}<td class=n>{ratio:.1f}"
        f"<td class=bar>{bar(10 ** ((noise[0][1] - ratio) / 20))}"
        for name, ratio in noise[:SHOWN]
    ]
    if rest := noise[SHOWN:]:
        rows.append(f"<tr class=off><th>{len(rest)} cleaner ones<td class=n>≥ {rest[0][1]:.1f}<td>")
    head = "<thead><tr><th>layer<th class=n>dB<th></thead><tbody>"
    heading = "Signal to noise of each layer if it alone is int8, worst first"
    table = f"<div class=scroll><table class='bars layers'>{head}{''.join(rows)}"
    return section(heading, table, rows) + (
        "<p class=soft>40 dB is noise of 1 % of the signal, 20 dB of 10 %. Noise adds up on the "
        "way through the network."
    )


def _times(report: CompileReport) -> str:
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
    table = section(heading, f"<div class=scroll><table>{head}{''.join(rows)}", rows)
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
        f"<td class=bar>{bar(layer.milliseconds / longest)}"
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
    return section(
        heading, f"<div class=scroll><table class='bars layers'>{head}{''.join(rows)}", rows
    )


def _operators(report: CompileReport) -> str:
    after = report.after.by_operator() if report.after is not None else {}
    before = report.before.by_operator() if report.before is not None else {}
    longest = max((*after.values(), *before.values()), default=0) or 1
    rows = []
    for name in sorted({*after, *before}, key=lambda name: -after.get(name, 0)):
        old, new = before.get(name), after.get(name)
        bars = (bar(old / longest, "was") if old else "") + (bar(new / longest) if new else "")
        was = f"<td class=n>{_plain(old)}" if before else ""
        rows.append(
            f"<tr><th>{escape(name)}{was}<td class=n>{_plain(new)}"
            f"<td class='bar{' pair' if before else ''}'>{bars}"
        )
    was = "<th class=n>ms before" if before else ""
    head = (
        f"<thead><tr><th>operator{was}<th class=n>ms{' after' if before else ''}<th></thead><tbody>"
    )
    return section("Time by operator", f"<table class=bars>{head}{''.join(rows)}", rows)


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


def section(heading: str, table: str, rows: Sequence[str]) -> str:
    """A table below its heading; nothing without rows."""
    close = "</table></div>" if table.startswith("<div") else "</table>"
    return f"<h2>{escape(heading)}</h2>{table}{close}" if rows else ""


def _operator(layer: Layer) -> str:
    kernel = f" <small>{escape(layer.kernel)}</small>" if layer.kernel else ""
    return escape(layer.operator) + kernel


def bar(share: float, kind: str = "") -> str:
    """A bar in a table.

    Args:
        share: of the width of its cell.
        kind: its class in the style sheet.
    """
    return f"<i{f' class={kind}' if kind else ''} style='width:{100 * share:.1f}%'></i>"


def _plain(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.2f}"
