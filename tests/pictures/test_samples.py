"""What stored numbers mean: the same whichever library reads them."""

from __future__ import annotations

import logging
import re
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, TiffTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from atrous.errors import ConfigError, InputError
from atrous.image import Reading
from atrous.pictures.samples import Meaning, Notes, Picture, Taking, look, opaque_value
from atrous.pictures.shown import to_picture
from tests.builders import profiles
from tests.builders.rasters import arbitrary, png, portable, tiff
from tests.builders.versions import needs

rasterio = pytest.importorskip("rasterio", reason="needs the extra large")

from atrous.jobs.large import raster  # noqa: E402
from atrous.jobs.large.raster import FileRaster  # noqa: E402

HEIGHT, WIDTH = 12, 16
PLACE = rasterio.Affine(0.5, 0, 4e5, 0, -0.5, 5e6)


def ramp(depth: int, bands: int = 1) -> NDArray[Any]:
    """`(bands, HEIGHT, WIDTH)` of all kinds of numbers of so many bits, each band another way."""
    high = 2**depth - 1
    steps = np.linspace(0, high, HEIGHT * WIDTH).round().astype(np.int64)
    kind = np.uint8 if depth <= 8 else np.uint16
    return np.stack([np.roll(steps, 37 * band) for band in range(bands)]).astype(kind).reshape(
        bands, HEIGHT, WIDTH
    )  # fmt: skip


def shown(stored: NDArray[Any], high: int, *, inverted: bool = False) -> NDArray[np.uint8]:
    """`(H, W, 3)`: what samples up to `high` look like, by the words of docs/pictures.md."""
    values = stored.astype(np.float64)
    eight = (
        np.floor(values * 255 / high + 0.5) if high <= 255 else np.floor(values * 256 / (high + 1))
    )
    eight = 255 - eight if inverted else eight
    return np.moveaxis(np.broadcast_to(eight, (3, *eight.shape[1:])), 0, 2).astype(np.uint8)


def binary() -> NDArray[np.bool_]:
    """Transparent in a corner."""
    opaque = np.ones((HEIGHT, WIDTH), np.bool_)
    opaque[:5, :7] = False
    return opaque


