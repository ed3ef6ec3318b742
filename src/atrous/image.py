"""Pictures in and out: decode anything a camera or a tool writes, write masks and overlays."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngInfo

from atrous import stamp
from atrous.errors import ConfigError, InputError
from atrous.files import beside, sha256, write_atomic, write_whole
from atrous.formatting import as_percent
from atrous.labels import LabelSet
from atrous.palette import OPACITY
from atrous.pictures import tiff
from atrous.pictures.decode import decode, decode_tiff, jpeg2000_depth
from atrous.pictures.metadata import orientation
from atrous.pictures.opening import (
    MAX_PIXELS,
    UnknownFormat,
    decoded,
    named,
    opened,
    opened_file,
    turn,
)
from atrous.pictures.samples import Notes, Picture, Taking, say_pages
from atrous.stamp import FileStamp

READING = "4"
"""Another one wherever `read` gives other pixels than it did: masks made before are made again."""

_BESIDE = (".msk", ".MSK", ".aux.xml")  # of a raster: its mask, its tags

PAINT = "3"
"""Another one wherever `overlay` paints in another way."""

OVERLAY_SIDE = 2048
"""Pixels of an overlay's longer side, at most."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the pictures of one run are read; what was decided about their samples is said once.

    Attributes:
        taking: how samples are taken where a file does not say.
        max_pixels: refuse images of more pixels than this, before decoding them.
        notes: where decisions are said.
    """

    taking: Taking = field(default_factory=Taking)
    max_pixels: int = MAX_PIXELS
    notes: Notes = field(default_factory=Notes)

    def by_default(self, value_range: tuple[float, float] | None) -> Reading:
        """The same with a range where none is said, as of a network that was made for one."""
        if value_range is None or self.taking.value_range is not None:
            return self
        return replace(self, taking=replace(self.taking, value_range=value_range))

    def __call__(self, path: str | Path) -> NDArray[np.uint8]:
        """`(H, W, 3)` uint8, RGB; as `read`."""
        return self.picture(path).pixels

    def picture(self, source: str | Path | IO[bytes], name: str = "") -> Picture:
        """Read an image as a person would see it, and where it has data.

        The EXIF rotation is applied, colour profiles are converted to sRGB, of more than 8 bits
        the upper ones of the declared depth are kept, grey, inks and Lab become RGB, transparent
        pixels are put on white, and of an animation the first frame is taken. In a TIFF, pixels
        that are fully transparent, masked out or of the value that means no data have none.

        Args:
            source: the file.
            name: what messages call it, by default its path.

        Raises:
            InputError: the file is missing, empty, damaged, too large or not an image, or nobody
                says what its samples mean.
        """
        name = name or str(source)
        source = Path(source) if isinstance(source, str) else source
        try:
            convert = partial(self._converted, source, name)
            return decoded(source, name, convert, self.max_pixels)
        except UnknownFormat:
            with opened_file(source) as file:
                if not tiff.is_tiff(file):
                    raise
                tags = _tags(file, name)
            with named(name):
                return self._tiff(source, name, tags, None)

    def _converted(self, source: Path | IO[bytes], name: str, picture: Image.Image) -> Picture:
        assert isinstance(picture, ImageFile)
        if picture.format == "TIFF":
            assert picture.fp is not None
            tags = _tags(picture.fp, name)
            if tags.pages:
                say_pages(self.notes, name)
            if tags.plain:
                return self._tiff(source, name, tags, picture)
        elif picture.format == "JPEG2000" and jpeg2000_depth(picture) > 8:
            with suppress(ConfigError):
                return self._by_gdal(source, name)
        found = decode(picture, self.taking, self.notes, name)
        return turned(found, orientation(picture))

    def _tiff(
        self, source: Path | IO[bytes], name: str, tags: tiff.Tags, picture: ImageFile | None
    ) -> Picture:
        """By GDAL where it is there, and where it is not as far as Pillow keeps the samples."""
        try:
            return turned(self._by_gdal(source, name), tags.orientation)
        except ConfigError as error:
            masked = isinstance(source, Path) and beside(source, ".msk")
            if picture is None or tags.needs_gdal or masked:
                raise InputError(f"{name}: {error}") from None
            found = decode_tiff(picture, tags, self.taking, self.notes, name)
            return turned(found, orientation(picture))

    def _by_gdal(self, source: Path | IO[bytes], name: str) -> Picture:
        """The stored pixels.

        Raises:
            ConfigError: GDAL is not installed.
        """
        from atrous.pictures.geotiff import GeoRaster

        if not isinstance(source, Path):
            source.seek(0)
        content = source if isinstance(source, Path) else source.read()
        with GeoRaster(content, name, self.taking, self.notes, self.max_pixels) as raster:
            return raster.whole()


_plain = Reading()


def read(
    path: str | Path,
    max_pixels: int = MAX_PIXELS,
    *,
    value_range: tuple[float, float] | None = None,
    bands: tuple[int, ...] | None = None,
) -> NDArray[np.uint8]:
    """Read an image as a person would see it; see `Reading.picture`.

    Args:
        path: the file.
        max_pixels: refuse an image of more pixels than this, before decoding it.
        value_range: see `Taking`.
        bands: see `Taking`.

    Returns:
        `(H, W, 3)` uint8, RGB.

    Raises:
        ConfigError: range or bands are none.
        InputError: see `Reading.picture`.
    """
    return replace(_plain, taking=Taking(value_range, bands), max_pixels=max_pixels)(path)


def content_of(path: Path) -> str:
    """Hash of all that a picture is read from: its file, and what lies beside it and is read too.

    Raises:
        OSError: see `atrous.files.open_file`.
    """
    own, there = sha256(path), [sha256(one) for end in _BESIDE if (one := beside(path, end))]
    return stamp.hashed(own, *there) if there else own


def turned(picture: Picture, stored: int) -> Picture:
    """A picture as it is shown that is stored as an EXIF orientation, 1 to 8, says."""
    if stored == 1:
        return picture
    valid = picture.valid
    if valid is not None:
        valid = turn(valid.view(np.uint8), stored).view(np.bool_)
    return Picture(turn(picture.pixels, stored), valid)


def _tags(file: IO[bytes], name: str) -> tiff.Tags:
    at = file.tell()
    try:
        return tiff.read_tags(file)
    except ValueError as error:
        raise InputError(f"{name}: cannot be read: {error}") from None
    finally:
        file.seek(at)


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
    opacity: float = OPACITY,
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
    opacity: float = OPACITY,
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
    table = np.frombuffer(labels.paint(), np.uint8).reshape(256, 3)
    paint = table[class_map]
    painted = ~np.isin(class_map, labels.unpainted)
    blend = cv2.addWeighted(image, 1 - opacity, paint, opacity, 0)
    result = np.where(painted[:, :, None], blend, image)
    result[_edges(class_map, max(1, round(max(image.shape[:2]) / 400)))] = 255
    result = np.ascontiguousarray(result, dtype=np.uint8)
    return np.vstack([result, _legend(result.shape[1], shares, labels)])


def class_shares(
    class_map: NDArray[np.uint8], valid: NDArray[np.bool_] | None = None
) -> dict[int, float]:
    """Share of the pixels of each class id that occurs, 0–1, the largest first.

    Args:
        class_map: `(H, W)` uint8, class ids.
        valid: `(H, W)` bool: pixels without data do not count.
    """
    counts = np.zeros(256, np.int64)
    flat = class_map.reshape(-1) if valid is None else class_map[valid]
    for start in range(0, flat.size, 2**20):  # bincount widens what it counts to 64 bits
        counts += np.bincount(flat[start : start + 2**20], minlength=256)
    order = np.argsort(-counts, kind="stable")
    return {int(i): float(counts[i] / flat.size) for i in order if counts[i]}


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
    palette = labels.paint()
    rows: list[list[tuple[int, str, tuple[int, int, int]]]] = [[]]
    left, gap = text // 2, text // 2
    for i, share in shares.items():
        label = f"{class_name(labels, i)} {as_percent(share)}"
        colour = (palette[3 * i], palette[3 * i + 1], palette[3 * i + 2])
        if i in labels.unpainted:
            colour = (255, 255, 255)
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
