"""Whether a layer in int8 changes the class of a pixel: decibels of logits do not say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from atrous.compiler.progress import Tell, counted, silent
from atrous.engines.session import open_session
from atrous.metrics import ConfusionMatrix

JUDGED = 12
"""Calibration images on which class maps are compared."""

PIXELS = 0.1
"""Percent of the pixels whose class a group of layers may change in int8."""

CLASS = 3.0
"""Points of IoU that any one class may lose by a group of layers in int8."""

FREQUENT = 1.0
"""Percent of the pixels that a class has at least, for its IoU to count: of a few pixels it is
chance."""

_Scores = NDArray[np.generic]

Write = Callable[[Collection[str]], onnx.ModelProto]
"""Writes the int8 model with the layers of these names in float besides those that always are."""


def harmful(
    model: onnx.ModelProto,
    groups: Sequence[Collection[str]],
    write: Write,
    inputs: Sequence[NDArray[np.generic]],
    labels: Sequence[str] = (),
    *,
    tell: Tell = silent,
) -> dict[str, str]:
    """Which of some suspected layers have to stay in float, by what they do to the class maps.

    The groups become int8 one after the other, with everything else that is int8, the most
    harmless first. One that changes the class of too many pixels, or costs any class too much of
    its IoU with the float model's map, goes back to float. Beginning with all of them in float
    finds each of two layers of which either one alone spoils everything.

    Args:
        model: float, logits `(N, C, h, w)`.
        groups: names of layers that are decided on together, the most harmless first.
        write: see `Write`.
        inputs: of the network.
        labels: names of the classes, for the reasons.
        tell: called with every group.

    Returns:
        Layer → why it stays in float.
    """
    if not groups:
        return {}
    truth = _scores(model, inputs)
    floats = [name for group in groups for name in group]
    before = _against(truth, _scores(write(floats), inputs))
    kept: dict[str, str] = {}
    for group in counted(groups, "judging int8 by classes", tell):
        tried = [name for name in floats if name not in group]
        after = _against(truth, _scores(write(tried), inputs))
        if why := _cost(before, after, labels):
            kept |= dict.fromkeys(group, why)
        else:
            floats, before = tried, after
    return kept


def _scores(model: onnx.ModelProto, inputs: Sequence[NDArray[np.generic]]) -> Sequence[_Scores]:
    # As it is written: fused products of bytes saturate on some processors, and not on others.
    session = open_session(model, "judging int8 by classes", optimised="none")
    [name] = [one.name for one in session.get_inputs()]
    return [np.asarray(session.run(None, {name: one})[0]) for one in inputs]


def _against(truth: Sequence[_Scores], found: Sequence[_Scores]) -> ConfusionMatrix:
    """Pixels by their class in the float model, and in int8."""
    matrix = ConfusionMatrix(truth[0].shape[1], ignore_index=-1)
    for expected, actual in zip(truth, found, strict=True):
        matrix.update(expected.argmax(1), actual.argmax(1))
    return matrix


def _cost(before: ConfusionMatrix, after: ConfusionMatrix, labels: Sequence[str]) -> str:
    """What a group costs in int8, if that is more than it may; else nothing."""
    pixels = 100 * (before.pixel_accuracy - after.pixel_accuracy)
    if pixels > PIXELS:
        return f"in int8 it changes the class of {pixels:.2f} % of the pixels"
    share = 100 * before.counts.sum(1) / before.counts.sum()
    lost = np.where(share >= FREQUENT, 100 * (before.iou - after.iou), 0.0)
    worst = int(lost.argmax())
    if lost[worst] > CLASS:
        called = labels[worst] if worst < len(labels) else f"class {worst}"
        return f"in int8 it costs {called} {lost[worst]:.1f} points of IoU"
    return ""
