"""GeoTIFFs from the field, whole and in tiles, through the command line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.builders.cases import Cases, check, class_ids, expected
from tests.builders.command import Done, Run

rasterio = pytest.importorskip("rasterio", reason="needs the extra large")

WAYS = [pytest.param((), id="whole"), pytest.param(("--tile", "256"), id="tiles")]
Way = tuple[str, ...]


def predict(atrous: Run, picture: Path, out: Path, *more: str) -> tuple[Done, Path]:
    """Segment a picture of a group, with the network that lies beside it."""
    folder = picture.parent
    model = ("-m", folder / "colours.onnx", "--vdsp-params", folder / "colours.json")
    done = atrous("predict", picture, *model, "-o", out, "--no-overlays", *more)
    assert done.code == 0, done.err
    [mask] = (out / "masks").iterdir()
    return done, mask


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["rgb.tif", "white_is_zero.tif"])
def test_right_without_a_word(
    way: Way, name: str, cases: Cases, atrous: Run, tmp_path: Path
) -> None:
    folder = cases("geotiff")
    done, mask = predict(atrous, folder / name, tmp_path, *way)
    check(folder, name, mask)
    assert f"note: {folder / name}:" not in done.err


@pytest.mark.parametrize("way", WAYS)
def test_near_infrared_is_no_transparency(
    way: Way, cases: Cases, atrous: Run, tmp_path: Path
) -> None:
    folder = cases("geotiff")
    picture = folder / "near_infrared.tif"
    done, mask = predict(atrous, picture, tmp_path / "1", *way)
    check(folder, picture.name, mask)
    assert f"note: {picture}: band 4 is tagged as transparency (alpha) but has values" in done.err
    assert "--bands 1,2,3,4 takes it as transparency" in done.err
    done, mask = predict(atrous, picture, tmp_path / "2", "--bands", "1,2,3", *way)
    check(folder, picture.name, mask)
    assert "transparency" not in done.err
    _, mask = predict(atrous, picture, tmp_path / "3", "--bands", "4", *way)
    with rasterio.open(picture) as file:
        np.testing.assert_array_equal(class_ids(mask), 7 * (file.read(4) > 127))


@pytest.mark.parametrize("way", WAYS)
def test_no_data_is_ignored(way: Way, cases: Cases, atrous: Run, tmp_path: Path) -> None:
    folder = cases("geotiff")
    done, mask = predict(atrous, folder / "nodata.tif", tmp_path, *way)
    check(folder, "nodata.tif", mask)
    right = class_ids(folder / expected(folder)["nodata.tif"]["class_map"])
    np.testing.assert_array_equal(class_ids(mask) == 255, right == 255)
    assert "ignored  " not in done.out
    share = (right == 1).sum() / (right != 255).sum()
    assert f"class 1  {100 * share:.1f} %" in done.out
    if mask.suffix == ".tif":
        with rasterio.open(mask) as file:
            assert file.nodata == 255


@pytest.mark.parametrize("way", WAYS)
def test_a_range_that_is_not_used_is_said(
    way: Way, cases: Cases, atrous: Run, tmp_path: Path
) -> None:
    folder = cases("geotiff")
    picture = folder / "reflectance.tif"
    done, _ = predict(atrous, picture, tmp_path / "1", *way)
    assert f"note: {picture}: most values are between" in done.err
    assert "--range 0,4095 would take these as black and white" in done.err
    done, mask = predict(atrous, picture, tmp_path / "2", "--range", "0,3060", *way)
    check(folder, picture.name, mask)
    assert done.err.count("note: ") == 1  # that the classes have no names


@pytest.mark.parametrize("way", WAYS)
def test_pictures_of_the_group(way: Way, cases: Cases, atrous: Run, tmp_path: Path) -> None:
    folder = cases("pictures")
    _, mask = predict(atrous, folder / "swapped_primaries.png", tmp_path / "1", *way)
    check(folder, "swapped_primaries.png", mask)
    done, _ = predict(atrous, folder / "twelve_bits.png", tmp_path / "2", *way)
    assert "--range 0,4095 would take these as black and white" in done.err
    done, mask = predict(
        atrous, folder / "twelve_bits.png", tmp_path / "3", "--range", "0,4095", *way
    )
    check(folder, "twelve_bits.png", mask)
    assert done.err.count("note: ") == 1


def test_a_large_mask_is_cloud_optimised(cases: Cases, atrous: Run, tmp_path: Path) -> None:
    folder = cases("geotiff")
    large = tmp_path / "large.tif"
    with rasterio.open(folder / "nodata.tif") as file:
        profile, bands = file.profile, np.tile(file.read(), (1, 5, 5))
    profile.update(height=bands.shape[1], width=bands.shape[2])
    with rasterio.open(large, "w", **profile) as file:
        file.write(bands)
    for name in ("colours.onnx", "colours.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    _, mask = predict(atrous, large, tmp_path / "out", "--tile", "256")
    with rasterio.open(mask) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.block_shapes == [(512, 512)]
        assert file.overviews(1) == [2, 4]
        assert file.nodata == 255
        whole = file.read(1)
        small = file.read(1, out_shape=(640, 640))
    quarters = whole.reshape(640, 2, 640, 2).swapaxes(1, 2).reshape(640, 640, 4)
    assert (small[..., None] == quarters).any(-1).mean() > 0.999  # a class of the four, no mean
    assert [path.name for path in mask.parent.iterdir()] == ["large.tif"]
    with Image.open(mask) as picture:
        assert picture.mode == "P"
