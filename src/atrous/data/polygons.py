"""Outlines that labelling tools keep in JSON, drawn as masks: COCO files and labelme folders."""

from __future__ import annotations

import base64
import binascii
import io
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous import image, limits, texts
from atrous.data.image_paths import Reference, located
from atrous.errors import ConfigError, InputError
from atrous.labels import LabelSet, named
from atrous.pictures.opening import MAX_PIXELS, decoded

_log = logging.getLogger("atrous")

BACKGROUND = "background"
IGNORED = ("__ignore__", "ignore")
NOTHING = ("_background_", BACKGROUND)

Pixels = NDArray[np.uint8]
Paint = Callable[[Pixels, int], None]
"""Draws one shape into a mask, as this value."""


class NoArea(InputError):
    """A shape that covers nothing, as a point or a line."""


@dataclass(frozen=True)
class Shape:
    """One outline.

    Attributes:
        name: of its class.
        paint: draws it.
    """

    name: str
    paint: Paint


@dataclass(frozen=True)
class Outlined:
    """One image and its shapes, in the order of the file.

    Attributes:
        image: how it is named.
        size: height and width.
        shapes: later ones lie on earlier ones.
    """

    image: Reference
    size: tuple[int, int]
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Drawn:
    """What became of annotations.

    Attributes:
        masks: written.
        labels: their classes.
        failed: images or files of annotations without a mask, one line each.
        left_out: kinds of shapes that cover nothing → how many.
        images: folder of the images, `None` if it was not found.
    """

    masks: tuple[Path, ...]
    labels: LabelSet
    failed: tuple[str, ...]
    left_out: Counter[str]
    images: Path | None


def draw(
    annotations: Path,
    target: Path,
    *,
    classes: Sequence[str] = (),
    background: bool = True,
    images: Path | None = None,
    force: bool = False,
) -> Drawn:
    """Draw the masks of a COCO file or of a folder of labelme files.

    Args:
        annotations: the JSON file, or the folder with one for each image.
        target: folder of the masks, palette PNGs of class ids, called as the images.
        classes: their order, the background left out; by default that of the file.
        background: pixels outside all shapes are class 0; else they are ignored, 255.
        images: folder of the images, by default looked for around the annotations.
        force: replace masks that are there.

    Raises:
        ConfigError: these are no annotations, name a class that `classes` has not, or a mask is
            there already.
    """
    failed: list[str] = []
    if annotations.is_dir():
        outlined, found = _labelme(annotations, failed)
    else:
        outlined, found = _one_file(annotations, failed)
    if not outlined:
        raise ConfigError(f"{annotations}: " + (failed[0] if failed else "no image in it"))
    known = (*IGNORED, *NOTHING) if background else IGNORED
    names = list(classes) or [name for name in found if name not in known]
    strange = [name for name in found if name not in (*names, *known)]
    if strange:
        raise ConfigError(
            f"{annotations}: the class {strange[0]!r} is not among {', '.join(names)}; name all of "
            "them in `classes`"
        )
    if not names:
        raise ConfigError(f"{annotations}: no class in it")
    names = [BACKGROUND, *names] if background else names
    if twice := next((name for name in names if names.count(name) > 1), None):
        why = ", which is class 0 by itself," if background and twice == BACKGROUND else ""
        raise ConfigError(f"`classes`: {twice}{why} occurs twice; name each class once")
    labels = named(names)
    values = {name: i for i, name in enumerate(labels.names)}
    empty = 0 if background else labels.ignore_index
    values |= dict.fromkeys(IGNORED, labels.ignore_index)
    values |= dict.fromkeys(NOTHING, 0) if background else {}
    folder, images_below = located([one.image for one in outlined], annotations, images)
    places = _places(images_below, target)
    there = [path for path in places if path.exists()]
    if there and not force:
        raise ConfigError(f"{there[0]} is there already; take another folder, or force it")
    left_out: Counter[str] = Counter()
    written = []
    for one, name, place in zip(outlined, images_below, places, strict=True):
        try:
            mask = _mask(one, values, empty, left_out)
        except InputError as error:
            failed.append(f"{name}: {error}")
            continue
        image.write_mask(place, mask, labels)
        written.append(place)
    return Drawn(tuple(written), labels, tuple(failed), left_out, folder)


