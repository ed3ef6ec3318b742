"""Rasters of any size by GDAL (rasterio): read in rows, with what is data and where it lies."""

from __future__ import annotations

import base64
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from atrous.errors import ConfigError, InputError
from atrous.files import beside
from atrous.pictures import formats, tiff
from atrous.pictures.metadata import jpeg2000_profile
from atrous.pictures.opening import check_size
from atrous.pictures.samples import (
    Meaning,
    Notes,
    Picture,
    Pixels,
    Taking,
    is_empty,
    look,
    opaque_value,
    say_no_transparency,
    say_pages,
)
from atrous.pictures.shown import to_picture

os.environ.setdefault("CPL_LOG", os.devnull)  # GDAL prints what it also reports

try:
    import rasterio
    from rasterio.enums import ColorInterp, MaskFlags, Resampling
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.io import MemoryFile
    from rasterio.windows import Window
except ImportError as error:
    raise ConfigError(
        "tiles, and TIFFs of this kind, need rasterio, not installed: pip install 'atrous[large]'"
    ) from error

logging.getLogger("rasterio").addHandler(logging.NullHandler())  # what fails is an error here

_PICTURES = ("JPEG", "PNG", "JP2OpenJPEG")
_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
_ROWS = 512
_LOOK = 512  # pixels of the longer side that decide what samples mean
_NOT_RGB = {5: "inks (CMYK)", 8: "Lab", 9: "Lab", 10: "Lab"}


