"""Masks on the disk: stored values that are or stand for class ids, or colours that do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.data import stored
from atrous.data.dataset import MaskError
from atrous.data.stored import NO_CLASS
from atrous.labels import Colour
from atrous.pictures.opening import MAX_PIXELS, UnknownFormat, decoded

COLOURED = "colours instead of ids"
NO_COLOUR = "colours of no class"
PALETTE = "palette and classes disagree"

_ID_MODES = ("P", "L", "1", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_GREY_MODES = ("RGB", "RGBA", "LA")
_COLOUR_MODES = ("P", "L", "1", "LA", "PA", "RGB", "RGBA")
_NAMED = 4


@dataclass(frozen=True, slots=True)
class Look:
    """What one mask holds.

    Attributes:
        mode: Pillow's.
        values: stored values → pixels; of a mask of colours, the greys, `None` if one is no grey.
        colours: RGB → pixels, of a mask of colours; of a palette, index → its colour in `palette`.
        palette: colours of the indices that are used.
        nodata: the number that its file says to stand for no data, if it occurs. It is not among
            `values`, unless it is 0: GIS programs write that of backgrounds too.
    """

    mode: str
    values: dict[int, int] | None
    colours: dict[Colour, int] = field(default_factory=dict)
    palette: dict[int, Colour] = field(default_factory=dict)
    nodata: float | None = None


def look(path: Path, max_pixels: int | None = MAX_PIXELS) -> Look:
    """Count what a mask holds.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return decoded(path, str(path), _look, max_pixels)
    except UnknownFormat as error:
        raise stored.explained(path, error) from None


def read_ids(path: Path) -> NDArray[np.uint8]:
    """The pixel values of a palette or grey image.

    Returns:
        `(H, W)` uint8.

    Raises:
        InputError: it cannot be read; `MaskError` if its pixels are colours or exceed 255.
    """
    return IdReader()(path)


def read_palette(path: Path) -> NDArray[np.uint8]:
    """As `read_ids`, of palette images alone."""
    return IdReader(modes=("P",))(path)


