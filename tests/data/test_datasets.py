from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from atrous.data import open_dataset, other_splits
from atrous.data.synthetic import LABELS, draw, write_synthetic
from atrous.errors import ConfigError, InputError
from atrous.labels import CITYSCAPES, VOC


def write(path: Path, values: Any, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8), mode=mode).save(path)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    base = tmp_path / "VOCdevkit" / "VOC2012"
    lists = {
        "train": ["a", "b"],
        "val": ["c"],
        "train_aug": ["a", "b", "d"],
        "trainval": list("abc"),
    }
    for split, ids in lists.items():
        path = base / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{i}\n" for i in ids))
    for i in "abcd":
        write(base / "JPEGImages" / f"{i}.jpg", np.full((4, 6, 3), 99))
        write(base / "SegmentationClassAug" / f"{i}.png", np.full((4, 6), 7))
    for i in "abc":
        mask = Image.fromarray(np.full((4, 6), 15, np.uint8), mode="P")
        mask.putpalette(VOC.palette())
        (base / "SegmentationClass").mkdir(exist_ok=True)
        mask.save(base / "SegmentationClass" / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize("root", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc(root: str, voc: Path) -> None:
    data = open_dataset(f"voc:{voc / root}:train")
    assert (data.name, data.labels) == ("voc:train", VOC)
    assert [sample.id for sample in data.samples] == ["a", "b"]
    assert data.read_image(data.samples[0]).shape == (4, 6, 3)
    assert (data.read_label(data.samples[0]) == 15).all()


def test_voc_aug_takes_the_other_masks(voc: Path) -> None:
    data = open_dataset(f"voc:{voc}:train_aug")
    assert [sample.id for sample in data.samples] == ["a", "b", "d"]
    assert (data.read_label(data.samples[2]) == 7).all()


def test_voc_with_a_list_of_ones_own(voc: Path) -> None:
    (voc / "mine.txt").write_text("c\nb\n\n")
    data = open_dataset(f"voc:{voc}:{voc / 'mine.txt'}")
    assert (data.name, [sample.id for sample in data.samples]) == ("voc:mine", ["c", "b"])


def test_other_splits_leave_unions_out(voc: Path) -> None:
    data = open_dataset(f"voc:{voc}:val")
    assert [other.name for other in other_splits(data)] == ["voc:train", "voc:train_aug"]


def test_a_part_of_a_split_is_no_leak_from_it(voc: Path) -> None:
    (voc / "part.txt").write_text("c\n")
    data = open_dataset(f"voc:{voc}:{voc / 'part.txt'}")
    assert [other.name for other in other_splits(data)] == ["voc:train", "voc:train_aug"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("voc", "'voc': expected voc:ROOT:SPLIT"),
        ("coco:ROOT:val", "expected voc:ROOT:SPLIT, cityscapes"),
        ("voc:ROOT:test", r"no split 'test' in .*; there are: train, train_aug, trainval, val"),
        ("voc:ROOT/none:val", "none: expected VOC2012 with JPEGImages"),
        ("cityscapes:ROOT:val", r"no folder .*leftImg8bit"),
        ("folder:ROOT/none.yaml:val", r"none\.yaml: not a readable YAML file"),
    ],
)
def test_wrong_specifications(spec: str, message: str, voc: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        open_dataset(spec.replace("ROOT", str(voc)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((2, 2), 21), r"holds the ids \[21\], expected 0\.\.20 or 255"),
        (np.full((2, 2, 3), 1), "its pixels are RGB, expected class ids"),
    ],
)
def test_labels_are_checked(values: NDArray[Any], message: str, voc: Path) -> None:
    data = open_dataset(f"voc:{voc}:val")
    assert data.samples[0].label is not None
    write(data.samples[0].label, values)
    with pytest.raises(InputError, match=message):
        data.read_label(data.samples[0])


def test_cityscapes_folds_label_ids(tmp_path: Path) -> None:
    write(tmp_path / "leftImg8bit/val/ulm/ulm_0_leftImg8bit.png", np.zeros((1, 6, 3)))
    write(tmp_path / "gtFine/val/ulm/ulm_0_gtFine_labelIds.png", [[7, 8, 26, 33, 0, 29]])
    data = open_dataset(f"cityscapes:{tmp_path}:val")
    assert (data.name, data.labels) == ("cityscapes:val", CITYSCAPES)
    assert data.read_label(data.samples[0]).tolist() == [[0, 1, 13, 18, 255, 255]]
    write(tmp_path / "gtFine/val/ulm/ulm_0_gtFine_labelTrainIds.png", [[0, 1, 13, 18, 255, 255]])
    again = open_dataset(f"cityscapes:{tmp_path}:val")
    assert again.read_label(again.samples[0]).tolist() == [[0, 1, 13, 18, 255, 255]]


def describe(root: Path, **changes: Any) -> str:
    content: dict[str, Any] = {
        "images": "images/{split}",
        "masks": "masks/{split}",
        "classes": {"ground": [0, 0, 0], "road": [128, 64, 128]},
    }
    content = {k: v for k, v in (content | changes).items() if v is not None}
    (root / "set.yaml").write_text(yaml.safe_dump(content))
    return f"folder:{root / 'set.yaml'}:val"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        write(tmp_path / f"images/val/{name}.jpg", np.zeros((1, 3, 3)))
        write(tmp_path / f"masks/val/{name}.png", [[0, 1, 255]])
    return tmp_path


def test_folder_of_ids(folder: Path) -> None:
    data = open_dataset(describe(folder))
    assert (data.name, data.labels.names) == ("set:val", ("ground", "road"))
    assert data.labels.colours[1] == (128, 64, 128)
    assert [sample.id for sample in data.samples] == ["one", "two"]
    assert data.read_label(data.samples[1]).tolist() == [[0, 1, 255]]


def test_folder_with_names_alone(folder: Path) -> None:
    assert open_dataset(describe(folder, classes=["a", "b"])).labels.names == ("a", "b")


def test_folder_of_colours(folder: Path) -> None:
    colours = [[[128, 64, 128], [0, 0, 0], [224, 224, 192]]]
    write(folder / "masks/val/one.png", colours)
    spec = describe(folder, mask_type="rgb", ignore_colour=[224, 224, 192])
    data = open_dataset(spec)
    assert data.read_label(data.samples[0]).tolist() == [[1, 0, 255]]
    strict = open_dataset(describe(folder, mask_type="rgb"))
    with pytest.raises(InputError, match=r"1 pixels have colours of no class, the first \(224, 2"):
        strict.read_label(strict.samples[0])


def test_folder_with_lists(folder: Path) -> None:
    (folder / "some.txt").write_text("two.jpg\n")
    same = {"images": "images/val", "masks": "masks/val"}
    data = open_dataset(describe(folder, **same, splits={"val": "some.txt"}))
    assert [sample.id for sample in data.samples] == ["two"]
    with pytest.raises(ConfigError, match=r"no split 'test' in .*; there are: val"):
        open_dataset(describe(folder, **same, splits={"val": "some.txt"})[:-3] + "test")


def test_folder_keeps_what_has_no_partner(folder: Path) -> None:
    (folder / "masks/val/one.png").unlink()
    data = open_dataset(describe(folder))
    with pytest.raises(InputError, match="one: has no label"):
        data.read_label(data.samples[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clases": []}, "clases: Extra inputs are not permitted; did you mean 'classes'"),
        ({"classes": None}, "classes: Field required"),
        ({"images": "nowhere"}, r"no folder .*nowhere"),
        ({"ignore_index": 1}, r"ignore_index 1 must be 0\.\.255 and outside"),
        ({"classes": ["a", "b"], "mask_type": "rgb"}, "rgb needs a colour for every class"),
        ({"splits": {"val": "none.txt"}}, r"splits\.val: no file"),
    ],
)
def test_wrong_descriptions(changes: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        open_dataset(describe(folder, **changes))


def test_synthetic_is_drawn_from_its_seed(tmp_path: Path) -> None:
    data = write_synthetic(tmp_path / "a", 8, seed=3)
    again = write_synthetic(tmp_path / "b", 8, seed=3)
    other = write_synthetic(tmp_path / "c", 8, seed=4)
    pictures = [[one.read_image(sample) for sample in one.samples] for one in (data, again, other)]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
    found = {int(i) for sample in data.samples for i in np.unique(data.read_label(sample))}
    assert found == {0, 1, 2, 3, 255}
    assert data.labels == LABELS


def test_synthetic_shapes_are_where_the_mask_says() -> None:
    for seed in range(5):
        pixels, mask = draw(np.random.default_rng(seed))
        for class_id in set(np.unique(mask)) - {0, 255}:
            inside = pixels[mask == class_id][:, class_id - 1]
            assert inside.mean() > 150
