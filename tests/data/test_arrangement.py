"""Which folder of masks belongs to which folder of pictures, and how both are written down."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from atrous.data import open_dataset, other_splits
from atrous.data.guess import guess
from tests.builders.bare_folders import TRUTH, described, made, mask, photograph


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
        ("i/train2017/{}.jpg", "m/train2017/{}.png", ("i/{split}2017", "m/{split}2017")),
        ("training_i/train/{}.jpg", "m/train/{}.png", ("training_i/{split}", "m/{split}")),
    ],
)
def test_splits(images: str, masks: str, keys: tuple[str, str], tmp_path: Path) -> None:
    made(tmp_path, images, masks)
    made(tmp_path, *(re.sub("train(?!ing)", "val", path) for path in (images, masks)))
    found = described(tmp_path)
    assert (found["images"], found["masks"]) == keys


def test_splits_that_are_called_in_ways_of_their_own(tmp_path: Path) -> None:
    made(tmp_path, "photos/train/{}.jpg", "labels/train/{}.png")
    made(tmp_path, "more/val/{}.jpg", "truth/val/{}.png")
    found = described(tmp_path)
    assert found["images"] == {"train": "photos/train", "val": "more/val"}
    assert found["masks"] == {"train": "labels/train", "val": "truth/val"}


def two_splits(root: Path, *places: tuple[str, str]) -> dict[str, Any]:
    """Files of the same names in two splits, of which the second has a mask of its own for each."""
    for number, (images, masks) in enumerate(places):
        made(root, f"{images}/{{}}.jpg", f"{masks}/{{}}.png", values=TRUTH if number else 1 - TRUTH)
    content = described(root)
    first, second = content["images"], content["masks"]
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    for number, split in enumerate(first):
        data = open_dataset(f"folder:{root}/own.yaml:{split}")
        for sample in data.samples:
            np.testing.assert_array_equal(data.read_label(sample), TRUTH if number else 1 - TRUTH)
    return {split: (first[split], second[split]) for split in first}


@pytest.mark.parametrize(
    ("images", "masks", "split"),
    [
        ("images/valid", "masks/val", "val"),
        ("images/Validation", "masks/val", "val"),
        ("images/test", "masks/testing", "test"),
        ("images/TEST", "masks/test", "test"),
        ("validation", "val_masks", "val"),
    ],
)
def test_splits_that_are_called_otherwise_among_masks(
    images: str, masks: str, split: str, tmp_path: Path
) -> None:
    found = two_splits(tmp_path, ("images/training", "masks/Train"), (images, masks))
    assert found == {"train": ("images/training", "masks/Train"), split: (images, masks)}


@pytest.mark.parametrize("bare", ["val", "test"])
def test_a_split_without_masks_gets_none_of_another(bare: str, tmp_path: Path) -> None:
    made(tmp_path, "images/train/{}.jpg", "masks/train/{}.png")
    for name in "abc":
        photograph(tmp_path / f"images/{bare}/{name}.jpg")
    found = guess(tmp_path, tmp_path)
    (tmp_path / "own.yaml").write_text(found.text)
    content = yaml.safe_load(found.text)
    assert content["images"] == {"train": "images/train"}
    assert content["masks"] == {"train": "masks/train"}
    assert f"pictures left out, without masks of their own: images/{bare} (3)" in found.reasons
    parts = [open_dataset(f"folder:{tmp_path}/own.yaml:{name}") for name in ("train", "val")]
    assert [len(part.samples) for part in parts] == [2, 1]


def test_a_split_without_masks_gets_none_that_lie_elsewhere(tmp_path: Path) -> None:
    for split in ("train", "val"):
        made(tmp_path, f"images/{split}/{{}}.jpg", f"masks/{split}/{{}}.png")
    made(tmp_path, "images/test/{}.jpg", "older/{}.png")
    found = guess(tmp_path, tmp_path)
    assert "the folders are splits: train, val" in found.reasons
    assert "pictures left out, without masks of their own: images/test (3)" in found.reasons


def test_no_masks_are_given_to_two_folders(tmp_path: Path) -> None:
    made(tmp_path, "photos/{}.jpg", "masks/{}.png")
    for name in "ab":
        photograph(tmp_path / f"copies/{name}.jpg")
    assert described(tmp_path)["images"] == "photos"
    left = "pictures left out, without masks of their own: copies (2)"
    assert left in guess(tmp_path, tmp_path).reasons


@pytest.mark.parametrize("name", ["test", "train", "valid"])
def test_what_the_folder_itself_is_called_makes_no_split(name: str, tmp_path: Path) -> None:
    made(tmp_path / name, "images/{}.jpg", "masks/{}.png")
    found = yaml.safe_load(guess(tmp_path / name, tmp_path).text)
    assert (found["images"], found["masks"]) == (f"{name}/images", f"{name}/masks")
    assert "val_share" in found


@pytest.mark.parametrize("masks", ["{}_masks", "masks_of_{}"])
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
    left = "pictures left out, with masks, which cannot be read together with these: "
    assert f"{left}north (2), west (2)" in guess(tmp_path, tmp_path).reasons


@pytest.mark.parametrize(
    ("images", "masks", "keys"),
    [
        ("images/{}/{{}}.jpg", "masks/{}/{{}}.png", ("images", "masks")),
        ("{}/{{}}.jpg", "masks/{}/{{}}.png", (".", "masks")),
        ("{}/{{}}.jpg", "{}/{{}}_mask.png", (".", ".")),
        ("i/x/{}/{{}}_rgb.jpg", "m/{}/{{}}_label.png", ("i/x", "m")),
    ],
)
def test_folders_in_folders_are_read_as_one(
    images: str, masks: str, keys: tuple[str, str], tmp_path: Path
) -> None:
    for number, place in enumerate(("north", "south")):
        values = TRUTH if number else 1 - TRUTH
        made(tmp_path, images.format(place), masks.format(place), values=values)
    found = guess(tmp_path, tmp_path)
    (tmp_path / "own.yaml").write_text(found.text)
    content = yaml.safe_load(found.text)
    assert (content["images"], content["masks"]) == keys
    assert f"6 pictures of {keys[0]} have a mask in {keys[1]}, in 2 folders: north, south" in (
        found.reasons
    )
    data = open_dataset(f"folder:{tmp_path}/own.yaml:all")
    assert len(data.samples) == 6
    for sample in data.samples:
        right = TRUTH if "south" in sample.id else 1 - TRUTH
        np.testing.assert_array_equal(data.read_label(sample), right)


def test_folders_in_splits_are_read_as_one(tmp_path: Path) -> None:
    for place in ("train/north", "train/south", "val/west"):
        made(tmp_path, f"leftImg8bit/{place}/{{}}.png", f"gtFine/{place}/{{}}_trainIds.png")
    found = guess(tmp_path, tmp_path)
    (tmp_path / "own.yaml").write_text(found.text)
    content = yaml.safe_load(found.text)
    assert (content["images"], content["masks"]) == ("leftImg8bit/{split}", "gtFine/{split}")
    parts = [open_dataset(f"folder:{tmp_path}/own.yaml:{split}") for split in ("train", "val")]
    assert [len(part.samples) for part in parts] == [6, 3]


def test_a_folder_of_one_picture_is_called_as_the_others(tmp_path: Path) -> None:
    made(tmp_path, "images/north/{}.jpg", "masks/north/{}_mask.png")
    photograph(tmp_path / "images/south/7.jpg")
    for end in ("_mask", "_old"):
        mask(tmp_path / f"masks/south/7{end}.png")
    content = yaml.safe_load(guess(tmp_path, tmp_path).text)
    assert (content["images"], content["mask_suffix"]) == ("images", "_mask")


def test_masks_beside_those_of_folders_in_folders_are_not_read_with_them(tmp_path: Path) -> None:
    for place in ("north", "south"):
        made(tmp_path, f"images/{place}/{{}}.jpg", f"masks/{place}/{{}}.png")
    made(tmp_path, "masks/depth/{}.png", "masks/depth/{}x.png")
    content = yaml.safe_load(guess(tmp_path, tmp_path).text)
    assert (content["images"], content["masks"]) == ("images/north", "masks/north")


COLOURS = np.uint8([[0, 0, 0], [200, 30, 7]])[TRUTH]


@pytest.mark.parametrize(
    ("ids", "coloured"),
    [
        ("gt/{}_labelTrainIds.png", "gt/{}_color.png"),
        ("gt/{}.png", "gt/{}_vis.png"),
        ("gt/{}_ids.png", "gt/{}_a.png"),
        ("gt/{}_ids.png", "gt/{}.png"),
        ("masks_machine/{}.png", "masks_human/{}.png"),
        ("labels/{}.png", "annotations/{}.png"),
    ],
)
def test_ids_go_before_their_coloured_copies(ids: str, coloured: str, tmp_path: Path) -> None:
    made(tmp_path, "images/{}.jpg", ids)
    made(tmp_path, "images/{}.jpg", coloured, values=COLOURS)
    found = described(tmp_path)
    assert found["masks"] == ids.partition("/")[0]
    assert f"{{}}{found.get('mask_suffix', '')}.png" == ids.partition("/")[2]
    assert (found["mask_type"], found["classes"]) == ("ids", ["background", "class 1"])


@pytest.mark.parametrize(
    ("images", "right", "wrong"),
    [
        ("images/{}.jpg", "classes/{}.png", "masks_of_instances/{}.png"),
        ("images/{}.jpg", "x/{}_labelTrainIds.png", "masks/{}_labelIds.png"),
        ("images/{}.jpg", "x/{}.png", "masks/{}_old.png"),
        ("images/testing/{}.jpg", "x/test/{}.png", "masks/{}.png"),
        ("images/north/{}.jpg", "x/north/{}.png", "masks/{}.png"),
    ],
)
def test_of_several_masks_those_that_are_most_likely_meant(
    images: str, right: str, wrong: str, tmp_path: Path
) -> None:
    made(tmp_path, images, wrong, values=TRUTH * 2)
    made(tmp_path, images, right)
    assert described(tmp_path)["classes"] == ["background", "class 1"]


def test_names_that_few_files_share_by_chance_make_no_pair(tmp_path: Path) -> None:
    made(tmp_path, "photos/north/{}.jpg", "labels/{}_label.png")
    mask(tmp_path / "north/a.png")
    assert described(tmp_path)["masks"] == "labels"


def test_the_whole_folder_is_not_read_where_other_pictures_lie_in_it(tmp_path: Path) -> None:
    for place in ("north", "south"):
        made(tmp_path, f"{place}/{{}}.jpg", f"masks/{place}/{{}}.png")
    photograph(tmp_path / "overlays/x.jpg")
    assert described(tmp_path)["images"] == "north"


def test_of_two_folders_of_a_split_the_one_is_taken_that_lies_as_the_others(tmp_path: Path) -> None:
    for split in ("train", "val"):
        made(tmp_path, f"images/{split}/{{}}.jpg", f"masks/{split}/{{}}.png")
    for name in "defgh":
        photograph(tmp_path / f"more/val_images/{name}.jpg")
        mask(tmp_path / f"more/val_masks/{name}.png")
    found = described(tmp_path)
    assert (found["images"], found["masks"]) == ("images/{split}", "masks/{split}")


@pytest.mark.parametrize(
    "copies",
    ["masks_human/{}.png", "masks_machine/{}_overlay.png", "masks_machine/{}.jpg"],
)
@pytest.mark.parametrize("masks", ["masks_machine/{}.png", "masks_machine/{}_ids.png"])
def test_copies_that_look_like_photographs_are_no_pictures(
    copies: str, masks: str, tmp_path: Path
) -> None:
    made(tmp_path, "img/{}.jpg", masks)
    if "_ids" in masks:
        copies = copies.replace("{}.jpg", "{}_ids.jpg")
    for name in "abc":
        photograph(tmp_path / copies.format(name))
    found = described(tmp_path)
    assert (found["images"], found["masks"]) == ("img", "masks_machine")


def test_pictures_beside_their_masks_go_before_a_folder_that_holds_more(tmp_path: Path) -> None:
    made(tmp_path, "labelled/{}.jpg", "labelled/{}.png")
    for name in "abcde":
        photograph(tmp_path / f"raw/{name}.jpg")
    found = described(tmp_path)
    assert (found["images"], found["masks"]) == ("labelled", "labelled")


def test_endings_in_capitals(tmp_path: Path) -> None:
    made(tmp_path, "{}.jpg", "{}.png")
    (tmp_path / "b.png").rename(tmp_path / "b.PNG")
    assert described(tmp_path)["mask_suffix"] == ".png"


def test_a_folder_of_masks_beside_its_split_is_no_split(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("train", "val"):
        made(tmp_path, f"{split}/{{}}.jpg", f"{split}annot/{{}}.png")
    described(tmp_path)
    caplog.clear()
    others = other_splits(open_dataset(f"folder:{tmp_path}/own.yaml:train"))
    assert [one.name for one in others] == ["own:val"]
    assert not caplog.records


def test_splits_may_share_a_folder_of_masks(tmp_path: Path) -> None:
    for split, names in {"train": "ab", "valid": "cde", "test": "f"}.items():
        for name in names:
            photograph(tmp_path / f"photos/{split}/{name}.jpg")
            mask(tmp_path / f"labels/{name}_m.png")
    photograph(tmp_path / "photos/test/bare.jpg")
    found = guess(tmp_path, tmp_path)
    (tmp_path / "own.yaml").write_text(found.text)
    assert not any("left out" in reason for reason in found.reasons)
    for split, count in {"train": 2, "val": 3, "test": 2}.items():
        data = open_dataset(f"folder:{tmp_path / 'own.yaml'}:{split}")
        assert len(data.samples) == count
        assert [one.id for one in data.samples if one.label is None] == ["bare"] * (split == "test")


def test_a_kind_of_masks_that_all_splits_have_goes_first(tmp_path: Path) -> None:
    """SUIM: colours everywhere, and black and white for each class beside those of the test."""
    for split, names in {"train_val": "abc", "TEST": "de"}.items():
        for name in names:
            photograph(tmp_path / split / "images" / f"{name}.jpg")
            mask(tmp_path / split / "masks" / f"{name}.bmp", np.uint8([[0] * 3, [9] * 3])[TRUTH])
            if split == "TEST":
                mask(tmp_path / "TEST" / "masks" / "RO" / f"{name}.bmp", TRUTH * 255)
    (tmp_path / "own.yaml").write_text(guess(tmp_path, tmp_path).text)
    found = yaml.safe_load((tmp_path / "own.yaml").read_text())
    assert (found["images"], found["masks"]) == ("{split}/images", "{split}/masks")
    for split, names in {"train_val": "abc", "TEST": "de"}.items():
        data = open_dataset(f"folder:{tmp_path / 'own.yaml'}:{split}")
        assert [one.id for one in data.samples] == list(names)


@pytest.mark.parametrize(
    ("images", "kinds"),
    [
        ("photos/{}.jpg", ("masks/road/{}.png", "masks/car/{}.png")),
        ("{}.jpg", ("{}_r.png", "{}_c.png")),
    ],
)
def test_masks_of_each_class_that_are_left_out_are_named(
    images: str, kinds: tuple[str, str], tmp_path: Path
) -> None:
    for name in "abc":
        photograph(tmp_path / images.format(name))
        for kind in kinds:
            mask(tmp_path / kind.format(name), TRUTH * 255)
    found = described(tmp_path)
    place = "masks/car" if found["masks"] == "masks/road" else "masks/road"
    place = "." if found["masks"] == "." else place
    left = f"masks that no picture gets: {place} (3)"
    assert left in guess(tmp_path, tmp_path).reasons


def test_first_words_tell_masks_from_pictures(tmp_path: Path) -> None:
    for name in ("1_2", "1_3", "2_2"):
        photograph(tmp_path / f"tile_{name}.png")
        mask(tmp_path / f"label_{name}.png")
    found = described(tmp_path)
    assert (found["image_prefix"], found["mask_prefix"]) == ("tile_", "label_")


@pytest.mark.parametrize(
    ("images", "masks", "copies"),
    [
        ("image.png", "mask.png", ""),
        ("img.png", "label.png", "label_viz.png"),  # as labelme_json_to_dataset writes them
        ("rgb.jpg", "gt.png", ""),
    ],
)
def test_a_folder_for_each_picture(images: str, masks: str, copies: str, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        photograph(tmp_path / name / images)
        mask(tmp_path / name / masks)
        if copies:
            photograph(tmp_path / name / copies)
    found = described(tmp_path)
    assert (found["image_suffix"], found["mask_suffix"]) == (images, masks)
    data = open_dataset(f"folder:{tmp_path / 'own.yaml'}:all")
    assert [one.id for one in data.samples] == ["one", "three", "two"]
    assert all(one.label == one.image.with_name(masks) for one in data.samples)


def test_train_is_not_also_part_of_another_split(tmp_path: Path) -> None:
    for split, names in {"train": "ab", "val": "c", "trainval": "abc"}.items():
        for name in names:
            photograph(tmp_path / "images" / split / f"{name}.jpg")
            mask(tmp_path / "masks" / split / f"{name}.png")
    found = guess(tmp_path, tmp_path)
    assert "the folders are splits: train, val" in found.reasons
    assert "pictures left out, with masks, which cannot be read together with these: " in " ".join(
        found.reasons
    )


def test_splits_with_files_of_one_name_share_no_mask(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in "abc":
            photograph(tmp_path / f"photos/{split}/{name}.jpg")
    for name in "abc":
        mask(tmp_path / f"labels/{name}.png")
    found = guess(tmp_path, tmp_path)
    left = "pictures left out, without masks of their own: "
    assert any(reason.startswith(left) for reason in found.reasons)
