"""Faults are planted into a healthy copy, one at a time, and each is found, alone."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from atrous.data import open_dataset, other_splits
from atrous.data.dataset import Dataset, Sample
from atrous.data.doctor import EXAMPLES, DataReport, examine
from atrous.data.masks import read_ids
from atrous.data.synthetic import NAMES, draw
from atrous.labels import generic
from tests.builders.rasters import tiff

Plant = Callable[[Path], Any]
KNOWN = ("train", "train_aug", "trainval", "val", "test")
SPLITS = {"train": range(14), "val": range(14, 20)}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty drawn pictures, 14 to train on and 6 to validate on, named alike in both splits."""
    root = tmp_path_factory.mktemp("shapes")
    for split, numbers in SPLITS.items():
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True)
        for place, number in enumerate(numbers):
            pixels, mask = draw(0, number)
            Image.fromarray(pixels).save(root / f"images/{split}/{place:02}.jpg", quality=92)
            Image.fromarray(mask).save(root / f"masks/{split}/{place:02}.png")
    content = {"images": "images/{split}", "masks": "masks/{split}", "classes": list(NAMES)}
    (root / "set.yaml").write_text(yaml.safe_dump(content | {"mask_type": "ids"}))
    return root


@pytest.fixture
def copy(healthy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(healthy, tmp_path / "copy"))


def look(root: Path, split: str = "val") -> DataReport:
    data = open_dataset(f"folder:{root / 'set.yaml'}:{split}")
    return examine(data, other_splits(data))


def found(report: DataReport) -> dict[str, int]:
    return {one.kind: one.count for one in report.findings}


@pytest.mark.parametrize("split", SPLITS)
def test_the_original_passes(split: str, healthy: Path) -> None:
    seen: list[tuple[int, int]] = []
    data = open_dataset(f"folder:{healthy / 'set.yaml'}:{split}")
    report = examine(data, other_splits(data), lambda done, total: seen.append((done, total)))
    assert (report.healthy, report.findings) == (True, ())
    assert (report.data, report.samples) == (f"set:{split}", len(SPLITS[split]))
    assert report.compared == tuple(f"set:{other}" for other in SPLITS if other != split)
    assert 0.005 < report.ignored < 0.1
    assert seen == [(i, 20) for i in range(1, 21)]


def mask(root: Path) -> Path:
    return root / "masks/val/02.png"


def picture(root: Path, name: str = "val/02") -> Path:
    return root / f"images/{name}.jpg"


def save_mask(root: Path, values: Any) -> None:
    Image.fromarray(np.asarray(values, np.uint8)).save(mask(root))


def ids(root: Path) -> Any:
    return np.asarray(Image.open(mask(root))).copy()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def an_id_outside(root: Path) -> None:
    values = ids(root)
    values[:3] = 77
    save_mask(root, values)


def almost_all_ignored(root: Path) -> None:
    values = ids(root)
    values[:118] = 255
    save_mask(root, values)


def a_training_picture_in_val(root: Path) -> None:
    with Image.open(picture(root, "train/03")) as train:
        train.resize((150, 112)).save(picture(root), quality=60)
    with Image.open(root / "masks/train/03.png") as train:
        train.resize((150, 112), Image.Resampling.NEAREST).save(mask(root))


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (lambda root: mask(root).unlink(), "missing label"),
        (lambda root: picture(root).unlink(), "missing image"),
        (lambda root: cut(picture(root)), "unreadable image"),
        (lambda root: cut(mask(root)), "unreadable label"),
        (lambda root: save_mask(root, ids(root)[:-4]), "size mismatch"),
        (an_id_outside, "ids outside the classes"),
        (lambda root: save_mask(root, np.zeros((120, 160, 3))), "colours instead of ids"),
        (lambda root: save_mask(root, np.full((120, 160), 255)), "ignored label"),
        (almost_all_ignored, "ignored label"),
        (a_training_picture_in_val, "seen in another split"),
    ],
)
def test_each_planted_fault_is_found_alone(plant: Plant, kind: str, copy: Path) -> None:
    plant(copy)
    report = look(copy)
    assert found(report) == {kind: 1}
    assert not report.healthy
    [finding] = report.findings
    assert finding.severity == "error"
    assert "02" in finding.examples[0]
    assert finding.next_step