class Ways:
    """Reads a picture in every way that there is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def whole(self, path: Path, taking: Taking | None = None) -> Picture:
        return Reading(taking or Taking()).picture(path)

    def rows(self, path: Path, taking: Taking | None = None) -> Picture:
        with self._monkeypatch.context() as patch:
            patch.setattr(raster, "AT_ONCE", 0)
            with FileRaster(path, Reading(taking or Taking())) as file:
                parts = [file.rows(0, 5), file.rows(3, 10), file.rows(10, file.height)]
                empty = np.concatenate([file.without_data(4), file.without_data(file.height - 4)])
        pixels = np.concatenate([parts[0], parts[1][2:], parts[2]])
        return Picture(pixels, ~empty if empty.any() else None)

    def pillow(self, path: Path, taking: Taking | None = None) -> Picture:
        """Where rasterio is not installed."""
        with self._monkeypatch.context() as patch:
            patch.setitem(sys.modules, "rasterio", None)
            patch.delitem(sys.modules, "atrous.pictures.geotiff")
            return self.whole(path, taking)

    def agree(self, path: Path, taking: Taking | None = None) -> Picture:
        first, second = self.whole(path, taking), self.rows(path, taking)
        np.testing.assert_array_equal(first.pixels, second.pixels)
        same(first.valid, second.valid)
        return first


def same(first: NDArray[np.bool_] | None, second: NDArray[np.bool_] | None) -> None:
    if first is None or second is None:
        assert first is second
    else:
        np.testing.assert_array_equal(first, second)


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    return Ways(monkeypatch)


PILLOW_KEEPS = {
    *(("MINISBLACK", depth) for depth in (1, 2, 4, 8, 12, 16)),
    *(("MINISWHITE", depth) for depth in (1, 2, 4, 8, 16)),
    *(("RGB", depth) for depth in (8, 16)),
}
"""What is read without rasterio, too."""


@pytest.mark.parametrize("photometric", ["MINISBLACK", "MINISWHITE", "RGB"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 7, 8, 9, 10, 12, 15, 16])
def test_tiff_by_depth_and_photometric(
    depth: int, photometric: str, ways: Ways, tmp_path: Path
) -> None:
    stored = ramp(depth, 3 if photometric == "RGB" else 1)
    path = tiff(tmp_path / "a.tif", stored, nbits=depth, photometric=photometric)
    picture = ways.agree(path)
    truth = shown(stored, 2**depth - 1, inverted=photometric == "MINISWHITE")
    np.testing.assert_array_equal(picture.pixels, truth)
    assert picture.valid is None
    if (photometric, depth) in PILLOW_KEEPS:
        np.testing.assert_array_equal(ways.pillow(path).pixels, truth)
    else:
        with pytest.raises(InputError, match=r"a\.tif: .*pip install 'atrous\[large\]'"):
            ways.pillow(path)


@needs("pillow", "13", "keeps no grey with premultiplied transparency")
@pytest.mark.parametrize("alpha", ["NON-PREMULTIPLIED", "PREMULTIPLIED"])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("depth", [8, 16])
def test_tiff_with_transparency(
    depth: int, colours: int, alpha: str, ways: Ways, tmp_path: Path
) -> None:
    high, opaque = 2**depth - 1, binary()
    stored = ramp(depth, colours + 1)
    stored[-1] = np.where(opaque, high, 0)
    stored[-1][6, 8] = high // 2
    if alpha == "PREMULTIPLIED":
        stored[:-1] = stored[:-1].astype(np.float64) * stored[-1] / high
    options = {"photometric": "RGB" if colours == 3 else "MINISBLACK", "alpha": alpha}
    path = tiff(tmp_path / "a.tif", stored, **options)
    picture = ways.agree(path)
    truth = shown(stored[:-1], high)
    assert picture.valid is not None
    np.testing.assert_array_equal(picture.valid, opaque)
    solid = opaque.copy()
    solid[6, 8] = False
    np.testing.assert_array_equal(picture.pixels[solid], truth[solid])
    assert (picture.pixels[~opaque] == 255).all()
    half = truth[6, 8].astype(int) + 127 if alpha == "PREMULTIPLIED" else truth[6, 8] / 2 + 128
    assert np.abs(picture.pixels[6, 8] - half).max() <= 2
    if (depth, colours) == (16, 1):
        return
    without = ways.pillow(path)
    np.testing.assert_array_equal(without.pixels, picture.pixels)
    same(without.valid, picture.valid)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_png(bits: int, bands: int, ways: Ways, tmp_path: Path) -> None:
    if bands > 1 and bits < 8:
        pytest.skip("the format has grey of so few bits alone")
    high, stored = 2**bits - 1, ramp(bits, bands)
    if bands in (2, 4):
        stored[-1] = np.where(binary(), high, 0)
    picture = ways.agree(png(tmp_path / "a.png", stored, bits))
    truth = shown(stored[:-1] if bands in (2, 4) else stored, high)
    if bands in (2, 4):
        truth[~binary()] = 255
    np.testing.assert_array_equal(picture.pixels, truth)
    assert picture.valid is None  # what is transparent is seen on white


@pytest.mark.parametrize("most", [1, 15, 100, 255, 256, 1000, 4095, 65535])
@pytest.mark.parametrize("kind", ["raw grey", "raw colours", "plain grey", "plain colours", "any"])
def test_portable_maps(most: int, kind: str, ways: Ways, tmp_path: Path) -> None:
    bands = 3 if "colours" in kind or kind == "any" else 1
    values = np.linspace(0, most, HEIGHT * WIDTH * bands).round().astype(np.int64)
    stored = np.random.default_rng(0).permutation(values).reshape(bands, HEIGHT, WIDTH)
    if kind == "any":
        path = arbitrary(tmp_path / "a.pam", stored, most)
    else:
        path = portable(tmp_path / "a.ppm", stored, most, plain="plain" in kind)
    np.testing.assert_array_equal(ways.agree(path).pixels, shown(stored, most))


def test_a_tiff_of_a_long_name(ways: Ways, tmp_path: Path) -> None:
    """What may lie beside it would have names too long for the file system."""
    path = tiff(tmp_path / "short.tif", ramp(8)).rename(tmp_path / f"{'b' * 251}.tif")
    np.testing.assert_array_equal(ways.agree(path).pixels, shown(ramp(8), 255))


@pytest.mark.parametrize("plain", [False, True])
def test_portable_bitmaps(plain: bool, ways: Ways, tmp_path: Path) -> None:
    white = binary()
    path = tmp_path / "a.pbm"
    body = np.packbits(~white, axis=1).tobytes()
    if plain:
        body = b"".join(b"01"[one : one + 1] for one in (~white).ravel().astype(int))
    path.write_bytes(f"P{1 if plain else 4}\n# made by a test\n{WIDTH} {HEIGHT}\n".encode() + body)
    np.testing.assert_array_equal(ways.agree(path).pixels[..., 0] == 255, white)


@pytest.mark.parametrize("kind", ["int8", "int16", "uint32", "int32", "float32", "float64"])
def test_what_has_no_agreed_range(kind: str, ways: Ways, tmp_path: Path) -> None:
    stored = np.linspace(-40, 60, HEIGHT * WIDTH).reshape(1, HEIGHT, WIDTH)
    stored = np.abs(stored) if kind == "uint32" else stored
    path = tiff(tmp_path / "a.tif", stored.astype(kind))
    said = []
    for way in (ways.whole, ways.rows):
        with pytest.raises(InputError) as refused:
            way(path)
        said.append(str(refused.value))
    assert said[0] == said[1]
    assert f"a.tif: samples of the type {kind} have no agreed black and white" in said[0]
    assert "`value_range` LOW,HIGH says which values they are" in said[0]
    picture = ways.agree(path, Taking((-20, 20)))
    truth = np.clip((stored.astype(kind).astype(float) + 20) * 255 / 40, 0, 255).round()
    np.testing.assert_allclose(picture.pixels[..., 0], truth[0], atol=0.5)


def test_a_range_is_for_more_than_8_bits(
    ways: Ways, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reading = Reading(Taking((0, 1023)))
    deep = png(tmp_path / "deep.png", ramp(10), 16)
    np.testing.assert_array_equal(
        reading.picture(deep).pixels[..., 0], (ramp(10)[0] * (255 / 1023)).round()
    )
    flat = [png(tmp_path / f"{number}.png", ramp(8), 8) for number in range(2)]
    with caplog.at_level(logging.WARNING, "atrous"):
        for path in flat:
            np.testing.assert_array_equal(reading.picture(path).pixels, shown(ramp(8), 255))
    [record] = caplog.records
    assert "0.png: samples of 8 bits are taken as they are" in record.getMessage()


@pytest.mark.parametrize(
    ("values", "likely"),
    [
        ((0, 4000), "0,4095"),
        ((3, 1000), "0,1023"),
        ((200, 16383), "0,16383"),
        ((30000, 31000), "30"),
        ((0, 20000), None),
        ((0, 65535), None),
        ((0, 0), None),
    ],
)
@pytest.mark.parametrize("kind", ["tif", "png", "pgm"])
def test_an_unused_range_is_said_once(
    values: tuple[int, int],
    likely: str | None,
    kind: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stored = np.linspace(*values, HEIGHT * WIDTH).astype(np.uint16).reshape(1, HEIGHT, WIDTH)
    path = tmp_path / f"a.{kind}"
    if kind == "tif":
        tiff(path, stored)
    elif kind == "png":
        png(path, stored, 16)
    else:
        portable(path, stored, 65535)
    reading = Reading()
    with caplog.at_level(logging.WARNING, "atrous"):
        reading(path)
        reading(path)
    assert len(caplog.records) == (likely is not None)
    if likely is not None:
        assert f"`value_range` {likely}" in caplog.text
        assert "of 0 to 65535" in caplog.text


def test_a_declared_depth_in_a_png_that_was_not_shifted(tmp_path: Path) -> None:
    sbit = (b"sBIT", bytes([12]))
    low = png(tmp_path / "low.png", ramp(12), 16, sbit)
    np.testing.assert_array_equal(Reading()(low), shown(ramp(12), 4095))
    shifted = png(tmp_path / "shifted.png", ramp(12) << 4, 16, sbit)
    np.testing.assert_array_equal(Reading()(shifted), shown(ramp(12), 4095))


@pytest.mark.parametrize(
    ("nodata", "kind"), [(0, "uint8"), (-9999, "float32"), (np.nan, "float32")]
)
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_no_data(nodata: float, kind: str, bands: int, ways: Ways, tmp_path: Path) -> None:
    stored = np.maximum(ramp(8, bands), 1).astype(kind)
    stored[:, ~binary()] = nodata
    stored[0, 9, 9] = nodata  # of one band alone
    path = tiff(tmp_path / "a.tif", stored, nodata=nodata)
    picture = ways.agree(path, Taking((0, 255)) if kind == "float32" else None)
    missing = ~binary()
    missing[9, 9] = bands == 1 or np.isnan(nodata)
    assert picture.valid is not None
    np.testing.assert_array_equal(~picture.valid, missing)


@pytest.mark.parametrize("beside", [False, True])
def test_masks(beside: bool, ways: Ways, tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", ramp(8, 3), photometric="RGB", transform=PLACE)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not beside), rasterio.open(path, "r+") as file:
        file.write_mask(binary())
    assert (tmp_path / "a.tif.msk").exists() == beside
    picture = ways.agree(path)
    np.testing.assert_array_equal(picture.pixels, shown(ramp(8, 3), 255))
    assert picture.valid is not None
    np.testing.assert_array_equal(picture.valid, binary())
    with pytest.raises(InputError, match=r"a\.tif: .*pip install 'atrous\[large\]'"):
        ways.pillow(path)


def test_bands(ways: Ways, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stored = ramp(8, 7)
    path = tiff(tmp_path / "a.tif", stored)
    with caplog.at_level(logging.WARNING, "atrous"):
        np.testing.assert_array_equal(ways.whole(path).pixels, shown(stored[:3], 255))
    assert "a.tif: has 7 bands and does not say which are colours: 1, 2 and 3 are" in caplog.text
    for bands in ((7, 1, 4), (5,), (2, 2, 2)):
        picture = ways.agree(path, Taking(bands=bands))
        np.testing.assert_array_equal(
            picture.pixels, shown(stored[[band - 1 for band in bands]], 255)
        )
    with pytest.raises(InputError, match=r"a\.tif: has 7 bands, `bands` asks for 8"):
        ways.whole(path, Taking(bands=(8,)))
    colours = png(tmp_path / "a.png", ramp(8, 4), 8)
    np.testing.assert_array_equal(
        ways.agree(colours, Taking(bands=(4, 3, 1))).pixels, shown(ramp(8, 4)[[3, 2, 0]], 255)
    )


@pytest.mark.parametrize("ending", ["tif", "png"])
def test_bands_of_a_palette_are_those_of_its_colours(
    ending: str, ways: Ways, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{ending}"
    colours = photograph("RGB").quantize(9)
    colours.save(path)
    truth = np.asarray(colours.convert("RGB"))
    for bands in ((3, 2, 1), (2,)):
        for picture in (way(path, Taking(bands=bands)) for way in (ways.agree, ways.pillow)):
            np.testing.assert_array_equal(
                picture.pixels, np.broadcast_to(truth[..., [b - 1 for b in bands]], truth.shape)
            )
    with pytest.raises(InputError, match=rf"a\.{ending}: has 3 bands, `bands` asks for 4$"):
        ways.whole(path, Taking(bands=(4,)))


def test_a_palette_that_rasterio_wrote_after_the_pixels_is_one(ways: Ways, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    ids = ramp(8) // 32
    table = {i: (200 * (i & 1), 100 * (i >> 1 & 1), 50 * (i >> 2), 255) for i in range(8)}
    place = rasterio.Affine(1, 0, 9, 0, -1, 9)
    form = {"driver": "GTiff", "height": HEIGHT, "width": WIDTH, "count": 1, "transform": place}
    with rasterio.open(path, "w", dtype="uint8", **form) as file:
        file.write(ids)
        file.write_colormap(1, table)
    truth = np.asarray([table[i][:3] for i in range(8)], np.uint8)[ids[0]]
    np.testing.assert_array_equal(ways.agree(path).pixels, truth)
    with pytest.raises(InputError, match="rasterio"):
        ways.pillow(path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # by Pillow, which knows one order only
def test_a_big_tiff_of_either_byte_order_is_read(ways: Ways, tmp_path: Path) -> None:
    stored = ramp(8, 3)
    for order in ("LITTLE", "BIG"):
        path = tiff(tmp_path / f"{order}.tif", stored, BIGTIFF="YES", ENDIANNESS=order)
        for picture in (ways.whole(path), ways.rows(path)):
            np.testing.assert_array_equal(picture.pixels, np.moveaxis(stored, 0, 2))


def test_a_palette_has_no_band_of_transparency(ways: Ways, tmp_path: Path) -> None:
    photograph("P").save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"one band or three as `bands`, not 2$"):
        ways.whole(tmp_path / "a.tif", Taking(bands=(1, 2)))


@pytest.mark.parametrize("left", [20, 2000])
def test_damage_is_said_alike_of_a_file_and_of_its_content(left: int, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)
    tiff(path, noise, photometric="RGB", compress="deflate")
    path.write_bytes(path.read_bytes()[:left])
    said = []
    for source in (path, BytesIO(path.read_bytes())):
        with pytest.raises(InputError) as caught:
            Reading().picture(source, "theirs")
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert said[0].startswith("theirs: ")
    assert "a.tif" not in said[0]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize(("photometric", "bands"), [("cielab", 3), ("icclab", 3), ("cmyk", 5)])
def test_what_is_no_rgb_is_never_taken_for_it(
    photometric: str, bands: int, kind: type, ways: Ways, tmp_path: Path
) -> None:
    path = tiff(tmp_path / "a.tif", ramp(8, bands).astype(kind), photometric=photometric)
    if kind is np.uint8 and photometric != "icclab":  # Pillow converts these
        assert (ways.agree(path).pixels != shown(ramp(8, bands)[:3], 255)).any()
        return
    name = "inks (CMYK)" if photometric == "cmyk" else "Lab"
    message = (
        f"{path}: {bands} bands of {np.dtype(kind)} that are {name}, which are not read; convert "
        "it to RGB, or name the `bands` to take as they are"
    )
    for way in (ways.whole, ways.rows):
        with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
            way(path)
    assert ways.agree(path, Taking(bands=(1, 2, 3))).pixels.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_no_sense_in_the_orientation_of_a_tiff_is_upright(
    orientation: int, ways: Ways, tmp_path: Path
) -> None:
    photograph("RGB").save(tmp_path / "a.tif", tiffinfo={0x112: orientation})
    truth = np.asarray(photograph("RGB"))
    np.testing.assert_array_equal(ways.agree(tmp_path / "a.tif").pixels, truth)
    np.testing.assert_array_equal(ways.pillow(tmp_path / "a.tif").pixels, truth)


def test_the_preview_in_front_of_a_picture_is_not_taken_for_it(ways: Ways, tmp_path: Path) -> None:
    """As in DNG and NEF, which are TIFFs."""
    path, large = tmp_path / "a.dng", photograph("RGB").resize((400, 300))
    photograph("RGB").save(path, "TIFF", save_all=True, append_images=[large], tiffinfo={254: 1})
    for way in (ways.whole, ways.rows, ways.pillow):
        with pytest.raises(InputError, match="its first picture is a preview of another one in it"):
            way(path)
    no_number = ImageFileDirectory_v2()
    no_number.tagtype[254], no_number[254] = TiffTags.ASCII, "small"
    for tags in ({254: 1}, no_number):  # said of the only one
        photograph("RGB").save(path, "TIFF", tiffinfo=tags)
        np.testing.assert_array_equal(ways.agree(path).pixels, np.asarray(photograph("RGB")))


def test_colours_by_their_tags(ways: Ways, tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", ramp(8, 4), transform=PLACE)
    with rasterio.open(path, "r+") as file:
        colours = rasterio.enums.ColorInterp
        file.colorinterp = [colours.blue, colours.green, colours.red, colours.undefined]
    np.testing.assert_array_equal(ways.agree(path).pixels, shown(ramp(8, 4)[[2, 1, 0]], 255))


@pytest.mark.parametrize(
    ("values", "opaque"),
    [
        ([0, 0, 255, 255], 255),
        ([255, 255, 255], 255),
        ([0, 1, 1], 1),
        ([0, 255, 65535, 65535], None),
        ([0, 0, 0], None),
        ([0, 255, 255, 90], 255),
        ([0, 10, 20, 255], None),
        ([100, 100, 100], None),
        ([0, 2, 1, 254, 253, 252, 255], 255),
    ],
)
def test_transparency_by_its_values(values: list[int], opaque: int | None) -> None:
    assert opaque_value(np.array(values), 255) == opaque


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"value_range": (5, 5)}, r"`value_range`: expected LOW,HIGH, two numbers of which the"),
        ({"value_range": (float("nan"), 5)}, "`value_range`: expected LOW,HIGH"),
        ({"bands": ()}, r"`bands`: expected one band \(grey\) or three"),
        ({"bands": (0, 1, 2)}, "counted from 1"),
        ({"bands": (1, 2, 3, 4, 5)}, "got 1,2,3,4,5"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Taking(**settings)


@pytest.mark.parametrize(("value_range", "said"), [((0, 1), True), ((0, 60000), False)])
def test_a_range_that_most_values_lie_outside_of_is_said(
    value_range: tuple[float, float], said: bool, ways: Ways, tmp_path: Path
) -> None:
    path, told = tiff(tmp_path / "a.tif", ramp(16)), list[str]()
    Reading(Taking(value_range), notes=Notes(told.append)).picture(path)
    assert bool(told) == said
    if said:
        assert "a.tif: 99." in told[0]
        assert "lie outside of `value_range` 0,1, and become black or white" in told[0]


@pytest.mark.parametrize("empty", [False, True])
def test_transparent_everywhere(
    empty: bool, ways: Ways, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The outer sheets of a mosaic are; with colours in it, it is a band that nobody filled."""
    stored = ramp(8, 4)
    stored[3] = 0
    if empty:
        stored[:3] = 7
    picture = ways.agree(tiff(tmp_path / "a.tif", stored, photometric="RGB", alpha="YES"))
    if empty:
        assert picture.valid is not None
        assert not picture.valid.any()
    else:
        assert picture.valid is None
        assert "band 4 is tagged as transparency (alpha) but is 0 everywhere" in caplog.text


