"""Where the results of images lie, what made them, and whether they stand. No other file knows.

    masks/STEM.png       class ids, a palette image; `.tif` where it says where on Earth it lies
    overlays/STEM.jpg    to look at

The mask comes last: where it is, the rest is too. Both carry a stamp (`atrous.stamp`) of what they
were made from. `state` decides what becomes of what is there: what Atrous made from the same stays,
what it made from something else is made again, what it did not make is replaced only if asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from atrous import image
from atrous.errors import AtrousError, InputError
from atrous.files import is_special
from atrous.palette import OPACITY
from atrous.runtime.predictor import Predictor
from atrous.stamp import FileStamp, hashed, is_stamped, of_jpeg

Pixels = NDArray[np.uint8]

MASKS, OVERLAYS = "masks", "overlays"
FOLDERS = (MASKS, OVERLAYS)
JPEG = (".jpg", ".jpeg")
_FOLDERS = frozenset(FOLDERS)
_SUFFIXES = frozenset((*JPEG, ".png", ".tif", ".tiff"))

FAILURES = (AtrousError, OSError, MemoryError)
"""What an image fails with while the others go on."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where results go, and how they are made.

    Attributes:
        place: a folder; on a cluster also a URL.
        overlays: whether to draw overlays.
        opacity: of the overlays' paint, 0–1.
        force: make results again that are there already, whoever made them.
        again: make those again that Atrous made, also where they would stand.
        single: `place` is no folder but the file of the only result: a mask (.png, .tif), or what
            cannot hold class ids, an overlay (.jpg).
    """

    place: Path | str
    overlays: bool = True
    opacity: float = OPACITY
    force: bool = False
    again: bool = False
    single: bool = False

    def names(self, stem: Path | str, suffix: str = ".png") -> dict[str, str]:
        """`FOLDERS` → name of an image's result below `place`, in the order of writing."""
        mask = {MASKS: f"{MASKS}/{stem}{suffix}"}
        return {OVERLAYS: f"{OVERLAYS}/{stem}.jpg", **mask} if self.overlays else mask

    def shown(self) -> list[str]:
        """Where masks lie, and overlays if they are drawn; the file, if it is a single one."""
        if self.single:
            return [str(self.place)]
        return [join(self.place, name) for name in (FOLDERS if self.overlays else (MASKS,))]


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What became of one image.

    Attributes:
        source: the image file; it and the results may be URLs on a cluster.
        status: `written`, `kept` (its results were there already, made from the same) or `failed`.
        mask: the palette image, `None` if it failed or none was asked for.
        overlay: the picture to look at, `None` if it failed or none was asked for.
        size: width and height in pixels, `None` unless it was segmented now.
        shares: share of the pixels of each class id that occurs, 0–1, the largest first.
        error: why it failed.
        score: what the function returned that `folder.segment` was given for it.
        stale: whether it was written in the place of results that Atrous had made from something
            else: another picture, another model or other settings.
    """

    source: Path | str
    status: Literal["written", "kept", "failed"]
    mask: Path | str | None = None
    overlay: Path | str | None = None
    size: tuple[int, int] | None = None
    shares: dict[int, float] | None = None
    error: str = ""
    score: Any = None
    stale: bool = False

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
        mask: the file of its class ids, `None` if none is wanted.
        overlay: the file to look at, `None` if none is wanted.
        made_from: hash of what the mask depends on.
        painted: hash of what the overlay depends on.
        stale: whether results that Atrous made from something else are there.
    """

    source: Path
    mask: Path | None
    overlay: Path | None
    made_from: str
    painted: str
    stale: bool = False


