from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atrous.data.dataset import MaskError
from atrous.data.masks import COLOURED, NO_COLOUR, ColourTable, read_ids, read_palette
from atrous.data.stored import NO_CLASS
from atrous.errors import InputError
from atrous.pictures import opening

TABLE = ColourTable.of({(0, 0, 0): 0, (1, 2, 3): 1, (3, 2, 1): 2, (255, 255, 255): 255})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mask.png"


def palette_mask(values: Any) -> Image.Image:
    mask = Image.fromarray(np.uint8(values)).convert("P")
    mask.putdata(np.ravel(values).tolist())
    mask.putpalette([1, 2, 3, 0, 0, 0, 3, 2, 1])
    return mask


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (Image.fromarray(np.uint8([[0, 20, 255]])), [[0, 20, 255]]),
        (palette_mask([[2, 0, 1]]), [[2, 0, 1]]),
        (Image.fromarray(np.array([[False, True]])), [[0, 1]]),
        (Image.fromarray(np.uint16([[0, 7, 255]])), [[0, 7, 255]]),
    ],
    ids=["grey", "palette", "two levels", "16 bits"],
)
def test_ids(mask: Image.Image, expected: list[list[int]], path: Path) -> None:
    mask.save(path)
    found = read_ids(path)
    assert (found.dtype, found.tolist()) == (np.uint8, expected)


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (np.zeros((1, 2, 3), np.uint8), COLOURED, r"mask\.png: its pixels are RGB, expected class"),
        (np.full((1, 2, 4), 255, np.uint8), COLOURED, "its pixels are RGBA"),
        (np.uint16([[0, 26001]]), NO_CLASS, r"mask\.png: holds the values 0\.\.26001, expected"),
    ],
)
def test_what_is_no_id(values: Any, kind: str, message: str, path: Path) -> None:
    Image.fromarray(values).save(path)
    with pytest.raises(MaskError, match=message) as caught:
        read_ids(path)
    assert caught.value.kind == kind


def test_palette_alone(path: Path) -> None:
    palette_mask([[2, 0]]).save(path)
    assert read_palette(path).tolist() == [[2, 0]]
    Image.fromarray(np.uint8([[2, 0]])).save(path)
    with pytest.raises(MaskError, match="its pixels are L, expected palette indices"):
        read_palette(path)


def test_colours(path: Path) -> None:
    pixels = np.uint8([[[1, 2, 3], [3, 2, 1]], [[0, 0, 0], [255, 255, 255]]])
    Image.fromarray(pixels).save(path)
    found = TABLE(path)
    assert (found.dtype, found.tolist()) == (np.uint8, [[1, 2], [0, 255]])


def test_colours_of_a_palette_rule_over_its_indices(path: Path) -> None:
    palette_mask([[2, 0, 1]]).save(path)
    assert TABLE(path).tolist() == [[2, 1, 0]]


def test_colours_of_no_class_are_named_and_counted(path: Path) -> None:
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[0, :3] = (9, 8, 7)
    pixels[1, 0] = (1, 2, 4)
    Image.fromarray(pixels).save(path)
    few = (
        r"2 colours that belong to no class: \(9, 8, 7\) on 3 pixels, \(1, 2, 4\) on 1 pixels; add"
    )
    with pytest.raises(MaskError, match=few) as caught:
        TABLE(path)
    assert caught.value.kind == NO_COLOUR


@pytest.mark.parametrize("content", [b"", b"not an image", None], ids=["empty", "text", "cut"])
@pytest.mark.parametrize("read", [read_ids, read_palette, TABLE])
def test_unreadable(read: Any, content: bytes | None, path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8)
    Image.fromarray(noise).convert("P").save(path)
    path.write_bytes(path.read_bytes()[:700] if content is None else content)
    with pytest.raises(
        InputError, match=r"mask\.png: (cannot be read|the file is empty|not a picture)"
    ) as caught:
        read(path)
    assert not isinstance(caught.value, MaskError)


def test_a_bomb_is_no_crash(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(path)
    monkeypatch.setattr(opening.decoded, "__defaults__", (80,))
    with pytest.raises(InputError, match=r"^\S+mask\.png: 9×9 is 81 pixels, the limit is 80"):
        read_ids(path)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("read", [read_ids, read_palette, ColourTable.of({(0, 0, 0): 0})])
def test_only_our_own_limit_counts(read: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    palette_mask(np.ones((9, 9), np.uint8)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)  # Pillow fails over twice that
    assert read(path).shape == (9, 9)
    assert Image.MAX_IMAGE_PIXELS == 30


def test_a_jpeg_is_told_why_its_colours_are_no_classes(tmp_path: Path) -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[10:31, 7:33] = 128, 0, 0
    Image.fromarray(pixels).save(tmp_path / "mask.jpg")
    with pytest.raises(InputError, match=r"no class: .* JPEG blurs .* store masks as PNG$"):
        ColourTable.of({(0, 0, 0): 0, (128, 0, 0): 1})(tmp_path / "mask.jpg")