def test_samples_without_data_do_not_count_for_the_range(caplog: pytest.LogCaptureFixture) -> None:
    stored = np.array([[[65535, 65535, 10, 900]]], np.uint16)
    with caplog.at_level(logging.WARNING, "atrous"):
        look(stored, Meaning(high=65535, nodata=65535), Taking(), Notes(), "a")
    assert "a: most values are between 14 and 895 of 0 to 65535" in caplog.text
    picture = to_picture(stored, Meaning(high=65535, nodata=65535), Taking(), Notes(), "a")
    assert picture.valid is not None
    assert picture.valid.tolist() == [[False, False, True, True]]


def photograph(mode: str) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    picture = Image.fromarray(pixels)
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB")
        assert converted is not None
        return converted
    return picture.convert(mode)


@pytest.mark.parametrize(
    ("mode", "name", "options"),
    [
        ("LAB", "a.tif", {}),
        ("CMYK", "a.tif", {}),
        ("CMYK", "a.jpg", {}),
        pytest.param(
            "YCbCr", "a.tif", {}, marks=needs("pillow", "13", "calls JPEG in a TIFF truncated")
        ),
        ("RGB", "a.tif", {"compression": "jpeg"}),
        ("RGB", "a.tif", {"compression": "tiff_lzw", "icc_profile": profiles.swapped()}),
        ("L", "a.tif", {"icc_profile": profiles.grey(1.0)}),
        ("P", "a.tif", {}),
        ("1", "a.tif", {"compression": "group4"}),
        ("1", "a.png", {}),
        ("P", "a.png", {"transparency": 3}),
        ("RGB", "a.png", {"icc_profile": profiles.swapped()}),
        ("RGB", "a.jpg", {}),
        ("L", "a.jpg", {"icc_profile": profiles.grey(1.0)}),
        ("RGB", "a.bmp", {}),
        ("P", "a.gif", {"transparency": 3}),
    ],
)
def test_every_kind_is_the_same_whole_and_in_rows(
    mode: str, name: str, options: dict[str, Any], ways: Ways, tmp_path: Path
) -> None:
    photograph(mode).save(tmp_path / name, **options)
    assert ways.agree(tmp_path / name).valid is None


