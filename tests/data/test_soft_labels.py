"""Soft labels: what a file keeps, and where it lies in a crop."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from atrous.data.augment import Augment, generator
from atrous.data.soft_labels import CELL, KEPT, SoftLabel
from atrous.errors import InputError


def label_of(height: int = 60, width: int = 84) -> np.ndarray:
    """Three classes with borders between cells, one of them slanted."""
    rows, columns = np.mgrid[:height, :width] // CELL
    label = (columns > width // CELL // 2).astype(np.uint8)
    label[rows + columns < 9] = 2
    return label


def one_hot(label: np.ndarray, num_classes: int = 3) -> np.ndarray:
    """`(C, h, w)`: the label as probabilities of its cells."""
    cells = label[::CELL, ::CELL]
    return np.stack([cells == index for index in range(num_classes)]).astype(np.float32)


def test_the_likeliest_classes_are_kept() -> None:
    random = np.random.default_rng(0)
    likely = random.dirichlet(np.full(9, 0.2), (5, 7)).transpose(2, 0, 1).astype(np.float32)
    soft = SoftLabel.of(likely)
    assert soft.classes.shape == soft.shares.shape == (KEPT, 5, 7)
    np.testing.assert_array_equal(soft.classes[0], likely.argmax(0))
    assert (np.diff(soft.shares.astype(int), axis=0) <= 0).all()
    assert (abs(soft.shares.sum(0, dtype=int) - 255) <= KEPT // 2).all()
    kept = -np.sort(-likely, axis=0)[:KEPT]
    np.testing.assert_allclose(soft.shares / 255, kept / kept.sum(0), atol=0.5 / 255 + 1e-6)


def test_fewer_classes_than_are_kept() -> None:
    soft = SoftLabel.of(np.full((2, 3, 3), 0.5, np.float32))
    assert soft.classes.shape == (2, 3, 3)


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    soft = SoftLabel.of(one_hot(label_of()))
    soft.save(tmp_path, "2007_000032")
    assert [path.name for path in tmp_path.iterdir()] == ["2007_000032.npz"]
    again = SoftLabel.load(tmp_path, "2007_000032")
    np.testing.assert_array_equal(again.classes, soft.classes)
    np.testing.assert_array_equal(again.shares, soft.shares)


@pytest.mark.parametrize("shape", [(60, 84), (58, 81)])
def test_a_map_of_the_mask_stays_on_it(shape: tuple[int, int]) -> None:
    """Through scale, crop, mirror and rotation, but for three pixels beside a border."""
    label = label_of(*shape)
    soft = SoftLabel.of(one_hot(label))
    soft.check(Path("x.npz"), label.shape, 3)
    image = np.zeros((*shape, 3), np.uint8)
    for rotation in (0.0, 20.0):
        change = Augment(48, (0.5, 2.0), 0.5, rotation)
        for place in range(30):
            random = generator(0, 0, place)
            matrix = change.placed(label.shape, random)
            _, wanted = change.cut(image, label, matrix, random)
            beyond = change.beyond(label.shape, matrix)
            np.testing.assert_array_equal(beyond, wanted == 255)
            found = soft.warped(matrix, (48, 48), 3)
            assert found.shape == (3, 48, 48)
            near = cv2.dilate(wanted, np.ones((7, 7))) != cv2.erode(wanted, np.ones((7, 7)))
            assert near.mean() < 0.7
            wrong = (found.argmax(0) != wanted) & ~(near | beyond)
            assert not wrong[3:-3, 3:-3].any()


def test_between_cells_it_is_linear() -> None:
    ramp = np.linspace(0, 1, 6, dtype=np.float32)
    soft = SoftLabel.of(np.stack([np.tile(ramp, (2, 1)), np.tile(1 - ramp, (2, 1))]))
    found = soft.warped(np.eye(2, 3), (2 * CELL, 6 * CELL), 2)
    centres = (np.arange(6) + 0.5) * CELL - 0.5
    expected = 255 * np.interp(np.arange(6 * CELL), centres, ramp)
    np.testing.assert_allclose(found[0], np.tile(expected, (2 * CELL, 1)), atol=2)
    np.testing.assert_allclose(found.sum(0, dtype=int), 255, atol=1)


@pytest.mark.parametrize(
    ("shape", "classes", "message"),
    [
        ((60, 88), 3, r"x\.npz: soft labels for \(15, 21\) cells, its image has \(15, 22\)"),
        ((60, 84), 2, r"x\.npz: soft labels of class 2, expected 0\.\.1"),
    ],
)
def test_what_does_not_fit_its_image(shape: tuple[int, int], classes: int, message: str) -> None:
    soft = SoftLabel.of(one_hot(label_of()))
    with pytest.raises(InputError, match=message):
        soft.check(Path("x.npz"), shape, classes)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    soft = SoftLabel.of(one_hot(label_of()))
    soft.save(tmp_path, "a")
    path = tmp_path / "a.npz"
    whole = path.read_bytes()
    for content in (b"", whole[:100], b"no archive"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.npz: not soft labels: "):
            SoftLabel.load(tmp_path, "a")
    np.savez(path, classes=np.zeros((2, 3, 3)), shares=np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(InputError, match=r"a\.npz: not soft labels: classes and shares"):
        SoftLabel.load(tmp_path, "a")
    np.savez(path, classes=np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(InputError, match=r"a\.npz: not soft labels: "):
        SoftLabel.load(tmp_path, "a")
