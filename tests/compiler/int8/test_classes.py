"""Layers go back to float by what they do to the class maps."""

from collections.abc import Collection, Mapping

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from atrous.compiler.int8 import classes
from tests.builders.sketch import Sketch

SIDE = 100
"""Pixels of a side: one row is one percent."""


def scores(changed: Collection[int]) -> onnx.ModelProto:
    """Three classes: 0 but for row 0, which is 2; `changed` rows are 1."""
    draft = Sketch()
    x = draft.input(1, 1, SIDE, SIDE, name="input")
    return draft.model(draft.node("Add", x, draft.constant(grid(changed))), rank=4)


def grid(changed: Collection[int]) -> NDArray[np.float32]:
    logits = np.zeros((1, 3, SIDE, SIDE), np.float32)
    logits[0, 0] = 1
    logits[0, 2, 0] = 2
    logits[0, 1, list(changed)] = 9
    return logits


def judged(harm: Mapping[str, Collection[int]], groups: list[list[str]]) -> list[str]:
    """What stays in float where a layer in int8 changes those rows."""

    def write(floats: Collection[str]) -> onnx.ModelProto:
        rows = {row for name, rows in harm.items() if name not in floats for row in rows}
        return scores(rows)

    inputs = [np.zeros((1, 1, SIDE, SIDE), np.float32)]
    return list(classes.harmful(scores([]), groups, write, inputs, ("ground", "road")))


def test_one_that_changes_no_class_is_int8() -> None:
    assert judged({"a": [], "b": [5]}, [["a"], ["b"]]) == ["b"]


def test_a_group_is_decided_on_together() -> None:
    assert judged({"a": [], "b": [5]}, [["a", "b"]]) == ["a", "b"]


def test_each_of_two_that_spoil_the_same_pixels_is_found() -> None:
    everything = range(SIDE)
    assert judged({"a": everything, "b": everything}, [["a"], ["b"]]) == ["a", "b"]


def test_nothing_is_run_without_suspects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classes, "open_session", None)
    assert judged({}, []) == []


@pytest.mark.parametrize(("frequent", "kept"), [(1.0, ["a"]), (1.1, [])])
def test_the_worst_class_counts_if_there_is_enough_of_it(
    monkeypatch: pytest.MonkeyPatch, frequent: float, kept: list[str]
) -> None:
    monkeypatch.setattr(classes, "PIXELS", 1.5)
    monkeypatch.setattr(classes, "FREQUENT", frequent)
    assert judged({"a": [0]}, [["a"]]) == kept


def test_the_reasons() -> None:
    before = classes._against([grid([])], [grid([])])
    after = classes._against([grid([])], [grid([0])])
    said = classes._cost(before, after, ("ground", "road"))
    assert said == "in int8 it changes the class of 1.00 % of the pixels"
    assert classes._cost(before, before, ()) == ""


def test_a_class_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classes, "PIXELS", 1.5)
    before = classes._against([grid([])], [grid([])])
    after = classes._against([grid([])], [grid([0])])
    named = classes._cost(before, after, ("ground", "road", "sky"))
    assert named == "in int8 it costs sky 100.0 points of IoU"
    assert classes._cost(before, after, ("ground",)).startswith("in int8 it costs class 2 100.0")
