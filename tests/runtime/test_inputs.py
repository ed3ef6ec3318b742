import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, features

from atrous.errors import InputError
from atrous.image import Reading
from atrous.pictures.samples import Taking
from atrous.runtime.inputs import picture_of
from tests.builders.rasters import portable

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


@pytest.mark.parametrize("ending", ["jpg", "png", "gif"])
def test_an_image_whose_file_is_closed_is_told_when_to_hand_it_over(
    ending: str, tmp_path: Path, image: Pixels
) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(image).save(path)
    with Image.open(path) as opened:
        pass
    message = (
        f"{path}: its file was closed before its pixels were read; hand the image over inside of "
        "the `with` that opens it, or call `image.load()` there"
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        picture_of(opened, READING)


@pytest.mark.parametrize("ending", ["webp", "avif"])
def test_an_image_whose_reader_holds_the_whole_file_may_be_closed(
    ending: str, tmp_path: Path, image: Pixels
) -> None:
    if not features.check(ending):
        pytest.skip(f"this Pillow writes no {ending}")
    path = tmp_path / f"a.{ending}"
    Image.fromarray(image).save(path)
    with Image.open(path) as opened:
        pass
    found = picture_of(opened, READING).pixels
    np.testing.assert_array_equal(found, READING.picture(path).pixels)


def test_a_later_frame_that_is_cut_short_is_one_line(tmp_path: Path, image: Pixels) -> None:
    frames = [Image.fromarray(np.rot90(image, turns)) for turns in (0, 2)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    data = (tmp_path / "a.gif").read_bytes()
    with Image.open(BytesIO(data[: len(data) * 3 // 4])) as opened:
        opened.seek(1)
        with pytest.raises(InputError, match=r"of mode \w+: cannot be read: image file is trunc"):
            picture_of(opened, READING)


@pytest.mark.parametrize("mode", ["La", "RGBa", "PA"])
def test_transparency_that_no_file_keeps_is_on_white(mode: str, image: Pixels) -> None:
    picture = Image.fromarray(image).convert("LA" if mode == "La" else "RGBA")
    alpha = np.where(np.arange(picture.width) < 4, 0, 255).astype(np.uint8)
    picture.putalpha(Image.fromarray(np.tile(alpha, (picture.height, 1))))
    if mode == "PA":
        picture = picture.convert("RGB").quantize(9).convert("PA")
        picture.putalpha(Image.fromarray(np.tile(alpha, (picture.height, 1))))
        kept = picture.convert("RGBA")
    else:
        kept, picture = picture, picture.convert(mode)
    assert picture.mode == mode
    found = picture_of(picture, READING).pixels
    assert (found[:, :4] == 255).all()
    np.testing.assert_array_equal(found, picture_of(kept, READING).pixels)


@pytest.mark.parametrize("kind", ["big endian", "portable map"])
def test_16_bits_in_an_uncommon_mode(kind: str, tmp_path: Path) -> None:
    stored = np.arange(0, 65536, 64, dtype=np.uint16).reshape(1, 32, 32)
    if kind == "portable map":
        path = portable(tmp_path / "a.pgm", stored, 65535)
    else:
        path = tmp_path / "a.tif"
        Image.frombytes("I;16B", (32, 32), stored.astype(">u2").tobytes()).save(path)
    with Image.open(path) as opened:
        opened.load()
        assert opened.mode in ("I", "I;16B")
        found = picture_of(opened, Reading())
    np.testing.assert_array_equal(found.pixels, Reading().picture(path).pixels)
    np.testing.assert_array_equal(found.pixels[..., 0], stored[0] >> 8)


def test_numbers_of_32_bits_need_a_range() -> None:
    picture = Image.fromarray(np.arange(0, 4096, 16, dtype=np.int32).reshape(16, 16))
    with pytest.raises(InputError, match=r"of mode I: samples of the type int32 have no agreed"):
        picture_of(picture, Reading())
    found = picture_of(picture, Reading(Taking((0, 4095)))).pixels
    assert found[0, 0].tolist() == [0, 0, 0]
    assert found[-1, -1].tolist() == [254, 254, 254]


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
        (np.zeros((4, 5, 6), np.uint8), r"expected uint8 .*, got uint8 \(4, 5, 6\)$"),
        (np.zeros((4, 5, 3), np.int64), r"got int64 \(4, 5, 3\); `image.astype\(numpy.uint8\)`"),
        (np.float32(1), r"numpy.float32 is not a picture; `numpy.asarray\(image\)` makes an arr"),
        (Image.new("RGB", (0, 4)), "an image of mode RGB: expected pixels, got 0×4"),
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
    for source, kind in (
        ("a.jpg", "a file"),
        (b"P5", "the content of a file"),
        (Image.fromarray(image), "an image of Pillow's"),
    ):
        with pytest.raises(InputError, match=f"`colour` bgr is for arrays; {kind} says itself"):
            picture_of(source, READING, "bgr")
    with pytest.raises(InputError, match=r"^image: NoneType is not a picture; `cv2.imread` gives"):
        picture_of(None, READING, "bgr")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is a path of bytes"):
        picture_of(_BytesPath(), READING)  # type: ignore[arg-type]


class _BytesPath:
    def __fspath__(self) -> bytes:
        return b"a.jpg"
