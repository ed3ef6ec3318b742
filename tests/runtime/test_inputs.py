from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.errors import InputError
from atrous.image import Reading
from atrous.pictures.samples import Taking
from atrous.runtime.inputs import picture_of

Pixels = NDArray[np.uint8]
READING = Reading(Taking((0, 65535)))


def _turned(image: Image.Image) -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x112] = 6
    return {"exif": exif}


SAVED: dict[str, tuple[str, Callable[[Image.Image], Image.Image], Callable[..., Any]]] = {
    "jpeg": ("JPEG", lambda image: image, lambda image: {}),
    "turned": ("JPEG", lambda image: image, _turned),
    "turned png": ("PNG", lambda image: image, _turned),
    "inks": ("TIFF", lambda image: image.convert("CMYK"), lambda image: {}),
    "inks of no Adobe": ("JPEG", lambda image: image.convert("CMYK"), lambda image: {}),
    "palette": ("PNG", lambda image: image.quantize(9), lambda image: {"transparency": 3}),
    "alpha": ("PNG", lambda image: image.convert("RGBA"), lambda image: {}),
    "grey": ("PNG", lambda image: image.convert("L"), lambda image: {}),
    "grey alpha": ("PNG", lambda image: image.convert("LA"), lambda image: {}),
    "bits": ("PNG", lambda image: image.convert("1"), lambda image: {}),
    "sixteen": (
        "PNG",
        lambda image: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257),
        lambda image: {},
    ),
}


@pytest.mark.parametrize("kind", SAVED)
@pytest.mark.parametrize("touched", [False, True])
def test_every_way_in_gives_the_same_pixels(
    kind: str, touched: bool, tmp_path: Path, image: Pixels
) -> None:
    name, made, settings = SAVED[kind]
    picture = made(Image.fromarray(image))
    if kind == "alpha":
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    path = tmp_path / f"a.{name.lower()}"
    picture.save(path, format=name, **settings(picture))
    expected = READING.picture(path).pixels
    with Image.open(path) as opened:
        if touched:
            opened.load()
        ways = [path, str(path), path.read_bytes(), memoryview(path.read_bytes()), opened]
        for way in ways:
            np.testing.assert_array_equal(picture_of(way, READING).pixels, expected)  # type: ignore


def test_an_image_that_was_worked_on_is_not_read_from_its_file(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        opened.paste((255, 255, 255), (0, 0, 4, 8))
        assert picture_of(opened, READING).pixels.mean() == 127.5


def test_a_later_frame_is_the_one_that_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), value) for value in (0, 255)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.gif") as opened:
        opened.seek(1)
        assert picture_of(opened, READING).pixels.min() == 255


def test_an_array_of_opencv(image: Pixels) -> None:
    found = picture_of(image[:, :, ::-1], READING, "bgr").pixels
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "NoneType is not a picture; `cv2.imread` gives None for a file that it cannot read"),
        (
            7,
            "int is not a picture; expected a path, bytes, an image of Pillow's, an array, or a",
        ),
        ("https://x.org/a.jpg", "is a URL; hand over what it gives: `urllib.request"),
        (BytesIO(b"x"), r"_io.BytesIO is not a picture; hand over what it holds: `file.read\(\)`"),
        (iter([]), "list_iterator is not a picture; hand several pictures over as a list"),
        (b"", "an image of 0 bytes: the file is empty"),
        (np.zeros((3, 4, 5), np.uint8), r"`image.transpose\(1, 2, 0\)` puts the channels last"),
        (np.zeros((4, 5), np.uint8), r"a grey picture over as `PIL.Image.fromarray\(image\)`"),
        (np.zeros((4, 5, 1), np.uint8), r"`PIL.Image.fromarray\(image.squeeze\(2\)\)`"),
        (np.zeros((4, 5, 4), np.uint8), "one with transparency over as"),
        (np.zeros((2, 4, 5, 3), np.uint8), r"as a list: `list\(images\)`"),
        (np.zeros((4, 5, 3), bool), r"`image.astype\(numpy.uint8\) \* 255`"),
        (np.zeros((4, 5, 3)), r"expected uint8 .* got float64 .* of values from 0 to 1"),
        (np.zeros((4, 5, 3), np.uint16), "of the full range"),
        (np.zeros((0, 5, 3), np.uint8), r"expected uint8 \(height, width, 3\), got uint8"),
        (np.ma.masked_array(np.zeros((4, 5, 3), np.uint8)), "a masked array"),
    ],
)
def test_what_is_no_picture_is_told_what_to_do(source: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        picture_of(source, READING)


def test_folders_and_words(tmp_path: Path, image: Pixels) -> None:
    with pytest.raises(InputError, match=r"is a folder; hand over a list .*glob\("):
        picture_of(tmp_path, READING)
    with pytest.raises(InputError, match="expected rgb or bgr, got 'BGR'"):
        picture_of(image, READING, "BGR")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`colour` bgr is for arrays; a file says itself"):
        picture_of("a.jpg", READING, "bgr")
    with pytest.raises(InputError, match="is a path of bytes"):
        picture_of(_BytesPath(), READING)  # type: ignore[arg-type]


class _BytesPath:
    def __fspath__(self) -> bytes:
        return b"a.jpg"
