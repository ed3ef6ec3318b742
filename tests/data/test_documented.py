"""docs/data.md: the files that it shows are those that the commands write."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from atrous.data import open_dataset
from atrous.data.folder import Description
from tests.builders.command import Run

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
SIDE = 40
MASK = np.arange(SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint8) // 7 % 3
COLOURS = np.array([[0, 0, 0], [128, 64, 128], [70, 130, 180]], np.uint8)
LOWER = [[0, SIDE // 2], [SIDE, SIDE // 2], [SIDE, SIDE], [0, SIDE]]


def photograph(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def put(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def labelme(root: Path) -> None:
    for name in "ab":
        put(root / f"labelled/{name}.jpg", photograph(ord(name)))
        shape = {"label": "road", "shape_type": "polygon", "points": LOWER}
        content = {"imagePath": f"{name}.jpg", "imageHeight": SIDE, "imageWidth": SIDE}
        outlines = json.dumps(content | {"imageData": None, "shapes": [shape]})
        (root / f"labelled/{name}.json").write_text(outlines)


def cvat(root: Path) -> None:
    for name in "ab":
        put(root / f"cvat/JPEGImages/{name}.jpg", photograph(ord(name)))
        put(root / f"cvat/SegmentationClass/{name}.png", COLOURS[MASK])
        put(root / f"cvat/SegmentationObject/{name}.png", COLOURS[MASK][..., ::-1].copy())
    (root / "cvat/ImageSets/Segmentation").mkdir(parents=True)
    (root / "cvat/ImageSets/Segmentation/default.txt").write_text("a\nb\n")
    (root / "cvat/labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\nsky:70,130,180::\n"
    )


def roboflow(root: Path) -> None:
    for split in ("train", "valid"):
        for name in "ab":
            stem = f"roboflow/{split}/{name}_jpg.rf.{split}"
            put(root / f"{stem}.jpg", photograph(ord(name) + ord(split[0])))
            put(root / f"{stem}_mask.png", MASK)
        table = "Pixel Value, Class\n0, background\n1, road\n2, sky\n"
        (root / f"roboflow/{split}/_classes.csv").write_text(table)


def label_studio(root: Path) -> None:
    pictures = []
    for number, name in enumerate("ab"):
        put(root / f"studio/images/{name}.jpg", photograph(number))
        picture = {"id": number, "file_name": f"images/{name}.jpg", "width": SIDE, "height": SIDE}
        pictures.append(picture)
    outline = [number for point in LOWER for number in point]
    shapes = [
        {
            "id": number,
            "image_id": number,
            "category_id": 0,
            "segmentation": [outline],
            "iscrowd": 0,
        }
        for number in range(2)
    ]
    categories = [{"id": 0, "name": "road"}, {"id": 1, "name": "sky"}]
    content = {"images": pictures, "categories": categories, "annotations": shapes}
    (root / "studio/result.json").write_text(json.dumps(content))


def qgis(root: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    for tile in range(2):
        ortho = photograph(tile).transpose(2, 0, 1)
        for folder, bands in (("ortho", ortho), ("masks", MASK[None])):
            (root / "qgis" / folder).mkdir(parents=True, exist_ok=True)
            size = {"height": SIDE, "width": SIDE, "count": len(bands), "dtype": "uint8"}
            place = rasterio.Affine(0.2, 0, 500000 + 8 * tile, 0, -0.2, 5e6)
            path = root / "qgis" / folder / f"tile{tile}.tif"
            with rasterio.open(path, "w", transform=place, crs="EPSG:32632", **size) as file:
                file.write(bands)


TOOLS: dict[str, Callable[[Path], None]] = {
    "Labelme": labelme,
    "CVAT": cvat,
    "Roboflow": roboflow,
    "Label Studio": label_studio,
    "QGIS": qgis,
}


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("tool", TOOLS)
def test_the_file_of_a_tool_is_the_one_that_is_shown(
    atrous: Run, tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TOOLS[tool](tmp_path)
    monkeypatch.chdir(tmp_path)
    [command] = blocks(section(tool), "sh")
    [shown] = blocks(section(tool), "yaml")
    assert atrous(*shlex.split(command)[1:]).code == 0
    written = yaml.safe_load(Path("own.yaml").read_text())
    assert written == yaml.safe_load(shown)
    for split in ("train", "valid") if "{split}" in shown else ("train", "val", "all"):
        dataset = open_dataset(f"folder:own.yaml:{split}")
        assert dataset.samples
        for sample in dataset.samples:
            assert sample.label is not None
            assert set(np.unique(dataset.decode(sample.label))) > {0}


def test_every_key_is_described() -> None:
    table = section("Every key")
    described = re.findall(r"^\| (.+?) \|", table, re.MULTILINE)
    keys: list[Any] = [key for cell in described for key in re.findall(r"`(\w+)`", cell)]
    assert sorted(keys) == sorted(Description.model_fields)
