"""Masks of the outlines that labelling tools keep."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atrous.data.polygons import Drawn, draw
from atrous.errors import ConfigError

SQUARE = [[1, 1], [4, 1], [4, 3], [1, 3]]


def labelme(folder: Path, *shapes: dict[str, Any], name: str = "a", **more: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"shapes": shapes, "imagePath": f"{name}.jpg", "imageHeight": 5, "imageWidth": 6}
    text = json.dumps(content | more)
    (folder / f"{name}.json").write_bytes(("\ufeff" + text.replace("\n", "\r\n")).encode())


def shape(label: str, points: Any, kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, **more}


def drawn(path: Path, name: str = "a.png", **how: Any) -> Any:
    draw(path, path.parent / "masks", **how)
    return np.asarray(Image.open(path.parent / "masks" / name))


@pytest.mark.parametrize(
    ("one", "inside"),
    [
        (shape("road", SQUARE), (slice(1, 3), slice(1, 4))),
        (shape("road", [[1, 1], [4, 3]], "rectangle"), (slice(1, 3), slice(1, 4))),
        (shape("road", [[4, 3], [1, 1]], "rectangle"), (slice(1, 3), slice(1, 4))),
        (shape("road", [[-9, -9], [99, -9], [99, 2], [-9, 2]]), (slice(0, 2), slice(0, 6))),
        (shape("road", [[1.4, 0.6], [2.4, 0.6], [2.4, 4.4], [1.4, 4.4]]), (slice(1, 4), 1)),
    ],
)
def test_shapes(one: Any, inside: Any, tmp_path: Path) -> None:
    labelme(tmp_path / "json", one)
    right = np.zeros((5, 6), np.uint8)
    right[inside] = 1
    assert drawn(tmp_path / "json").tolist() == right.tolist()


def test_a_circle_and_a_pasted_mask(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.uint8([[0, 255], [255, 255]])).save(file, format="PNG")
    mask = base64.b64encode(file.getvalue()).decode()
    labelme(
        tmp_path / "json",
        shape("disc", [[2, 2], [2, 4]], "circle"),
        shape("spot", [[5, 4], [6, 5]], "mask", mask=mask),
    )
    found = drawn(tmp_path / "json")
    assert (found == 1).sum() == 12  # pixels whose centre is within 2 of the corner
    assert found[4, 5] == 0
    assert (found == 2).sum() == 0  # only its empty corner lies inside


def test_later_shapes_lie_on_earlier_ones(tmp_path: Path) -> None:
    whole = [[0, 0], [6, 0], [6, 5], [0, 5]]
    labelme(tmp_path / "json", shape("b", whole), shape("a", SQUARE), shape("__ignore__", SQUARE))
    assert np.unique(drawn(tmp_path / "json")).tolist() == [2, 255]
    labelme(tmp_path / "json", shape("a", SQUARE), shape("b", whole))
    assert np.unique(drawn(tmp_path / "json", force=True)).tolist() == [2]


def test_what_nobody_labelled(tmp_path: Path) -> None:
    labelme(
        tmp_path / "json",
        shape("road", SQUARE),
        shape("_background_", [[0, 0], [6, 0], [6, 1], [0, 1]]),
    )
    found = drawn(tmp_path / "json", background=False)
    assert np.unique(found).tolist() == [0, 1, 255]
    assert np.unique(drawn(tmp_path / "json", force=True)).tolist() == [0, 1]


def test_shapes_without_an_area_are_counted(tmp_path: Path) -> None:
    labelme(tmp_path / "json", shape("a", SQUARE), shape("a", [[1, 1]], "point"),
            shape("a", [[1, 1], [2, 2]], "line"))  # fmt: skip
    done = draw(tmp_path / "json", tmp_path / "masks")
    assert done.left_out == {"point of 1 corners": 1, "line of 2 corners": 1}


def test_a_broken_file_costs_no_other(tmp_path: Path) -> None:
    labelme(tmp_path / "json", shape("a", SQUARE))
    (tmp_path / "json/b.json").write_text("{")
    done = draw(tmp_path / "json", tmp_path / "masks")
    assert [path.name for path in done.masks] == ["a.png"]
    assert "b.json: not readable JSON" in done.failed[0]


def test_paths_of_windows_and_images_that_differ_by_their_ending(tmp_path: Path) -> None:
    labelme(tmp_path / "json/x", shape("a", SQUARE), imagePath="..\\pictures\\one.jpg")
    labelme(tmp_path / "json/x", shape("a", SQUARE), name="b", imagePath="one.png")
    done = draw(tmp_path / "json", tmp_path / "masks")
    names = [path.relative_to(tmp_path / "masks").as_posix() for path in done.masks]
    assert names == ["x/one.jpg.png", "x/one.png.png"]


def coco(path: Path, annotations: list[dict[str, Any]], **changes: Any) -> Path:
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "height": 5, "width": 6}],
        "annotations": [{"image_id": 7, **one} for one in annotations],
        "categories": [
            {"id": 0, "name": "things", "supercategory": "none"},
            {"id": 3, "name": "road", "supercategory": "things"},
            {"id": 9, "name": "car", "supercategory": "things"},
        ],
    }
    path.write_text(json.dumps(content | changes))
    return path


def test_coco(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    counts = [0, 5, 25]  # the first column of five rows
    path = coco(
        tmp_path / "x.json",
        [
            {"category_id": 3, "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]]},
            {"category_id": 9, "segmentation": {"counts": counts, "size": [5, 6]}, "iscrowd": 1},
            {"category_id": 9, "segmentation": [], "bbox": [0, 0, 6, 5]},
        ],
    )
    done = draw(path, tmp_path / "masks")
    assert done.failed == ()
    found = np.asarray(Image.open(tmp_path / "masks/a.png"))
    assert done.labels.names == ("background", "road", "car")
    assert (found[:, 0].tolist(), found[1:3, 1:4].tolist()) == ([2] * 5, [[1] * 3] * 2)
    assert done.left_out == {"boxes without an outline": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "no image in it"),
        ({"categories": []}, "no category of the id 3"),
        ({"images": [{"id": 7}]}, "not a COCO file: KeyError: 'file_name'"),
        ({"annotations": 5}, "not a COCO file: TypeError"),
    ],
)
def test_no_coco(changes: Any, message: str, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    path = coco(tmp_path / "x.json", [{"category_id": 3, "segmentation": [[1, 1, 4, 1, 4, 3]]}])
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ConfigError, match=message):
        draw(path, tmp_path / "masks")


def test_names_never_lead_out_of_the_folder(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    images = [{"id": 7, "file_name": "../../a.jpg", "height": 5, "width": 6}]
    path = coco(tmp_path / "x.json", [{"category_id": 3, "segmentation": []}], images=images)
    assert draw(path, tmp_path / "masks").masks == (tmp_path / "masks/a.png",)


def test_masks_that_are_there_stay(tmp_path: Path) -> None:
    labelme(tmp_path / "json", shape("a", SQUARE))

    def again(**how: Any) -> Drawn:
        return draw(tmp_path / "json", tmp_path / "masks", **how)

    again()
    with pytest.raises(ConfigError, match=r"a.png is there already"):
        again()
    with pytest.raises(ConfigError, match=r"the class 'a' is not among road"):
        again(classes=["road"], force=True)
    assert again(classes=["b", "a"], force=True).labels.names == ("background", "b", "a")