def test_complex_numbers_are_refused(ways: Ways, tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", ramp(8).astype(np.complex64))
    for taking in (None, Taking((0, 255))):
        with pytest.raises(InputError, match=r"a\.tif: samples are complex numbers; convert them"):
            ways.whole(path, taking)


def test_pillow_does_not_complain_of_what_gdal_reads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tiff(tmp_path / "a.tif", ramp(8, 7), photometric="RGB")
    with caplog.at_level(logging.INFO):
        Reading()(path)
    assert not [record for record in caplog.records if record.name.startswith("PIL")]


@pytest.mark.parametrize("bands", [1, 3])
def test_a_colour_of_16_bits_that_means_transparent(bands: int, tmp_path: Path) -> None:
    stored = ramp(16, bands)
    colour = stored[:, 4, 4]
    chunk = (b"tRNS", colour.astype(">u2").tobytes())
    pixels = Reading()(png(tmp_path / "a.png", stored, 16, chunk))
    truth = shown(stored, 65535)
    truth[4, 4] = 255
    np.testing.assert_array_equal(pixels, truth)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("bands", [None, (1,)])
def test_a_grey_of_few_bits_that_means_transparent(
    bits: int, bands: tuple[int, ...] | None, ways: Ways, tmp_path: Path
) -> None:
    stored = ramp(bits)
    chunk = (b"tRNS", (0).to_bytes(2) if bits == 1 else (2**bits // 2).to_bytes(2))
    path = png(tmp_path / "a.png", stored, bits, chunk)
    truth = shown(stored, 2**bits - 1)
    if bands is None:
        truth[stored[0] == int.from_bytes(chunk[1])] = 255
    np.testing.assert_array_equal(ways.agree(path, Taking(bands=bands)).pixels, truth)


@pytest.mark.parametrize("value", [0, 700, 65535])
def test_of_one_value_no_range_is_advised(
    value: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "atrous"):
        Reading()(png(tmp_path / "a.png", np.full((1, HEIGHT, WIDTH), value, np.uint16), 16))
    assert not caplog.text


@pytest.mark.parametrize("bands", [1, 3])
def test_jpeg_2000_of_16_bits_without_gdal(bands: int, ways: Ways, tmp_path: Path) -> None:
    path = tmp_path / "a.jp2"
    pixels = np.random.default_rng(0).integers(0, 65536, (64, 64, bands), np.uint16)
    assert cv2.imwrite(str(path), pixels)
    np.testing.assert_array_equal(ways.pillow(path).pixels, ways.agree(path).pixels)