@dataclass(frozen=True, slots=True)
class IdReader:
    """Reads masks whose stored values are class ids, or stand for them.

    Attributes:
        modes: kinds of Pillow's that are taken.
        table: id of each stored value, `None` where they are the same.
        others: id of the stored values that `table` does not name, `None` to refuse them.
        palette: ids of colours; an index whose colour is that of another id is refused.
        grey: colours whose three parts are equal count as that grey.
        max_pixels: larger masks are refused; `None` takes any.
        advice: what helps where masks hold values that are no ids; empty if unknown.
        classes: without a table, numbers below are ids, also where a file calls one no data.
        unlabelled: id of the pixels without data, as of NaN.
        mixed: what is said of a mask that holds 0 and 255 alone, to refuse it; empty to take it.
    """

    modes: tuple[str, ...] = _ID_MODES
    table: tuple[tuple[int, int], ...] | None = None
    others: int | None = None
    palette: tuple[tuple[Colour, int], ...] = ()
    grey: bool = False
    max_pixels: int | None = MAX_PIXELS
    advice: str = ""
    classes: int = 256
    unlabelled: int = 255
    mixed: str = ""

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """`(H, W)` uint8 class ids, not checked for being one unless a table says which are.

        Raises:
            InputError: it cannot be read; `MaskError` if its pixels are colours, or no ids.
        """
        return _read(path, self._ids, self.max_pixels)

    def _ids(self, mask: Image.Image) -> NDArray[np.uint8]:
        values, missing = self._stored(mask)
        ids = self._mapped(values, dict(self.table)) if self.table else self._as_ids(mask, values)
        return ids if missing is None else np.where(missing, np.uint8(self.unlabelled), ids)

    def _as_ids(self, mask: Image.Image, values: NDArray[Any]) -> NDArray[np.uint8]:
        if values.dtype.itemsize > 1 and (values.min() < 0 or values.max() > 255):
            raise MaskError(
                NO_CLASS,
                f"holds the values {values.min()}..{values.max()}, expected ids up to 255"
                + (f"; {self.advice}" if self.advice else ""),
            )
        if self.palette and mask.mode == "P":
            self._check_palette(mask, values)
        if self.mixed and not (rest := values[values != 255]).any() and 0 < rest.size < values.size:
            raise MaskError(NO_CLASS, self.mixed)
        return values.astype(np.uint8, copy=False)

    def _mapped(self, values: NDArray[Any], known: Mapping[int, int]) -> NDArray[np.uint8]:
        used, pixels, where = _counted(values)
        ids = [known.get(value, self.others) for value in used]
        strange = [i for i, found in enumerate(ids) if found is None]
        if strange:
            few = ", ".join(f"{used[i]} on {pixels[i]} pixels" for i in strange[:_NAMED])
            raise MaskError(
                NO_CLASS, f"holds {few}, of which nothing is said; add them to values or to ignore"
            )
        if where is None:
            table = np.zeros(used[-1] + 1, np.uint8)
            table[used] = np.array(ids, np.uint8)
            return np.asarray(table[values])
        return np.array(ids, np.uint8)[where].reshape(values.shape)

    def _stored(self, mask: Image.Image) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        if mask.mode in self.modes:
            return stored.numbers(mask, dict(self.table) if self.table else range(self.classes))
        if self.grey and mask.mode in _GREY_MODES:
            found = _as_grey(mask)
            if found is not None:
                return found, None
        wanted = (
            "palette indices" if self.modes == ("P",) else "class ids in a grey or palette image"
        )
        raise MaskError(COLOURED, f"its pixels are {mask.mode}, expected {wanted}")

    def _check_palette(self, mask: Image.Image, values: NDArray[np.uint8]) -> None:
        ids, colours = dict(self.palette), _palette(mask)
        for index in np.flatnonzero(np.bincount(values.reshape(-1), minlength=256)):
            colour = colours[int(index)]
            if ids.get(colour, index) != index:
                raise MaskError(
                    PALETTE,
                    f"its palette has the colour {colour} of class {ids[colour]} at {index}; write "
                    "mask_type: rgb if the colours are right, mask_type: ids if the numbers are",
                )


@dataclass(frozen=True, slots=True)
class ColourTable:
    """Reads masks whose colours are the classes.

    Attributes:
        ids: class id, or the ignore index, of each colour.
        max_pixels: larger masks are refused; `None` takes any.
        ignored: this index of a palette is not scored, whatever its colour.
    """

    ids: tuple[tuple[Colour, int], ...]
    max_pixels: int | None = MAX_PIXELS
    ignored: int | None = None

    @classmethod
    def of(cls, ids: Mapping[Colour, int]) -> ColourTable:
        """The table of a mapping from colour to id."""
        return cls(tuple(ids.items()))

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """The class ids of an RGB image, or of a palette image by the colours of its palette.

        Returns:
            `(H, W)` uint8.

        Raises:
            InputError: it cannot be read; `MaskError` if a colour is not in the table.
        """
        return _read(path, self._ids, self.max_pixels)

    def _ids(self, mask: Image.Image) -> NDArray[np.uint8]:
        if mask.mode not in _COLOUR_MODES:
            raise MaskError(NO_COLOUR, f"its pixels are {mask.mode}, expected colours of 8 bits")
        found = _lookup(self.ids)[_pack(np.asarray(mask.convert("RGB"), np.uint8))]
        if self.ignored is not None and mask.mode == "P":
            found = np.where((found < 0) & (np.asarray(mask) == self.ignored), self.ignored, found)
        if (strange := found < 0).any():
            packed = _pack(np.asarray(mask.convert("RGB"), np.uint8))
            values, pixels_of = np.unique(packed[strange], return_counts=True)
            most = np.argsort(-pixels_of, kind="stable")[:_NAMED]
            few = (f"{_unpack(int(values[i]))} on {int(pixels_of[i])} pixels" for i in most)
            raise MaskError(
                NO_COLOUR,
                f"{len(values)} colours that belong to no class: {', '.join(few)}; add them to "
                "classes or ignore_colours",
            )
        return found.astype(np.uint8)


