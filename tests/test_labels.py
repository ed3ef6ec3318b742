from __future__ import annotations

import json
from typing import Any

import pytest

from atrous.errors import InputError
from atrous.labels import CITYSCAPES, LABEL_SETS, VOC, LabelSet, generic


@pytest.mark.parametrize(
    ("labels", "class_id", "name", "colour"),
    [
        (VOC, 0, "background", (0, 0, 0)),
        (VOC, 1, "aeroplane", (128, 0, 0)),
        (VOC, 8, "cat", (64, 0, 0)),
        (VOC, 15, "person", (192, 128, 128)),
        (VOC, 20, "tvmonitor", (0, 64, 128)),
        (CITYSCAPES, 0, "road", (128, 64, 128)),
        (CITYSCAPES, 13, "car", (0, 0, 142)),
        (CITYSCAPES, 18, "bicycle", (119, 11, 32)),
    ],
)
def test_official_names_and_colours(
    labels: LabelSet, class_id: int, name: str, colour: tuple[int, int, int]
) -> None:
    assert (labels.names[class_id], labels.colours[class_id]) == (name, colour)


def test_sizes() -> None:
    assert {name: labels.num_classes for name, labels in LABEL_SETS.items()} == {
        "voc": 21,
        "cityscapes": 19,
    }


@pytest.mark.parametrize("labels", [VOC, CITYSCAPES, generic(150)], ids=lambda labels: labels.name)
def test_palette(labels: LabelSet) -> None:
    palette = labels.palette()
    assert len(palette) == 768
    colours = [tuple(palette[start : start + 3]) for start in range(0, 768, 3)]
    assert tuple(colours[: labels.num_classes]) == labels.colours
    assert colours[255] == (224, 224, 192)


def test_another_ignored_id_is_beige_too() -> None:
    labels = LabelSet("two", ("a", "b"), ((1, 2, 3), (4, 5, 6)), ignore_index=2)
    assert list(labels.palette()[:9]) == [1, 2, 3, 4, 5, 6, 224, 224, 192]


@pytest.mark.parametrize("num_classes", [1, 256])
def test_generic_colours_are_distinct(num_classes: int) -> None:
    labels = generic(num_classes)
    assert len(set(labels.colours)) == labels.num_classes == num_classes
    assert labels.names[-1] == f"class {num_classes - 1}"


@pytest.mark.parametrize("labels", [VOC, CITYSCAPES, generic(2)], ids=lambda labels: labels.name)
def test_json_round_trip(labels: LabelSet) -> None:
    assert LabelSet.from_dict(json.loads(json.dumps(labels.to_dict()))) == labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["a"]}, "1 names but 2 colours"),
        ({"names": [], "colours": []}, r"expected 1\.\.256 classes, found 0"),
        ({"ignore_index": 1}, r"ignore_index 1 must be 0\.\.255 and outside the class ids 0\.\.1"),
        ({"ignore_index": 256}, r"ignore_index 256 must be 0\.\.255"),
        ({"ignore_index": "255"}, "'ignore_index' must be int, found str"),
        ({"ignore_index": True}, "'ignore_index' must be int, found bool"),
        ({"names": ["a", 2]}, "a class name must be str, found 2"),
        ({"colours": [[0, 0, 0], [0, 0]]}, r"a colour must be three integers, found \[0, 0\]"),
        ({"colours": [[0, 0, 0], [0, 0, 256]]}, r"colour of 'b' must be three numbers 0\.\.255"),
        ({"extra": 1}, "expected the keys .*, found .*'extra'"),
    ],
)
def test_bad_sets_are_named(change: dict[str, Any], message: str) -> None:
    good = {
        "name": "x",
        "names": ["a", "b"],
        "colours": [[0, 0, 0], [1, 1, 1]],
        "ignore_index": 255,
    }
    with pytest.raises(InputError, match=message):
        LabelSet.from_dict({**good, **change})


@pytest.mark.parametrize("num_classes", [0, 257])
def test_generic_has_limits(num_classes: int) -> None:
    with pytest.raises(InputError, match=r"expected 1\.\.256 classes"):
        generic(num_classes)


def test_not_a_mapping() -> None:
    with pytest.raises(InputError, match="expected a mapping, found list"):
        LabelSet.from_dict([])  # type: ignore[arg-type]
