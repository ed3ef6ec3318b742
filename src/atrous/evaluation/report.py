"""One self-contained HTML page: what was measured, how, and on which images it went wrong."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.data import Sample
from atrous.evaluation.result import Result
from atrous.evaluation.run import Evaluation
from atrous.files import write_atomic
from atrous.image import overlay
from atrous.labels import LabelSet

SHOWN = 6
_WIDTH = 320

STYLE = """
:root { color-scheme: light dark; --line: #8884; --bar: #3b7dd8; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.numbers { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 1rem 0; }
.numbers b { display: block; font-size: 1.7rem; line-height: 1.2; }
.health { border-left: 4px solid #c33; padding: .4rem .8rem; background: #c331; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; } td, th { padding: .15rem .7rem .15rem 0; }
.bars td.bar { width: 28rem; max-width: 50vw; }
.bars i { display: block; height: .8rem; background: var(--bar); border-radius: 2px; }
.scroll { overflow-x: auto; }
.confusion td, .confusion th { padding: .1rem .25rem; font-size: 11px; text-align: right; }
.confusion td { min-width: 1.8rem; border: 1px solid var(--soft); }
.confusion th.top { writing-mode: vertical-rl; text-align: left; vertical-align: bottom; }
.row { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: .5rem; }
.row { margin: .8rem 0; }
.row img { width: 100%; display: block; } .row p { grid-column: 1 / -1; margin: 0; }
.row figure { margin: 0; } figcaption { font-size: 12px; opacity: .75; }
"""


def write_report(evaluation: Evaluation, result: Result, folder: Path) -> Path:
    """Write `index.html` for a finished evaluation; the shown images are segmented once more.

    Args:
        evaluation: whose `run` returned `result`.
        result: what to show.
        folder: where to.

    Returns:
        The page.
    """
    labels = evaluation.dataset.labels
    scores = np.array(evaluation.scores)
    order = [int(i) for i in np.argsort(scores, kind="stable") if not np.isnan(scores[i])]
    best = [i for i in order[::-1][:SHOWN] if i not in order[:SHOWN]]
    title = f"{result.stamp.model} on {result.stamp.data}, {result.stamp.protocol}"
    page = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1>",
        _numbers(result),
        _health(result),
        _stamp(result),
        _bars(result),
        _confusion(result, labels),
        _images("Worst images", order[:SHOWN], evaluation),
        _images("Best images", best, evaluation),
        "</html>\n",
    ]
    path = folder / "index.html"
    content = "\n".join(page).encode()
    write_atomic(path, lambda file: file.write(content))
    return path


def _numbers(result: Result) -> str:
    numbers = {
        "mIoU": result.mean_iou,
        "pixel accuracy": result.pixel_accuracy,
        "mean accuracy": result.mean_accuracy,
        "frequency-weighted IoU": result.frequency_weighted_iou,
    }
    cells = "".join(f"<div><b>{value:.2f} %</b>{name}</div>" for name, value in numbers.items())
    return f"<div class=numbers>{cells}</div>"


def _health(result: Result) -> str:
    messages = [*result.health, *(f"not scored: {message}" for message in result.failed)]
    return "".join(f"<p class=health>{escape(message)}</p>" for message in messages)


def _stamp(result: Result) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}<td>{escape(str(value))}"
        for name, value in result.stamp.model_dump().items()
    )
    return f"<h2>How it was measured</h2><table>{rows}</table>"


def _bars(result: Result) -> str:
    rows = []
    for name, value in sorted(result.iou.items(), key=lambda item: -(item[1] or -1)):
        text = "does not occur" if value is None else f"{value:.1f}"
        bar = f"<i style='width:{value or 0:.1f}%'></i>"
        rows.append(f"<tr><th>{escape(name)}<td>{text}<td class=bar>{bar}")
    return f"<h2>IoU per class, %</h2><table class=bars>{''.join(rows)}</table>"


def _confusion(result: Result, labels: LabelSet) -> str:
    counts = np.array(result.confusion, np.float64)
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    head = "".join(f"<th class=top>{escape(name)}" for name in labels.names)
    rows = []
    for name, row in zip(labels.names, share, strict=True):
        cells = "".join(
            f"<td style='background:rgba(59,125,216,{value:.2f})'>"
            f"{f'{100 * value:.0f}' if value >= 0.005 else ''}"
            for value in row
        )
        rows.append(f"<tr><th>{escape(name)}{cells}")
    return (
        "<h2>Where the pixels of each true class (row) went, %</h2><div class=scroll>"
        f"<table class=confusion><tr><th>{head}{''.join(rows)}</table></div>"
    )


def _images(heading: str, indices: Sequence[int], evaluation: Evaluation) -> str:
    parts = [f"<h2>{heading}</h2>"]
    for index in indices:
        sample = evaluation.dataset.samples[index]
        score = (
            f"{escape(sample.id)}: mIoU of its own classes {100 * evaluation.scores[index]:.1f} %"
        )
        figures = "".join(
            f"<figure><img alt='{caption}' src='{_embedded(picture)}'>"
            f"<figcaption>{caption}</figcaption></figure>"
            for caption, picture in _pictures(sample, evaluation).items()
        )
        parts.append(f"<div class=row><p>{score}</p>{figures}</div>")
    return "".join(parts)


def _pictures(sample: Sample, evaluation: Evaluation) -> dict[str, NDArray[np.uint8]]:
    labels = evaluation.dataset.labels
    image = evaluation.dataset.read_image(sample)
    label = evaluation.dataset.read_label(sample)
    truth = evaluation.protocol.truth(label, evaluation.preprocess)
    scored = evaluation.protocol.predict(evaluation.engine, evaluation.preprocess, image)
    seen = _seen(image, evaluation, truth.shape)
    wrong = (truth != scored.class_map) & (truth != labels.ignore_index)
    difference = cv2.cvtColor(cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    difference[wrong] = (220, 40, 40)
    return {
        "image": _small(seen),
        "truth": overlay(_small(seen), _small_map(truth), labels),
        "prediction": overlay(_small(seen), _small_map(scored.class_map), labels),
        "wrong pixels": _small(np.asarray(difference, np.uint8)),
    }


def _seen(
    image: NDArray[np.uint8], evaluation: Evaluation, shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """The part of the image that the truth covers, at the truth's size."""
    if image.shape[:2] == shape:
        return image
    inner, (top, left) = evaluation.preprocess.layout(*image.shape[:2])
    resized = np.asarray(Image.fromarray(image).resize(inner[::-1], Image.Resampling.BILINEAR))
    return np.ascontiguousarray(resized[-top:, -left:][: shape[0], : shape[1]])


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    size = (_WIDTH, max(1, round(picture.shape[0] * _WIDTH / picture.shape[1])))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _small_map(class_map: NDArray[np.uint8]) -> NDArray[np.uint8]:
    size = (_WIDTH, max(1, round(class_map.shape[0] * _WIDTH / class_map.shape[1])))
    return np.asarray(cv2.resize(class_map, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _embedded(picture: NDArray[np.uint8]) -> str:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
