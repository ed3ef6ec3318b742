"""Segment many image files into a folder of masks and overlays, losing nothing on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from atrous import image
from atrous.errors import AtrousError, InputError
from atrous.files import sha256
from atrous.runtime.predictor import Predictor
from atrous.runtime.sources import Source


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one image.

    Attributes:
        source: the image file.
        status: `written`, `kept` (its results were there already), `stale` (they were there and
            are kept, but were made from another image or by another model) or `failed`.
        mask: the palette PNG, `None` if it failed.
        overlay: the picture to look at, `None` if it failed or none was asked for.
        size: width and height in pixels, `None` unless it was segmented now.
        shares: share of the pixels of each class id that occurs, 0–1, the largest first.
        error: why it failed.
    """

    source: Path
    status: Literal["written", "kept", "stale", "failed"]
    mask: Path | None = None
    overlay: Path | None = None
    size: tuple[int, int] | None = None
    shares: dict[int, float] | None = None
    error: str = ""


def segment(
    predictor: Predictor,
    sources: Iterable[Source],
    output: Path,
    *,
    overlays: bool = True,
    opacity: float = 0.5,
    force: bool = False,
    max_pixels: int = image.MAX_PIXELS,
) -> Iterator[Result]:
    """Segment images one after the other; only one is in memory at a time.

    A file that fails becomes a result that says why, and the next one follows.

    Args:
        predictor: the network.
        sources: see `atrous.runtime.sources.find`.
        output: gets `masks/STEM.png` and `overlays/STEM.jpg`.
        overlays: whether to draw overlays.
        opacity: of the overlays' paint, 0–1.
        force: make results again that are there already.
        max_pixels: refuse larger images before decoding them.

    Raises:
        InputError: `output` cannot be a folder.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output}: cannot be made a folder: {error.strerror}") from None
    for source in sources:
        mask = output / "masks" / f"{source.stem}.png"
        overlay = output / "overlays" / f"{source.stem}.jpg" if overlays else None
        if not force and mask.exists() and (overlay is None or overlay.exists()):
            same = image.mask_stamp(mask) == _stamp(source.path, predictor)
            yield Result(source.path, "kept" if same else "stale", mask, overlay)
            continue
        try:
            stamp = _stamp(source.path, predictor)
            pixels = image.read(source.path, max_pixels)
            class_map = predictor(pixels).class_map()
            if overlay is not None:
                image.write_overlay(overlay, pixels, class_map, predictor.labels, opacity)
            # The mask last: where it is, the rest is too.
            image.write_mask(mask, class_map, predictor.labels, stamp)
        except AtrousError as error:
            yield Result(source.path, "failed", error=str(error))
        except (OSError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            yield Result(source.path, "failed", error=f"{source.path}: {reason}")
        else:
            size = (pixels.shape[1], pixels.shape[0])
            shares = image.class_shares(class_map)
            yield Result(source.path, "written", mask, overlay, size, shares)


def _stamp(path: Path, predictor: Predictor) -> str:
    """What a mask depends on: the image's content, the model and its preprocessing."""
    try:
        content = sha256(path)
    except OSError:
        return "unreadable"
    settings = predictor.preprocess.model_dump_json()
    what = f"{content} {predictor.engine.identity} {settings}"
    return hashlib.sha256(what.encode()).hexdigest()