def test_colours_of_no_class(copy: Path) -> None:
    described = yaml.safe_load((copy / "set.yaml").read_text())
    colours = {name: [9 * i, 0, 0] for i, name in enumerate(NAMES)}
    described |= {"classes": colours, "mask_type": "rgb", "ignore_colours": [[255, 255, 255]]}
    (copy / "set.yaml").write_text(yaml.safe_dump(described))
    table = np.full((256, 3), 255, np.uint8)
    table[: len(NAMES)] = list(colours.values())
    for path in copy.glob("masks/*/*.png"):
        Image.fromarray(table[np.asarray(Image.open(path))]).save(path)
    assert look(copy).findings == ()
    save_mask(copy, np.full((120, 160, 3), 7))
    assert found(look(copy)) == {"colours of no class": 1}


def test_a_class_that_never_occurs_is_a_warning(copy: Path) -> None:
    for path in copy.glob("masks/val/*.png"):
        values = np.asarray(Image.open(path)).copy()
        values[values == 4] = 255
        Image.fromarray(values).save(path)
    report = look(copy)
    assert found(report) == {"class never occurs": 1}
    assert report.healthy
    assert (report.findings[0].severity, report.findings[0].examples) == ("warning", ("cross",))
    assert (report.classes[4].images, report.classes[4].weight) == (0, None)


def test_much_is_ignored_is_a_warning(copy: Path) -> None:
    for path in copy.glob("masks/val/*.png"):
        values = np.asarray(Image.open(path)).copy()
        values[values == 0] = 255
        Image.fromarray(values).save(path)
    report = look(copy)
    assert report.findings[-1].kind == "class never occurs"
    assert report.findings[-2].kind == "much is ignored"


def test_the_same_picture_twice_in_a_split_is_a_warning(copy: Path) -> None:
    shutil.copy(picture(copy, "val/01"), picture(copy))
    shutil.copy(copy / "masks/val/01.png", mask(copy))
    report = look(copy)
    assert (found(report), report.healthy) == ({"same picture twice": 1}, True)
    assert report.findings[0].examples == ("01 and 02",)


def test_the_same_scene_twice_in_a_split_is_common(copy: Path) -> None:
    shifted = np.roll(np.asarray(Image.open(picture(copy, "val/01"))), 2, axis=1)
    Image.fromarray(shifted).save(picture(copy))
    assert found(look(copy)) == {}


def test_the_same_scene_in_another_split_is_a_warning(copy: Path) -> None:
    shifted = np.roll(np.asarray(Image.open(picture(copy, "train/03"))), 2, axis=1)
    Image.fromarray(shifted).save(picture(copy))
    report = look(copy)
    assert (found(report), report.healthy) == ({"same scene in another split": 1}, True)
    assert report.findings[0].examples == ("02 looks like 03 of set:train",)


@pytest.mark.parametrize(
    ("own", "other", "numbers", "expected"),
    [
        ("val", "train", range(4, 12), {"seen in another split": 4}),
        ("train", "val", range(4, 12), {"seen in another split": 4}),
        ("val", "train", range(12), {"seen in another split": 8}),
        ("val", "trainval", range(12), {"contained in another split": 1}),
        ("trainval", "val", range(2, 6), {}),
        ("half", "val", range(12), {"contained in another split": 1}),
        ("half", "train", range(12), {"contained in another split": 1}),
        ("half", "train", range(4, 12), {"seen in another split": 4}),
        ("train", "train_aug", range(4, 12), {}),
        ("val", "test", range(4, 12), {"seen in another split": 4}),
    ],
)
def test_images_listed_in_two_splits(
    own: str, other: str, numbers: range, expected: dict[str, int]
) -> None:
    def split(name: str, chosen: range) -> Dataset:
        whole = open_dataset("synthetic:0:12")
        samples = tuple(whole.samples[i] for i in chosen)
        siblings = tuple(f"x:{other}" for other in KNOWN)
        return Dataset(
            f"x:{name}", name, whole.labels, samples, whole.decode, whole.decode_image, siblings
        )

    assert found(examine(split(own, range(8)), [split(other, numbers)])) == expected


def test_examples_are_few_and_counts_complete(copy: Path) -> None:
    for path in copy.glob("masks/train/*.png"):
        path.unlink()
    report = look(copy, "train")
    assert report.findings[0].count == 14
    assert len(report.findings[0].examples) == EXAMPLES


