"""Every image and label is opened once before the first step."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from atrous.data import open_dataset
from atrous.data.augment import Augment
from atrous.data.dataset import Dataset, MaskError
from atrous.errors import InputError
from atrous.preprocess import Preprocess
from atrous.training.loader import Crops, Positions, load
from atrous.training.survey import survey
from tests.builders.cases import Cases

COUNT = 6


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six photographs of noise whose upper half is class 1."""
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(COUNT):
        noise = np.random.default_rng(number).integers(0, 255, (40, 50, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"images/im{number}.jpg")
        mask = np.zeros((40, 50), np.uint8)
        mask[:20] = 1
        Image.fromarray(mask).save(tmp_path / f"masks/im{number}.png")
    content = {"images": "images", "masks": "masks", "classes": ["a", "b"], "mask_type": "ids"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def own(root: Path) -> Dataset:
    return open_dataset(f"folder:{root / 'own.yaml'}:all")


def image(root: Path, number: int = 3) -> Path:
    return root / f"images/im{number}.jpg"


def mask(root: Path, number: int = 3) -> Path:
    return root / f"masks/im{number}.png"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


def test_counts(root: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = survey(own(root), progress=lambda done, total: seen.append((done, total)))
    assert found.pixels.tolist() == [[1000, 1000]] * COUNT
    assert (found.dataset, found.left_out) == (own(root), ())
    assert seen == [(i, COUNT) for i in range(1, COUNT + 1)]


def test_nothing_is_decoded_twice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = survey(own(root)).pixels

    def never(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(Dataset, "read_image", never)
    monkeypatch.setattr(Dataset, "read_label", never)
    assert np.array_equal(survey(own(root)).pixels, first)


def test_an_edit_is_noticed_that_keeps_size_and_time(root: Path) -> None:
    survey(own(root))
    path = mask(root).with_suffix(".tif")
    for value in (0, 1):  # an uncompressed file of the same length
        mask(root).unlink(missing_ok=True)
        Image.fromarray(np.full((40, 50), value, np.uint8)).save(path)
        os.utime(path, (1, 1))
        assert survey(own(root)).pixels[3].tolist() == [2000 * (1 - value), 2000 * value]


def test_another_meaning_of_the_values_is_counted_anew(root: Path) -> None:
    survey(own(root))
    with (root / "own.yaml").open("a") as file:
        file.write("values: {0: b, 1: a}\n")
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(mask(root))
    assert survey(own(root)).pixels[3].tolist() == [0, 2000]


def not_there(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("spoil", [cut, not_there, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("which", [image, mask])
def test_one_bad_file_is_one_line(which: Any, spoil: Any, root: Path) -> None:
    spoil(which(root))
    with pytest.raises(InputError, match=r"im3.*; mend it, or write data: \{skip_unreadable: tr"):
        survey(own(root))
    found = survey(own(root), skip_unreadable=True)
    assert (len(found.dataset.samples), found.left_out) == (COUNT - 1, ("im3",))
    assert found.pixels.shape == (COUNT - 1, 2)


def test_each_bad_file_is_named(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 4):
        cut(image(root, number))
    with pytest.raises(InputError, match=r"^2 of 6 images of own:all cannot be used, the first: "):
        survey(own(root))
    assert "im1.jpg" in caplog.text
    assert "im4.jpg" in caplog.text


def test_what_does_not_fit_is_not_skipped(root: Path) -> None:
    Image.fromarray(np.full((40, 50), 9, np.uint8)).save(mask(root))
    with pytest.raises(InputError, match=r"im3.png: holds id 9 on 2000 pixels"):
        survey(own(root), skip_unreadable=True)
    Image.fromarray(np.zeros((30, 50), np.uint8)).save(mask(root))
    with pytest.raises(InputError, match=r"im3.png: 50×30 pixels, its image .*im3.jpg 50×40; mend"):
        survey(own(root), skip_unreadable=True)


def test_nothing_left_is_an_error(root: Path) -> None:
    for number in range(COUNT):
        cut(image(root, number))
    with pytest.raises(InputError, match="none of its 6 images can be read"):
        survey(own(root), skip_unreadable=True)


def test_a_cache_that_cannot_be_used_costs_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "file").write_text("")
    monkeypatch.setenv("ATROUS_CACHE", str(root / "file"))
    assert len(survey(own(root)).pixels) == COUNT
    monkeypatch.setenv("ATROUS_CACHE", str(root / "cache"))
    survey(own(root))
    for path in (root / "cache/surveys").iterdir():
        cut(path)
    assert len(survey(own(root)).pixels) == COUNT


def test_drawn_pictures_are_not_kept(root: Path) -> None:
    assert survey(open_dataset("synthetic:0:4")).pixels.shape == (4, 5)
    assert not (root / "cache").exists()


def test_the_case_from_the_field(
    cases: Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path))
    data = open_dataset(f"folder:{cases('training') / 'truncated/own.yaml'}:train")
    with pytest.raises(InputError, match=r"im06.jpg: cannot be read: .*skip_unreadable"):
        survey(data)
    assert survey(data, skip_unreadable=True).left_out == ("im06",)


def batches(root: Path, workers: int) -> Iterator[Any]:
    data = own(root)
    crops = Crops(data, Augment(crop=17), Preprocess(size=(17, 17)), 0)
    return load(crops, Positions(range(3), 2), workers)


@pytest.mark.heavy
def test_workers_start_beside_the_threads_of_opencv(root: Path) -> None:
    """A worker that was forked while they ran waited for them for ever."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        picture = np.zeros((2000, 2000, 3), np.uint8)
        for _ in range(3):
            cv2.GaussianBlur(picture, (9, 9), 0)  # threads are there once they are needed
            assert len(list(batches(root, 1))) == 3
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(before)


@pytest.mark.heavy
def test_an_error_crosses_worker_processes_as_itself(root: Path) -> None:
    assert [piece.images.shape for piece in batches(root, 1)] == [(2, 3, 17, 17)] * 3
    for number in range(COUNT):
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(mask(root, number))
    with pytest.raises(MaskError, match=r"^\S+png: its pixels are RGB, expected class ids in a "):
        list(batches(root, 1))