class GeoRaster:
    """A raster, as RGB rows. Use it as a context manager.

    Args:
        source: a file, or its content.
        name: of it, in messages.
        taking: how samples are taken where the file does not say.
        notes: where decisions are said.
        max_pixels: refuse a larger one.

    Attributes:
        height: rows.
        width: columns.

    Raises:
        InputError: it cannot be read, is too large, or its samples have no agreed range.
    """

    def __init__(
        self,
        source: Path | bytes,
        name: object,
        taking: Taking,
        notes: Notes,
        max_pixels: int | None = None,
    ) -> None:
        self._name, self._taking, self._notes = name, taking, notes
        self._held, called = ExitStack(), ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            try:
                driver = _driver(source)
                if isinstance(source, bytes):
                    memory = self._held.enter_context(MemoryFile(source))
                    called = memory.name
                    file = memory.open(driver=driver)
                else:
                    _check_beside(source)
                    place = self._held.enter_context(place_of(source))
                    called = str(place)
                    file = rasterio.open(place, driver=driver)
                self._file = self._held.enter_context(file)
            except InputError:
                raise
            except Exception as error:  # GDAL's errors have no class in common
                self._held.close()
                reason = _without_name(error, called)
                raise InputError(f"{name}: not an image that GDAL can read: {reason}") from None
        self.height, self.width = int(self._file.height), int(self._file.width)
        try:
            check_size((self.width, self.height), str(name), max_pixels)
            try:
                self._understand(source)
            except InputError:
                raise
            except Exception:  # of a tag that it leaves out GDAL complains once
                self._understand(source)
        except InputError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise InputError(f"{name}: cannot be read: {error}") from None

    @property
    def georeferenced(self) -> bool:
        """Whether it says where on Earth it lies."""
        file = self._file
        return bool(file.crs or file.gcps[0] or file.rpcs or not file.transform.is_identity)

    def read(self, start: int, stop: int) -> Picture:
        """Rows `start` to `stop - 1`.

        Raises:
            InputError: the file is damaged there.
        """
        window = Window(0, start, self.width, stop - start)
        mask = self._mask(window=window) if self._masked else None
        return self._picture(self._stored(window=window), mask)

    def whole(self) -> Picture:
        """All rows, read and understood some at a time, which takes less memory."""
        pixels = np.empty((self.height, self.width, 3), np.uint8)
        valid: NDArray[np.bool_] | None = None
        for top in range(0, self.height, _ROWS):
            bottom = min(top + _ROWS, self.height)
            part = self.read(top, bottom)
            pixels[top:bottom] = part.pixels
            if part.valid is not None:
                if valid is None:
                    valid = np.ones((self.height, self.width), np.bool_)
                valid[top:bottom] = part.valid
        return Picture(pixels, valid)

    def small(self, longest: int) -> Pixels:
        """The whole image, at most `longest` pixels on its longer side."""
        height, width = shrunk(self.height, self.width, longest)
        how = Resampling.average if self._meaning.palette is None else Resampling.nearest
        shape = (len(self._bands), height, width)
        return self._picture(self._stored(out_shape=shape, resampling=how), None).pixels

    def place(self) -> dict[str, Any]:
        """What of it a mask of the same size keeps, as arguments of `rasterio.open`."""
        gcps, gcps_crs = self._file.gcps
        kept = {
            "crs": gcps_crs if gcps else self._file.crs,
            "transform": None if self._file.transform.is_identity else self._file.transform,
            "gcps": gcps or None,
            "rpcs": self._file.rpcs,
        }
        return {name: value for name, value in kept.items() if value is not None}

    def tags(self) -> dict[str, str]:
        """Its metadata."""
        return dict(self._file.tags())

    def close(self) -> None:
        """Close the file."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _understand(self, source: Path | bytes) -> None:
        """Decide which bands are read and what they mean."""
        file, tags = self._file, self._tags(source)
        if len(set(file.dtypes)) > 1:
            raise InputError(
                f"{self._name}: bands are of different types ({', '.join(file.dtypes)}); convert "
                "them to one"
            )
        other = _NOT_RGB.get(tags.photometric) if tags else None
        if other and ColorInterp.red not in file.colorinterp and self._taking.bands is None:
            raise InputError(
                f"{self._name}: {file.count} bands of {file.dtypes[0]} that are {other}, which are "
                "not read; convert it to RGB, or name the `bands` to take as they are"
            )
        if tags is not None and tags.pages:
            say_pages(self._notes, self._name)
        bits = file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
        stored = 8 * np.dtype(file.dtypes[0]).itemsize
        # A damaged tag names more bits than are stored.
        high = min(tags.high if tags else 2 ** int(bits or stored) - 1, 2**stored - 1)
        flags = file.mask_flag_enums[0]
        self._masked = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        picture = file.driver in _PICTURES
        self._meaning = Meaning(
            high=high,
            inverted=file.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES",
            palette=self._palette(tags),
            marks=not picture,
            nodata=None if picture else file.nodatavals[0],
            profile=self._profile(source),
            premultiplied=tags is not None and tags.premultiplied,
        )
        self._bands = self._chosen()
        look(self._sample(self._bands), self._meaning, self._taking, self._notes, self._name)

    def _tags(self, source: Path | bytes) -> tiff.Tags | None:
        if self._file.driver != "GTiff":
            return None
        try:
            with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
                return tiff.read_tags(file)
        except (OSError, ValueError):
            return None  # GDAL made something of it

    def _chosen(self) -> tuple[int, ...]:
        """Numbers of the bands that are read: grey, an index or RGB, and transparency behind."""
        file = self._file
        palette = self._meaning.palette
        asked = self._taking.chosen(file.count if palette is None else 3, self._name)
        if palette is not None:
            if asked is not None:  # colours, as of any picture with a palette
                if len(asked) in (2, 4):
                    raise InputError(
                        f"{self._name}: has a palette, of which no colour is transparency; name "
                        f"one band or three as `bands`, not {len(asked)}"
                    )
                self._meaning = replace(
                    self._meaning, palette=palette[:, [*asked] * (3 // len(asked))]
                )
            return (1,)
        if asked is not None:
            if len(asked) in (2, 4):
                self._transparency(asked[-1] + 1, asked=True)
            return tuple(band + 1 for band in asked)
        kinds = list(file.colorinterp)
        tagged = [band for band, kind in enumerate(kinds, 1) if kind is ColorInterp.alpha]
        others = [band for band in range(1, file.count + 1) if band not in tagged]
        if not others:
            return (1,)
        alpha = next((band for band in tagged if self._transparency(band)), None)
        behind = () if alpha is None else (alpha,)
        if all(colour in kinds for colour in _COLOURS):
            return (*(kinds.index(colour) + 1 for colour in _COLOURS), *behind)
        colours = tuple(others[:3]) if len(others) >= 3 else (others[0],)
        if len(others) not in (1, 3):
            self._notes.say(
                "bands",
                f"{self._name}: has {file.count} bands and does not say which are colours: "
                + (
                    "{}, {} and {} are taken as red, green and blue".format(*colours)
                    if len(colours) == 3
                    else f"{colours[0]} is taken as grey"
                )
                + "; `bands` takes others",
            )
        return (*colours, *behind)

    def _transparency(self, band: int, asked: bool = False) -> bool:
        """Whether a band is transparency, by its values; says so where its tag says otherwise."""
        high = self._meaning.high
        values = self._sample((band,))
        opaque = opaque_value(values, high)
        if opaque is None and not asked:
            others = tuple(other for other in range(1, self._file.count + 1) if other != band)
            asked = is_empty(values, self._sample(others))
        filled = not self._meaning.marks and bool(values.any())
        if opaque is None and (asked or self._meaning.premultiplied or filled):
            opaque = high
        if opaque is not None:
            self._meaning = replace(self._meaning, alpha=True, opaque=opaque)
            return True
        say_no_transparency(self._notes, self._name, band, values)
        return False

    def _palette(self, tags: tiff.Tags | None) -> Pixels | None:
        file = self._file
        indexed = file.colorinterp[0] is ColorInterp.palette
        if not (indexed if tags is None else tags.indexed):
            return None
        table = np.zeros((256 if file.dtypes[0] == "uint8" else 65536, 3), np.uint8)
        try:
            colours = file.colormap(1)
        except ValueError:
            return None
        for value, colour in colours.items():
            table[value] = colour[:3]
        return table

    def _profile(self, source: Path | bytes) -> bytes:
        if self._file.driver == "JP2OpenJPEG":
            with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
                return jpeg2000_profile(file)
        text = self._file.tags(ns="COLOR_PROFILE").get("SOURCE_ICC_PROFILE", "")
        try:
            return base64.b64decode(text)
        except ValueError:
            return b"damaged"

    def _sample(self, bands: tuple[int, ...]) -> NDArray[Any]:
        """Evenly spread pixels of some bands, `(C, h, w)`."""
        height, width = shrunk(self.height, self.width, _LOOK)
        return self._stored(bands, out_shape=(len(bands), height, width))

    def _stored(self, bands: tuple[int, ...] | None = None, **how: Any) -> NDArray[Any]:
        return self._try(lambda: self._file.read(bands or self._bands, **how))

    def _mask(self, **how: Any) -> NDArray[Any]:
        return self._try(lambda: self._file.read_masks(1, **how))

    def _try(self, read: Callable[[], Any]) -> NDArray[Any]:
        try:
            return np.asarray(read())
        except Exception as error:
            reason = _without_name(error.__cause__ or error, self._file.name)
            raise InputError(f"{self._name}: cannot be read: {reason}") from None

    def _picture(self, stored: NDArray[Any], mask: NDArray[Any] | None) -> Picture:
        return to_picture(stored, self._meaning, self._taking, self._notes, self._name, mask)


@contextmanager
def place_of(path: Path) -> Iterator[Path]:
    """A file by a name that GDAL takes for one.

    `http:a.tif` is a URL to it where it is not a whole path, and a name has to be UTF-8: any other
    gets a link.
    """
    whole = path.absolute()
    try:
        str(whole).encode()
    except UnicodeEncodeError:
        with TemporaryDirectory() as folder:
            link, mask = Path(folder, "picture"), beside(whole, ".msk")
            link.symlink_to(whole)
            if mask:
                Path(folder, "picture.msk").symlink_to(mask)
            yield link
    else:
        yield whole


def _check_beside(path: Path) -> None:
    """Refuse files beside a raster by which it would read others: GDAL opens those as anything.

    Raises:
        InputError: there is one.
    """
    for suffix in (".ovr", ".OVR", ".msk", ".MSK"):
        other = beside(path, suffix)
        if other:
            with other.open("rb") as file:
                kind = formats.of_head(file.read(formats.HEAD))
            if kind is None or kind.name != "TIFF":
                raise InputError(f"{path}: {other.name} beside it is not a TIFF file; remove it")
    notes = beside(path, ".aux.xml")
    if notes and b"OVERVIEW_FILE" in notes.read_bytes():
        raise InputError(f"{path}: {notes.name} beside it names another file; remove it")


def _without_name(error: BaseException, called: str) -> str:
    """What GDAL says of a file without what it calls that, a number where the file is no file."""
    return re.sub(rf"^{re.escape(Path(called).name)}(: |, )", "", str(error))


def _driver(source: Path | bytes) -> str:
    """GDAL's name of a file's format, which is one of ours whatever the file is called."""
    with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        found = formats.of_head(file.read(formats.HEAD))
    if found is None or not found.drivers:
        raise OSError("its format is not one that is read in rows")
    return found.drivers[0]


def shrunk(height: int, width: int, longest: int) -> tuple[int, int]:
    """Height and width, made smaller if the longer one exceeds `longest`."""
    scale = min(1.0, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
