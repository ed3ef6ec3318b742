"""Specifications, PASCAL VOC and Cityscapes."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.data import _halves, open_dataset, other_splits
from atrous.data.doctor import examine
from atrous.errors import ConfigError, InputError
from atrous.labels import CITYSCAPES, VOC
from tests.builders.picture_files import write


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    base = tmp_path / "VOCdevkit" / "VOC2012"
    lists = {"train": "ab", "val": "c", "train_aug": "abd", "trainval": "abc"}
    folder = base / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True)
    for split, ids in lists.items():
        (folder / f"{split}.txt").write_text("".join(f"{i}\n" for i in ids))
    for i in "abcd":
        write(base / "JPEGImages" / f"{i}.jpg", np.full((4, 6, 3), 99))
        write(base / "SegmentationClassAug" / f"{i}.png", np.full((4, 6), 7))
    for i in "abc":
        write(base / "SegmentationClass" / f"{i}.png", np.full((4, 6), 15), mode="P")
    return tmp_path


@pytest.mark.parametrize(
    ("rest", "root", "split"),
    [
        ("data:val", "data", "val"),
        (r"C:\data:val", r"C:\data", "val"),
        (r"C:\data:D:\ids.txt", r"C:\data", r"D:\ids.txt"),
        ("C:/data:D:/ids.txt", "C:/data", "D:/ids.txt"),
        ("data:/lists/ids.txt", "data", "/lists/ids.txt"),
        (r"data:D:\ids.txt", "data", r"D:\ids.txt"),
        (r"C:\data", r"C:\data", ""),
        ("data", "data", ""),
        ("a:b:val", "a:b", "val"),
        ("", "", ""),
    ],
)
def test_root_and_split(rest: str, root: str, split: str) -> None:
    assert _halves(rest) == (root, split)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", r"'': expected voc:ROOT:SPLIT, cityscapes:ROOT:SPLIT, folder:FILE\.yaml:SPLIT, synth"),
        ("coco:ROOT:val", "'coco:.*: expected voc:ROOT:SPLIT, cityscapes"),
        ("vocs:ROOT:val", "did you mean 'voc'"),
        ("voc:", "expected voc:ROOT:SPLIT, as voc:VOCdevkit:val"),
        (
            "voc:ROOT",
            r"says no split; expected voc:.*:train, or another of train, train_aug, trainval, val",
        ),
        ("voc:ROOT:test", r"no split 'test' in .*; there are: train, train_aug, trainval, val"),
        ("voc:ROOT/none:val", "none: expected VOC2012 with JPEGImages"),
        ("cityscapes:ROOT:val", "expected the folders leftImg8bit and gtFine"),
        ("folder:ROOT/none.yaml:val", r"none\.yaml: no such file"),
        ("synthetic:x:3", "expected synthetic:SEED:COUNT, as synthetic:0:100"),
        ("synthetic:0:0", "expected synthetic:SEED:COUNT"),
        ("synthetic:0", "expected synthetic:SEED:COUNT"),
    ],
)
def test_wrong_specifications(spec: str, message: str, voc: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        open_dataset(spec.replace("ROOT", str(voc)))


@pytest.mark.parametrize("root", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc(root: str, voc: Path) -> None:
    spec = f"voc:{voc / root}:train"
    data = open_dataset(spec)
    assert (data.name, data.spec, data.labels) == ("voc:train", spec, VOC)
    assert [sample.id for sample in data.samples] == ["a", "b"]
    assert data.read_image(data.samples[0]).shape == (4, 6, 3)
    assert (data.read_label(data.samples[0]) == 15).all()
    assert pickle.loads(pickle.dumps(data)) == data


def test_voc_aug_takes_the_other_masks(voc: Path) -> None:
    data = open_dataset(f"voc:{voc}:train_aug")
    assert [sample.id for sample in data.samples] == ["a", "b", "d"]
    assert (data.read_label(data.samples[2]) == 7).all()
    (voc / "VOCdevkit/VOC2012/SegmentationClassAug").rename(voc / "elsewhere")
    with pytest.raises(ConfigError, match=r"no folder .*SegmentationClassAug, which holds the ma"):
        open_dataset(f"voc:{voc}:train_aug")


def test_voc_finds_the_masks_of_any_list(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    def masks(ids: str) -> set[int]:
        (voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/more.txt").write_text("\n".join(ids))
        data = open_dataset(f"voc:{voc}:more")
        return {int(data.read_label(sample).max()) for sample in data.samples}

    assert masks("ac") == {15}
    assert caplog.messages == []
    assert masks("acd") == {7}  # `d` is only there, and one split is annotated in one way
    assert caplog.messages == [
        "more: 1 of its 3 masks are not in SegmentationClass; all are taken from "
        "SegmentationClassAug"
    ]
    (voc / "VOCdevkit/VOC2012/SegmentationClassAug/c.png").unlink()
    with pytest.raises(InputError, match=r"SegmentationClass/d\.png"):
        masks("acd")


@pytest.mark.parametrize(
    "content",
    ["c\nb\n\n", "\ufeffc\r\nb\r\n", "/JPEGImages/c.jpg /SegmentationClass/c.png\nb 1\n"],
    ids=["plain", "Windows", "pairs of paths"],
)
def test_voc_with_a_list_of_ones_own(content: str, voc: Path) -> None:
    (voc / "mine.txt").write_bytes(content.encode())
    data = open_dataset(f"voc:{voc}:{voc / 'mine.txt'}")
    assert (data.name, [sample.id for sample in data.samples]) == ("voc:mine", ["c", "b"])
    assert len(data.siblings) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n", "names no image, expected one id a line"),
        (b"c\nb\nc\n", "names 'c' twice"),
        (b"\xff\0", "not a readable list"),
    ],
)
def test_wrong_lists(content: bytes, message: str, voc: Path) -> None:
    (voc / "mine.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"mine\.txt: {message}"):
        open_dataset(f"voc:{voc}:{voc / 'mine.txt'}")


def test_other_splits(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = open_dataset(f"voc:{voc}:val")
    names = ["voc:train", "voc:train_aug", "voc:trainval"]
    assert [other.name for other in other_splits(data)] == names
    (voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt").write_text("")
    assert [other.name for other in other_splits(data)] == names[1:]
    assert "left out: " in caplog.text


def test_a_part_of_a_split_is_no_leak_from_it(voc: Path) -> None:
    for ids in ("c", "a"):
        (voc / "part.txt").write_text(ids)
        data = open_dataset(f"voc:{voc}:{voc / 'part.txt'}")
        assert examine(data, other_splits(data)).healthy


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((2, 2), 21), r"c\.png: holds id 21 on 4 pixels, expected the ids 0\.\.20, or 255"),
        ([[30, 40, 50, 60, 70, 80]], r"id 60 on 1 pixels and 2 other ids"),
        (np.full((2, 2, 3), 1), r"c\.png: its pixels are RGB, expected class ids"),
    ],
)
def test_labels_are_checked(values: NDArray[Any], message: str, voc: Path) -> None:
    data = open_dataset(f"voc:{voc}:val")
    assert data.samples[0].label is not None
    write(data.samples[0].label, values)
    with pytest.raises(InputError, match=message):
        data.read_label(data.samples[0])


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    for split, city, name in (("val", "ulm", "ulm_0"), ("val", "bonn", "bonn_0")):
        write(tmp_path / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png", np.zeros((1, 8, 3)))
        mask = [[7, 8, 26, 33, 0, 29, 255, 31]]
        write(tmp_path / f"gtFine/{split}/{city}/{name}_gtFine_labelIds.png", mask)
    return tmp_path


def test_cityscapes_folds_label_ids(cityscapes: Path) -> None:
    data = open_dataset(f"cityscapes:{cityscapes}:val")
    assert (data.name, data.labels) == ("cityscapes:val", CITYSCAPES)
    assert [sample.id for sample in data.samples] == ["bonn_0", "ulm_0"]
    assert data.read_image(data.samples[1]).shape == (1, 8, 3)
    folded = [[0, 1, 13, 18, 255, 255, 255, 16]]
    assert data.read_label(data.samples[1]).tolist() == folded
    write(cityscapes / "gtFine/val/ulm/ulm_0_gtFine_labelTrainIds.png", folded)
    again = open_dataset(f"cityscapes:{cityscapes}:val")
    assert [str(sample.label)[-12:] for sample in again.samples] == ["labelIds.png", "TrainIds.png"]
    assert again.read_label(again.samples[1]).tolist() == folded


def test_cityscapes_train_ids(cityscapes: Path) -> None:
    # In the order of label ids 0..33, from cityscapesScripts, helpers/labels.py.
    ignored = 255
    train_ids = [ignored] * 7 + [0, 1, ignored, ignored, 2, 3, 4, ignored, ignored, ignored, 5]
    train_ids += [ignored, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, ignored, ignored, 16, 17, 18]
    write(cityscapes / "gtFine/val/ulm/ulm_0_gtFine_labelIds.png", [range(34)])
    data = open_dataset(f"cityscapes:{cityscapes}:val")
    assert data.read_label(data.samples[1]).tolist() == [train_ids]


def test_cityscapes_knows_its_label_ids(cityscapes: Path) -> None:
    write(cityscapes / "gtFine/val/ulm/ulm_0_gtFine_labelIds.png", [[34, 7]])
    data = open_dataset(f"cityscapes:{cityscapes}:val")
    with pytest.raises(InputError, match=r"holds the label ids \[34\], expected 0\.\.33 or 255"):
        data.read_label(data.samples[1])


def test_cityscapes_keeps_what_has_no_partner(cityscapes: Path) -> None:
    (cityscapes / "gtFine/val/bonn/bonn_0_gtFine_labelIds.png").unlink()
    (cityscapes / "leftImg8bit/val/ulm/ulm_0_leftImg8bit.png").unlink()
    data = open_dataset(f"cityscapes:{cityscapes}:val")
    with pytest.raises(InputError, match=r"bonn_0_gtFine_labelIds\.png: cannot be read: No such f"):
        data.read_label(data.samples[0])
    with pytest.raises(InputError, match=r"ulm_0_leftImg8bit\.png: cannot be read"):
        data.read_image(data.samples[1])


def test_cityscapes_coarse_masks(cityscapes: Path) -> None:
    write(cityscapes / "leftImg8bit/train_extra/ulm/ulm_9_leftImg8bit.png", np.zeros((1, 1, 3)))
    extra = f"cityscapes:{cityscapes}:train_extra"
    with pytest.raises(ConfigError, match=r"no folder .*gtFine/train_extra, which holds the masks"):
        open_dataset(extra)
    assert other_splits(open_dataset(f"cityscapes:{cityscapes}:val")) == ()
    write(cityscapes / "gtCoarse/train_extra/ulm/ulm_9_gtCoarse_labelIds.png", [[7]])
    data = open_dataset(extra)
    assert data.read_label(data.samples[0]).tolist() == [[0]]
    assert [other.name for other in other_splits(data)] == ["cityscapes:val"]


def test_cityscapes_of_an_empty_split(cityscapes: Path) -> None:
    """The pictures of a split that was unpacked one folder too high count for nothing."""
    for kind, ending in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_color")):
        write(cityscapes / f"{kind}/train/ulm_0_{ending}.png", np.zeros((1, 1, 3)))
    expected = r":train: no CITY/\*_leftImg8bit\.png in .*leftImg8bit/train$"
    with pytest.raises(ConfigError, match=expected):
        open_dataset(f"cityscapes:{cityscapes}:train")


@pytest.mark.parametrize(
    ("split", "message"),
    [("test", "no split 'test' in .*; there are: val"), ("", "says no split; expected .*:val")],
)
def test_cityscapes_lists_its_splits(split: str, message: str, cityscapes: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        open_dataset(f"cityscapes:{cityscapes}:{split}")
