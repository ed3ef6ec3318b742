"""One self-contained HTML page: what was measured, how, and on which images it went wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.evaluation.result import Evaluation
from atrous.evaluation.run import Evaluator
from atrous.files import write_whole
from atrous.pages.figures import embedded, painted, scaled, swatches
from atrous.pages.page import check_place, render
from atrous.preprocess import Preprocess
from atrous.resize import resized

PAGE = "index.html"
SHOWN = 6
_WIDTH = 320

PictureRow = tuple[str, dict[str, str]]


def write_report(evaluator: Evaluator, result: Evaluation, folder: Path) -> Path:
    """Write `PAGE` for a finished evaluation; the shown images are segmented once more.

    Args:
        evaluator: whose `run` returned `result`.
        result: what to show.
        folder: where to.

    Returns:
        The page.

    Raises:
        InputError: something is in its place that Atrous did not make.
    """
    order = ranked(evaluator)
    best = [i for i in order[::-1][:SHOWN] if i not in order[:SHOWN]]
    counts = np.array(result.confusion, np.float64)
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    html = render(
        "evaluation",
        title=f"{result.stamp.model} on {result.stamp.data}, {result.stamp.protocol}",
        result=result,
        stamp=result.stamp.model_dump(),
        confusion=list(zip(result.iou, share.tolist(), strict=True)),
        worst=picture_rows(evaluator, order[:SHOWN]),
        best=picture_rows(evaluator, best),
        legend=swatches(evaluator.dataset.labels, range(len(result.iou))),
    )
    path = folder / PAGE
    check_place(path)
    write_whole(path, html)
    return path


def ranked(evaluator: Evaluator) -> list[int]:
    """Indices of the images that were scored, the worst first."""
    scores = np.array(evaluator.scores)
    return [int(i) for i in np.argsort(scores, kind="stable") if not np.isnan(scores[i])]


def picture_rows(
    evaluator: Evaluator, indices: Iterable[int], called: Sequence[str] = ()
) -> list[PictureRow]:
    """What a page shows of some images: a caption, and pictures by their names.

    Args:
        evaluator: that has run; the images are segmented once more.
        indices: of the images.
        called: what each is called before its name, `worst` for example.
    """
    rows = [_row(index, evaluator) for index in indices]
    if called:
        rows = [(f"{word}: {one[0]}", one[1]) for word, one in zip(called, rows, strict=True)]
    return rows


def _row(index: int, evaluator: Evaluator) -> PictureRow:
    """A caption, and the pictures of an image by their names."""
    sample, labels = evaluator.dataset.samples[index], evaluator.dataset.labels
    image = evaluator.dataset.read_image(sample)
    label = evaluator.dataset.read_label(sample)
    truth = evaluator.protocol.truth(label, evaluator.preprocess)
    scored = evaluator.protocol.predict(evaluator.predictor, image)
    seen = covered(image, evaluator.preprocess, truth.shape)
    wrong = (truth != scored.class_map) & (truth != labels.ignore_index)
    difference = cv2.cvtColor(cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    difference[wrong] = (220, 40, 40)
    shown = {
        "image": scaled(seen, _WIDTH),
        "truth": painted(seen, truth, labels, _WIDTH, legend=False),
        "prediction": painted(seen, scored.class_map, labels, _WIDTH, legend=False),
        "wrong pixels": scaled(np.asarray(difference, np.uint8), _WIDTH),
    }
    caption = f"{sample.id}: mIoU of its own classes {100 * evaluator.scores[index]:.1f} %"
    return caption, {name: embedded(picture) for name, picture in shown.items()}


def covered(
    image: NDArray[np.uint8], preprocess: Preprocess, shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """The part of an image that its truth covers, at the truth's size.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        preprocess: places it in the input of the network.
        shape: of the truth, `(H, W)`.
    """
    if image.shape[:2] == shape:
        return image
    inner, (top, left) = preprocess.layout(*image.shape[:2])
    rows, columns = (-top, shape[0] - top), (-left, shape[1] - left)
    return np.ascontiguousarray(resized(image, inner, "pillow-bilinear", rows, columns))
