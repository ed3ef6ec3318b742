"""Colours of pictures of 8 bits: profiles, inks, Lab, palettes."""

from __future__ import annotations

import logging
import struct
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, features

from atrous.image import Reading, read
from atrous.pictures.samples import Notes, Taking
from tests.builders import odd, profiles, rasters
from tests.builders.command import run_and_weigh
from tests.builders.versions import needs

Pixels = NDArray[np.uint8]

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def flat(colour: Any, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (16, 16), colour)


def near(path: Path, colour: tuple[int, int, int], most: int = 3) -> None:
    assert np.abs(read(path)[8, 8].astype(int) - colour).max() <= most


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif", "avif"])
def test_a_profile_is_converted(ending: str, tmp_path: Path) -> None:
    if ending in ("webp", "avif") and not features.check(ending):
        pytest.skip(f"this Pillow writes no {ending}")
    path = tmp_path / f"a.{ending}"
    flat(RED).save(path, icc_profile=profiles.swapped())
    near(path, GREEN, 12)
    flat(RED).save(path, icc_profile=profiles.srgb())
    near(path, RED, 12)


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(flat(RED).quantize(4), id="palette"),
        pytest.param(flat((*RED, 255), "RGBA"), id="with alpha"),
        pytest.param(flat((*RED, 255), "RGBA").quantize(4), id="palette with alpha"),
    ],
)
def test_a_profile_of_every_kind_of_png(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.png", icc_profile=profiles.swapped())
    near(tmp_path / "a.png", GREEN)


def test_a_profile_and_16_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.full((16, 16, 3), (0, 0, 65535), np.uint16))
    data, body = path.read_bytes(), b"x\0\0" + zlib.compress(profiles.swapped())
    checked = b"iCCP" + body
    chunk = struct.pack(">I", len(body)) + checked + struct.pack(">I", zlib.crc32(checked))
    path.write_bytes(data[:33] + chunk + data[33:])
    near(path, GREEN)


def test_srgb_leaves_every_pixel_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=profiles.srgb())
    np.testing.assert_array_equal(read(tmp_path / "a.png"), pixels)


def test_a_profile_of_grey(tmp_path: Path) -> None:
    flat(128, "L").save(tmp_path / "a.png", icc_profile=profiles.grey(1.0))
    near(tmp_path / "a.png", (188, 188, 188))  # half of the light
    flat((128, 255), "LA").save(tmp_path / "a.png", icc_profile=profiles.grey(1.0))
    near(tmp_path / "a.png", (188, 188, 188))
    flat((128, 128, 128)).save(tmp_path / "a.webp", lossless=True, icc_profile=profiles.grey(1.0))
    near(tmp_path / "a.webp", (188, 188, 188))


