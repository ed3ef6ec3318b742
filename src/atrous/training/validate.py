"""Score a network under training by the protocols of `atrous.evaluation`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous.data import Dataset
from atrous.engines.base import Engine
from atrous.evaluation.protocols import Protocol
from atrous.evaluation.report import PictureRow, covered, picture_rows, ranked, write_report
from atrous.evaluation.result import Evaluation
from atrous.evaluation.run import Evaluator, Progress
from atrous.runtime.predictor import Predictor
from atrous.training.config import ValidationSettings

PICTURES = 4


def measure(
    engine: Engine,
    dataset: Dataset,
    settings: ValidationSettings,
    name: str,
    progress: Progress | None = None,
    page: Path | None = None,
) -> tuple[Evaluation, list[PictureRow]]:
    """Score a network, and show the worst, the median and the best image.

    Args:
        engine: runs the network, in evaluation mode.
        dataset: with as many classes.
        settings: protocol and size of the input.
        name: what the network is called in the result.
        progress: called after each image.
        page: folder for a page of it.
    """
    predictor = Predictor(engine, settings.preprocess, dataset.labels)
    evaluator = Evaluator(predictor, dataset, Protocol.parse(settings.protocol), name=name)
    found = evaluator.run(progress)
    if page is not None:
        write_report(evaluator, found, page)
    order = ranked(evaluator)
    middle = {0: "worst", len(order) // 2: "median", len(order) - 1: "best"}
    places = sorted(place for place in middle if 0 <= place < len(order))
    rows = picture_rows(evaluator, [order[i] for i in places], [middle[i] for i in places])
    return found, rows


def thinned(dataset: Dataset, images: int | None) -> Dataset:
    """`images` samples, evenly spread over the data set; all of them if that is fewer."""
    count = len(dataset.samples)
    if images is None or images >= count:
        return dataset
    chosen = np.linspace(0, count - 1, images).round().astype(int)
    return replace(dataset, samples=tuple(dataset.samples[i] for i in chosen))


def pictures(
    engine: Engine, dataset: Dataset, settings: ValidationSettings
) -> dict[str, NDArray[np.uint8]]:
    """What the network sees in a few images: the image, the truth and the prediction, side by side.

    Returns:
        id of the image → `(H, 3 W, 3)` uint8 RGB.
    """
    chosen = Protocol.parse(settings.protocol)
    predictor = Predictor(engine, settings.preprocess, dataset.labels)
    preprocess = chosen.preprocess(predictor.preprocess)
    colours = np.frombuffer(dataset.labels.paint(), np.uint8).reshape(256, 3)
    shown = {}
    for sample in thinned(dataset, PICTURES).samples:
        pixels, label = dataset.read_image(sample), dataset.read_label(sample)
        truth = chosen.truth(label, preprocess)
        predicted = chosen.predict(predictor, pixels).class_map
        seen = covered(pixels, preprocess, truth.shape)
        painted = [seen // 2 + colours[classes] // 2 for classes in (truth, predicted)]
        shown[sample.id] = np.concatenate([seen, *painted], axis=1)
    return shown