def _mask(one: Outlined, values: Mapping[str, int], empty: int, left_out: Counter[str]) -> Pixels:
    height, width = one.size
    if min(one.size) < 1 or height * width > MAX_PIXELS:
        raise InputError(f"{width}×{height} pixels, expected 1..{MAX_PIXELS}")
    mask = np.full(one.size, empty, np.uint8)
    for shape in one.shapes:
        try:
            shape.paint(mask, values[shape.name])
        except NoArea as error:
            left_out[str(error)] += 1
    return mask


def _places(names: Sequence[PurePosixPath], target: Path) -> list[Path]:
    """`a.png` for `a.jpg`; `a.jpg.png` where two images are called alike but for their endings."""
    stems = Counter(name.with_suffix("") for name in names)
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ConfigError(f"the image {twice} is annotated twice; keep one")
    return [
        target / (f"{name}.png" if stems[name.with_suffix("")] > 1 else name.with_suffix(".png"))
        for name in names
    ]


def _one_file(path: Path, failed: list[str]) -> tuple[list[Outlined], list[str]]:
    content = _json(path)
    if _is_coco(content):
        return _coco(content, path, failed)
    if isinstance(content, Mapping) and "shapes" in content:
        one = _labelme_file(path, path.parent)
        return [one], list(dict.fromkeys(shape.name for shape in one.shapes))
    raise ConfigError(
        f"{path}: expected a COCO file (images, annotations, categories) or one of labelme (shapes)"
    )


def _is_coco(content: Any) -> bool:
    return isinstance(content, Mapping) and {"annotations", "images"} <= content.keys()


def _json(path: Path) -> Any:
    try:
        return texts.read_json(path, limits.memory())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not readable JSON: {error}") from None