@pytest.mark.parametrize(
    ("profile", "picture", "said"),
    [
        (b"no profile" * 30, flat(RED), "is damaged"),
        (b"", flat(RED), ""),
        (profiles.grey(1.0), flat(RED), "is for L values and not for RGB"),
        (profiles.swapped(), flat((0, 255, 255, 0), "CMYK"), "is for RGB values and not for CMYK"),
    ],
    ids=["damaged", "none", "grey for colours", "colours for inks"],
)
def test_a_profile_that_cannot_be_used_costs_no_picture(
    profile: bytes,
    picture: Image.Image,
    said: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "a.jpg"
    picture.save(path, icc_profile=profile, quality=98)
    reading = Reading()
    with caplog.at_level(logging.WARNING, "atrous"):
        assert np.abs(reading(path)[8, 8].astype(int) - RED).max() < 12
        reading(path)
    assert len(caplog.records) == bool(said)
    if said:
        assert f"a.jpg: its colour profile {said}" in caplog.text
        assert "its colours are taken as sRGB" in caplog.text


def test_a_grey_picture_keeps_the_profile_of_the_coloured_one(tmp_path: Path) -> None:
    flat(100, "L").save(tmp_path / "a.png", icc_profile=profiles.swapped())
    near(tmp_path / "a.png", (100, 100, 100))


@pytest.mark.parametrize("marked", [True, False], ids=["adobe", "plain"])
def test_inks_of_a_jpeg(marked: bool, tmp_path: Path) -> None:
    """Adobe stores inks negative, and says so by its mark; others do not."""
    inks = flat((0, 200, 255, 0), "CMYK")
    file = BytesIO()
    (inks if marked else Image.eval(inks, lambda ink: 255 - ink)).save(file, "JPEG", quality=98)
    data = file.getvalue()
    if not marked:
        at = data.index(b"\xff\xee")
        data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    (tmp_path / "a.jpg").write_bytes(data)
    near(tmp_path / "a.jpg", (255, 55, 0), 8)


@needs("pillow", "13", "calls JPEG in a TIFF truncated")
def test_inks_and_lab_and_ycbcr_of_a_tiff(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    flat((0, 200, 255, 0), "CMYK").save(path)
    near(path, (255, 55, 0))
    lab = ImageCms.createProfile("LAB")
    picture = ImageCms.profileToProfile(
        flat((200, 60, 30)), ImageCms.createProfile("sRGB"), lab, outputMode="LAB"
    )
    assert picture is not None
    picture.save(path)
    near(path, (200, 60, 30), 4)
    flat((200, 60, 30)).convert("YCbCr").save(path)
    near(path, (200, 60, 30), 4)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_profile_in_jpeg_2000(bits: int, tmp_path: Path) -> None:
    """Neither Pillow nor GDAL gives it."""
    path, profile = tmp_path / "a.jp2", profiles.swapped()
    pixels = np.full((64, 64, 3), (0, 0, 255 if bits == 8 else 65535), f"u{bits // 8}")
    assert cv2.imwrite(str(path), pixels)  # blue, green, red
    near(path, RED)
    data = path.read_bytes()
    header, colours = data.index(b"jp2h") - 4, data.index(b"colr") - 4
    box = struct.pack(">I4s3s", 11 + len(profile), b"colr", b"\2") + profile
    longer = int.from_bytes(data[header : header + 4], "big") + len(box) - 15
    data = data[:colours] + box + data[colours + 15 :]
    path.write_bytes(data[:header] + longer.to_bytes(4, "big") + data[header + 4 :])
    near(path, GREEN, 12)


def test_colours_that_are_named_and_not_srgb_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flat(RED).save(tmp_path / "a.png")
    plain = (tmp_path / "a.png").read_bytes()
    for codes, said in ((b"\1\x0d\0\1", ""), (b"\x09\x10\0\1", "BT.2020 PQ")):
        (tmp_path / "a.png").write_bytes(odd.with_chunks(plain, [(b"cICP", codes)]))
        with caplog.at_level(logging.WARNING, "atrous"):
            near_pixels = Reading()(tmp_path / "a.png")
        assert tuple(near_pixels[0, 0]) == RED
        assert bool(said) == bool(caplog.records)
    assert "a.png: its colours are BT.2020 PQ, but are taken as sRGB" in caplog.text


@pytest.mark.parametrize("bands", [1, 3])
def test_jpeg_2000_of_16_bits(bands: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.jp2"
    pixels = np.full((64, 64, bands), 200, np.uint16)
    pixels[32:] = 3000
    assert cv2.imwrite(str(path), pixels)
    with caplog.at_level(logging.WARNING, "atrous"):
        Reading()(path)
    assert "`value_range` 0,4095 would take these as black and white" in caplog.text
    assert abs(int(read(path, value_range=(0, 4095))[5, 5, 0]) - 200 * 255 / 4095) < 3


def test_colours_that_mean_transparent_show_white(tmp_path: Path) -> None:
    picture = flat(RED).quantize(4)
    picture.save(tmp_path / "a.gif", transparency=picture.getpixel((0, 0)))
    near(tmp_path / "a.gif", (255, 255, 255))
    flat(RED).save(tmp_path / "a.png", transparency=RED)
    near(tmp_path / "a.png", (255, 255, 255))
    flat(77, "L").save(tmp_path / "b.png", transparency=77)
    near(tmp_path / "b.png", (255, 255, 255))


@pytest.mark.parametrize("size", [(7, 40), (40, 7), (60, 1), (1, 60)])
def test_large_pictures_are_taken_by_bands(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).quantize(9).save(tmp_path / "b.png")
    whole = read(tmp_path / "b.png")
    monkeypatch.setattr("atrous.pictures.bands.PIXELS", 50)
    np.testing.assert_array_equal(read(tmp_path / "a.png"), pixels)
    np.testing.assert_array_equal(read(tmp_path / "b.png"), whole)


READ = """
import sys
from atrous.image import read
read(sys.argv[1])
"""


def weighed(path: Path) -> int:
    """The most memory that a process holds which reads a picture."""
    done, peak = run_and_weigh([sys.executable, "-c", READ, str(path)])
    assert done.returncode == 0, done.stderr
    return peak


@pytest.fixture(scope="module")
def unladen(tmp_path_factory: pytest.TempPathFactory) -> int:
    path = tmp_path_factory.mktemp("unladen") / "small.png"
    return weighed(rasters.png(path, np.full((4, 16, 16), 70, np.uint16), 16))


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("bits", "bands", "chunks", "most"),
    [
        (16, 4, [], 20),  # 8 of them as they are stored
        (16, 2, [], 20),
        (16, 3, [(b"tRNS", bytes(6))], 20),
        (8, 4, [], 15),
        (8, 3, [(b"eXIf", odd.exif(6)[6:])], 15),
    ],
)
def test_bytes_of_memory_for_a_pixel(
    bits: int,
    bands: int,
    chunks: list[tuple[bytes, bytes]],
    most: int,
    unladen: int,
    tmp_path: Path,
) -> None:
    """A picture may have 67 million of them in 300 kB."""
    samples = np.full((bands, 2900, 2900), 70, np.uint8 if bits == 8 else np.uint16)
    path = rasters.png(tmp_path / "large.png", samples, bits, *chunks)
    assert weighed(path) - unladen < most * samples[0].size


def striped(mode: str, alpha: int) -> Image.Image:
    """Two colours side by side, as transparent as that everywhere."""
    picture = flat(RED)
    picture.paste(BLUE, (8, 0, 16, 16))
    picture.putalpha(alpha)
    return picture.convert(mode)


@pytest.mark.parametrize(("ending", "mode"), [("png", "RGBA"), ("png", "LA"), ("tga", "RGBA")])
@pytest.mark.parametrize("alpha", [0, 1])
def test_a_channel_of_transparency_that_nobody_filled(
    ending: str, mode: str, alpha: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"a.{ending}"
    picture = striped(mode, alpha)
    picture.save(path)
    with caplog.at_level(logging.WARNING, "atrous"):
        found = Reading()(path)
    np.testing.assert_array_equal(found, np.asarray(picture.convert("RGBA").convert("RGB")))
    assert f"a.{ending}: is transparent everywhere" in caplog.text


def test_what_nothing_is_in_stays_white(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    flat((0, 0, 0, 0), "RGBA").save(tmp_path / "empty.png")
    half = striped("RGBA", 0)
    half.paste((0, 0, 0, 255), (0, 0, 16, 8))
    half.save(tmp_path / "half.png")
    with caplog.at_level(logging.WARNING, "atrous"):
        assert Reading()(tmp_path / "empty.png").min() == 255
        assert Reading()(tmp_path / "half.png")[8:].min() == 255
    assert not caplog.records


def test_gdal_takes_an_empty_channel_of_transparency_alike(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("rasterio", reason="needs rasterio")
    from atrous.pictures.geotiff import GeoRaster

    path = tmp_path / "a.png"
    striped("RGBA", 0).save(path)
    with (
        caplog.at_level(logging.WARNING, "atrous"),
        GeoRaster(path, "a.png", Taking(), Notes(), None) as raster,
    ):
        np.testing.assert_array_equal(raster.whole().pixels, read(path))
    assert "a.png: band 4 is tagged as transparency (alpha) but is 0 everywhere" in caplog.text


@pytest.mark.parametrize(
    ("second", "said"),
    [
        pytest.param(flat(BLUE), True, id="another page"),
        pytest.param(flat(BLUE).resize((8, 8)), False, id="a smaller one"),
        pytest.param(None, False, id="one page"),
    ],
)
def test_pages_of_a_tiff(
    second: Image.Image | None, said: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.tif"
    flat(RED).save(path, save_all=True, append_images=[second] if second else [])
    with caplog.at_level(logging.WARNING, "atrous"):
        assert (Reading()(path) == RED).all()
    assert ("a.tif: holds several pages of one size" in caplog.text) == said
    assert len(caplog.records) == said
