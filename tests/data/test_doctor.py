"""Eight faults are planted into a healthy copy, one at a time, and each is found."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atrous.data import open_dataset, other_splits
from atrous.data.doctor import Report, examine
from atrous.data.synthetic import draw

Plant = Callable[[Path], Any]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty drawn pictures in VOC's layout, 14 to train and 6 to validate on."""
    root = tmp_path_factory.mktemp("voc") / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for number in range(20):
        pixels, mask = draw(np.random.default_rng(number))
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{number:02}.jpg", quality=92)
        Image.fromarray(mask).save(root / "SegmentationClass" / f"{number:02}.png")
    for split, numbers in (("train", range(14)), ("val", range(14, 20))):
        ids = "".join(f"{number:02}\n" for number in numbers)
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(ids)
    return root


@pytest.fixture
def copy(healthy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(healthy, tmp_path / "VOC2012"))


def look(root: Path) -> Report:
    data = open_dataset(f"voc:{root}:val")
    return examine(data, other_splits(data))


def errors(report: Report) -> dict[str, int]:
    return {one.kind: one.count for one in report.findings if one.severity == "error"}


def test_the_original_passes(healthy: Path) -> None:
    report = look(healthy)
    assert report.healthy
    # Only shapes are drawn: 17 of VOC's classes never occur, which is a warning.
    assert {one.kind for one in report.findings} == {"class never occurs"}
    assert report.samples == 6
    assert 0.01 < report.ignored < 0.1


def mask(root: Path, name: str = "16") -> Path:
    return root / "SegmentationClass" / f"{name}.png"


def picture(root: Path, name: str = "16") -> Path:
    return root / "JPEGImages" / f"{name}.jpg"


def save_mask(root: Path, values: Any) -> None:
    Image.fromarray(np.asarray(values, np.uint8)).save(mask(root))


def ids(root: Path) -> Any:
    return np.asarray(Image.open(mask(root))).copy()


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def with_an_id_outside(root: Path) -> None:
    values = ids(root)
    values[:3] = 77
    save_mask(root, values)


def training_picture_in_val(root: Path) -> None:
    with Image.open(picture(root, "03")) as train:
        train.resize((150, 112)).save(picture(root), quality=60)
    with Image.open(mask(root, "03")) as train:
        train.resize((150, 112), Image.Resampling.NEAREST).save(mask(root))


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (lambda root: mask(root).unlink(), "missing label"),
        (lambda root: picture(root).unlink(), "missing image"),
        (lambda root: cut(picture(root)), "unreadable image"),
        (lambda root: cut(mask(root)), "unreadable label"),
        (lambda root: save_mask(root, ids(root)[:-4]), "size mismatch"),
        (with_an_id_outside, "ids outside the classes"),
        (lambda root: save_mask(root, np.zeros((120, 160, 3))), "colours instead of ids"),
        (lambda root: save_mask(root, np.full((120, 160), 255)), "mostly ignored"),
        (training_picture_in_val, "seen in another split"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)  # fmt: skip
def test_each_planted_fault_is_found_alone(plant: Plant, kind: str, copy: Path) -> None:
    plant(copy)
    report = look(copy)
    assert errors(report) == {kind: 1}
    assert not report.healthy
    [finding] = [one for one in report.findings if one.kind == kind]
    assert "16" in finding.examples[0]
    assert finding.next_step


def test_ids_in_two_splits_and_twice_in_one(copy: Path) -> None:
    listed = copy / "ImageSets" / "Segmentation" / "val.txt"
    listed.write_text(listed.read_text() + "16\n05\n")
    found = errors(look(copy))
    assert found == {"duplicate id": 1, "seen in another split": 1}


def test_the_same_picture_twice_in_a_split_is_a_warning(copy: Path) -> None:
    shutil.copy(picture(copy, "15"), picture(copy))
    shutil.copy(mask(copy, "15"), mask(copy))
    report = look(copy)
    assert report.healthy
    assert "15 and 16" in [one.examples[0] for one in report.findings]


def test_shares_and_weights_by_hand(tmp_path: Path) -> None:
    from atrous.data.dataset import Dataset, Sample
    from atrous.data.voc import read_ids
    from atrous.labels import generic

    label = np.repeat(np.uint8([0, 0, 0, 0, 1, 1, 2, 255]), 100).reshape(8, 100)
    Image.fromarray(label).save(tmp_path / "m.png")
    pixels = np.random.default_rng(0).integers(0, 255, (8, 100, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "i.png")
    sample = Sample("x", tmp_path / "i.png", tmp_path / "m.png")
    report = examine(Dataset("d", "d", generic(4), (sample,), read_ids))
    assert report.ignored == 1 / 8
    assert [one.share for one in report.classes] == pytest.approx([4 / 7, 2 / 7, 1 / 7, 0])
    assert [one.weight for one in report.classes] == pytest.approx([0.5, 1, 2, 0])


@pytest.mark.slow
def test_the_shared_validation_images_pass(shared: Path) -> None:
    report = look(shared / "data" / "VOCdevkit")
    assert errors(report) == {}
    assert report.samples == 725
