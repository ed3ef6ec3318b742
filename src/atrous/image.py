"""Pictures in and out: decode anything a camera or a tool writes, write masks and overlays."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from atrous import stamp
from atrous.files import write_atomic, write_whole
from atrous.labels import LabelSet
from atrous.opening import MAX_PIXELS, decoded, opened, upright
from atrous.stamp import FileStamp

READING = "2"
"""Another one wherever `read` gives other pixels than it did: masks made before are made again."""

PAINT = "2"
"""Another one wherever `overlay` paints in another way."""

OVERLAY_SIDE = 2048
"""Pixels of an overlay's longer side, at most."""

_SIXTEEN_BIT = {"I;16", "I;16L", "I;16B", "I;16N"}


def read(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read an image as a person would see it.

    The EXIF rotation is applied, 16-bit images keep their upper 8 bits, grey and CMYK images are
    converted, transparent pixels are put on white, and of an animation the first frame is taken.

    Args:
        path: the file.
        max_pixels: refuse an image of more pixels than this, before decoding it.

    Returns:
        `(H, W, 3)` uint8, RGB.

    Raises:
        InputError: the file is missing, empty, damaged, too large or not an image.
    """
    return decoded(path, str(path), pixels, max_pixels)


def pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """`(H, W, 3)` uint8 RGB of an opened picture, as `read` describes it."""
    return np.asarray(as_rgb(upright(picture)))


def as_rgb(picture: Image.Image) -> Image.Image:
    """Any opened image as 8-bit RGB: transparency over white, 16-bit grey by its upper byte.

    Raises:
        ValueError: its pixels have no agreed range.
    """
    if picture.mode in _SIXTEEN_BIT or picture.mode == "I":
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"grey values {values.min()}..{values.max()}, expected 16 bits")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no agreed range; convert it to 8 or 16 bits")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema() != (255, 255):
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def write_mask(
    path: Path, class_map: NDArray[np.uint8], labels: LabelSet, made_from: str = ""
) -> None:
    """Write a class map as a palette PNG: the pixel values are the class ids.

    Args:
        path: the file to make, whole or not at all.
        class_map: `(H, W)` uint8, class ids.
        labels: whose colours become the palette.
        made_from: for the stamp in the file, see `atrous.stamp`; without it there is none.
    """
    picture = Image.fromarray(class_map, mode="P")
    picture.putpalette(labels.palette())
    info = PngInfo()
    if made_from:
        info.add_text(stamp.KEY, str(FileStamp(made_from, stamp.of_pixels(class_map))))
    write_atomic(
        path, lambda file: picture.save(file, format="PNG", compress_level=3, pnginfo=info)
    )


def mask_stamp(path: Path) -> FileStamp | None:
    """The stamp of a mask that `write_mask` wrote and nobody has changed since, else `None`."""
    try:
        with opened(path, None) as mask:
            found = FileStamp.parse(str(mask.info.get(stamp.KEY, "")))
            if found is None or mask.mode != "P":
                return None
            return found.of(stamp.of_pixels(np.asarray(mask)))
    except Exception:  # whatever its reader raises
        return None


def write_overlay(
    path: Path,
    image: NDArray[np.uint8],
    class_map: NDArray[np.uint8],
    labels: LabelSet,
    opacity: float = 0.5,
    shares: dict[int, float] | None = None,
    made_from: str = "",
) -> None:
    """Write `overlay` as a JPEG, whole or not at all, with a stamp as `write_mask` does."""
    picture = Image.fromarray(overlay(image, class_map, labels, opacity, shares))
    content = BytesIO()
    picture.save(content, format="JPEG", quality=90)
    data = content.getvalue()
    write_whole(path, stamp.stamp_jpeg(data, made_from) if made_from else data)


def overlay(
    image: NDArray[np.uint8],
    class_map: NDArray[np.uint8],
    labels: LabelSet,
    opacity: float = 0.5,
    shares: dict[int, float] | None = None,
) -> NDArray[np.uint8]:
    """Paint the classes over the image, outline them, and put a legend under it.

    The background (class 0 of a set that has one) stays unpainted. Images larger than 2048 pixels
    are shown smaller: an overlay is to look at, the mask has every pixel.

    Args:
        image: `(H, W, 3)` uint8, RGB.
        class_map: `(H, W)` uint8, class ids.
        labels: names and colours.
        opacity: of the paint, 0–1.
        shares: for the legend, by default those of `class_map`.

    Returns:
        `(H', W', 3)` uint8, RGB.
    """
    shares = class_shares(class_map) if shares is None else shares
    longer = max(image.shape[:2])
    if longer > OVERLAY_SIDE:
        scale = OVERLAY_SIDE / longer
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        class_map = cv2.resize(class_map, size, interpolation=cv2.INTER_NEAREST).astype(
            np.uint8, copy=False
        )
    table = np.frombuffer(labels.palette(), np.uint8).reshape(256, 3)
    paint = table[class_map]
    unpainted = [labels.ignore_index]
    if labels.names[0] == "background":
        unpainted.append(0)
    painted = ~np.isin(class_map, unpainted)
    blend = cv2.addWeighted(image, 1 - opacity, paint, opacity, 0)
    result = np.where(painted[:, :, None], blend, image)
    result[_edges(class_map, max(1, round(max(image.shape[:2]) / 400)))] = 255
    result = np.ascontiguousarray(result, dtype=np.uint8)
    return np.vstack([result, _legend(result.shape[1], shares, labels)])


def class_shares(class_map: NDArray[np.uint8]) -> dict[int, float]:
    """Share of the pixels of each class id that occurs, 0–1, the largest first."""
    counts = np.zeros(256, np.int64)
    flat = class_map.reshape(-1)
    for start in range(0, flat.size, 2**20):  # bincount widens what it counts to 64 bits
        counts += np.bincount(flat[start : start + 2**20], minlength=256)
    order = np.argsort(-counts, kind="stable")
    return {int(i): float(counts[i] / class_map.size) for i in order if counts[i]}


def class_name(labels: LabelSet, class_id: int) -> str:
    """What a pixel value of a class map means, also for values that are no class."""
    if class_id < labels.num_classes:
        return labels.names[class_id]
    return "ignored" if class_id == labels.ignore_index else f"class {class_id}"


def _edges(class_map: NDArray[np.uint8], thickness: int) -> NDArray[np.bool_]:
    """`(H, W)` bool: pixels within `thickness` of another class."""
    kernel = np.ones((thickness + 1, thickness + 1), np.uint8)
    return np.asarray(cv2.dilate(class_map, kernel) != cv2.erode(class_map, kernel))


def _legend(width: int, shares: dict[int, float], labels: LabelSet) -> NDArray[np.uint8]:
    """A strip of `width` pixels: a swatch, a name and a share for every class."""
    text = max(12, min(28, width // 36))
    font = ImageFont.load_default(size=text)
    palette = labels.palette()
    rows: list[list[tuple[int, str, tuple[int, int, int]]]] = [[]]
    left, gap = text // 2, text // 2
    for i, share in shares.items():
        label = f"{class_name(labels, i)} {share:.1%}"
        colour = (palette[3 * i], palette[3 * i + 1], palette[3 * i + 2])
        needed = text + gap + round(font.getlength(label)) + 2 * gap
        if left + needed > width and rows[-1]:
            rows.append([])
            left = text // 2
        rows[-1].append((left, label, colour))
        left += needed
    line = round(text * 1.6)
    strip = Image.new("RGB", (width, line * len(rows) + gap), (255, 255, 255))
    draw = ImageDraw.Draw(strip)
    for number, row in enumerate(rows):
        top = gap // 2 + number * line
        for at, label, colour in row:
            box = (at, top + (line - text) // 2, at + text, top + (line + text) // 2)
            draw.rectangle(box, fill=colour, outline=(90, 90, 90))
            draw.text(
                (at + text + gap, top + line // 2), label, fill=(20, 20, 20), font=font, anchor="lm"
            )
    return np.asarray(strip)


def photograph() -> NDArray[np.uint8]:
    """A photograph of a cat that ships in the package: `(300, 451, 3)` uint8, RGB."""
    return read(Path(__file__).parent / "assets" / "photograph.jpg")