def test_a_broken_picture_is_a_fault_of_its_own_split_alone(copy: Path) -> None:
    cut(picture(copy, "train/03"))
    assert found(look(copy, "val")) == {}
    assert found(look(copy, "train")) == {"unreadable image": 1}


def test_a_picture_of_many_bands_is_not_turned(copy: Path) -> None:
    """Pillow, which knows how pictures are turned, does not open it."""
    pytest.importorskip("rasterio", reason="needs the extra large")
    pixels = np.moveaxis(np.asarray(Image.open(picture(copy))), 2, 0)
    picture(copy).unlink()
    tiff(copy / "images/val/02.tif", np.concatenate([pixels, pixels[:2]]), interleave="band")
    assert found(look(copy)) == {}


def test_of_256_classes_none_is_ignored(tmp_path: Path) -> None:
    label = np.arange(256, dtype=np.uint8).repeat(4).reshape(32, 32)
    Image.fromarray(label).save(tmp_path / "a.png")
    Image.fromarray(np.dstack([label] * 3)).save(tmp_path / "a.jpg")
    sample = Sample("a", tmp_path / "a.jpg", tmp_path / "a.png")
    report = examine(Dataset("d", "d", generic(256), (sample,), read_ids))
    assert (report.ignored, report.findings) == (0, ())
    assert [one.share for one in report.classes] == [1 / 256] * 256


def test_shares_and_weights_by_hand(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = []
    for name, row in (("x", [0, 0, 0, 0, 1, 1, 2, 255]), ("y", [0, 0, 0, 0, 0, 0, 0, 0])):
        image, label = tmp_path / f"{name}.jpg", tmp_path / f"{name}.png"
        Image.fromarray(np.repeat(np.uint8(row), 100).reshape(8, 100)).save(label)
        Image.fromarray(rng.integers(0, 255, (8, 100, 3), np.uint8)).save(image)
        samples.append(Sample(name, image, label))
    report = examine(Dataset("d", "d", generic(4), tuple(samples), read_ids))
    assert report.ignored == 1 / 16
    assert [one.images for one in report.classes] == [2, 1, 1, 0]
    assert [one.share for one in report.classes] == pytest.approx([12 / 15, 2 / 15, 1 / 15, 0])
    # Frequencies 12/15, 2/7 and 1/7; their median is 2/7. The background's counts both images.
    weights = [one.weight for one in report.classes]
    assert weights[:3] == pytest.approx([2 / 7 / (12 / 15), 1, 2])
    assert weights[3] is None


def test_synthetic_passes() -> None:
    assert examine(open_dataset("synthetic:0:8")).findings == ()


@pytest.mark.slow
def test_the_shared_validation_images_pass(shared: Path) -> None:
    data = open_dataset(f"voc:{shared / 'data' / 'VOCdevkit'}:val")
    report = examine(data, other_splits(data))
    assert report.findings == ()
    assert report.samples == 725
    assert report.compared == ("voc:train", "voc:train_aug", "voc:train_more")


def test_0_and_255_of_many_classes_are_no_data_set(healthy: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(healthy, tmp_path / "copy"))
    for path in (root / "masks/val").iterdir():
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8) * 255).save(path)
    report = look(root)
    assert found(report)["nothing but one class"] == 1
    assert not report.healthy
    assert any("values: {0: background, 255: road}" in str(one) for one in report.findings)


@pytest.mark.parametrize("classes", ["[ground]", "[ground, road]"])
def test_masks_of_one_class_are_a_warning(classes: str, healthy: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(healthy, tmp_path / "copy"))
    for path in (root / "masks/val").iterdir():
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    text = f"images: images/{{split}}\nmasks: masks/{{split}}\nmask_type: ids\nclasses: {classes}\n"
    (root / "one.yaml").write_text(text)
    report = examine(open_dataset(f"folder:{root}/one.yaml:val"))
    assert found(report)["every pixel is one class"] == 1
    assert report.healthy


def test_what_helps_is_said_of_values_that_are_no_class(healthy: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(healthy, tmp_path / "copy"))
    for path in root.glob("masks/*/*"):
        values = np.asarray(Image.open(path))
        Image.fromarray(np.where(values == 255, 255, values + 1).astype(np.uint8)).save(path)
    [finding] = [one for one in look(root).findings if one.kind == "ids outside the classes"]
    assert (
        "nothing is 0: write ignore: [0], and 1..5 are the classes in order" in finding.examples[0]
    )
