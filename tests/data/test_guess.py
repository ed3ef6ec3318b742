"""What masks hold, and which lists of names are splits, is guessed as its maker would say it."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image, ImageFilter

from atrous.data import open_dataset
from atrous.data.guess import guess
from atrous.errors import ConfigError
from tests.builders.bare_folders import TRUTH, described, made, mask, photograph


@pytest.mark.parametrize("content", [b"\0\1\2", b"x\ny\n", b"\n", b"a\nx\ny\n"])
def test_a_list_of_something_else_makes_no_split(content: bytes, tmp_path: Path) -> None:
    made(tmp_path, "images/{}.jpg", "masks/{}.png")
    (tmp_path / "train.txt").write_bytes(content)
    assert "splits" not in described(tmp_path)


def test_lists(tmp_path: Path) -> None:
    made(tmp_path, "JPEGImages/{}.jpg", "SegmentationClass/{}.png")
    for split in ("train", "val"):
        path = tmp_path / f"ImageSets/Segmentation/{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a\nb\nc\n")
    assert described(tmp_path)["splits"] == {
        "train": "ImageSets/Segmentation/train.txt",
        "val": "ImageSets/Segmentation/val.txt",
    }


def test_0_and_255(tmp_path: Path) -> None:
    made(tmp_path, "images/{}.jpg", "masks/{}.png", values=TRUTH * 255)
    assert described(tmp_path)["values"] == {0: "background", 255: "object"}


def test_values_far_apart(tmp_path: Path) -> None:
    made(tmp_path, "images/{}.jpg", "masks/{}.png", values=TRUTH * 75 + 38)
    assert described(tmp_path)["values"] == {38: "value 38", 113: "value 113"}


def test_colours(tmp_path: Path) -> None:
    colours = np.uint8([[0, 0, 0], [128, 64, 128]])[TRUTH]
    made(tmp_path, "images/{}.jpg", "masks/{}.png", values=colours)
    found = described(tmp_path)
    assert found["mask_type"] == "rgb"
    assert found["classes"] == {"background": [0, 0, 0], "road": [128, 64, 128]}


def test_pure_red_is_no_rider(tmp_path: Path) -> None:
    """Cityscapes paints them so, and so does everybody who paints one thing."""
    colours = np.uint8([[0, 0, 0], [255, 0, 0]])[TRUTH]
    made(tmp_path, "images/{}.jpg", "masks/{}.png", values=colours)
    assert described(tmp_path)["classes"] == {"background": [0, 0, 0], "class 1": [255, 0, 0]}
    colours[0, 0] = (220, 20, 60)
    made(tmp_path, "images/{}.jpg", "masks/{}.png", values=colours)
    assert list(described(tmp_path)["classes"]) == ["background", "person", "rider"]


def test_the_lists_of_oxfords_pets(tmp_path: Path) -> None:
    made(tmp_path, "images/{}.jpg", "annotations/trimaps/{}.png")
    lists = tmp_path / "annotations"
    (lists / "trainval.txt").write_text("a 1 1 1\nb 2 1 1\n")
    (lists / "test.txt").write_text("c 1 1 1\n")
    found = guess(tmp_path, tmp_path)
    (tmp_path / "own.yaml").write_text(found.text)
    assert found.split == "trainval"
    for split, names in {"trainval": ["a", "b"], "test": ["c"]}.items():
        data = open_dataset(f"folder:{tmp_path / 'own.yaml'}:{split}")
        assert [one.id for one in data.samples] == names
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("b\n")
    assert list(yaml.safe_load(guess(tmp_path, tmp_path).text)["splits"]) == [
        "train",
        "val",
        "test",
    ]


def test_palettes_that_differ(tmp_path: Path) -> None:
    made(tmp_path, "images/{}.jpg", "masks/{}.png", palette=[0, 0, 0, 128, 64, 128])
    mask(tmp_path / "masks/b.png", 1 - TRUTH, [128, 64, 128, 0, 0, 0])
    assert described(tmp_path)["classes"] == {"background": [0, 0, 0], "road": [128, 64, 128]}


def test_what_cvat_writes(tmp_path: Path) -> None:
    palette = [0, 0, 0, 51, 221, 255]
    made(tmp_path, "JPEGImages/{}.jpg", "SegmentationClass/{}.png", values=TRUTH, palette=palette)
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:51,221,255::\n"
    )
    found = described(tmp_path)
    assert found["classes"] == {"background": [0, 0, 0], "road": [51, 221, 255]}


def test_what_roboflow_writes(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        made(tmp_path / split, "{}.jpg", "{}_mask.png")
        (tmp_path / split / "_classes.csv").write_text(
            "Pixel Value, Class\n0, background\n1, road\n"
        )
    found = described(tmp_path)
    assert (found["images"], found["masks"], found["mask_suffix"]) == (
        "{split}",
        "{split}",
        "_mask",
    )
    assert found["classes"] == ["background", "road"]


@pytest.mark.parametrize("name", ["classes.txt", "class_names.txt", "labels.txt"])
def test_a_list_of_classes(name: str, tmp_path: Path) -> None:
    made(tmp_path, "images/{}.jpg", "masks/{}.png")
    (tmp_path / name).write_text("ground\nroad\n")
    found = described(tmp_path)
    assert found["classes"] == ["ground", "road"]
    assert "ignore" not in found


def test_a_list_of_classes_that_are_counted_from_1(tmp_path: Path) -> None:
    made(tmp_path, "images/{}.jpg", "masks/{}.png", values=TRUTH + 1)
    mask(tmp_path / "masks/b.png", 2 * TRUTH)
    (tmp_path / "classes.txt").write_text("ground\nroad\n")
    found = described(tmp_path)
    assert (found["classes"], found["ignore"]) == (["ground", "road"], [0])
    reasons = guess(tmp_path, tmp_path).reasons
    assert "2 names end at the value 2: 0 is taken as not labelled" in reasons
    data = open_dataset(f"folder:{tmp_path}/own.yaml:all")
    one, other, _ = map(data.read_label, data.samples)
    np.testing.assert_array_equal(one, TRUTH)
    np.testing.assert_array_equal(other, np.where(TRUTH, 1, 255))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", b"\n"),
        ("labels.txt", b"\0\1"),
        ("_classes.csv", b"Pixel Value, Class\n0\n1\n"),
        ("_classes.csv", b"filename, road\na.jpg, 1\n"),
        ("labelmap.txt", b"# label:color_rgb:parts:actions\n"),
    ],
)
def test_a_file_that_names_no_class_is_passed_over(
    name: str, content: bytes, tmp_path: Path
) -> None:
    made(tmp_path, "images/{}.jpg", "masks/{}.png")
    (tmp_path / name).write_bytes(content)
    assert described(tmp_path)["classes"] == ["background", "class 1"]


@pytest.mark.parametrize("images", ["images/{}.jpg", "other/photos/{}.jpg"])
def test_no_masks(images: str, tmp_path: Path) -> None:
    for name in "abc":
        photograph(tmp_path / images.format(name))
    with pytest.raises(ConfigError, match="no masks that belong to pictures; found 3 in"):
        guess(tmp_path, tmp_path)


def test_blurred_masks_are_two_classes(tmp_path: Path) -> None:
    soft = np.asarray(Image.fromarray(TRUTH * 255).filter(ImageFilter.GaussianBlur(1)))
    for name in "abc":
        photograph(tmp_path / f"images/{name}.png")
        mask(tmp_path / f"masks/{name}.png", soft)
    found = guess(tmp_path, tmp_path)
    assert yaml.safe_load(found.text)["values"] == {0: "background", 255: "object"}
    assert any("greys that JPEG or a smooth resize left" in one for one in found.reasons)


def test_one_split_that_is_no_training_split_is_left_whole(tmp_path: Path) -> None:
    made(tmp_path, "images/val/{}.jpg", "masks/val/{}.png")
    assert "val_share" not in described(tmp_path)
    assert guess(tmp_path, tmp_path).split == "val"


def test_of_one_training_split_some_are_held_out(tmp_path: Path) -> None:
    made(tmp_path, "images/Train/{}.jpg", "masks/Train/{}.png")
    found = guess(tmp_path, tmp_path)
    (tmp_path / "own.yaml").write_text(found.text)
    parts = [open_dataset(f"folder:{tmp_path}/own.yaml:{name}") for name in ("train", "val")]
    assert (found.split, [len(part.samples) for part in parts]) == ("train", [2, 1])


def test_of_several_lists_those_of_the_masks_are_taken(tmp_path: Path) -> None:
    made(tmp_path, "JPEGImages/{}.jpg", "SegmentationClass/{}.png")
    for name in "defgh":
        photograph(tmp_path / f"JPEGImages/{name}.jpg")
    for kind, names in (("Action", "abcde"), ("Segmentation", "abc"), ("Main", "abcd")):
        (tmp_path / f"ImageSets/{kind}").mkdir(parents=True)
        text = "".join(f"{name} 1\n" if kind == "Action" else f"{name}\n" for name in names)
        (tmp_path / f"ImageSets/{kind}/train.txt").write_text(text)
        (tmp_path / f"ImageSets/{kind}/val.txt").write_text("c\n")
    (tmp_path / "ImageSets/Segmentation/test.txt").write_text("f\ng\n")
    found = yaml.safe_load(guess(tmp_path, tmp_path).text)
    assert found["splits"] == {
        "train": "ImageSets/Segmentation/train.txt",
        "val": "ImageSets/Segmentation/val.txt",
    }


@pytest.mark.parametrize("lines", ["a\nb\n", "x/a.jpg m/a.png\n", "x\\\\a.jpg\n", "a_sat\nb_sat\n"])
def test_lines_of_lists(lines: str, tmp_path: Path) -> None:
    made(tmp_path, "x/{}_sat.jpg", "m/{}.png")
    (tmp_path / "train.txt").write_text(lines.replace("a.jpg", "a_sat.jpg"))
    found = yaml.safe_load(guess(tmp_path, tmp_path).text)
    assert found["splits"] == {"train": "train.txt"}


def test_names_with_blanks_in_lists(tmp_path: Path) -> None:
    made(tmp_path, "x/IMG {}.jpg", "m/IMG {}.png")
    (tmp_path / "val.txt").write_text("IMG a\nIMG b\n")
    assert yaml.safe_load(guess(tmp_path, tmp_path).text)["splits"] == {"val": "val.txt"}


def test_labels_of_labelme(tmp_path: Path) -> None:
    made(tmp_path, "images/{}.jpg", "masks/{}.png")
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nroad\n")
    found = described(tmp_path)
    assert found["classes"] == ["background", "road"]
    assert "ignore" not in found


@pytest.mark.parametrize(
    ("name", "content", "keys"),
    [
        (
            "classes.txt",
            "ground\nignore\n",
            {"classes": ["ground", "ignore"], "ignore": ["ignore"]},
        ),
        (
            "_classes.csv",
            "Pixel Value, Class\n0, ground\n1, ignore\n",
            {"classes": ["ground"], "values": {0: "ground", 1: "ignore"}},
        ),
    ],
)
def test_a_name_for_what_is_not_scored(
    name: str, content: str, keys: dict[str, object], tmp_path: Path
) -> None:
    made(tmp_path, "images/{}.jpg", "masks/{}.png")
    (tmp_path / name).write_text(content)
    found = described(tmp_path)
    assert {key: found[key] for key in keys} == keys
    data = open_dataset(f"folder:{tmp_path}/own.yaml:all")
    np.testing.assert_array_equal(data.read_label(data.samples[0]), TRUTH * 255)


def test_a_colour_for_what_is_not_scored(tmp_path: Path) -> None:
    colours = np.uint8([[0, 0, 0], [9, 8, 7]])[TRUTH]
    made(tmp_path, "images/{}.jpg", "masks/{}.png", values=colours)
    (tmp_path / "labelmap.txt").write_text("ground:0,0,0::\nignore:9,8,7::\n")
    found = described(tmp_path)
    assert (found["classes"], found["ignore_colours"]) == ({"ground": [0, 0, 0]}, [[9, 8, 7]])


@pytest.mark.parametrize(
    ("stored", "keys"),
    [
        (1, {}),
        (255, {"values": {0: "background", 255: "crack"}}),
        (7, {"values": {0: "background", 7: "crack"}}),
    ],
)
def test_one_name_is_the_one_thing_on_a_background(
    stored: int, keys: dict[str, object], tmp_path: Path
) -> None:
    made(tmp_path, "images/{}.jpg", "masks/{}.png", values=TRUTH * stored)
    (tmp_path / "classes.txt").write_text("crack\n")
    found = described(tmp_path)
    assert found["classes"] == ["background", "crack"]
    assert {key: found[key] for key in found if key in ("values", "ignore")} == keys


@pytest.mark.parametrize("value", [0, 1])
def test_masks_of_one_value_are_doubted(value: int, tmp_path: Path) -> None:
    made(tmp_path, "images/{}.jpg", "masks/{}.png", values=0 * TRUTH + value)
    reasons = guess(tmp_path, tmp_path).reasons
    assert f"every pixel of every mask is {value}: are these the right masks?" in reasons


VOC_VOID, BLACK = [224, 224, 192], [0, 0, 0]
ROADS = [[128, 64, 128], [244, 35, 232], [70, 70, 70], [107, 142, 35]]


@pytest.mark.parametrize(
    ("colours", "void"),
    [
        ([BLACK, [128, 0, 0], VOC_VOID], [VOC_VOID]),
        ([BLACK, VOC_VOID], []),
        ([BLACK, *ROADS], [BLACK]),
        ([[81, 0, 81], *ROADS], [[81, 0, 81]]),
        ([BLACK, *ROADS[:2]], []),
    ],
)
def test_colours_of_no_class_in_a_known_data_set(
    colours: list[list[int]], void: list[list[int]], tmp_path: Path
) -> None:
    which = np.arange(TRUTH.size).reshape(TRUTH.shape) % len(colours)
    made(tmp_path, "images/{}.jpg", "masks/{}.png", values=np.uint8(colours)[which])
    found = yaml.safe_load(guess(tmp_path, tmp_path).text)
    assert found.get("ignore_colours", []) == void
    assert sorted(found["classes"].values()) == sorted(one for one in colours if one not in void)


def test_masks_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    photograph(tmp_path / "images" / "a.jpg")
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks" / "a.tif", np.zeros((40, 60), np.int64))
    with pytest.raises(ConfigError, match=r"Not read as a mask: .*a\.tif: 1 band of 64 bits"):
        guess(tmp_path, tmp_path)
