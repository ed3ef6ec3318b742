"""What the samples of a picture mean: stored numbers become RGB as a person would see them.

Two libraries read pictures: Pillow whole ones (`decode.py`), GDAL parts of any (`geotiff.py`). Both
hand over the numbers as they are stored and a `Meaning`; what becomes of them is decided here, and
done in `shown.py`.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous.errors import ConfigError, InputError
from atrous.formatting import as_percent

Pixels = NDArray[np.uint8]
Stored = NDArray[Any]

_log = logging.getLogger("atrous")

UNUSED = 4
"""A picture that uses at most one part in so many of its declared range is said to."""

AGREED = ("uint8", "uint16")
"""Types of samples whose black and white everybody agrees on."""

_LOOK = 512  # pixels of either side that decide what samples mean, at most about twice as many
_NEAR = 64
_OUTSIDE = 0.5  # of the values, the share that may lie outside of a range without a word
_OPAQUE = 0.5  # of what is not transparent, the share that is opaque in a band of transparency


@dataclass(frozen=True, slots=True)
class Taking:
    """How samples are taken where their file does not say it, or says it wrongly.

    Attributes:
        value_range: the stored values that are black and white; for samples of more than 8 bits,
            with sign or with a fraction.
        bands: which bands are taken, from 1: one as grey or three as red, green and blue, and one
            more as transparency.

    Raises:
        ConfigError: they are no range and no bands.
    """

    value_range: tuple[float, float] | None = None
    bands: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.value_range is not None:
            low, high = self.value_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ConfigError(
                    f"`value_range`: expected LOW,HIGH, two numbers of which the first is smaller, "
                    f"got {low:g},{high:g}"
                )
        if self.bands is not None and (not 1 <= len(self.bands) <= 4 or min(self.bands) < 1):
            raise ConfigError(
                "`bands`: expected one band (grey) or three (red, green, blue), counted from 1, "
                f"and one more for transparency; got {','.join(map(str, self.bands))}"
            )

    def __str__(self) -> str:
        """What a result depends on, empty where nothing is said."""
        parts = []
        if self.value_range is not None:
            parts.append("range {:g},{:g}".format(*self.value_range))
        if self.bands is not None:
            parts.append(f"bands {','.join(map(str, self.bands))}")
        return " ".join(parts)

    def chosen(self, count: int, name: object) -> tuple[int, ...] | None:
        """`bands` counted from 0.

        Args:
            count: bands that there are.
            name: of the picture.

        Raises:
            InputError: one is not there.
        """
        if self.bands is None:
            return None
        if max(self.bands) > count:
            raise InputError(
                f"{name}: has {count} band{'s' * (count != 1)}, `bands` asks for {max(self.bands)}"
            )
        return tuple(band - 1 for band in self.bands)


class Notes:
    """Says what was decided about samples: each kind of thing once, for the first picture.

    Args:
        tell: called with a sentence; by default it is logged.

    Attributes:
        said: kind → what was said.
    """

    def __init__(self, tell: Callable[[str], object] | None = None) -> None:
        self._tell = tell or partial(_log.warning, "%s")
        self.said: dict[str, str] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Notes], tuple[()]]:
        """Another process says it anew."""
        return Notes, ()

    def say(self, kind: str, text: str) -> None:
        """Tell `text` unless something of this kind has been said."""
        with self._lock:
            new = kind not in self.said
            self.said.setdefault(kind, text)
        if new:
            self._tell(text)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as it was read.

    Attributes:
        pixels: `(H, W, 3)` uint8, RGB.
        valid: `(H, W)` bool, whether there is data; `None` where all is.
    """

    pixels: Pixels
    valid: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the stored samples of one picture are.

    Attributes:
        high: the stored value that is white: of 12 bits 4095, whatever they are kept in.
        inverted: 0 is white.
        palette: `(N, 3)` uint8 RGB, if the samples are indices.
        alpha: the last band is transparency.
        opaque: its value where nothing shines through.
        premultiplied: colours were multiplied by it.
        marks: where it is 0 there is no data; else white shines through.
        nodata: the value of pixels without data.
        profile: colour profile (ICC), empty for sRGB.
    """

    high: int = 255
    inverted: bool = False
    palette: Pixels | None = None
    alpha: bool = False
    opaque: int = 255
    premultiplied: bool = False
    marks: bool = False
    nodata: float | None = None
    profile: bytes = b""


def look(stored: Stored, meaning: Meaning, taking: Taking, notes: Notes, name: object) -> None:
    """Say where the samples leave most of their range unused, and check that there is one.

    Args:
        stored: as for `shown.to_picture`; see `thinned`.
        meaning: as for `shown.to_picture`, like the others.

    Raises:
        InputError: the samples have no agreed range, and `taking` does not say one.
    """
    if stored.dtype.kind == "c":
        raise InputError(
            f"{name}: samples are complex numbers; convert them, for example to their magnitude"
        )
    if meaning.palette is not None or stored.dtype == np.uint8:
        say_eight_bits(taking, notes, name)
        return
    colours = stored[:-1] if meaning.alpha else stored
    invalid = without_data(colours, meaning.nodata)
    values = colours if invalid is None else colours[:, ~invalid]
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values.reshape(-1)
    if taking.value_range is not None:
        _say_outside(values, *taking.value_range, notes, name)
        return
    if str(stored.dtype) not in AGREED:
        found = f" (here they go from {values.min():g} to {values.max():g})" if values.size else ""
        raise InputError(
            f"{name}: samples of the type {stored.dtype} have no agreed black and white{found}; "
            "`value_range` LOW,HIGH says which values they are"
        )
    if not values.size:
        return
    low, high = (int(value) for value in np.percentile(values, (0.5, 99.5)))
    if 0 < high - low <= (meaning.high + 1) // UNUSED:  # of one value no range would help
        notes.say("range", _unused(name, values, low, high, meaning.high))


def _say_outside(values: Stored, low: float, high: float, notes: Notes, name: object) -> None:
    """Say that a range is not that of the picture, if most of its values are white or black."""
    share = float(((values < low) | (values > high)).mean()) if values.size else 0.0
    if share > _OUTSIDE:
        notes.say(
            "outside",
            f"{name}: {as_percent(share)} of its values lie outside of `value_range` "
            f"{low:g},{high:g}, and become black or white: they go from {values.min():g} to "
            f"{values.max():g}",
        )


def _unused(name: object, values: Stored, low: int, high: int, white: int) -> str:
    """What is said of samples that leave most of their range unused."""
    most = int(values.max())
    bits = next(
        bits for bits in range(4, 17) if max(high, most if most < 2 * high else 0) < 2**bits
    )
    likely = f"0,{2**bits - 1}" if low <= high // 2 and 2**bits <= white else f"{low},{high}"
    return (
        f"{name}: most values are between {low} and {high} of 0 to {white}, so there is little "
        f"contrast; `value_range` {likely} would take these as black and white"
    )


def thinned(stored: Stored) -> Stored:
    """Evenly spread pixels of `(..., H, W)`, enough to judge by."""
    height, width = stored.shape[-2:]
    return stored[..., :: max(1, height // _LOOK), :: max(1, width // _LOOK)]


def opaque_value(values: Stored, high: int) -> int | None:
    """Which value of a band of transparency is opaque; `None` if its values are no transparency.

    Writers tag any band behind red, green and blue as transparency. A real one is opaque in most
    places where it is not fully transparent; near infrared and others have values of all kinds.

    Args:
        values: of the band, evenly spread ones.
        high: the largest that could be stored.
    """
    top = int(values.max()) if values.size else 0
    if top not in (1, 255, high):
        return None
    present = values[values > top // _NEAR]  # compressed with losses, it is not quite even
    return top if float((present >= top - top // _NEAR).mean()) >= _OPAQUE else None


def say_eight_bits(taking: Taking, notes: Notes, name: object) -> None:
    """Say that a range is not for a picture of 8 bits, if there is one."""
    if taking.value_range is not None:
        notes.say(
            "eight bits",
            f"{name}: samples of 8 bits are taken as they are; `value_range` is for more bits",
        )


def is_empty(alpha: Stored, colours: Stored) -> bool:
    """Whether nothing is in a picture: transparent everywhere, and of one colour.

    Of such are the outer sheets of a mosaic. Where there are colours, nobody filled that band.

    Args:
        alpha: of any shape.
        colours: `(C, H, W)`.
    """
    return not alpha.any() and bool((colours == colours[:, :1, :1]).all())


def say_no_transparency(notes: Notes, name: object, band: int, alpha: Stored) -> None:
    """Say that a band is not taken as its tag says, and how it would be."""
    bands = ",".join(map(str, range(1, band + 1)))
    found = "has values of all kinds, as near infrared has" if alpha.any() else "is 0 everywhere"
    notes.say(
        "transparency",
        f"{name}: band {band} is tagged as transparency (alpha) but {found}: it is left out; "
        f"`bands` {bands} takes it as transparency",
    )


def say_pages(notes: Notes, name: object) -> None:
    """Say that one page of several is read."""
    notes.say(
        "pages",
        f"{name}: holds several pages of one size, of which the first is read; save the bands of a "
        "picture together in one page, and other pictures as files of their own",
    )


def without_data(colours: Stored, nodata: float | None) -> NDArray[np.bool_] | None:
    """`(H, W)`, where samples `(C, H, W)` are no data; `None` if no value says so."""
    if colours.dtype.kind == "f":
        missing = np.isnan(colours).any(0)
        if nodata is not None and not math.isnan(nodata):
            missing |= (colours == colours.dtype.type(nodata)).all(0)
        return np.asarray(missing)
    if nodata is None or not math.isfinite(nodata) or nodata != int(nodata):
        return None
    info = np.iinfo(colours.dtype)
    if not info.min <= nodata <= info.max:
        return None
    return np.asarray((colours == int(nodata)).all(0))
