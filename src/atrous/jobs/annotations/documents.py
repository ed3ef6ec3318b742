"""Regions of a mask as COCO, labelme and GeoJSON have them: plain values for `json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous.errors import ConfigError, InputError
from atrous.image import class_name
from atrous.labels import LabelSet
from atrous.pictures import tiff
from atrous.regions import Piece, pieces, regions

Pixels = NDArray[np.uint8]

LEAST, TOLERANCE = 16, 1.0
"""Of outlines to be edited by hand: pixels of the smallest region, and of what may be smoothed."""


def category_id(labels: LabelSet, class_id: int) -> int:
    """COCO counts categories from 1: a background has no category, else ids are one higher."""
    return class_id + (labels.names[0] != "background")


def coco_categories(labels: LabelSet) -> list[dict[str, Any]]:
    """All classes but a background."""
    return [
        {"id": category_id(labels, i), "name": name, "supercategory": ""}
        for i, name in enumerate(labels.names)
        if i not in labels.unpainted
    ]


def coco_annotations(class_map: Pixels, labels: LabelSet) -> list[dict[str, Any]]:
    """One for each region, its pixels as compressed runs; without `id` and `image_id`."""
    found = []
    for piece in pieces(class_map, labels):
        left, top, right, bottom = piece.box
        found.append(
            {
                "category_id": category_id(labels, piece.class_id),
                "segmentation": {
                    "size": list(class_map.shape),
                    "counts": compressed(_runs(piece, *class_map.shape)),
                },
                "area": piece.area,
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 0,
            }
        )
    return found


def labelme(class_map: Pixels, labels: LabelSet, picture: str) -> dict[str, Any]:
    """A file of labelme to begin with, instead of an empty picture.

    Args:
        class_map: `(H, W)` uint8, class ids.
        labels: names of the classes.
        picture: path of the picture, from the folder of the file.
    """
    height, width = class_map.shape
    found = regions(class_map, labels, min_area=LEAST, tolerance=TOLERANCE)
    shapes: list[dict[str, Any]] = [
        {
            "label": region.name,
            "points": [[float(x), float(y)] for x, y in region.polygon],
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for region in found
    ]
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": picture,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def geojson(class_map: Pixels, labels: LabelSet, picture: Path) -> dict[str, Any]:
    """Regions as polygons, holes and all, in the coordinates of the picture.

    Raises:
        InputError: the picture does not say where on Earth it lies, is stored turned, or its
            tags are damaged.
        ConfigError: rasterio is not installed.
    """
    try:
        import rasterio
        from rasterio.features import shapes
    except ImportError:
        raise ConfigError(
            "GeoJSON needs rasterio, not installed: pip install 'atrous[large]'"
        ) from None
    from atrous.pictures.geotiff import place_of

    with picture.open("rb") as file:
        if not tiff.is_tiff(file):
            raise InputError(f"{picture}: {_NOWHERE}")
        try:
            turned = tiff.read_tags(file).orientation != 1
        except ValueError as error:
            raise InputError(f"{picture}: cannot be read: {error}") from None
    with place_of(picture) as place, rasterio.open(place) as raster:
        crs, transform, shape = raster.crs, raster.transform, raster.shape
    if crs is None or transform.is_identity:
        raise InputError(f"{picture}: {_NOWHERE}")
    if turned or shape != class_map.shape:
        raise InputError(f"{picture}: is stored turned; GeoJSON takes pictures that are upright")
    inside = ~np.isin(class_map, labels.unpainted)
    features = [
        {
            "type": "Feature",
            "properties": {"id": int(value), "class": class_name(labels, int(value))},
            "geometry": {"type": geometry["type"], "coordinates": geometry["coordinates"]},
        }
        for geometry, value in shapes(class_map, inside, connectivity=4, transform=transform)
    ]
    authority = crs.to_authority()
    name = f"urn:ogc:def:crs:{authority[0]}::{authority[1]}" if authority else crs.to_wkt()
    return {
        "type": "FeatureCollection",
        "name": picture.stem,
        "crs": {"type": "name", "properties": {"name": name}},
        "features": features,
    }


_NOWHERE = (
    "does not say where on Earth it lies (no coordinate system and transform of a GeoTIFF), which "
    "GeoJSON needs; coco and labelme have pixels"
)


def compressed(runs: list[int]) -> str:
    """Lengths of runs as pycocotools writes them: differences in pieces of 5 bits."""
    text = bytearray()
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        while True:
            piece, value = value & 0x1F, value >> 5
            more = value != (-1 if piece & 0x10 else 0)
            text.append((piece | 0x20 * more) + 48)
            if not more:
                break
    return text.decode("ascii")


def _runs(piece: Piece, height: int, width: int) -> list[int]:
    """Lengths of the runs outside and inside a piece in turn, down one column after the other."""
    padded = np.pad(piece.pixels.T, ((0, 0), (1, 1))).view(np.int8)
    change = np.diff(padded, axis=1)
    across, starts = np.nonzero(change == 1)
    ends = np.nonzero(change == -1)[1]
    base = (across + piece.left) * height + piece.top
    edges = np.stack([base + starts, base + ends], 1).reshape(-1)
    lengths = np.diff(edges, prepend=0, append=height * width).tolist()
    joined: list[int] = []
    # A run that goes on at the top of the next column is one with it.
    skip = False
    for i, length in enumerate(lengths):
        if skip:
            joined[-1] += length
            skip = False
        elif length == 0 and 0 < i < len(lengths) - 1:
            skip = True
        else:
            joined.append(length)
    return joined[:-1] if joined[-1] == 0 else joined