def _coco(
    content: Mapping[str, Any], path: Path, failed: list[str]
) -> tuple[list[Outlined], list[str]]:
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError:
        raise ConfigError(
            "COCO files need pycocotools, not installed: pip install 'atrous[coco]'"
        ) from None
    try:
        categories = {int(one["id"]): str(one["name"]) for one in content.get("categories") or []}
        above = {str(one.get("supercategory")) for one in content.get("categories") or []}
        used = {int(one["category_id"]) for one in content["annotations"]}
        if strange := used - categories.keys():
            raise ConfigError(f"{path}: no category of the id {min(strange)}")
        # Roboflow puts the name of the whole project first, as a category that nothing has.
        names = [n for i, n in categories.items() if i in used or not (i == 0 and n in above)]
        by_image: dict[Any, list[Shape]] = {one["id"]: [] for one in content["images"]}
        lost = 0
        for one in content["annotations"]:
            shapes = by_image.get(one["image_id"])
            if shapes is None:
                lost += 1
                continue
            shapes.append(
                Shape(categories[int(one["category_id"])], _coco_paint(one.get("segmentation")))
            )
        outlined = [
            Outlined(
                Reference.of(str(one["file_name"])),
                (int(one["height"]), int(one["width"])),
                tuple(by_image[one["id"]]),
            )
            for one in content["images"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: not a COCO file: {type(error).__name__}: {error}") from None
    if lost and outlined:
        failed.append(f"{path}: {lost} annotations are of images that it does not list")
    return outlined, list(dict.fromkeys(names))


def _coco_paint(segmentation: Any) -> Paint:
    def paint(mask: Pixels, value: int) -> None:
        if not segmentation:
            raise NoArea("boxes without an outline")
        from pycocotools import mask as coco

        height, width = mask.shape
        try:
            if isinstance(segmentation, list):
                flat = isinstance(segmentation[0], (int, float))
                outlines = [segmentation] if flat else segmentation
                parts = [part for part in outlines if len(part) >= 6]
                if not parts:
                    raise NoArea("outlines of fewer than three corners")
                runs = coco.merge(coco.frPyObjects(parts, height, width))
            elif isinstance(segmentation["counts"], list):
                runs = coco.frPyObjects(segmentation, height, width)
            else:
                runs = segmentation
            if tuple(runs["size"]) != (height, width):
                raise InputError(f"a run-length mask of the size {runs['size']}")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy, by its wrapper
                inside = coco.decode(runs)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"an outline that cannot be read: {error}") from None
        mask[inside.astype(bool)] = value

    return paint


def _labelme(folder: Path, failed: list[str]) -> tuple[list[Outlined], list[str]]:
    found: list[Outlined] = []
    paths = sorted(folder.rglob("*.json"))
    if not paths:
        raise ConfigError(f"{folder}: no JSON file in it")
    for path in paths:
        try:
            found.append(_labelme_file(path, folder))
        except ConfigError as error:
            failed.append(str(error))
    names = sorted({shape.name for one in found for shape in one.shapes})
    return found, names


def _labelme_file(path: Path, folder: Path) -> Outlined:
    content = _json(path)
    if not isinstance(content, Mapping) or "shapes" not in content:
        if _is_coco(content):
            raise ConfigError(f"{path}: a COCO file; name it, and not the folder that it is in")
        raise ConfigError(f"{path}: not a file of labelme: no shapes in it")
    try:
        written = str(content.get("imagePath") or f"{path.stem}.jpg")
        found = Reference.beside(written, path, folder)
        height, width = content.get("imageHeight"), content.get("imageWidth")
        if not height or not width:
            height, width = _shown_size(found.file or path.parent / written)
        shapes = tuple(Shape(str(one["label"]), _labelme_paint(one)) for one in content["shapes"])
        return Outlined(found, (int(height), int(width)), shapes)
    except (KeyError, TypeError, ValueError, InputError) as error:
        raise ConfigError(f"{path}: not a file of labelme: {error}") from None


def _shown_size(path: Path) -> tuple[int, int]:
    height, width, _ = image.read(path).shape
    return height, width


def _labelme_paint(shape: Mapping[str, Any]) -> Paint:
    kind = str(shape.get("shape_type") or "polygon")
    points = np.array(shape["points"], float).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise ValueError("corners that are not numbers")
    encoded = shape.get("mask")

    def paint(mask: Pixels, value: int) -> None:
        if kind == "mask" and encoded:
            _paste(mask, value, str(encoded), points)
        elif kind in ("rectangle", "mask") and len(points) == 2:
            (left, top), (right, bottom) = points.min(0), points.max(0)
            _fill(mask, value, [[left, top], [right, top], [right, bottom], [left, bottom]])
        elif kind == "circle" and len(points) == 2:
            radius = float(np.hypot(*(points[1] - points[0])))
            turns = np.linspace(0, 2 * np.pi, 180, endpoint=False)
            around = np.stack([np.cos(turns), np.sin(turns)], 1)
            _fill(mask, value, points[0] + radius * around)
        elif kind in ("polygon", "oriented_rectangle") and len(points) >= 3:
            _fill(mask, value, points)
        else:
            raise NoArea(f"{kind} of {len(points)} corners")

    return paint


def _fill(mask: Pixels, value: int, points: Any) -> None:
    """Fill an outline; a pixel belongs to it if its centre lies inside."""
    (x, y), (x2, y2) = np.asarray(points, float).T, np.roll(points, -1, axis=0).T
    height, width = mask.shape
    first, last = max(0, int(min(y.min(), height))), min(height, int(max(y.max(), -1)) + 1)
    for row in range(first, last):
        crossed = (y <= row + 0.5) != (y2 <= row + 0.5)
        share = (row + 0.5 - y[crossed]) / (y2 - y)[crossed]
        ends = np.ceil(np.sort(x[crossed] + share * (x2 - x)[crossed]) - 0.5).clip(0, width)
        for left, right in ends.astype(int).reshape(-1, 2).tolist():
            mask[row, left:right] = value


def _paste(mask: Pixels, value: int, encoded: str, points: NDArray[np.float64]) -> None:
    """Put labelme's picture of a shape at its box."""
    try:
        data = base64.b64decode(encoded)
    except (binascii.Error, ValueError):
        raise InputError("a mask that cannot be read") from None
    inside = decoded(io.BytesIO(data), "a mask", lambda one: np.asarray(one.convert("L")) > 0)
    left, top = (round(value) for value in points.min(0).tolist())
    part = mask[max(0, top) : top + inside.shape[0], max(0, left) : left + inside.shape[1]]
    cut = inside[max(0, -top) :, max(0, -left) :][: part.shape[0], : part.shape[1]]
    part[: cut.shape[0], : cut.shape[1]][cut] = value
