"""Which mask belongs to which image."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from atrous.data import open_dataset
from atrous.data.dataset import Dataset
from atrous.errors import ConfigError


def opened(root: Path, files: str, images: str = "i", masks: str = "m", **said: Any) -> Dataset:
    """A data set of these files, those at and below `m` and with `mask` in their names grey."""
    for name in files.split():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L" if name.startswith("m") else "RGB", (2, 2)).save(path)
    content = {"images": images, "masks": masks, "classes": ["a", "b"], "mask_type": "ids"}
    (root / "own.yaml").write_text(yaml.safe_dump(content | said))
    return open_dataset(f"folder:{root / 'own.yaml'}:{'val' if 'splits' in said else 'all'}")


def pairs(data: Dataset) -> list[tuple[str, str, str | None]]:
    return [(s.id, s.image.name, s.label.name if s.label else None) for s in data.samples]


@pytest.mark.parametrize(
    ("files", "keys"),
    [
        ("i/a.png i/b.png m/a_mask.png m/b_mask.png", {"mask_suffix": "_mask"}),
        ("i/a.png i/b.png m/a_mask.png m/b_mask.png", {"mask_suffix": "_mask.png"}),
        ("i/a.png i/b.png m/a_mask.png m/b_mask.PNG", {"mask_suffix": "_mask.png"}),
        ("i/a.png i/b.png m/a_mask.PNG m/b_mask.PNG", {"mask_suffix": "_mask.PNG"}),
        ("i/a.png i/b.png m/mask_a.png m/mask_b.png", {"mask_prefix": "mask_"}),
        ("i/a_rgb.png i/b_rgb.png m/a_lab.png m/b_lab.png",
         {"mask_suffix": "_lab", "image_suffix": "_rgb"}),
        ("i/a_rgb.png i/b_rgb.png m/a.png m/b.png", {"image_suffix": "_rgb"}),
        ("i/rgb_a.png i/rgb_b.png m/lab_a.png m/lab_b.png",
         {"mask_prefix": "lab_", "image_prefix": "rgb_"}),
        ("i/a.png i/b.png m/a_mask.png m/b_mask.png m/a_colour.png", {"mask_suffix": "_mask"}),
        ("i/x/a.png i/y/b.png m/x/a_mask.png m/y/b_mask.png", {"mask_suffix": "_mask"}),
        ("i/a_rgb.png i/b_rgb.png i/a_depth.png m/a.png m/b.png", {"image_suffix": "_rgb"}),
    ],
)  # fmt: skip
def test_affixes(files: str, keys: dict[str, str], tmp_path: Path) -> None:
    found = pairs(opened(tmp_path, files, **keys))
    assert [name.rpartition("/")[2] for name, *_ in found] == ["a", "b"]
    assert all(label for *_, label in found)


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        ("i/a0.png i/a1.png m/a0_mask.png m/a1_mask.png", "ends in _mask: write mask_suffix: _"),
        ("i/a.png i/b.png m/mask_a.png m/mask_b.png", "write mask_prefix: mask_$"),
        ("i/a_sat.png i/b_sat.png m/a_mask.png m/b_mask.png",
         "write image_suffix: _sat, mask_suffix: _mask"),
        ("i/a_rgb.png i/b_rgb.png m/a.png m/b.png", "write image_suffix: _rgb"),
        ("i/rgb_a.png i/rgb_b.png m/lab_a.png m/lab_b.png",
         "write image_prefix: rgb_, mask_prefix: lab_"),
        ("i/a1_sat.png i/b1_sat.png m/a1_seg.png m/b1_seg.png",
         "write image_suffix: _sat, mask_suffix: _seg"),
        ("i/a_1sat.png i/b_2sat.png m/a_1map.png m/b_2map.png",
         "write image_suffix: sat, mask_suffix: map"),
        ("i/x/a.png i/y/b.png m/x/a_mask.png m/y/b_mask.png", "mask_suffix: _mask"),
    ],
)  # fmt: skip
def test_what_is_around_the_names_is_recognised(files: str, advice: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=advice):
        opened(tmp_path, files)


def test_what_is_said_of_names_and_does_not_fit_is_named(tmp_path: Path) -> None:
    """One of the two keys is there, and right: the other is missing."""
    expected = (
        r"own.yaml: no image has a mask of its own name; they are called a_x\.png and a_mask\.png; "
        "look at mask_prefix, mask_suffix, image_prefix and image_suffix$"
    )
    with pytest.raises(ConfigError, match=expected):
        opened(tmp_path, "i/a_x.png i/b_x.png m/a_mask.png m/b_mask.png", mask_suffix="_mask")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (
            {"mask_suffix": "_label"},
            "none of 2 pictures in .*/m is called …_label, the first is a_mask.png; look at mask_p",
        ),
        (
            {"mask_suffix": "_mask", "image_prefix": "rgb_"},
            "none of 2 pictures in .*/i is called rgb_…, the first is a.png; look at image_prefix ",
        ),
    ],
)
def test_names_that_no_file_has_are_refused(
    key: dict[str, str], expected: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=expected):
        opened(tmp_path, "i/a.png i/b.png m/a_mask.png m/b_mask.png", **key)


def test_names_that_hold_the_ending_of_the_image(tmp_path: Path) -> None:
    data = opened(tmp_path, "i/a.jpg i/a.png i/b.jpg m/a.jpg.png m/a.png.png m/b.jpg.png")
    assert pairs(data) == [
        ("a.jpg", "a.jpg", "a.jpg.png"),
        ("a.png", "a.png", "a.png.png"),
        ("b.jpg", "b.jpg", "b.jpg.png"),
    ]


ONE = {"images": "i", "masks": "i"}


@pytest.mark.parametrize(
    ("files", "key"),
    [
        ("i/a.jpg i/b.jpg i/a_mask.png i/b_mask.png", {"mask_suffix": "_mask"}),
        ("i/a.jpg i/b.jpg i/a.png i/b.png", {"mask_suffix": ".png"}),
        ("i/a_x.png i/b_x.png i/a.png i/b.png", {"image_suffix": "_x"}),
    ],
)
def test_one_folder(files: str, key: dict[str, str], tmp_path: Path) -> None:
    data = opened(tmp_path, files, **ONE, **key)
    assert [(one.id, one.image != one.label) for one in data.samples] == [("a", True), ("b", True)]
    assert all(one.label for one in data.samples)


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        ("i/a.jpg i/b.jpg i/a_mask.png i/b_mask.png", "the names of 2 files end in _mask: write "),
        ("i/a.jpg i/b.jpg i/a.png i/b.png", "each name is there twice: write mask_suffix: .png"),
        ("i/a.jpg i/b.jpg", "write mask_suffix: what the names of the masks end in"),
        ("i/a.jpg i/b.jpg i/c.jpg i/d.jpg i/a2.jpg", "write mask_suffix: what the names of the m"),
        ("i/a.png i/b.png i/a.tif i/b.tif", "write mask_suffix: what the names of the masks end"),
    ],
)
@pytest.mark.parametrize("linked", [False, True])
def test_a_picture_is_never_its_own_mask(
    linked: bool, files: str, advice: str, tmp_path: Path
) -> None:
    folders = ONE
    if linked:
        (tmp_path / "m").symlink_to("i")
        folders = {"images": "i", "masks": "m"}
    with pytest.raises(ConfigError, match=f"name one folder, .* never its own mask; .*{advice}"):
        opened(tmp_path, files, **folders)


def test_a_link_to_the_picture_is_no_mask(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m/a.png").symlink_to("../i/a.png")
    with pytest.raises(ConfigError, match="are one file"):
        opened(tmp_path, "i/a.png")


def test_masks_below_the_images(tmp_path: Path) -> None:
    data = opened(tmp_path, "i/a.png i/m/a.png", images="i", masks="i/m")
    assert pairs(data) == [("a", "a.png", "a.png")]


@pytest.mark.parametrize("gap", [" ", "\t", ",", ", ", ";"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_lists_of_pairs(gap: str, ends: str, tmp_path: Path) -> None:
    lines = [f"i/a b.png{gap}m/x.png", f"/i/c.png{gap}/m/y.png"]
    (tmp_path / "val.txt").write_bytes(("\ufeff" + ends.join(lines) + ends).encode())
    for name in ("i/a b.png", "m/x.png", "i/c.png", "m/y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / name)
    data = opened(tmp_path, "", images=".", masks=".", splits={"val": "val.txt"})
    found = [(one.image.name, one.label.name if one.label else "") for one in data.samples]
    assert found == [("a b.png", "x.png"), ("c.png", "y.png")]


@pytest.mark.parametrize("line", ["i/a.png m/b.png", "; i/a.png m/a.png", "'' , m/a.png"])
def test_a_list_of_pairs_that_are_not_there(line: str, tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text(f"i/c.png m/c.png\n{line}\n")
    with pytest.raises(ConfigError, match=f"val.txt: {re.escape(repr(line))}: expected an image a"):
        opened(tmp_path, "i/a.png i/c.png m/a.png m/c.png", splits={"val": "val.txt"})


@pytest.mark.parametrize("again", ["i/a.png", "./i/a.png", "/i/a.png"])
def test_a_list_that_names_an_image_twice(again: str, tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text(f"i/a.png m/a.png\ni/a.jpg m/b.png\n{again} m/a.png\n")
    expected = rf"val.txt: names '{again.removeprefix('./')}' twice; every image is scored once$"
    with pytest.raises(ConfigError, match=expected):
        opened(tmp_path, "i/a.png i/a.jpg m/a.png m/b.png", splits={"val": "val.txt"})


def test_a_list_may_name_two_images_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("i/a.png m/a.png\ni/a.jpg m/b.png\n")
    data = opened(tmp_path, "i/a.png i/a.jpg m/a.png m/b.png", splits={"val": "val.txt"})
    assert pairs(data) == [("i/a", "a.png", "a.png"), ("i/a.jpg", "a.jpg", "b.png")]


def test_lists_may_name_images_with_what_is_around(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("a_x.png\nb_x\n")
    keys: dict[str, Any] = {"image_suffix": "_x", "splits": {"val": "val.txt"}}
    data = opened(tmp_path, "i/a_x.png i/b_x.png i/c_x.png m/a.png m/b.png m/c.png", **keys)
    assert [one.id for one in data.samples] == ["a", "b"]


@pytest.mark.parametrize(
    "lines",
    [
        "i/a.png\ni/b.png",
        "./i/a.png\n./i/b.png",
        "/i/a.png\n/i/b.png",
        "{root}/i/a.png\n{root}/i/b.png",
        "/home/somebody/set/i/a.png\n/home/somebody/set/i/b.png",
        "i\\a.png\r\ni\\b.png\r\n",
        "C:\\set\\i\\a.png\r\nC:\\set\\i\\b.png\r\n",
        '"a"\n"b"',
        "'a.png'\n'b.png'",
        "image,mask\ni/a.png,m/a.png\ni/b.png,m/b.png",
    ],
)
def test_lists_name_images_as_tools_do(lines: str, tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text(lines.replace("{root}", str(tmp_path)))
    files = "i/a.png i/b.png i/c.png m/a.png m/b.png m/c.png"
    data = opened(tmp_path, files, splits={"val": "val.txt"})
    found = [(s.image, s.label) for s in data.samples]
    assert found == [(tmp_path / f"i/{n}.png", tmp_path / f"m/{n}.png") for n in "ab"]


def test_a_file_of_another_split_is_not_the_one_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("i/two/a.png\nb\n")
    files = "i/one/a.png i/one/b.png i/two/a.png m/a.png m/b.png"
    data = opened(tmp_path, files, images="i/one", splits={"val": "val.txt"})
    assert not data.samples[0].image.exists()
    assert data.samples[1].image == tmp_path / "i/one/b.png"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "val.txt: names no image$"),
        ("a 1\nb -1\n", "no line names an image .*, the first is 'a 1'; expected names such as a,"),
        ("i/a.png m/a.png\nb\n", "'b': expected an image and its mask, as in 'i/a.png m/a.png'"),
    ],
)
def test_lists_of_something_else(lines: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text(lines)
    with pytest.raises(ConfigError, match=message):
        opened(tmp_path, "i/a.png m/a.png i/b.png m/b.png", splits={"val": "val.txt"})


def test_copies_of_masks_for_people_are_no_masks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = opened(tmp_path, "i/a.png i/b.png m/a.png m/b.png m/a_vis.png m/b_vis.png")
    assert pairs(data) == [("a", "a.png", "a.png"), ("b", "b.png", "b.png")]
    said = f"{tmp_path}/m: 2 files end in _vis behind the name of a mask, have no image of their"
    assert [one for one in caplog.messages if one.startswith(said)]


@pytest.mark.parametrize(
    "masks", ["m/d.png m/e.png", "m/a_2.png m/b_2.png", "m/d_vis.png", "m/a_vis.png"]
)
def test_masks_of_no_image_that_are_no_copies_are_kept(masks: str, tmp_path: Path) -> None:
    data = opened(tmp_path, f"i/a.png i/b.png i/c.png m/a.png m/b.png m/c.png {masks}")
    assert len(data.samples) == 3 + len(masks.split())
