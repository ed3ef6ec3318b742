from pathlib import Path

import cv2
import numpy as np
import pytest

from atrous import image
from atrous.compiler.int8 import samples
from atrous.errors import AtrousError, ConfigError, InputError
from atrous.labels import VOC
from atrous.preprocess import Preprocess
from atrous.vastai import npz
from tests.builders.rasters import png
from tests.builders.told import Told


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def write_mask(path: Path, *classes: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.repeat(np.array([*classes, 255], np.uint8), 16)
    cv2.imwrite(str(path), np.tile(mask, (32, 1)))


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Twenty images: class 3 in `05`, class 2 in `10` and `11`, class 1 in the rest."""
    for number in range(20):
        name = f"{number:02}"
        write_mask(
            tmp_path / f"SegmentationClass/{name}.png", 0, {5: 3, 10: 2, 11: 2}.get(number, 1)
        )
    touch(tmp_path / "JPEGImages", *(f"{number:02}.jpg" for number in range(20)))
    return tmp_path


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        ("jpg", ["a.jpg", "b.JPG"]),
        ("JPG", ["a.jpg", "b.JPG"]),
        (".jpg", ["a.jpg", "b.JPG"]),
        ("JPEG", ["c.jpeg", "d.JPEG"]),
        ("png", ["e.png"]),
        ("bmp", ["f.bmp"]),
        ("npz", ["g.npz", "h.NPZ"]),
        ("NPZ", ["g.npz", "h.NPZ"]),
        (None, ["a.jpg", "b.JPG", "c.jpeg", "d.JPEG", "e.png", "f.bmp", "g.npz", "h.NPZ"]),
    ],
)
def test_endings(tmp_path: Path, suffix: str | None, expected: list[str]) -> None:
    files = ["h.NPZ", "g.npz", "f.bmp", "e.png", "d.JPEG", "c.jpeg", "b.JPG", "a.jpg"]
    touch(tmp_path, *files, "notes.txt", ".hidden.jpg", ".git/x.jpg", "none")
    assert names(samples.choose(tmp_path, suffix, None)) == expected


def test_folders_are_searched_below_the_hidden_ones(tmp_path: Path) -> None:
    folder = touch(tmp_path / ".cache" / "images", "a/1.jpg", "b/1.jpg")
    assert samples.choose(folder, "jpg") == [folder / "a/1.jpg", folder / "b/1.jpg"]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [5]), (2, [2, 7]), (5, [1, 3, 5, 7, 9]), (10, range(10)), (99, range(10))],
)
def test_even_spread(tmp_path: Path, count: int, expected: list[int]) -> None:
    touch(tmp_path, *(f"{number}.jpg" for number in range(10)))
    chosen = samples.choose(tmp_path, "jpg", count)
    assert names(chosen) == [f"{number}.jpg" for number in expected]


def test_the_default_is_fifty(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number}.jpg" for number in range(60)))
    assert len(samples.choose(tmp_path)) == 50
    assert len(samples.choose(tmp_path, count=None)) == 60


def test_fewer_than_wanted_is_said(tmp_path: Path) -> None:
    said = Told()
    samples.choose(touch(tmp_path, "a.jpg"), count=3, tell=said)
    assert said == [f"{tmp_path}: holds 1 images, fewer than the 3 wanted: all are taken"]


def test_rare_classes_are_in(voc: Path) -> None:
    chosen = names(samples.choose(voc / "JPEGImages", "jpg", 4))
    assert "05.jpg" in chosen
    assert {"10.jpg", "11.jpg"}.intersection(chosen)
    assert len(chosen) == 4
    assert chosen == sorted(chosen)
    assert chosen == names(samples.choose(voc / "JPEGImages", "JPG", 4))


def test_images_without_masks_come_only_if_they_must(voc: Path) -> None:
    touch(voc / "JPEGImages", "00a.jpg", "zz.jpg")
    assert not {"00a.jpg", "zz.jpg"} & set(names(samples.choose(voc / "JPEGImages", "jpg", 20)))
    assert len(samples.choose(voc / "JPEGImages", "jpg", 21)) == 21


def test_a_damaged_mask_has_no_classes(voc: Path) -> None:
    (voc / "SegmentationClass/05.png").write_bytes(b"no")
    assert "05.jpg" not in names(samples.choose(voc / "JPEGImages", "jpg", 4))


def test_few_pixels_do_not_count(voc: Path) -> None:
    mask = np.zeros((400, 400), np.uint8)
    mask[0, 0] = 9
    cv2.imwrite(str(voc / "SegmentationClass/07.png"), mask)
    assert "07.jpg" not in names(samples.choose(voc / "JPEGImages", "jpg", 3))


def test_no_more_masks_are_read_than_said(voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MOST_MASKS", 5)
    said = Told()
    assert len(samples.choose(voc / "JPEGImages", "jpg", 3, tell=said)) == 3
    assert said == [f"{voc / 'JPEGImages'}: classes looked up in 5 of 20 masks"]
    assert len(samples.choose(voc / "JPEGImages", "jpg", 15)) == 15


@pytest.mark.parametrize(
    ("present", "count", "expected"),
    [
        ({"a": {0, 1}, "b": {0, 1}, "c": {0, 2}}, 2, {"c"}),
        ({"a": {0}, "b": {0, 1}, "c": {0}}, 1, {"b"}),
        ({"a": {1, 2}, "b": {1}, "c": {2}, "d": {1}}, 3, {"c"}),
        ({"a": set(), "b": {1}}, 1, {"b"}),
        ({"a": set(), "b": {1}}, 2, {"a", "b"}),
        ({}, 2, set()),
    ],
)
def test_balance(present: dict[str, set[int]], count: int, expected: set[str]) -> None:
    given = {Path(name): frozenset(classes) for name, classes in present.items()}
    chosen = samples.balance(given, count)
    assert expected <= {path.name for path in chosen}
    assert len(chosen) == min(count, len(present))


def test_a_data_set_by_its_specification(voc: Path) -> None:
    (voc / "ImageSets/Segmentation").mkdir(parents=True)
    listed = [f"{number:02}" for number in range(5, 15)]
    (voc / "ImageSets/Segmentation/train.txt").write_text("\n".join([*listed, "gone"]))
    chosen = names(samples.choose(f"voc:{voc}:train", "jpg", 3))
    assert "05.jpg" in chosen
    everything = samples.choose(Path(f"voc:{voc}:train"), None, None)
    assert names(everything) == [f"{name}.jpg" for name in listed]


def test_images_to_evaluate_on_are_left_out(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = Told()
    kept = samples.choose(voc / "JPEGImages", None, 2, exclude={"05", "x"}, tell=said)
    assert "05.jpg" not in names(kept)
    assert said == ["left out: 1 images that are evaluated on"]
    everything = {f"{number:02}" for number in range(20)}
    assert not caplog.messages
    assert len(samples.choose(voc / "JPEGImages", exclude=everything)) == 20
    [warning] = caplog.messages
    assert "all 20 images of" in warning
    assert "are also evaluated on, which flatters the accuracy" in warning


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^dataset\.path: expected a folder .* found nothing at"):
        samples.choose(tmp_path / "none")
    (tmp_path / "list.txt").write_text("a")
    with pytest.raises(ConfigError, match=r"found a file at .*list\.txt \(seen from"):
        samples.choose(tmp_path / "list.txt")


def test_no_such_ending(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.PNG", "c.txt")
    with pytest.raises(ConfigError, match=r"no bmp file in .*; there are: PNG, jpg, txt; dataset"):
        samples.choose(tmp_path, "bmp")
    with pytest.raises(ConfigError, match=r"sampler\.suffix: expected one of .*npz.*, found 'doc'"):
        samples.choose(tmp_path, "doc")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no image in .*; there are: no files; dataset"):
        samples.choose(tmp_path / "empty")


PIXELS = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)


@pytest.mark.parametrize(
    "stored", [PIXELS.transpose(2, 0, 1), PIXELS.transpose(2, 0, 1)[None], PIXELS]
)
@pytest.mark.parametrize("name", ["a.npz", "a.NPZ"])
def test_read_npz(tmp_path: Path, stored: np.ndarray, name: str) -> None:
    npz.write(tmp_path / name, npz.INPUT, stored)
    found = samples.read(tmp_path / name)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, PIXELS)


@pytest.mark.parametrize(
    ("array", "key", "expected"),
    [
        (PIXELS.astype(np.float32), "input_0", r"is float32 \(2, 5, 3\), expected uint8 \(3, H"),
        (PIXELS[:, :, 0], "input_0", r"is uint8 \(2, 5\), expected"),
        (PIXELS[None], "input_0", r"is uint8 \(1, 2, 5, 3\), expected"),
        (np.zeros((2, 3, 4, 4), np.uint8), "input_0", r"is uint8 \(2, 3, 4, 4\), expected"),
        (np.zeros((3, 0, 4), np.uint8), "input_0", r"is uint8 \(3, 0, 4\), expected"),
        (PIXELS, "image", "holds image, expected input_0"),
    ],
)
def test_read_refuses(tmp_path: Path, array: np.ndarray, key: str, expected: str) -> None:
    npz.write(tmp_path / "a.npz", key, array)
    with pytest.raises(InputError, match=rf"a\.npz: .*{expected}"):
        samples.read(tmp_path / "a.npz")


def test_read_image(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), PIXELS[:, :, ::-1])
    np.testing.assert_array_equal(samples.read(tmp_path / "a.png"), PIXELS)
    with pytest.raises(AtrousError):
        samples.read(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a/2007_01.jpg", "2007_01"), ("x.y.npz", "x.y"), ("ulm_01_leftImg8bit.png", "ulm_01")],
)
def test_ids(name: str, expected: str) -> None:
    assert samples.image_id(Path(name)) == expected


def test_calibration_images_are_read_as_the_network_reads_them(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", np.full((1, 4, 4), 819, np.uint16), 16)
    assert samples.read(path)[0, 0, 0] == 3
    assert samples.read(path, Preprocess(value_range=(0, 4095)))[0, 0, 0] == 51


@pytest.mark.parametrize("suffix", [None, "png"])
def test_masks_that_atrous_wrote_calibrate_nothing(
    tmp_path: Path, suffix: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a.png", "masks/b.png")
    image.write_mask(tmp_path / "out/masks/a.png", np.zeros((4, 6), np.uint8), VOC, "a" * 64)
    assert names(samples.choose(tmp_path, suffix)) == ["a.png", "b.png"]
    assert "1 left out: masks and overlays by Atrous 1" in caplog.text
