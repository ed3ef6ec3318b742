from pathlib import Path
from typing import Any

import pytest

from atrous.errors import ConfigError
from atrous.evaluation.result import (
    SHARED,
    Evaluation,
    Stamp,
    check_comparable,
    hash_ids,
    load,
    save,
)


def result(**changes: Any) -> Evaluation:
    stamp: dict[str, Any] = {
        "protocol": "squash-513",
        "resize": "opencv-bilinear",
        "data": "voc:val",
        "images": 725,
        "ids": "abc",
        "labels": "voc",
        "ignore_index": 255,
        "absent": "skip",
        "model": "default",
        "identity": "f00",
        "precision": "fp16",
        "engine": "onnxruntime 1.0 cpu",
    }
    return Evaluation(
        stamp=Stamp(**(stamp | changes)),
        pixel_accuracy=90.0,
        mean_accuracy=75.0,
        frequency_weighted_iou=83.0,
        mean_iou=64.0,
        iou={"background": 91.0, "person": None},
        confusion=[[1, 0], [0, 0]],
    )


def test_round_trip(tmp_path: Path) -> None:
    save(result(), tmp_path / "r.json")
    assert load(tmp_path / "r.json") == result()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"stamp": 1}'])
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(ConfigError, match=r"r\.json: not a result of atrous eval --json-file"):
        load(tmp_path / "r.json")


@pytest.mark.parametrize(
    "field",
    [
        {"model": "other"},
        {"precision": "int8"},
        {"engine": "openvino 2026 cpu"},
        {"identity": "bad"},
        {"calibrated_on": 5},
    ],
    ids=str,
)
def test_models_and_engines_may_differ(field: dict[str, Any]) -> None:
    check_comparable([("a", result()), ("b", result(**field))])


@pytest.mark.parametrize("field", SHARED)
def test_measurements_may_not(field: str) -> None:
    other = 7 if field in ("images", "ignore_index") else "other"
    with pytest.raises(ConfigError, match=rf"a and b cannot stand in one table: {field} is .*"):
        check_comparable([("a", result()), ("b", result(**{field: other}))])


def test_hash_of_ids_knows_their_order() -> None:
    assert hash_ids(["a", "b"]) != hash_ids(["b", "a"])
    assert hash_ids(["a", "b"]) == hash_ids(("a", "b"))


@pytest.mark.parametrize("wrong", [{"failed": ["a.jpg: missing"]}, {"health": ["one class"]}])
def test_incomplete_and_unhealthy_results_are_refused(wrong: dict[str, Any]) -> None:
    bad = result().model_copy(update=wrong)
    with pytest.raises(ConfigError, match="b is not a whole measurement of a healthy model"):
        check_comparable([("a", result()), ("b", bad)])


def test_masks_that_were_changed_between_two_measurements_are_seen() -> None:
    """Names and ids of a data set stay as they are when its masks are drawn anew."""
    other = result().model_copy(update={"confusion": [[0, 1], [0, 0]]})
    check_comparable([("a", result()), ("b", other)])
    redrawn = result().model_copy(update={"confusion": [[1, 0], [0, 4]]})
    wanted = (
        r"against other masks, with 0 pixels of 'person' in the one and with 4 pixels of 'person'"
    )
    with pytest.raises(ConfigError, match=wanted):
        check_comparable([("a", result()), ("b", redrawn)])