_BLURRED = "; JPEG blurs values and colours at every edge: store masks as PNG"


def _read(
    path: Path, convert: Callable[[Image.Image], NDArray[np.uint8]], max_pixels: int | None
) -> NDArray[np.uint8]:
    def plain(mask: Image.Image) -> NDArray[np.uint8]:
        stored.check(mask)
        ids = convert(mask)
        stored.check_upright(mask)
        return ids

    try:
        if max_pixels == MAX_PIXELS:
            return decoded(path, str(path), plain)
        return decoded(path, str(path), plain, max_pixels)
    except MaskError as error:
        blurred = _BLURRED if path.suffix.lower() in (".jpg", ".jpeg") else ""
        raise MaskError(error.kind, f"{path}: {error}{blurred}") from None
    except UnknownFormat as error:
        raise stored.explained(path, error) from None


def _look(mask: Image.Image) -> Look:
    mode = mask.mode
    if mode in _ID_MODES:
        nodata = stored.nodata(mask)
        numbers, missing = stored.numbers(mask, (0,))
        values, pixels, _ = _counted(numbers if missing is None else numbers[~missing])
        used = dict(zip(values, pixels, strict=True))
        colours = _palette(mask) if mode == "P" else []
        palette = {i: colours[i] for i in used} if colours else {}
        occurs = nodata in used or missing is not None
        return Look(mode, used, palette=palette, nodata=nodata if occurs else None)
    packed, counts = np.unique(_pack(np.asarray(mask.convert("RGB"))), return_counts=True)
    found = {_unpack(int(v)): int(n) for v, n in zip(packed, counts, strict=True)}
    grey = all(red == green == blue for red, green, blue in found)
    if grey and mode in _GREY_MODES and _as_grey(mask) is not None:
        return Look(mode, {colour[0]: n for colour, n in found.items()}, found)
    return Look(mode, None, found)


def _counted(values: NDArray[Any]) -> tuple[list[int], list[int], NDArray[np.intp] | None]:
    """The values that occur, how often, and for wide ones where."""
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        counts = np.zeros(2 ** (8 * values.dtype.itemsize), np.int64)
        flat = values.reshape(-1)
        for start in range(0, flat.size, 2**22):  # bincount widens what it counts to 64 bits
            counts += np.bincount(flat[start : start + 2**22], minlength=len(counts))
        used = np.flatnonzero(counts)
        return used.tolist(), counts[used].tolist(), None
    wide, where, pixels = np.unique(values, return_inverse=True, return_counts=True)
    return wide.tolist(), pixels.tolist(), where


def _palette(mask: Image.Image) -> list[Colour]:
    """The colours of all 256 indices; those that the file does not give are black."""
    flat = mask.getpalette("RGB") or []
    flat = [*flat, *[0] * (768 - len(flat))]
    return [(flat[i], flat[i + 1], flat[i + 2]) for i in range(0, 768, 3)]


def _as_grey(mask: Image.Image) -> NDArray[np.uint8] | None:
    """`(H, W)` of an opaque picture of greys stored as colours; `None` of any other."""
    pixels = np.asarray(mask)
    shown, alpha = (pixels[..., :3], pixels[..., 3:]) if mask.mode != "LA" else (
        pixels[..., :1], pixels[..., 1:]
    )  # fmt: skip
    if (shown != shown[..., :1]).any() or (alpha != 255).any():
        return None
    return np.ascontiguousarray(shown[..., 0])


def _pack(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """One number per pixel, red lowest, without arithmetic on the channels."""
    wide = np.ascontiguousarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA))
    return wide.view("<u4")[:, :, 0] & np.uint32(0xFFFFFF)


def _unpack(value: int) -> Colour:
    return value & 255, value >> 8 & 255, value >> 16


@lru_cache(maxsize=4)  # 32 MB each
def _lookup(ids: tuple[tuple[Colour, int], ...]) -> NDArray[np.int16]:
    """The id of each of the 2**24 packed colours, -1 where there is none."""
    table = np.full(2**24, -1, np.int16)
    for (red, green, blue), class_id in ids:
        table[red | green << 8 | blue << 16] = class_id
    return table
