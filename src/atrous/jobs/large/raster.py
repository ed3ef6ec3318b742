"""Image files too large for memory: read in rows, masks written in rows, by GDAL (rasterio)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from atrous.errors import ConfigError, InputError
from atrous.labels import LabelSet
from atrous.metadata import orientation
from atrous.opening import decoded
from atrous.stamp import KEY, FileStamp, PixelHash

try:
    import rasterio
    from rasterio.enums import ColorInterp, Resampling
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.shutil import copy
    from rasterio.windows import Window
except ImportError as error:
    raise ConfigError(
        "large images need rasterio, not installed: pip install 'atrous[large]'"
    ) from error

Pixels = NDArray[np.uint8]

_ROWS = 512
_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
_PLAIN = (ColorInterp.gray, ColorInterp.undefined)


class FileRaster:
    """An image file of any size, as RGB rows. Use it as a context manager.

    Palettes and grey are turned into RGB, 16 bits keep their upper 8, transparent pixels are put
    on white, and of more bands than RGB the others are left out.

    Args:
        path: a file that GDAL reads.

    Raises:
        InputError: it cannot be read, holds other pixels, or is stored turned.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise InputError(f"{path}: cannot be read: no such file")
        _check_upright(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            try:
                self._file = rasterio.open(path)
            except RasterioError as error:
                raise InputError(f"{path}: not an image that GDAL can read: {error}") from None
        self.height, self.width = int(self._file.height), int(self._file.width)
        try:
            self._bands = self._chosen()
        except InputError:
            self.close()
            raise

    @property
    def georeferenced(self) -> bool:
        """Whether it says where on Earth it lies."""
        file = self._file
        return bool(file.crs or file.gcps[0] or file.rpcs or not file.transform.is_identity)

    def rows(self, start: int, stop: int) -> Pixels:
        """`(stop - start, width, 3)` uint8 RGB.

        Raises:
            InputError: the file is damaged there.
        """
        return self._rgb(self._read(window=Window(0, start, self.width, stop - start)))

    def small(self, longest: int) -> Pixels:
        """The whole image, at most `longest` pixels on its longer side."""
        height, width = shrunk(self.height, self.width, longest)
        bands = len(self._bands)
        return self._rgb(
            self._read(out_shape=(bands, height, width), resampling=Resampling.average)
        )

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
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _chosen(self) -> tuple[int, ...]:
        """Numbers of the bands that are read: grey, palette or RGB, and alpha behind them."""
        file = self._file
        kinds = list(file.colorinterp)
        if set(file.dtypes) - {"uint8", "uint16"}:
            raise InputError(
                f"{self.path}: pixels are {', '.join(sorted(set(file.dtypes)))}, expected 8 or 16 "
                "bits without sign; convert it, for example gdal_translate -ot Byte -scale"
            )
        alpha = (kinds.index(ColorInterp.alpha) + 1,) if ColorInterp.alpha in kinds else ()
        if all(colour in kinds for colour in _COLOURS):
            return (*(kinds.index(colour) + 1 for colour in _COLOURS), *alpha)
        if kinds[0] is ColorInterp.palette:
            return (1,)
        if kinds[0] in _PLAIN:
            return (1, 2, 3) if len(kinds) - len(alpha) >= 3 else (1, *alpha)
        raise InputError(
            f"{self.path}: bands are {', '.join(kind.name for kind in kinds)}, expected grey, a "
            "palette or RGB; convert it"
        )

    def _read(self, **how: Any) -> NDArray[Any]:
        try:
            return np.asarray(self._file.read(self._bands, **how))
        except (RasterioError, MemoryError) as error:
            reason = error.__cause__ or error
            raise InputError(f"{self.path}: cannot be read: {reason}") from None

    def _rgb(self, bands: NDArray[Any]) -> Pixels:
        if bands.dtype == np.uint16:
            bands = (bands >> 8).astype(np.uint8)
        if self._file.colorinterp[0] is ColorInterp.palette:
            table = np.zeros((256, 4), np.uint8)
            for value, colour in self._file.colormap(1).items():
                table[value] = colour
            bands = np.moveaxis(table[bands[0]], 2, 0)
        colours, alpha = bands[: 3 if len(bands) >= 3 else 1], bands[len(bands) // 2 * 2 - 1]
        if len(bands) in (2, 4) and alpha.min() < 255:
            share = alpha.astype(np.uint16)
            colours = ((colours * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)
        shown = np.broadcast_to(colours, (3, *colours.shape[1:]))
        return np.ascontiguousarray(np.moveaxis(shown, 0, 2))


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
    rows = path if geographic else path.with_suffix(".rows")
    profile = {
        "driver": "GTiff", "width": raster.width, "height": raster.height, "count": 1,
        "dtype": "uint8", "photometric": "palette", "compress": "deflate",
        "bigtiff": "if_safer",
    }  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            place = raster.place() if geographic else {}
            with rasterio.open(rows, "w", **profile, **place) as file:
                file.write_colormap(1, colours)
                top, content = 0, PixelHash(raster.height, raster.width)
                for band in bands:
                    file.write(band, 1, window=Window(0, top, band.shape[1], len(band)))
                    content.add(band)
                    top += len(band)
                tags = raster.tags() if geographic else {}
                file.update_tags(**{**tags, KEY: str(FileStamp(made_from, content.hexdigest()))})
            if not geographic:
                copy(rows, path, driver="PNG", ZLEVEL=3, WRITE_METADATA_AS_TEXT="YES")
    except RasterioError as error:
        reason = error.__cause__ or error
        raise InputError(f"{raster.path}: its mask cannot be written: {reason}") from None
    finally:
        if not geographic:
            rows.unlink(missing_ok=True)
        Path(f"{path}.aux.xml").unlink(missing_ok=True)


def stamp_of(path: Path) -> FileStamp | None:
    """The stamp of a mask that was written here and that nobody has changed since, else `None`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path) as file:
                found = FileStamp.parse(str(file.tags().get(KEY, "")))
                if found is None or file.count != 1 or file.dtypes[0] != "uint8":
                    return None
                content = PixelHash(file.height, file.width)
                for top in range(0, file.height, _ROWS):
                    rows = min(_ROWS, file.height - top)
                    content.add(file.read(1, window=Window(0, top, file.width, rows)))
                return found.of(content.hexdigest())
        except (RasterioError, MemoryError):
            return None


def shrunk(height: int, width: int, longest: int) -> tuple[int, int]:
    """Height and width, made smaller if the longer one exceeds `longest`."""
    scale = min(1.0, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _check_upright(path: Path) -> None:
    try:
        turned = decoded(path, str(path), orientation, None)
    except InputError:
        return  # GDAL says what is wrong with it, or knows it
    if turned != 1:
        raise InputError(
            f"{path}: stored turned (EXIF orientation {turned}), which tiles do not undo; turn it "
            f"first, for example: magick {os.fspath(path)} -auto-orient upright.tif"
        )