class Results:
    """The results of one job on this machine.

    Args:
        output: where they go; its folder is made.
        predictor: what makes them.
        setting: what else a mask depends on.
        stamp_of: reads the stamp of a mask, see `state`; by default by the ending of its name.

    Attributes:
        output: where they go.

    Raises:
        InputError: the output cannot be a folder.
    """

    def __init__(
        self,
        output: Output,
        predictor: Predictor,
        setting: str = "",
        stamp_of: Callable[[Path], FileStamp | None] | None = None,
    ) -> None:
        self.output, self._predictor, self._setting = output, predictor, setting
        self._stamp_of = stamp_of or _mask_stamp
        place = Path(output.place)
        make_folder(place.parent if output.single else place)

    def target(self, path: Path, stem: Path, suffix: str = ".png") -> Target:
        """Where the results of an image go.

        Args:
            path: the image file.
            stem: see `atrous.jobs.names.stems`.
            suffix: of the mask.
        """
        output = self.output
        made_from = self._made_from(path)
        painted = hashed(made_from, f"{output.opacity:g}", image.PAINT)
        if output.single:
            place = Path(output.place)
            seen = place.suffix.lower() in JPEG
            mask, overlay = (None, place) if seen else (place, None)
            return Target(path, mask, overlay, made_from, painted)
        names = output.names(stem, suffix)
        overlay = Path(output.place, names[OVERLAYS]) if OVERLAYS in names else None
        return Target(path, Path(output.place, names[MASKS]), overlay, made_from, painted)

    def claim(self, target: Target) -> Target | ImageResult:
        """The results that are there already and stay, or where to write them.

        Raises:
            InputError: something is in the way that Atrous did not make.
        """
        output, files = self.output, self.files(target)
        for path, _, _ in files:
            if path.exists() and path.samefile(target.source):
                raise InputError(f"{path}: its result would replace it; choose another `output`")
        found: list[FileStamp | None] = []

        def remembered(
            path: Path, stamp_of: Callable[[Path], FileStamp | None]
        ) -> FileStamp | None:
            # Versions that made masks without hashes of their content made overlays without stamps.
            earlier = any(stamp and not stamp.made_from for stamp in found)
            found.append(stamp_of(path) or (FileStamp("", "") if earlier else None))
            return found[-1]

        there = [
            state(path, made_from, partial(remembered, stamp_of=stamp_of), force=output.force)
            for path, made_from, stamp_of in files
        ]
        if not (output.force or output.again) and set(there) == {"stands"}:
            return ImageResult(target.source, "kept", target.mask, target.overlay)
        return replace(target, stale="stale" in there)

    def write(
        self,
        target: Target,
        pixels: Pixels,
        class_map: Pixels,
        valid: NDArray[np.bool_] | None = None,
    ) -> ImageResult:
        """Write the results of an image that is in memory.

        Args:
            target: where they go.
            pixels: `(H, W, 3)` uint8, RGB.
            class_map: `(H, W)` uint8, class ids.
            valid: `(H, W)` bool, where the image has data; the shares are of those pixels.
        """
        shares = image.class_shares(class_map, valid)
        self.draw(target, pixels, class_map, shares)
        if target.mask is not None:
            image.write_mask(target.mask, class_map, self._predictor.labels, target.made_from)
        return self.written(target, class_map.shape[1], class_map.shape[0], shares)

    def written(
        self, target: Target, width: int, height: int, shares: dict[int, float]
    ) -> ImageResult:
        """What is said of results that were written now; arguments as of `ImageResult`."""
        size, mask, overlay = (width, height), target.mask, target.overlay
        return ImageResult(
            target.source, "written", mask, overlay, size, shares, stale=target.stale
        )

    def draw(
        self, target: Target, pixels: Pixels, class_map: Pixels, shares: dict[int, float]
    ) -> None:
        """Write the overlay, if one is wanted; arguments as of `image.write_overlay`."""
        if target.overlay is not None:
            labels, opacity = self._predictor.labels, self.output.opacity
            image.write_overlay(
                target.overlay, pixels, class_map, labels, opacity, shares, target.painted
            )

    def files(self, target: Target) -> list[tuple[Path, str, Callable[[Path], FileStamp | None]]]:
        """Every file with what it is made from, and what reads its stamp."""
        found: list[tuple[Path, str, Callable[[Path], FileStamp | None]]] = []
        if target.mask is not None:
            found.append((target.mask, target.made_from, self._stamp_of))
        if target.overlay is not None:
            found.append((target.overlay, target.painted, of_jpeg))
        return found

    def _made_from(self, path: Path) -> str:
        """Hash of image, reading, model and setting, of which a mask is a function."""
        try:
            return hashed(
                image.content_of(path), image.READING, model_of(self._predictor), self._setting
            )
        except OSError:
            return "unreadable"


def model_of(predictor: Predictor) -> str:
    """Hash of the network, its preprocessing and its labels: what all results of a run share."""
    settings = predictor.preprocess.model_dump_json()
    labels = json.dumps(predictor.labels.to_dict(), sort_keys=True)
    return hashed(predictor.engine.identity, settings, labels)


State = Literal["absent", "stands", "stale", "foreign"]
"""What is where a result goes: nothing; what Atrous made from the same, or from something else; or
something that Atrous did not make, which is there to be replaced only with `force`."""


def state(
    path: Path,
    made_from: str,
    stamp_of: Callable[[Path], FileStamp | None],
    *,
    force: bool = False,
) -> State:
    """Find out what is where a result goes. This is the rule of what may be replaced.

    Args:
        path: where the result goes.
        made_from: what it would be made from, see `atrous.stamp.FileStamp`.
        stamp_of: reads the stamp of such a file, `None` if there is none or the file was changed.
        force: replace whatever is there.

    Raises:
        InputError: something is in the way that Atrous did not make, or that was changed since.
    """
    if is_special(path) or not (path.exists() or path.is_symlink()):
        return "absent"
    found = stamp_of(path) if path.is_file() else None
    if found is not None:
        return "stands" if found.made_from == made_from else "stale"
    if force and not path.is_dir():
        return "foreign"
    if path.is_dir():
        raise InputError(f"{path}: a folder is in the way; move it away")
    raise InputError(
        f"{path}: is in the way and kept: Atrous did not make it, or it was changed since; move it "
        "away, or replace it with `force`"
    )


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


def is_result(path: Path) -> bool:
    """Whether a file is a mask or an overlay that Atrous wrote, by its name and its first bytes."""
    return path.suffix.lower() in _SUFFIXES and is_stamped(path)


def is_result_in_place(path: Path) -> bool:
    """The same for files below folders called as those of results; no other file is opened.

    For searches that read few of many files, where opening each of them would take the time.
    """
    return not _FOLDERS.isdisjoint(path.absolute().parent.parts) and is_result(path)


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that were killed have half written."""
    for kind in FOLDERS:
        for path in (folder / kind).rglob(".*.part"):
            path.unlink(missing_ok=True)


def _mask_stamp(mask: Path) -> FileStamp | None:
    if mask.suffix == ".png":
        return image.mask_stamp(mask)
    from atrous.jobs.large.raster import stamp_of  # needs rasterio

    return stamp_of(mask)
