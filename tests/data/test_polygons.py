"""Masks of the outlines that labelling tools keep."""

import base64
import io
import json
import re
import sys
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


@pytest.mark.parametrize("outline", [[[1, 1, 4, 1, 4, 3, 1, 3]], [1, 1, 4, 1, 4, 3, 1, 3]])
def test_coco(outline: Any, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    counts = [0, 5, 25]  # the first column of five rows
    path = coco(
        tmp_path / "x.json",
        [
            {"category_id": 3, "segmentation": outline},
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
        ({"images": [{"id": 7, "file_name": "/"}]}, "not a COCO file: ValueError: '/' names no im"),
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


def touched(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def named(root: Path, done: Drawn) -> tuple[str | None, list[str]]:
    """The folder of the images and the masks, below these folders."""
    masks = [mask.relative_to(root / "masks").as_posix() for mask in done.masks]
    return done.images and done.images.relative_to(root).as_posix(), masks


@pytest.mark.parametrize(
    ("written", "there", "folder", "masks"),
    [
        (["x/1.jpg"], ["x/1.jpg"], ".", ["x/1.png"]),
        (["/data/images/1.jpg"], ["images/1.jpg"], "images", ["1.png"]),
        (["images/0.jpg", "C:\\x\\images\\2.jpg"], ["images/0.jpg", "images/2.jpg"], ".",
         ["images/0.png", "images/2.png"]),
        (["http://host/s/1.jpg"], ["images/s/1.jpg"], "images", ["s/1.png"]),
        (["/a/s/1.jpg", "/a/t/1.jpg"], ["images/s/1.jpg", "images/t/1.jpg"], "images",
         ["s/1.png", "t/1.png"]),
        (["train/1.jpg"], ["images/1.jpg"], "images", ["1.png"]),
        (["train/1.jpg", "val/1.jpg"], [], None, ["train/1.png", "val/1.png"]),
        (["C:\\x\\1.jpg", "C:\\x\\2.jpg"], [], None, ["1.png", "2.png"]),
        (["/x/s/1.jpg", "/x/t/1.jpg", "/x/2.jpg"], [], None, ["x/s/1.png", "x/t/1.png", "2.png"]),
        (["0.jpg", "1.jpg"], ["images/1.jpg"], "images", ["0.png", "1.png"]),
    ],
)  # fmt: skip
def test_masks_are_called_as_their_images_wherever_coco_saw_them(
    written: list[str], there: list[str], folder: str | None, masks: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("pycocotools")
    touched(*(tmp_path / one for one in there))
    images = [{"id": i, "file_name": n, "height": 5, "width": 6} for i, n in enumerate(written)]
    annotations = [{"image_id": 0, "category_id": 3, "segmentation": []}]
    path = coco(tmp_path / "x.json", annotations, images=images)
    assert named(tmp_path, draw(path, tmp_path / "masks")) == (folder, masks)


def test_the_folder_of_images_that_is_named_decides(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    touched(tmp_path / "other/s/1.jpg")
    images = [{"id": 7, "file_name": "/x/other/s/1.jpg", "height": 5, "width": 6}]
    path = coco(tmp_path / "x.json", [], images=images, categories=[{"id": 1, "name": "road"}])
    done = draw(path, tmp_path / "masks", images=tmp_path / "other")
    assert named(tmp_path, done) == ("other", ["s/1.png"])


@pytest.mark.parametrize(
    ("annotations", "written", "there", "folder", "mask"),
    [
        ("set", "../img/1.jpg", "set/img/1.jpg", "set", "img/1.png"),
        ("set/json", "..\\img\\1.jpg", "set/img/1.jpg", "set/img", "1.png"),
        ("set/json", "1.jpg", "set/images/1.jpg", "set/images", "1.png"),
        ("set", "C:\\x\\1.jpg", "set/json/1.jpg", "set", "json/1.png"),
        ("set", "../img/1.jpg", "x.jpg", None, "json/1.png"),
    ],
)
def test_masks_are_called_as_their_images_wherever_labelme_put_its_files(
    annotations: str, written: str, there: str, folder: str | None, mask: str, tmp_path: Path
) -> None:
    labelme(tmp_path / "set/json", shape("a", SQUARE), imagePath=written)
    touched(tmp_path / there)
    done = draw(tmp_path / annotations, tmp_path / "masks")
    assert named(tmp_path, done) == (folder, [mask])


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


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ({"counts": [0, 5, 20], "size": [4, 6]}, r"a run-length mask of the size \[4, 6\]"),
        ({"counts": "zz"}, "an outline that cannot be read"),
        ([["a", 1, 4, 1, 4, 3]], "an outline that cannot be read"),
    ],
)
def test_an_outline_of_coco_that_is_broken_costs_its_image_alone(
    segmentation: Any, said: str, tmp_path: Path
) -> None:
    pytest.importorskip("pycocotools")
    sizes = {"height": 5, "width": 6}
    path = coco(
        tmp_path / "x.json",
        [
            {"category_id": 3, "segmentation": segmentation},
            {"image_id": 8, "category_id": 3, "segmentation": [[1, 1, 4, 1, 4, 3]]},
        ],
        images=[{"id": 7, "file_name": "a.jpg", **sizes}, {"id": 8, "file_name": "b.jpg", **sizes}],
    )
    done = draw(path, tmp_path / "masks")
    assert [mask.name for mask in done.masks] == ["b.png"]
    [failed] = done.failed
    assert re.match(f"a.jpg: {said}", failed)


def test_what_coco_holds_besides(tmp_path: Path) -> None:
    """Compressed runs, outlines of two corners, and annotations of images that are not listed."""
    mask = pytest.importorskip("pycocotools.mask")
    inside = np.zeros((5, 6), np.uint8, order="F")
    inside[2:, 4:] = 1
    runs = mask.encode(inside)
    path = coco(
        tmp_path / "x.json",
        [
            {"category_id": 3, "segmentation": {**runs, "counts": runs["counts"].decode()}},
            {"category_id": 9, "segmentation": [[1, 1, 2, 2]]},
            {"image_id": 99, "category_id": 9, "segmentation": [[1, 1, 4, 1, 4, 3]]},
        ],
    )
    done = draw(path, tmp_path / "masks")
    found = np.asarray(Image.open(tmp_path / "masks/a.png"))
    assert found.tolist() == inside.tolist()
    assert done.left_out == {"outlines of fewer than three corners": 1}
    assert done.failed == (f"{path}: 1 annotations are of images that it does not list",)


def test_the_size_is_looked_up_where_labelme_does_not_say_it(tmp_path: Path) -> None:
    labelme(tmp_path / "json", shape("a", SQUARE), imageHeight=None, imageWidth=None)
    Image.new("RGB", (9, 7)).save(tmp_path / "json/a.jpg")
    assert drawn(tmp_path / "json").shape == (7, 9)


def test_one_file_of_labelme(tmp_path: Path) -> None:
    labelme(tmp_path, shape("b", SQUARE), shape("a", [[0, 0], [1, 1]], "rectangle"))
    done = draw(tmp_path / "a.json", tmp_path / "masks")
    assert done.labels.names == ("background", "b", "a")  # in the order of the file
    assert np.asarray(Image.open(tmp_path / "masks/a.png"))[0, 0] == 2


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (shape("a", [[1, "x"], [4, 1], [4, 3]]), "not a file of labelme: could not convert"),
        (shape("a", [[1, float("nan")], [4, 1], [4, 3]]), "corners that are not numbers"),
        ({"points": SQUARE}, "not a file of labelme: 'label'"),
        (shape("a", SQUARE[:2], "mask", mask="A"), "a mask that cannot be read"),
    ],
)
def test_a_shape_of_labelme_that_is_broken_costs_its_image_alone(
    one: Any, said: str, tmp_path: Path
) -> None:
    labelme(tmp_path / "json", one)
    labelme(tmp_path / "json", shape("a", SQUARE), name="b")
    done = draw(tmp_path / "json", tmp_path / "masks")
    assert [mask.name for mask in done.masks] == ["b.png"]
    assert said in done.failed[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a": 1}, "expected a COCO file .* or one of labelme"),
        ([1, 2], "expected a COCO file"),
        ({"shapes": []}, "no class in it"),
    ],
)
def test_json_of_something_else(content: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    size = {"imageHeight": 5, "imageWidth": 6}
    path.write_text(json.dumps(content if isinstance(content, list) else content | size))
    with pytest.raises(ConfigError, match=said):
        draw(path, tmp_path / "masks")


def test_a_folder_without_annotations_and_an_image_annotated_twice(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no JSON file in it"):
        draw(tmp_path / "empty", tmp_path / "masks")
    labelme(tmp_path / "json", shape("a", SQUARE))
    labelme(tmp_path / "json", shape("a", SQUARE), name="b", imagePath="a.jpg")
    with pytest.raises(ConfigError, match=r"the image a.jpg is annotated twice"):
        draw(tmp_path / "json", tmp_path / "masks")


def test_other_json_among_files_of_labelme_costs_none_of_them(tmp_path: Path) -> None:
    labelme(tmp_path / "json", shape("a", SQUARE))
    (tmp_path / "json/settings.json").write_text('{"flags": {}}')
    coco(tmp_path / "json/whole.json", [])
    done = draw(tmp_path / "json", tmp_path / "masks")
    assert [mask.name for mask in done.masks] == ["a.png"]
    assert done.failed == (
        f"{tmp_path}/json/settings.json: not a file of labelme: no shapes in it",
        f"{tmp_path}/json/whole.json: a COCO file; name it, and not the folder that it is in",
    )


def test_the_folder_of_a_coco_file_is_told_what_to_name(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    coco(tmp_path / "annotations/instances_train.json", [])
    expected = r"annotations: .*instances_train\.json: a COCO file; name it, and not the folder"
    with pytest.raises(ConfigError, match=expected):
        draw(tmp_path / "annotations", tmp_path / "masks")


def test_a_coco_file_without_what_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    expected = r"^COCO files need pycocotools, not installed: pip install 'atrous\[coco\]'$"
    with pytest.raises(ConfigError, match=expected):
        draw(coco(tmp_path / "x.json", []), tmp_path / "masks")


@pytest.mark.parametrize("size", [(0, 6), (5, -1), (10**6, 10**6)])
def test_sizes_that_no_image_has(size: tuple[int, int], tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    images = [{"id": 7, "file_name": "a.jpg", "height": size[0], "width": size[1]}]
    path = coco(tmp_path / "x.json", [{"category_id": 3, "segmentation": []}], images=images)
    [failed] = draw(path, tmp_path / "masks").failed
    assert f"a.jpg: {size[1]}×{size[0]} pixels, expected 1.." in failed
