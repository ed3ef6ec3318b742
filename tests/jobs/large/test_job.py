"""Files of any size: what is read of them, what is written, and what is kept when it fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from atrous import image
from atrous.engines.fake import FakeEngine
from atrous.errors import ConfigError, EngineError, InputError
from atrous.jobs.large import job as large
from atrous.jobs.large import tiles
from atrous.jobs.output import ImageResult, Output
from atrous.jobs.sources import find
from atrous.labels import VOC, generic
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from atrous.stamp import FileStamp, of_pixels

rasterio = pytest.importorskip("rasterio", reason="needs the extra large")

from rasterio.control import GroundControlPoint  # noqa: E402
from rasterio.rpc import RPC  # noqa: E402

from atrous.jobs.large.raster import FileRaster, stamp_of, write_mask  # noqa: E402

Pixels = NDArray[np.uint8]
PLACE = rasterio.Affine(0.5, 0, 4e5, 0, -0.5, 5e6)


def photograph(height: int = 40, width: int = 50) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def brightest() -> Predictor:
    engine = FakeEngine(lambda batch: batch, num_classes=3)
    preprocess = Preprocess(size=(16, 16), normalisation="none")
    return Predictor(engine, preprocess, generic(3))


def tiff(path: Path, bands: NDArray[np.generic], **profile: object) -> Path:
    count, height, width = bands.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=count,
        dtype=bands.dtype.name, **profile,
    ) as file:  # fmt: skip
        file.write(bands)
    return path


@pytest.fixture
def earth(tmp_path: Path) -> Path:
    path = tmp_path / "earth.tif"
    tiff(path, np.moveaxis(photograph(), 2, 0), crs="EPSG:32633", transform=PLACE)
    with rasterio.open(path, "r+") as file:
        file.update_tags(SURVEY="spring")
    return path


def run(
    predictor: Predictor,
    path: Path,
    out: Path,
    overlap: float = tiles.OVERLAP,
    progress: Callable[[int, int], object] | None = None,
    **options: bool,
) -> list[ImageResult]:
    output = Output(out, **options)  # type: ignore[arg-type]
    results = large.segment(
        predictor, find([path]), output, side=16, overlap=overlap, progress=progress
    )
    return list(results)


@pytest.mark.filterwarnings("error")
def test_a_geotiff_gives_a_geotiff(brightest: Predictor, earth: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done: list[tuple[int, int]] = []
    [result] = run(brightest, earth, out, progress=lambda *rows: done.append(rows))
    assert result.status == "written"
    assert result.mask == out / "masks" / "earth.tif"
    truth = photograph().argmax(2)
    with rasterio.open(result.mask) as mask, rasterio.open(earth) as original:
        np.testing.assert_array_equal(mask.read(1), truth)
        assert (mask.crs, mask.transform) == (original.crs, original.transform)
        assert mask.tags()["SURVEY"] == "spring"
        assert mask.colormap(1)[1][:3] == tuple(brightest.labels.palette()[3:6])
    assert result.shares == image.class_shares(truth.astype(np.uint8))
    assert done[-1] == (40, 40)
    with Image.open(out / "overlays" / "earth.jpg") as overlay:
        assert overlay.width == 50
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == [
        "earth.jpg", "earth.tif",
    ]  # fmt: skip


POINTS = [
    GroundControlPoint(row, column, 4e5 + column, 5e6 - row)
    for row, column in ((0, 0), (0, 50), (40, 0), (40, 50))
]
SENSOR = RPC(
    height_off=1, height_scale=2, lat_off=3, lat_scale=4, line_num_coeff=[1.0] * 20,
    line_den_coeff=[2.0] * 20, line_off=5, line_scale=6, long_off=7, long_scale=8,
    samp_num_coeff=[3.0] * 20, samp_den_coeff=[4.0] * 20, samp_off=9, samp_scale=10,
)  # fmt: skip


@pytest.mark.parametrize(
    "place",
    [
        pytest.param({"crs": "EPSG:25832", "gcps": POINTS}, id="points"),
        pytest.param({"rpcs": SENSOR}, id="a sensor"),
        pytest.param(
            {"crs": "EPSG:25832", "transform": rasterio.Affine(0.5, 0.1, 4e5, 0.1, -0.5, 5e6)},
            id="turned",
        ),
        pytest.param({"transform": PLACE}, id="on no known map"),
    ],
)
def test_a_mask_lies_where_its_picture_does(place: dict[str, Any], tmp_path: Path) -> None:
    tiff(tmp_path / "a.tif", np.moveaxis(photograph(), 2, 0), photometric="rgb", **place)
    ids = np.arange(2000, dtype=np.uint8).reshape(40, 50) % 3
    mask = tmp_path / "mask.tif"
    with FileRaster(tmp_path / "a.tif") as raster:
        assert raster.georeferenced
        write_mask(mask, iter([ids[:7], ids[7:]]), raster, VOC, "a" * 64, geographic=True)
    with rasterio.open(tmp_path / "a.tif") as picture, rasterio.open(mask) as found:
        np.testing.assert_array_equal(found.read(1), ids)
        assert (found.crs, found.transform) == (picture.crs, picture.transform)
        assert found.gcps[1] == picture.gcps[1]
        for one, other in zip(found.gcps[0], picture.gcps[0], strict=True):
            assert (one.row, one.col, one.x, one.y) == (other.row, other.col, other.x, other.y)
        assert found.rpcs == picture.rpcs
    assert stamp_of(mask) is not None


@pytest.mark.parametrize("changed", ["bands", "type", "pixels"])
def test_a_mask_that_somebody_made_another_picture_of_has_no_stamp(
    changed: str, tmp_path: Path
) -> None:
    stored = np.zeros((1, 40, 50), np.uint8)
    stamp = str(FileStamp("a" * 64, of_pixels(stored[0])))
    path = tiff(tmp_path / "a.tif", stored, transform=PLACE)
    with rasterio.open(path, "r+") as file:
        file.update_tags(atrous=stamp)
    assert stamp_of(path) is not None
    if changed == "bands":
        stored = np.repeat(stored, 3, axis=0)
    elif changed == "type":
        stored = stored.astype(np.uint16)
    else:
        stored[0, 39, 49] = 1
    tiff(path, stored, transform=PLACE)
    with rasterio.open(path, "r+") as file:
        file.update_tags(atrous=stamp)
    assert stamp_of(path) is None


@pytest.mark.parametrize("longest", [100, 25])
def test_a_small_picture_of_one_that_is_read_at_once(longest: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(photograph()).save(tmp_path / "a.png", exif=exif)
    with FileRaster(tmp_path / "a.png") as raster:
        assert not raster.georeferenced
        small = raster.small(longest)
        assert small.shape == ((50, 40, 3) if longest == 100 else (25, 20, 3))
        assert abs(small.mean() - raster.rows(0, 50).mean()) < 2


def test_a_photograph_gives_a_palette_png(brightest: Predictor, tmp_path: Path) -> None:
    path, out = tmp_path / "a.png", tmp_path / "out"
    Image.fromarray(photograph()).save(path)
    [result] = run(brightest, path, out, overlays=False)
    assert result.mask == out / "masks" / "a.png"
    with Image.open(result.mask) as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), photograph().argmax(2))
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["a.png"]
    assert [one.status for one in run(brightest, path, out, overlays=False)] == ["kept"]
    again = run(brightest, path, out, overlays=False, overlap=0.5)
    assert [(one.status, one.stale) for one in again] == [("written", True)]
    repainted(result.mask)
    [changed] = run(brightest, path, out, overlays=False, overlap=0.5)
    assert (changed.status, "is in the way and kept" in changed.error) == ("failed", True)
    [forced] = run(brightest, path, out, overlays=False, overlap=0.5, force=True)
    assert forced.status == "written"


def repainted(path: Path | str | None) -> None:
    """Change one pixel of a PNG and keep all that it says of itself."""
    assert path is not None
    with Image.open(path) as picture:
        picture.load()
        info = PngInfo()
        info.add_text("atrous", str(picture.info["atrous"]))
        picture.putpixel((0, 0), 2 if picture.getpixel((0, 0)) == 1 else 1)
        picture.save(path, pnginfo=info)


def test_a_geotiff_that_was_changed_is_kept(
    brightest: Predictor, earth: Path, tmp_path: Path
) -> None:
    [result] = run(brightest, earth, tmp_path / "out")
    assert isinstance(result.mask, Path)
    assert [one.status for one in run(brightest, earth, tmp_path / "out")] == ["kept"]
    with rasterio.open(result.mask, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as mask:
        ids = mask.read(1)
        ids[3, 4] = (ids[3, 4] + 1) % 3
        mask.write(ids, 1)
        assert "atrous" in mask.tags()
    assert stamp_of(result.mask) is None
    [again] = run(brightest, earth, tmp_path / "out")
    assert (again.status, "is in the way and kept" in again.error) == ("failed", True)


def test_the_mask_of_a_mask_carries_its_own_stamp(
    brightest: Predictor, earth: Path, tmp_path: Path
) -> None:
    with rasterio.open(earth, "r+") as file:
        file.update_tags(atrous="of something else")
    [result] = run(brightest, earth, tmp_path / "out")
    assert isinstance(result.mask, Path)
    assert stamp_of(result.mask) is not None


@pytest.mark.parametrize("kind", ["grey", "sixteen", "alpha", "palette", "near-infrared"])
def test_pixels_are_those_of_the_ordinary_reader(kind: str, tmp_path: Path) -> None:
    colours = photograph()
    path = tmp_path / "a.tif"
    if kind == "grey":
        Image.fromarray(colours[..., 0]).save(path)
    elif kind == "sixteen":
        Image.fromarray(colours[..., 0].astype(np.uint16) * 257).save(path)
    elif kind == "alpha":
        opaque = np.where(colours[..., 0] > 50, 255, 0).astype(np.uint8)
        Image.fromarray(np.dstack([colours, opaque])).save(path)
    elif kind == "palette":
        Image.fromarray(colours).quantize(16).save(path)
    else:
        bands = np.concatenate([np.moveaxis(colours, 2, 0), colours[None, ..., 0]])
        tiff(path, bands, photometric="rgb", alpha="no", transform=PLACE)
    with FileRaster(path) as raster:
        assert (raster.height, raster.width) == (40, 50)
        found = np.concatenate([raster.rows(0, 13), raster.rows(13, 40)])
        small = raster.small(25)
    expected = colours if kind == "near-infrared" else image.read(path)
    assert np.abs(found.astype(int) - expected).max() <= (kind == "alpha")
    assert small.shape == (20, 25, 3)


def test_what_cannot_be_read_is_said(brightest: Predictor, earth: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no picture")
    heights = tiff(tmp_path / "heights.tif", np.zeros((1, 9, 9), np.float32), transform=PLACE)
    cut = tmp_path / "cut.tif"
    cut.write_bytes(earth.read_bytes()[: earth.stat().st_size // 2])
    out = tmp_path / "out"
    sources = find([text, heights, cut, earth])
    results = {r.source.stem: r for r in large.segment(brightest, sources, Output(out), side=16)}
    assert results["earth"].status == "written"
    for stem, message in {
        "text": "not a picture of a known kind",
        "heights": "samples of the type float32 have no agreed black and white (here they go from "
        "0 to 0); `value_range` LOW,HIGH says which values they are",
        "cut": "cut.tif",
    }.items():
        assert results[stem].status == "failed"
        assert message in results[stem].error
        assert results[stem].error.count(stem) >= 1
    assert [path.name for path in (out / "masks").iterdir()] == ["earth.tif"]


@pytest.mark.parametrize("kind", ["jpg", "tif"])
def test_a_turned_picture_comes_out_upright(
    kind: str, brightest: Predictor, tmp_path: Path
) -> None:
    path, exif = tmp_path / f"turned.{kind}", Image.Exif()
    exif[274] = 6
    Image.fromarray(photograph()).save(path, exif=exif)
    [result] = run(brightest, path, tmp_path / "out", overlays=False)
    assert result.mask is not None
    with Image.open(result.mask) as mask:
        np.testing.assert_array_equal(np.asarray(mask), image.read(path).argmax(2))
        assert mask.size == (40, 50)


def test_a_network_that_fails_leaves_nothing_half_written(earth: Path, tmp_path: Path) -> None:
    calls = iter(range(99))

    def fail(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if next(calls) > 5:
            raise EngineError("the device is gone")
        return batch

    engine = FakeEngine(fail, num_classes=3)
    broken = Predictor(engine, Preprocess(size=(16, 16), normalisation="none"), generic(3))
    [result] = run(broken, earth, tmp_path / "out")
    assert (result.status, result.error) == ("failed", f"{earth}: the device is gone")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_wrong_tiles_are_refused_before_anything_is_done(
    brightest: Predictor, earth: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"`overlap`: expected 0 to 0\.75, got 2"):
        run(brightest, earth, tmp_path / "out", overlap=2)
    assert not (tmp_path / "out").exists()


def test_a_missing_file_has_no_stamp(tmp_path: Path) -> None:
    assert stamp_of(tmp_path / "none.tif") is None
    with pytest.raises(InputError, match="No such file"):
        FileRaster(tmp_path / "none.tif")


@pytest.mark.parametrize(
    "name",
    [
        b"http:x.tif", b"s3:x.tif", b"GTIFF_DIR:1:x.tif", b"file:x.tif", b"https:x?y#z.tif",
        b"zip+a.tif", b"caf\xe9.tif",
    ],
)  # fmt: skip
def test_a_name_is_a_file_and_no_url(
    name: bytes, earth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    path = Path(os.fsdecode(name))
    shutil.copy(earth, path)
    with FileRaster(path) as file, FileRaster(earth) as same:
        np.testing.assert_array_equal(file.rows(0, file.height), same.rows(0, same.height))


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".ovr", '<VRTDataset rasterXSize="9" rasterYSize="9"/>'),
        (".msk", '<VRTDataset rasterXSize="9" rasterYSize="9"/>'),
        (".aux.xml", '<PAMDataset><MDI key="OVERVIEW_FILE">/vsicurl/http://x</MDI></PAMDataset>'),
    ],
)
def test_no_other_file_is_read_by_one_beside_it(suffix: str, content: str, earth: Path) -> None:
    beside = earth.with_name(earth.name + suffix)
    beside.write_text(content)
    with pytest.raises(InputError, match=f"{beside.name} beside it .*; remove it"):
        FileRaster(earth)
    with pytest.raises(InputError, match="beside it"):
        image.read(earth)


def test_of_a_tiff_pillow_reads_the_header_alone(
    earth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(picture: object) -> None:
        raise AssertionError("makes room for all pixels")

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load_prepare", fail)
    with FileRaster(earth) as file:
        rows = file.rows(0, 40)
    np.testing.assert_array_equal(rows, photograph())
    np.testing.assert_array_equal(image.read(earth), photograph())


def test_no_more_room_than_the_limit_for_a_row_of_tiles(
    brightest: Predictor, earth: Path, tmp_path: Path
) -> None:
    reading = image.Reading(max_pixels=16 * 50 - 1)
    [result] = large.segment(
        brightest, find([earth]), Output(tmp_path / "out"), side=16, reading=reading
    )
    assert result.status == "failed"
    assert "50 pixels wide, and 16 rows are read at once: more than the limit" in result.error


def test_a_jpeg_over_the_limit_is_read_in_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(photograph()).save(path, quality=95, subsampling=0)
    with FileRaster(path, image.Reading(max_pixels=1000)) as file:
        rows = np.concatenate([file.rows(0, 20), file.rows(20, 40)])
    assert np.abs(rows.astype(int) - image.read(path)).max() <= 1
    with pytest.raises(InputError, match="the limit is 1000"):
        FileRaster(path, max_pixels=1000)
