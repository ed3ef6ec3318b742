"""A bare folder is described as its maker would."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image, ImageFilter

from atrous.data import open_dataset
from atrous.data.guess import guess
from atrous.errors import ConfigError

TRUTH = np.uint8([[0, 0, 1], [0, 1, 1]]).repeat(20, 0).repeat(20, 1)


def photograph(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(path)


def mask(path: Path, values: Any = TRUTH, palette: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(values, np.uint8))
    if palette:
        picture = Image.fromarray(np.asarray(values, np.uint8), mode="P")
        picture.putpalette(palette)
    picture.save(path)


def made(root: Path, images: str, masks: str, **how: Any) -> None:
    for name in "abc":
        photograph(root / images.format(name))
        mask(root / masks.format(name), **how)


def described(root: Path) -> dict[str, Any]:
    """What is guessed, after it was seen to open with all its masks read."""
    found = guess(root, root)
    (root / "own.yaml").write_text(found.text)
    content: dict[str, Any] = yaml.safe_load(found.text)
    held_out = "val_share" in content
    splits = ("train", "val") if held_out else (found.split,)
    opened = [open_dataset(f"folder:{root / 'own.yaml'}:{split}") for split in splits]
    assert found.split == splits[0]
    assert [len(part.samples) for part in opened] == ([2, 1] if held_out else [3])
    data = open_dataset(f"folder:{root / 'own.yaml'}:{'all' if held_out else found.split}")
    for sample in data.samples:
        assert set(np.unique(data.read_label(sample))) <= {0, 1, 2, 255}
        assert data.read_image(sample).shape == (40, 60, 3)
    assert found.reasons
    return content


@pytest.mark.parametrize(
    ("images", "masks", "keys"),
    [
        ("images/{}.jpg", "masks/{}.png", {"images": "images", "masks": "masks"}),
        ("x/{}.jpg", "y/{}_mask.png", {"images": "x", "masks": "y", "mask_suffix": "_mask"}),
        ("{}_sat.jpg", "{}_mask.png", {"image_suffix": "_sat", "mask_suffix": "_mask"}),
        ("all/{}.jpg", "all/{}.png", {"images": "all", "masks": "all", "mask_suffix": ".png"}),
        ("all/{}.jpg", "all/{}_m.png", {"images": "all", "masks": "all", "mask_suffix": "_m"}),
        ("i/{}.jpg", "m/{}.jpg.png", {"images": "i", "masks": "m"}),
    ],
)
def test_places(images: str, masks: str, keys: dict[str, str], tmp_path: Path) -> None:
    made(tmp_path, images, masks)
    found = described(tmp_path)
    assert {key: found[key] for key in keys} == keys
    assert (found["classes"], found["mask_type"]) == (["background", "class 1"], "ids")


@pytest.mark.parametrize(
    ("images", "masks", "keys"),
    [
        ("images/train/{}.jpg", "masks/train/{}.png", ("images/{split}", "masks/{split}")),
        ("train/images/{}.jpg", "train/masks/{}.png", ("{split}/images", "{split}/masks")),
        ("train/{}.jpg", "trainannot/{}.png", ("{split}", "{split}annot")),
    ],
)
def test_splits(images: str, masks: str, keys: tuple[str, str], tmp_path: Path) -> None:
    made(tmp_path, images, masks)
    made(tmp_path, images.replace("train", "val"), masks.replace("train", "val"))
    found = described(tmp_path)
    assert (found["images"], found["masks"]) == keys


def test_splits_that_are_called_in_ways_of_their_own(tmp_path: Path) -> None:
    made(tmp_path, "photos/train/{}.jpg", "labels/train/{}.png")
    made(tmp_path, "more/val/{}.jpg", "truth/val/{}.png")
    found = described(tmp_path)
    assert found["images"] == {"train": "photos/train", "val": "more/val"}
    assert found["masks"] == {"train": "labels/train", "val": "truth/val"}


@pytest.mark.parametrize("masks", ["{}_masks", "masks/{}", "masks_of_{}"])
def test_of_several_folders_with_masks_the_fullest_is_taken_with_its_own(
    masks: str, tmp_path: Path
) -> None:
    """Their files have the same names, as tiles have that are counted."""
    for place in ("north", "south", "west"):
        made(tmp_path, f"{place}/{{}}.jpg", f"{masks.format(place)}/{{}}.png")
        if place != "south":
            (tmp_path / place / "a.jpg").unlink()
    found = described(tmp_path)
    assert (found["images"], found["masks"]) == ("south", masks.format("south"))
    reasons = guess(tmp_path, tmp_path).reasons
    assert reasons[0] == "3 folders have masks; this is the one with most"


@pytest.mark.parametrize("content", [b"\0\1\2", b"x\ny\n", b"\n"])
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
