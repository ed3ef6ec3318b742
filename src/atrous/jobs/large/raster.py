"""Image files too large for memory: read in rows, masks written in rows, by GDAL (rasterio)."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.shutil import copy
from rasterio.windows import Window

from atrous.errors import InputError
from atrous.files import unfinished
from atrous.image import Reading
from atrous.labels import LabelSet
from atrous.pictures import tiff
from atrous.pictures.geotiff import GeoRaster, place_of, shrunk
from atrous.pictures.metadata import orientation
from atrous.pictures.opening import UnknownFormat, decoded
from atrous.pictures.samples import Picture
from atrous.stamp import KEY, FileStamp, PixelHash

Pixels = NDArray[np.uint8]

AT_ONCE = 2**26
"""A PNG or JPEG 2000 of up to so many pixels is decoded at once (200 MB)."""

_IN_ROWS = ("JPEG", "PNG", "JPEG2000")
_MODES = ("L", "RGB", "RGBA", "LA", "I;16")
_ROWS = 256
_BLOCK = 512
_CLOUD = {
    "COMPRESS": "DEFLATE", "BLOCKSIZE": _BLOCK, "OVERVIEW_RESAMPLING": "MODE",
    "OVERVIEWS": "IGNORE_EXISTING", "BIGTIFF": "IF_SAFER",
}  # fmt: skip


class FileRaster:
    """An image file of any size, as RGB rows. Use it as a context manager.

    Rows of a TIFF, of a PNG or JPEG 2000 that is large, and of a JPEG over the limit on pixels are
    read as they are asked for. Everything else is decoded as a whole, within that limit.

    Args:
        path: the file.
        reading: how images are read.
        max_pixels: refuse larger images also where rows are read.

    Attributes:
        path: the file.

    Raises:
        InputError: it cannot be read, or is too large to be.
    """

    def __init__(
        self, path: Path, reading: Reading | None = None, max_pixels: int | None = None
    ) -> None:
        self.path = path
        self._reading = reading or Reading()
        self._rows: GeoRaster | None = None
        if _in_rows(path, self._reading.max_pixels, max_pixels):
            taking, notes = self._reading.taking, self._reading.notes
            self._rows = GeoRaster(path, path, taking, notes, max_pixels)
        self._lock = threading.Lock()
        self._known: deque[NDArray[np.bool_] | int] = deque()
        self._seen = 0

    @property
    def height(self) -> int:
        """Rows."""
        return len(self._whole.pixels) if self._rows is None else self._rows.height

    @property
    def width(self) -> int:
        """Columns."""
        return int(self._whole.pixels.shape[1]) if self._rows is None else self._rows.width

    @cached_property
    def _whole(self) -> Picture:
        return self._reading.picture(self.path)

    @property
    def georeferenced(self) -> bool:
        """Whether it says where on Earth it lies."""
        return self._rows is not None and self._rows.georeferenced

    def rows(self, start: int, stop: int) -> Pixels:
        """`(stop - start, width, 3)` uint8 RGB; asked for from top to bottom, with overlaps.

        Raises:
            InputError: the file is damaged there.
        """
        part = self._part(start, stop)
        with self._lock:
            if stop > self._seen:
                new = stop - self._seen
                self._known.append(new if part.valid is None else part.valid[-new:])
                self._seen = stop
        return part.pixels

    def without_data(self, count: int) -> NDArray[np.bool_]:
        """Where the next `count` rows have no data, `(count, width)`; they have been read."""
        result = np.zeros((count, self.width), np.bool_)
        done = 0
        with self._lock:
            while done < count:
                first = self._known.popleft()
                rows = first if isinstance(first, int) else len(first)
                taken = min(rows, count - done)
                if not isinstance(first, int):
                    result[done : done + taken] = ~first[:taken]
                if taken < rows:
                    rest = rows - taken if isinstance(first, int) else first[taken:]
                    self._known.appendleft(rest)
                done += taken
        return result

    def small(self, longest: int) -> Pixels:
        """The whole image, at most `longest` pixels on its longer side."""
        if self._rows is not None:
            return self._rows.small(longest)
        height, width = shrunk(self.height, self.width, longest)
        pixels = self._whole.pixels
        if (height, width) == pixels.shape[:2]:
            return pixels
        shown = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(shown, np.uint8)

    def place(self) -> dict[str, Any]:
        """What of it a mask of the same size keeps, as arguments of `rasterio.open`."""
        return {} if self._rows is None else self._rows.place()

    def tags(self) -> dict[str, str]:
        """Its metadata."""
        return {} if self._rows is None else self._rows.tags()

    def close(self) -> None:
        """Close the file."""
        if self._rows is not None:
            self._rows.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _part(self, start: int, stop: int) -> Picture:
        if self._rows is not None:
            return self._rows.read(start, stop)
        valid = self._whole.valid
        part = None if valid is None else valid[start:stop]
        return Picture(self._whole.pixels[start:stop], part)


def _in_rows(path: Path, at_once: int, max_pixels: int | None) -> bool:
    """Whether a file is read in rows: GDAL makes of it what Pillow would, and it may be large.

    GDAL smooths the colours of a JPEG in another way, so such a file is read in rows only where
    Pillow is not asked at all.
    """
    try:
        return decoded(path, str(path), partial(_readable_in_rows, at_once), max_pixels)
    except UnknownFormat:
        with path.open("rb") as file:
            return tiff.is_tiff(file)  # of more bands than Pillow knows


def _readable_in_rows(at_once: int, picture: Image.Image) -> bool:
    assert isinstance(picture, ImageFile)
    if picture.format == "TIFF":
        assert picture.fp is not None
        tags = tiff.read_tags(picture.fp)
        return tags.plain and tags.orientation == 1
    large = picture.width * picture.height > (at_once if picture.format == "JPEG" else AT_ONCE)
    known = picture.format in _IN_ROWS and picture.mode in _MODES
    return large and known and "transparency" not in picture.info and orientation(picture) == 1


def write_mask(
    path: Path,
    bands: Iterable[Pixels],
    raster: FileRaster,
    labels: LabelSet,
    made_from: str,
    geographic: bool,
) -> None:
    """Write class ids as they come, as a palette image.

    Args:
        path: the file to fill.
        bands: `(h, width)` uint8 class ids from top to bottom.
        raster: the image.
        labels: whose colours become the palette.
        made_from: for the stamp in the file, see `atrous.stamp`.
        geographic: write a TIFF that says where on Earth the image lies and keeps its tags, else a
            PNG.

    Raises:
        InputError: the disk is full, or something else keeps it from being written.
    """
    palette = labels.palette()
    colours = {i: (*palette[3 * i : 3 * i + 3], 255) for i in range(256)}
    profile = {
        "driver": "GTiff", "width": raster.width, "height": raster.height, "count": 1,
        "dtype": "uint8", "photometric": "palette", "compress": "deflate", "bigtiff": "if_safer",
    }  # fmt: skip
    if geographic:
        blocks = {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK}
        profile |= {**blocks, "nodata": labels.ignore_index, **raster.place()}
    rows_name = path.with_name(f"{path.name}.rows")
    try:
        with unfinished(rows_name) as rows, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(rows, "w", **profile) as file:
                file.write_colormap(1, colours)
                top, content = 0, PixelHash(raster.height, raster.width)
                for band in _blocks(bands) if geographic else bands:
                    file.write(band, 1, window=Window(0, top, band.shape[1], len(band)))
                    content.add(band)
                    top += len(band)
                tags = raster.tags() if geographic else {}
                file.update_tags(**{**tags, KEY: str(FileStamp(made_from, content.hexdigest()))})
            if geographic:
                copy(rows, path, driver="COG", **_CLOUD)
            else:
                copy(rows, path, driver="PNG", ZLEVEL=3, WRITE_METADATA_AS_TEXT="YES")
    except RasterioError as error:
        reason = error.__cause__ or error
        raise InputError(f"{raster.path}: its mask cannot be written: {reason}") from None
    finally:
        for beside in (rows_name, Path(f"{path}.aux.xml"), Path(f"{path}.ovr.tmp")):
            beside.unlink(missing_ok=True)


def _blocks(bands: Iterable[Pixels]) -> Iterator[Pixels]:
    """The same rows, as many at a time as a block of the file has."""
    waiting: list[Pixels] = []
    for band in bands:
        waiting.append(band)
        if sum(map(len, waiting)) >= _BLOCK:
            rows = np.concatenate(waiting)
            whole = len(rows) - len(rows) % _BLOCK
            for top in range(0, whole, _BLOCK):
                yield rows[top : top + _BLOCK]
            waiting = [rows[whole:]]
    if waiting and sum(map(len, waiting)):
        yield np.concatenate(waiting)


def stamp_of(path: Path) -> FileStamp | None:
    """The stamp of a mask that was written here and that nobody has changed since, else `None`."""
    driver = "PNG" if path.suffix.lower() == ".png" else "GTiff"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with place_of(path) as place, rasterio.open(place, driver=driver) as file:
                found = FileStamp.parse(str(file.tags().get(KEY, "")))
                if found is None or file.count != 1 or file.dtypes[0] != "uint8":
                    return None
                content = PixelHash(file.height, file.width)
                for top in range(0, file.height, _ROWS):
                    rows = min(_ROWS, file.height - top)
                    content.add(file.read(1, window=Window(0, top, file.width, rows)))
                return found.of(content.hexdigest())
        except Exception:  # GDAL's errors have no class in common
            return None
