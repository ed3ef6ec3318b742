"""Where the results of images lie, what made them, and whether they stand. No other file knows.

    masks/STEM.png       class ids, a palette image; `.tif` where it says where on Earth it lies
    overlays/STEM.jpg    to look at

The mask comes last: where it is, the rest is too. It carries a stamp of what it was made from.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from atrous import image
from atrous.errors import AtrousError, InputError
from atrous.files import sha256, unfinished
from atrous.runtime.predictor import Predictor

T = TypeVar("T")
Pixels = NDArray[np.uint8]

MASKS, OVERLAYS = "masks", "overlays"
FOLDERS = (MASKS, OVERLAYS)

FAILURES = (AtrousError, OSError, MemoryError)
"""What an image fails with while the others go on."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where results go, and how they are made.

    Attributes:
        place: a folder; on a cluster also a URL.
        overlays: whether to draw overlays.
        opacity: of the overlays' paint, 0–1.
        force: make results again that are there already.
    """

    place: Path | str
    overlays: bool = True
    opacity: float = 0.5
    force: bool = False

    def names(self, stem: Path | str, suffix: str = ".png") -> dict[str, str]:
        """`FOLDERS` → name of an image's result below `place`, in the order of writing."""
        mask = {MASKS: f"{MASKS}/{stem}{suffix}"}
        return {OVERLAYS: f"{OVERLAYS}/{stem}.jpg", **mask} if self.overlays else mask

    def folders(self) -> list[str]:
        """Where masks lie, and overlays if they are drawn."""
        return [join(self.place, name) for name in (FOLDERS if self.overlays else (MASKS,))]


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What became of one image.

    Attributes:
        source: the image file; it and the results may be URLs on a cluster.
        status: `written`, `kept` (its results were there already), `stale` (they were there and
            are kept, but were made from another image or by another model) or `failed`.
        mask: the palette image, `None` if it failed.
        overlay: the picture to look at, `None` if it failed or none was asked for.
        size: width and height in pixels, `None` unless it was segmented now.
        shares: share of the pixels of each class id that occurs, 0–1, the largest first.
        error: why it failed.
        score: what the function returned that `folder.segment` was given for it.
    """

    source: Path | str
    status: Literal["written", "kept", "stale", "failed"]
    mask: Path | str | None = None
    overlay: Path | str | None = None
    size: tuple[int, int] | None = None
    shares: dict[int, float] | None = None
    error: str = ""
    score: Any = None

    @classmethod
    def failure(cls, source: Path | str, error: Exception) -> ImageResult:
        """That of an image that failed with one of `FAILURES`; the message names it."""
        text = str(error)
        if not isinstance(error, AtrousError):
            text = getattr(error, "strerror", None) or type(error).__name__
        return cls(source, "failed", error=text if str(source) in text else f"{source}: {text}")


@dataclass(frozen=True, slots=True)
class Target:
    """Where the results of one image go.

    Attributes:
        source: the image file.
        mask: the file of its class ids.
        overlay: the file to look at, `None` if none is wanted.
        stamp: what the mask is made from.
    """

    source: Path
    mask: Path
    overlay: Path | None
    stamp: str


class Results:
    """The results of one job on this machine.

    Args:
        output: where they go; the folder is made.
        predictor: what makes them.
        setting: what else a mask depends on.

    Raises:
        InputError: the output cannot be a folder.
    """

    def __init__(self, output: Output, predictor: Predictor, setting: str = "") -> None:
        self._output, self._predictor, self._setting = output, predictor, setting
        make_folder(Path(output.place))

    def target(self, path: Path, stem: Path, suffix: str = ".png") -> Target:
        """Where the results of an image go.

        Args:
            path: the image file.
            stem: see `stems`.
            suffix: of the mask.
        """
        names = self._output.names(stem, suffix)
        overlay = Path(self._output.place, names[OVERLAYS]) if OVERLAYS in names else None
        return Target(path, Path(self._output.place, names[MASKS]), overlay, self._stamp(path))

    def standing(self, target: Target) -> ImageResult | None:
        """The results that are there already and stay; `None` where they are to be made."""
        mask, overlay = target.mask, target.overlay
        if self._output.force or not mask.exists() or not (overlay is None or overlay.exists()):
            return None
        status: Literal["kept", "stale"] = "kept" if _stamp_in(mask) == target.stamp else "stale"
        return ImageResult(target.source, status, mask, overlay)

    def write(self, target: Target, pixels: Pixels, class_map: Pixels) -> ImageResult:
        """Write the results of an image that is in memory.

        Args:
            target: where they go.
            pixels: `(H, W, 3)` uint8, RGB.
            class_map: `(H, W)` uint8, class ids.
        """
        shares = image.class_shares(class_map)
        self.draw(target, pixels, class_map, shares)
        image.write_mask(target.mask, class_map, self._predictor.labels, target.stamp)
        size = (class_map.shape[1], class_map.shape[0])
        return ImageResult(target.source, "written", target.mask, target.overlay, size, shares)

    def draw(
        self, target: Target, pixels: Pixels, class_map: Pixels, shares: dict[int, float]
    ) -> None:
        """Write the overlay, if one is wanted; arguments as of `image.write_overlay`."""
        if target.overlay is not None:
            labels, opacity = self._predictor.labels, self._output.opacity
            image.write_overlay(target.overlay, pixels, class_map, labels, opacity, shares)

    def mask_file(self, target: Target) -> AbstractContextManager[Path]:
        """A name to write the mask under; it gets its own at the end of the block."""
        return unfinished(target.mask)

    def _stamp(self, path: Path) -> str:
        """What a mask depends on: the image's content, the model, preprocessing and setting."""
        try:
            settings = self._predictor.preprocess.model_dump_json()
            what = f"{sha256(path)} {self._predictor.engine.identity} {settings}"
            made_from = hashlib.sha256(what.encode()).hexdigest()
        except OSError:
            made_from = "unreadable"
        return f"{made_from} {self._setting}" if self._setting else made_from


def stems(found: Mapping[T, Path], whole: Callable[[T], Path]) -> dict[T, Path]:
    """What the results of every image are called, without an ending. No two share a name.

    Where only the endings of images differ, as in `a.jpg` and `a.png`, they are kept.

    Args:
        found: image → its path below the folder that was searched.
        whole: image → a path that no other has.
    """
    short = Counter(relative.with_suffix("") for relative in found.values())
    relatives = Counter(found.values())
    result = {}
    for one, relative in found.items():
        if short[relative.with_suffix("")] == 1:
            result[one] = relative.with_suffix("")
        elif relatives[relative] == 1:
            result[one] = relative
        else:  # the same name below two folders
            result[one] = whole(one)
    return result


def join(place: Path | str, name: str) -> str:
    """The place of what is called `name` below `place`, a folder or a URL."""
    if "://" not in str(place):
        return str(Path(place, name))
    head, chain, rest = str(place).partition("::")  # as zip://folder::s3://bucket/archive.zip
    return f"{head.rstrip('/') if not head.endswith('://') else head}/{name}{chain}{rest}"


def make_folder(folder: Path) -> None:
    """Make the folder of the results.

    Raises:
        InputError: it cannot be one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a folder: {error.strerror}") from None


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that were killed have half written."""
    for kind in FOLDERS:
        for path in (folder / kind).rglob(".*.part"):
            path.unlink(missing_ok=True)


def _stamp_in(mask: Path) -> str:
    """The stamp that a mask carries, empty if there is none or it is damaged."""
    if mask.suffix == ".png":
        return image.mask_stamp(mask)
    from atrous.jobs.large.raster import stamp_of  # needs rasterio

    return stamp_of(mask)
