"""Folders above those of images and masks: `*` in their paths."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from atrous.data import open_dataset, other_splits
from atrous.data.guess import guess
from atrous.errors import ConfigError
from tests.builders.bare_folders import described, made
from tests.builders.picture_files import write

AREAS = {"Rural": "ab", "Urban": "bcd"}
"""Folders, and the names in them, of which one occurs in both."""


def areas(root: Path, images: str, masks: str) -> None:
    """Write images that are as wide as their mask, which holds the number of the area."""
    for number, (area, names) in enumerate(AREAS.items()):
        for count, name in enumerate(names, 1):
            write(root / images.format(area) / f"{name}.jpg", np.zeros((1, count, 3)))
            write(root / masks.format(area) / f"{name}.png", [[number] * count])


def opened(root: Path, split: str = "all", **keys: object) -> str:
    path = root / "own.yaml"
    path.write_text(yaml.safe_dump({"classes": ["x", "y"], "mask_type": "ids", **keys}))
    return f"folder:{path}:{split}"


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("*/images", "*/masks"),
        ("images/*", "masks/*"),
        ("images/*/rgb", "masks/*"),
        ("*", "*/masks"),
        ("*", "masks/*"),
        ("a/../*/images", "*/masks"),
    ],
)
def test_what_a_star_stands_for_is_the_same_in_both(
    images: str, masks: str, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    areas(tmp_path, images.replace("*", "{}"), masks.replace("*", "{}"))
    (tmp_path / "docs" / "images").mkdir(parents=True)  # an empty one is nobody's
    write(tmp_path / ".cache" / "images" / "z.jpg", np.zeros((1, 1, 3)))
    data = open_dataset(opened(tmp_path, images=images, masks=masks))
    assert [one.id for one in data.samples] == [
        "Rural/a",
        "Rural/b",
        "Urban/b",
        "Urban/c",
        "Urban/d",
    ]
    for sample in data.samples:
        label = data.read_label(sample)
        assert label is not None
        assert data.read_image(sample).shape[:2] == label.shape
        assert (label == list(AREAS).index(sample.id.split("/")[0])).all()


@pytest.mark.parametrize("pattern", ["{split}/*/images", "*/{split}/images", "*/images/{split}"])
def test_beside_splits(pattern: str, tmp_path: Path) -> None:
    masks = pattern.replace("images", "masks")
    for split in ("train", "val"):
        one, other = (
            text.replace("{split}", split).replace("*", "{}") for text in (pattern, masks)
        )
        areas(tmp_path, one, other)
    data = open_dataset(opened(tmp_path, "val", images=pattern, masks=masks))
    assert len(data.samples) == 5
    assert all("val" in sample.image.parts for sample in data.samples)
    assert [one.name for one in other_splits(data)] == ["own:train"]


@pytest.mark.parametrize("line", ["Urban/b", "Urban/images/b.jpg", "images/b.jpg Urban"])
def test_lists_name_what_the_star_stands_for(line: str, tmp_path: Path) -> None:
    areas(tmp_path, "{}/images", "{}/masks")
    (tmp_path / "val.txt").write_text(f"{line}\n")
    keys = {"images": "*/images", "masks": "*/masks", "splits": {"val": "val.txt"}}
    if " " in line:
        with pytest.raises(ConfigError, match="no line names an image"):
            open_dataset(opened(tmp_path, "val", **keys))
        return
    data = open_dataset(opened(tmp_path, "val", **keys))
    assert [(one.id, one.image.parts[-3]) for one in data.samples] == [("Urban/b", "Urban")]
    assert data.samples[0].label is not None


def test_a_part_is_held_out_of_all(tmp_path: Path) -> None:
    areas(tmp_path, "{}/images", "{}/masks")
    keys = {"images": "*/images", "masks": "*/masks", "val_share": 0.4}
    parts = [open_dataset(opened(tmp_path, split, **keys)) for split in ("train", "val")]
    assert [len(one.samples) for one in parts] == [3, 2]


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        ("*/images", "masks", r"as many \* in masks as in images, .* found \*/images and masks"),
        ("*/photos", "*/masks", r"no folder .*\*/photos"),
        (
            "R*/images",
            "R*/masks",
            r"no folder .*R\*/images; \* stands for the whole name of a fold",
        ),
        ("*/images", "*/truth", r"no folder .*\*/truth"),
        ("*/images", "*/half", r"no masks for .*Urban/images; .*\*/half with the same name"),
        ("*/half", "*/masks", r"no images for .*Urban/masks; .*\*/half"),
    ],
)
def test_a_folder_that_is_missing_is_named(
    images: str, masks: str, message: str, tmp_path: Path
) -> None:
    areas(tmp_path, "{}/images", "{}/masks")
    write(tmp_path / "Rural" / "half" / "a.png", [[0]])
    with pytest.raises(ConfigError, match=message):
        open_dataset(opened(tmp_path, images=images, masks=masks))


@pytest.mark.parametrize(
    ("images", "masks", "val"),
    [
        ("Train/*/images_png", "Train/*/masks_png", "Val"),
        ("uavid_train/*/Images", "uavid_train/*/Labels", "val"),
        ("train/images/*/rgb", "train/gt/*", "val"),
        ("*/train/images", "*/train/masks", "val"),
    ],
)
def test_the_file_of_a_bare_folder_has_the_star(
    images: str, masks: str, val: str, tmp_path: Path
) -> None:
    train = "Train" if val == "Val" else "train"
    for area in ("north", "south"):
        for split in (train, val):
            one, two = (
                f"{path.replace(train, split).replace('*', area)}/{{}}" for path in (images, masks)
            )
            made(tmp_path, f"{one}.jpg", f"{two}.png")
    (tmp_path / "own.yaml").write_text(guess(tmp_path, tmp_path).text)
    found = yaml.safe_load((tmp_path / "own.yaml").read_text())
    assert found["images"] == images.replace(train, "{split}")
    assert found["masks"] == masks.replace(train, "{split}")
    for split in (train, val):
        data = open_dataset(f"folder:{tmp_path / 'own.yaml'}:{split}")
        assert [one.id for one in data.samples] == [
            f"{area}/{name}" for area in ("north", "south") for name in "abc"
        ]
        assert all(one.label is not None for one in data.samples)


def test_the_file_has_no_star_where_an_area_has_no_masks(tmp_path: Path) -> None:
    for area in ("north", "south"):
        made(tmp_path, f"{area}/images/{{}}.jpg", f"{area}/masks/{{}}.png")
    for name in "ab":
        write(tmp_path / "west" / "images" / f"{name}.jpg", np.zeros((9, 9, 3)))
    assert described(tmp_path)["images"] == "north/images"
