import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.errors import InputError
from atrous.jobs.annotations import documents
from atrous.jobs.annotations.job import Kind, annotated
from atrous.jobs.folder import segment
from atrous.jobs.output import ImageResult, Output
from atrous.jobs.sources import find
from atrous.labels import VOC
from tests.builders.predictors import brightest

# Of pycocotools itself, with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures: the left half red, the right half green or blue."""
    for name, channel in (("a.b.png", 1), ("sub/c.png", 2)):
        pixels = np.zeros((16, 24, 3), np.uint8)
        pixels[:, :12, 0] = pixels[:, 12:, channel] = 200
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "in"


def run(
    folder: Path,
    kinds: Sequence[Kind] = (),
    *,
    gallery: bool = False,
    force: bool = False,
    stop: int | None = None,
) -> list[ImageResult]:
    predictor = brightest()
    output = Output(folder.parent / "out", overlays=gallery, force=force)
    sources = find([folder])
    results = annotated(
        segment(predictor, sources, output),
        [source.path for source in sources],
        output,
        predictor.labels,
        kinds,
        gallery=gallery,
    )
    if stop is None:
        return list(results)
    found = [next(results) for _ in range(stop)]
    results.close()
    return found


def test_coco_reads_the_file_of_all(folder: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    run(folder, ["coco"])
    read = coco.COCO(folder.parent / "out" / "coco.json")
    images = {one["file_name"]: one["id"] for one in read.loadImgs(read.getImgIds())}
    assert set(images) == {"a.b.png", "sub/c.png"}
    for name, right in (("a.b.png", "class 1"), ("sub/c.png", "class 2")):
        annotations = read.loadAnns(read.getAnnIds(imgIds=[images[name]]))
        names = [read.cats[one["category_id"]]["name"] for one in annotations]
        assert names == ["class 0", right]
        mask = read.annToMask(annotations[1])
        assert (mask[:, 13:] == 1).all()
        assert (mask[:, :11] == 0).all()


def test_a_stopped_run_goes_on(folder: Path) -> None:
    """Masks that stand give the same files as those that are made now."""
    run(folder, ["coco", "labelme"], stop=1)
    out = folder.parent / "out"
    assert not (out / "coco.json").exists()
    assert not list(out.rglob("*.part"))
    results = run(folder, ["coco", "labelme"])
    assert [one.status for one in results].count("kept") >= 1
    assert len(json.loads((out / "coco.json").read_text())["images"]) == 2
    first = json.loads((out / "labelme" / "a.b.json").read_text())
    assert (out / "labelme" / first["imagePath"]).resolve() == folder / "a.b.png"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    assert {one.status for one in run(folder, ["labelme"])} == {"kept"}
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.json")} == before


def test_what_somebody_changed_stays(folder: Path) -> None:
    run(folder, ["labelme", "coco"])
    out = folder.parent / "out"
    edited = out / "labelme" / "a.b.json"
    document = json.loads(edited.read_text())
    document["shapes"][0]["label"] = "mine"
    edited.write_text(json.dumps(document))
    bad, good = sorted(run(folder, ["labelme"]), key=lambda one: one.status != "failed")
    assert "a.b.json: is in the way and kept" in bad.error
    assert good.status == "kept"
    assert "mine" in edited.read_text()
    assert {one.status for one in run(folder, ["labelme"], force=True)} == {"written"}
    assert "mine" not in edited.read_text()
    (out / "coco.json").write_text("{}")
    with pytest.raises(InputError, match=r"coco\.json: is in the way and kept"):
        run(folder, ["coco"])


def test_geojson_lies_where_the_picture_lies(folder: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    from rasterio.features import rasterize

    (folder / "a.b.png").unlink()
    pixels = np.zeros((3, 16, 24), np.uint8)
    pixels[0, :, :12] = pixels[1, :, 12:] = 200
    transform = rasterio.Affine(2.5, 0, 500000, 0, -2.5, 4600000)
    profile = {"driver": "GTiff", "height": 16, "width": 24, "count": 3, "dtype": "uint8"}
    with rasterio.open(
        folder / "e.tif", "w", crs="EPSG:32633", transform=transform, photometric="RGB", **profile
    ) as file:
        file.write(pixels)
    bad, good = sorted(run(folder, ["geojson"]), key=lambda one: one.status != "failed")
    assert "c.png: does not say where on Earth it lies" in bad.error
    assert good.status == "written"
    out = folder.parent / "out"
    made = json.loads((out / "geojson" / "e.geojson").read_text())
    assert made["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    shapes = [(one["geometry"], one["properties"]["id"]) for one in made["features"]]
    again = rasterize(shapes, (16, 24), fill=9, transform=transform)
    with Image.open(out / "masks" / "e.png") as mask:
        np.testing.assert_array_equal(again, np.asarray(mask))
    assert {one["properties"]["class"] for one in made["features"]} == {"class 0", "class 1"}


def test_geojson_of_damaged_tags_fails_that_picture_alone(tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0")
    with pytest.raises(InputError, match=r"a\.tif: cannot be read: its tags are damaged"):
        documents.geojson(np.zeros((2, 2), np.uint8), VOC, path)


def test_the_page_shows_every_picture(folder: Path) -> None:
    strange = folder / "<b>#1 & 100%.png"
    (folder / "a.b.png").rename(strange)
    run(folder, gallery=True)
    page = (folder.parent / "out" / "index.html").read_text()
    assert "<b>#1" not in page
    assert "&lt;b&gt;#1 &amp; 100%.png" in page
    assert 'src="overlays/%3Cb%3E%231%20%26%20100%25.jpg"' in page
    assert "class 2" in page
    run(folder, gallery=True)  # a page of ours is replaced
    (folder.parent / "out" / "index.html").write_text("mine")
    with pytest.raises(InputError, match=r"index\.html: is in the way"):
        run(folder, gallery=True)
