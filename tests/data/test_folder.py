"""One's own data set, described in YAML."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from atrous.data import open_dataset, other_splits
from atrous.errors import ConfigError, InputError
from tests.builders.picture_files import write
from tests.builders.rasters import png

COLOURS = {"ground": [0, 0, 0], "road": [128, 64, 128]}


def describe(root: Path, split: str = "val", **changes: Any) -> str:
    """Write the YAML file; a key of value `None` is left out."""
    content = {
        "images": "images/{split}",
        "masks": "masks/{split}",
        "classes": COLOURS,
        "mask_type": "ids",
    }
    content = {k: v for k, v in (content | changes).items() if v is not None}
    (root / "set.yaml").write_text(yaml.safe_dump(content))
    return f"folder:{root / 'set.yaml'}:{split}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for name in ("one", "two"):
            write(tmp_path / f"images/{split}/{name}.jpg", np.zeros((1, 3, 3)))
            write(tmp_path / f"masks/{split}/{name}.png", [[0, 1, 255]])
    return tmp_path


def test_ids(folder: Path) -> None:
    data = open_dataset(describe(folder))
    assert (data.name, data.labels.names) == ("set:val", ("ground", "road"))
    assert data.labels.colours[1] == (128, 64, 128)
    assert [sample.id for sample in data.samples] == ["one", "two"]
    assert data.read_image(data.samples[0]).shape == (1, 3, 3)
    assert data.read_label(data.samples[1]).tolist() == [[0, 1, 255]]
    assert [other.name for other in other_splits(data)] == ["set:train"]
    assert pickle.loads(pickle.dumps(data)) == data


def test_names_alone_and_another_ignore_index(folder: Path) -> None:
    data = open_dataset(describe(folder, classes=["a", "b"], ignore_index=77))
    assert data.labels.names == ("a", "b")
    assert len(set(data.labels.colours)) == 2
    with pytest.raises(InputError, match=r"id 255 on 1 pixels, expected the ids 0\.\.1, or 77"):
        data.read_label(data.samples[0])


def test_colours(folder: Path) -> None:
    write(folder / "masks/val/one.png", [[[128, 64, 128], [0, 0, 0], [224, 224, 192]]])
    void = {"ignore_colours": [[224, 224, 192]]}
    data = open_dataset(describe(folder, mask_type="rgb", **void))
    assert data.read_label(data.samples[0]).tolist() == [[1, 0, 255]]
    strict = open_dataset(describe(folder, mask_type="rgb"))
    with pytest.raises(InputError, match=r"\(224, 224, 192\) on 1 pixels; add them to classes or"):
        strict.read_label(strict.samples[0])


def test_palette_alone(folder: Path) -> None:
    write(folder / "masks/val/one.png", [[0, 1, 255]], mode="P")
    data = open_dataset(describe(folder, mask_type="palette"))
    assert data.read_label(data.samples[0]).tolist() == [[0, 1, 255]]
    with pytest.raises(InputError, match="its pixels are L, expected palette indices"):
        data.read_label(data.samples[1])


@pytest.mark.parametrize(
    ("mask", "classes", "said"),
    [
        ([[0, 1]], COLOURS, "the masks are L, taken as ids; write mask_type: ids to say so"),
        ([[[0, 0, 0], [128, 64, 128]]], COLOURS, "the masks are L and RGB, taken as rgb"),
        ([[[0, 0, 0], [128, 64, 128]]], ["a", "b"], "the masks are L and RGB, taken as ids"),
    ],
)
def test_the_guess_is_said(
    mask: Any, classes: Any, said: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder / "masks/val/one.png", mask)
    data = open_dataset(describe(folder, mask_type=None, classes=classes))
    assert f"set.yaml: mask_type is not given; {said}" in caplog.text
    if classes is COLOURS:
        assert data.read_label(data.samples[0]).tolist() == [[0, 1]]


@pytest.mark.parametrize("content", ["two.jpg\n", "two\r\n", "\ufefftwo\n\n"])
def test_lists(content: str, folder: Path) -> None:
    (folder / "some.txt").write_bytes(content.encode())
    same = {"images": "images/val", "masks": "masks/val", "splits": {"val": "some.txt"}}
    data = open_dataset(describe(folder, **same))
    assert [sample.id for sample in data.samples] == ["two"]
    with pytest.raises(ConfigError, match=r"no split 'test' in .*; there are: val"):
        open_dataset(describe(folder, "test", **same))


def test_a_folder_per_split(folder: Path) -> None:
    images = {"big": "images/train", "small": "images/val"}
    masks = {"big": "masks/train", "small": "masks/val"}
    data = open_dataset(describe(folder, "small", images=images, masks=masks))
    assert data.samples[0].image == folder / "images/val/one.jpg"
    assert [other.name for other in other_splits(data)] == ["set:big"]


@pytest.mark.parametrize(
    "pattern", ["{split}/rgb", "part_{split}", "x/{split}_set/rgb", "{split}/{split}_rgb"]
)
def test_the_place_of_the_split(pattern: str, folder: Path) -> None:
    for split in ("one", "two"):
        write(folder / pattern.replace("{split}", split) / "a.png", np.zeros((1, 3, 3)))
    with pytest.raises(ConfigError, match=r"no split 'three' in .*; there are: one, two$"):
        open_dataset(describe(folder, "three", images=pattern))
    data = open_dataset(describe(folder, "two", images=pattern, masks="masks/val"))
    assert len(data.samples) == 3


def test_without_splits(folder: Path) -> None:
    same = {"images": "images/val", "masks": "masks/val"}
    data = open_dataset(describe(folder, "all", **same))
    assert (data.name, len(data.samples), data.siblings) == ("set:all", 2, ())
    with pytest.raises(ConfigError, match=r"no split 'val' in .*; there are: all"):
        open_dataset(describe(folder, "val", **same))


def test_folders_in_folders(folder: Path) -> None:
    write(folder / "images/val/ulm/one.jpg", np.zeros((1, 3, 3)))
    write(folder / "masks/val/ulm/one.png", [[1, 1, 1]])
    data = open_dataset(describe(folder))
    assert [sample.id for sample in data.samples] == ["one", "two", "ulm/one"]
    assert data.read_label(data.samples[2]).tolist() == [[1, 1, 1]]


def test_what_has_no_partner_is_kept(folder: Path) -> None:
    (folder / "masks/val/one.png").unlink()
    (folder / "images/val/two.jpg").unlink()
    data = open_dataset(describe(folder))
    with pytest.raises(InputError, match="one: has no label"):
        data.read_label(data.samples[0])
    with pytest.raises(InputError, match=r"two\.jpg: cannot be read"):
        data.read_image(data.samples[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clases": []}, r"set\.yaml: clases: unknown key; did you mean classes\?"),
        (
            {"zzz": []},
            "zzz: unknown key; known: bands, classes, ignore, ignore_colours, ignore_index, image",
        ),
        ({"classes": None}, "classes: missing; add it"),
        (
            {"mask_type": "rbg"},
            "mask_type: expected 'ids', 'palette' or 'rgb', found rbg; did",
        ),
        ({"classes": {"a": [0, 0, 256]}}, r"yaml: classes\.a\[2\]: expected .* 255, found 256"),
        ({"classes": None, "clases": []}, "clases: unknown key; did you mean"),
        ({"classes": 5}, "yaml: classes: expected a list, found 5"),
        ({"classes": "a, b"}, "yaml: classes: expected a list, found a, b$"),
        ({"ignore_index": "255"}, "expected a whole number, found the text '255'; take its quotes"),
        ({"values": {"0": "a"}}, r"values\.0: expected a whole number, found the text '0'; take"),
        ({"images": 5}, "yaml: images: expected text, found 5"),
        ({"images": "nowhere/{split}"}, "no split 'val' in .*; there are: none"),
        ({"masks": "nowhere"}, r"no folder .*nowhere"),
        ({"masks": {"train": "masks/train"}}, "no folder for the split 'val', only train"),
        ({"ignore_index": 1}, r"ignore_index 1 must be 0\.\.255 and outside"),
        ({"classes": ["a", "b"], "mask_type": "rgb"}, "rgb needs a colour for every class"),
        ({"classes": {"a": [1, 1, 1], "b": [1, 1, 1]}, "mask_type": "rgb"}, "given twice"),
        (
            {"classes": [f"c{n}" for n in range(257)]},
            r"set\.yaml: label set 'set': expected 1\.\.256 classes, found 257$",
        ),
        ({"ignore_colours": [[1, 1, 1]]}, "ignore_colours belongs to mask_type rgb, not ids"),
        ({"splits": {"val": "none.txt"}}, r"none\.txt: not a readable list of names"),
        (
            {"classes": {0: "a", 1: "b"}},
            r"classes: expected a list of names in order, as \[a, b\], or names with colours, as "
            r"road: \[128, 64, 128\], found names with numbers; write values: \{0: a, 1: b\} inst",
        ),
        ({"classes": {"a": 0, "b": 7}}, r"write values: \{0: a, 7: b\} instead"),
    ],
)
def test_wrong_descriptions(changes: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        open_dataset(describe(folder, **changes))


def test_a_class_that_is_given_twice_is_refused(folder: Path) -> None:
    """YAML alone would keep the last one, and the ids of all that follow would be others."""
    text = "images: images/{split}\nmasks: masks/{split}\n"
    (folder / "set.yaml").write_text(f"{text}classes: {{a: [0, 0, 0], a: [1, 1, 1]}}\n")
    with pytest.raises(ConfigError, match=r"the key 'a' occurs twice; keep one"):
        open_dataset(f"folder:{folder / 'set.yaml'}:val")


def test_two_images_of_one_name(folder: Path) -> None:
    write(folder / "images/val/one.png", np.zeros((1, 3, 3)))
    with pytest.raises(ConfigError, match=r"one\.jpg and one\.png share a name; keep one"):
        open_dataset(describe(folder))


def test_an_empty_folder_and_a_file_that_is_no_mapping(folder: Path) -> None:
    for name in ("images", "masks"):
        (folder / name / "new").mkdir()
    with pytest.raises(ConfigError, match=r"no image in .*new"):
        open_dataset(describe(folder, "new"))
    (folder / "set.yaml").write_text("- a\n")
    with pytest.raises(ConfigError, match=r"set\.yaml: expected keys such as images.* a list"):
        open_dataset(f"folder:{folder / 'set.yaml'}:val")


def test_images_of_more_than_8_bits(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    stored = np.stack([np.full((4, 4), value, np.uint16) for value in (819, 1638, 4095)])
    png(tmp_path / "images" / "a.png", stored, 16)
    write(tmp_path / "masks" / "a.png", np.zeros((4, 4)))
    described = {"images": "images", "masks": "masks", "classes": ["a"], "mask_type": "ids"}

    def opened(**more: object) -> Any:
        (tmp_path / "own.yaml").write_text(yaml.safe_dump({**described, **more}))
        return open_dataset(f"folder:{tmp_path}/own.yaml:all")

    data = pickle.loads(pickle.dumps(opened(range=[0, 4095], bands=[3, 2, 1])))
    assert data.read_image(data.samples[0])[0, 0].tolist() == [255, 102, 51]
    with pytest.raises(ConfigError, match=r"own\.yaml: range: expected LOW,HIGH"):
        opened(range=[5, 5])
    with pytest.raises(ConfigError, match=r"own\.yaml: `bands`: expected one band"):
        opened(bands=[0])


def of_one_folder(root: Path, count: int, **changes: Any) -> str:
    for number in range(count):
        write(root / f"images/{number}.jpg", np.zeros((1, 3, 3)))
        write(root / f"masks/{number}.png", [[0, 1, 255]])
    spec = describe(root, images="images", masks="masks", **changes)
    return spec.removesuffix(":val")


@pytest.mark.parametrize(("share", "count", "held_out"), [(0.2, 10, 2), (0.01, 10, 1), (0.9, 2, 1)])
def test_a_share_is_held_out(share: float, count: int, held_out: int, tmp_path: Path) -> None:
    spec = of_one_folder(tmp_path, count, val_share=share)
    whole, train, val = (open_dataset(f"{spec}:{split}") for split in ("all", "train", "val"))
    names = [{sample.id for sample in part.samples} for part in (whole, train, val)]
    assert [len(part) for part in names] == [count, count - held_out, held_out]
    assert names[1] | names[2] == names[0]
    assert [other.name for other in other_splits(train)] == ["set:val"]
    assert other_splits(whole) == ()


def test_pictures_that_are_added_leave_most_others_where_they_were(tmp_path: Path) -> None:
    few = open_dataset(f"{of_one_folder(tmp_path, 50, val_share=0.2)}:val")
    more = open_dataset(f"{of_one_folder(tmp_path, 60, val_share=0.2)}:val")
    stayed = {sample.id for sample in few.samples} & {sample.id for sample in more.samples}
    assert (len(few.samples), len(more.samples)) == (10, 12)
    assert len(stayed) >= 7


def test_a_share_of_train(folder: Path) -> None:
    for kind in ("images", "masks"):
        (folder / kind / "val").rename(folder / kind / "test")
    split = {name: open_dataset(describe(folder, name, val_share=0.5)) for name in ("train", "val")}
    assert {name: len(data.samples) for name, data in split.items()} == {"train": 1, "val": 1}
    assert split["val"].siblings[1].endswith(":test")


def test_a_share_beside_a_folder_that_is_empty(folder: Path) -> None:
    for kind in ("images", "masks"):
        (folder / kind / "val").rename(folder / f"{kind}_elsewhere")
        (folder / kind / "val").mkdir()
    val = open_dataset(describe(folder, val_share=0.5))
    assert [sample.image.parent.name for sample in val.samples] == ["train"]


def test_a_share_of_a_list_of_names(folder: Path) -> None:
    (folder / "own.txt").write_text("one\ntwo\n")
    described = {"images": "images/train", "masks": "masks/train", "val_share": 0.5}
    spec = describe(folder, **described, splits={"train": "own.txt"}).removesuffix(":val")
    parts = [open_dataset(f"{spec}:{split}").samples for split in ("train", "val")]
    assert sorted(sample.id for part in parts for sample in part) == ["one", "two"]
    assert [len(part) for part in parts] == [1, 1]


def test_a_share_beside_a_split_of_its_name(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"found the splits train, val; leave val_share out"):
        open_dataset(describe(folder, val_share=0.2))


def test_a_share_of_one_picture_and_of_names_that_are_no_unicode(tmp_path: Path) -> None:
    spec = of_one_folder(tmp_path, 1, val_share=0.2)
    with pytest.raises(ConfigError, match="val_share leaves nothing to train on"):
        open_dataset(f"{spec}:train")
    for kind, end in (("images", "jpg"), ("masks", "png")):
        (tmp_path / kind / f"0.{end}").rename(tmp_path / kind / f"\udcfc.{end}")
    assert [sample.id for sample in open_dataset(f"{spec}:val").samples] == ["\udcfc"]


def shared_masks(root: Path, **changes: Any) -> str:
    for split, names in {"train": "ab", "val": "cd"}.items():
        for name in names:
            write(root / f"images/{split}/{name}.jpg", np.zeros((1, 3, 3)))
            write(root / f"masks/{name}.png", [[0, 1, 255]])
    return describe(root, masks="masks", **changes)


@pytest.mark.parametrize(
    "images", ["images/{split}", {"train": "images/train", "val": "images/val"}]
)
def test_one_folder_of_masks_for_all_splits(images: Any, tmp_path: Path) -> None:
    spec = shared_masks(tmp_path, images=images)
    for split, names in {"train": "ab", "val": "cd"}.items():
        data = open_dataset(spec.replace(":val", f":{split}"))
        assert [sample.id for sample in data.samples] == list(names)
        assert all(data.read_label(one).tolist() == [[0, 1, 255]] for one in data.samples)


def test_a_mask_in_it_that_no_split_has_an_image_for_is_named(tmp_path: Path) -> None:
    spec = shared_masks(tmp_path)
    write(tmp_path / "masks/x.png", [[0, 1, 255]])
    assert [sample.id for sample in open_dataset(spec).samples] == ["c", "d", "x"]


def test_a_mask_in_it_belongs_to_one_image(tmp_path: Path) -> None:
    spec = shared_masks(tmp_path)
    write(tmp_path / "images/train/c.png", np.zeros((1, 3, 3)))
    with pytest.raises(ConfigError, match=r"val/c\.jpg and .*train/c\.png have one mask, .*c\.png"):
        open_dataset(spec)
