"""Segment many image files into a folder of masks and overlays, losing nothing on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from atrous import image
from atrous.errors import AtrousError, InputError
from atrous.files import sha256
from atrous.jobs.sources import Source
from atrous.runtime.pipeline import TIMEOUT, Pipeline
from atrous.runtime.predictor import Predictor
from atrous.runtime.stages import Frame, Steps, stages
from atrous.runtime.worker import SKIP


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one image.

    Attributes:
        source: the image file; it and the results may be URLs on a cluster.
        status: `written`, `kept` (its results were there already), `stale` (they were there and
            are kept, but were made from another image or by another model) or `failed`.
        mask: the palette PNG, `None` if it failed.
        overlay: the picture to look at, `None` if it failed or none was asked for.
        size: width and height in pixels, `None` unless it was segmented now.
        shares: share of the pixels of each class id that occurs, 0–1, the largest first.
        error: why it failed.
        score: what the function returned that `segment` was given for it.
    """

    source: Path | str
    status: Literal["written", "kept", "stale", "failed"]
    mask: Path | str | None = None
    overlay: Path | str | None = None
    size: tuple[int, int] | None = None
    shares: dict[int, float] | None = None
    error: str = ""
    score: Any = None


def segment(
    predictor: Predictor,
    sources: Iterable[Source],
    output: Path,
    *,
    overlays: bool = True,
    opacity: float = 0.5,
    force: bool = False,
    max_pixels: int = image.MAX_PIXELS,
    batch: int | None = None,
    pipelined: bool = True,
    score: Callable[[Frame], Any] | None = None,
    timeout: float | None = TIMEOUT,
) -> Generator[Result]:
    """Segment images as a stream: a few are under way at a time, results come in order.

    A file that fails becomes a result that says why, and the others go on. Closing the generator
    ends the work; what was finished is kept.

    Args:
        predictor: the network.
        sources: see `atrous.jobs.sources.find`.
        output: gets `masks/STEM.png` and `overlays/STEM.jpg`.
        overlays: whether to draw overlays.
        opacity: of the overlays' paint, 0–1.
        force: make results again that are there already.
        max_pixels: refuse larger images before decoding them.
        batch: images that the network sees at once; by default its own number, 1 if it is free.
        pipelined: overlap decoding, the network and writing, which takes more cores than the
            network's. Else one thread for every call of the network does all that an image needs.
        score: called with every frame that was written; `outputs["infer"]` is its `Prediction`.
        timeout: seconds after which a step counts as stuck.

    Raises:
        ConfigError: the network takes another number of images at a time.
        InputError: `output` cannot be a folder.
        StreamError: a step is stuck.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output}: cannot be made a folder: {error.strerror}") from None
    job = _Job(predictor, output, overlays, opacity, force, score)
    steps = Steps(
        predictor,
        read=lambda source: image.read(source.path, max_pixels),
        taps=() if score is None else ("infer",),
    )
    work = stages(steps, before={"check": job.check}, after={"write": job.write}, batch=batch)
    together = not pipelined and work.network.batch == 1
    with Pipeline(work.in_one() if together else work, timeout=timeout) as pipeline:
        for item in pipeline.map(Frame(source) for source in sources):
            frame: Frame = item.value
            if item.error is None:
                yield frame.note
            elif isinstance(item.error, AtrousError):
                yield Result(frame.source.path, "failed", error=_named(frame.source, item.error))
            elif isinstance(item.error, (OSError, MemoryError)):
                reason = getattr(item.error, "strerror", None) or type(item.error).__name__
                yield Result(frame.source.path, "failed", error=f"{frame.source.path}: {reason}")
            else:
                raise item.error


@dataclass(frozen=True, slots=True)
class _Job:
    """What is done to a frame before it is decoded, and at last."""

    predictor: Predictor
    output: Path
    overlays: bool
    opacity: float
    force: bool
    score: Callable[[Frame], Any] | None

    def check(self, frame: Frame) -> object:
        """Leave out what has been done already."""
        source: Source = frame.source
        mask, overlay = self._paths(source)
        stamp = stamp_of(source.path, self.predictor)
        if not self.force and mask.exists() and (overlay is None or overlay.exists()):
            same = image.mask_stamp(mask) == stamp
            frame.note = Result(source.path, "kept" if same else "stale", mask, overlay)
            return SKIP
        frame.note = stamp
        return None

    def write(self, frame: Frame) -> None:
        """Write the mask last: where it is, the rest is too."""
        mask, overlay = self._paths(frame.source)
        labels = self.predictor.labels
        assert frame.pixels is not None
        assert frame.class_map is not None
        if overlay is not None:
            image.write_overlay(overlay, frame.pixels, frame.class_map, labels, self.opacity)
        image.write_mask(mask, frame.class_map, labels, frame.note)
        size = (frame.pixels.shape[1], frame.pixels.shape[0])
        shares = image.class_shares(frame.class_map)
        score = None if self.score is None else self.score(frame)
        frame.note = Result(frame.source.path, "written", mask, overlay, size, shares, score=score)

    def _paths(self, source: Source) -> tuple[Path, Path | None]:
        overlay = self.output / "overlays" / f"{source.stem}.jpg" if self.overlays else None
        return self.output / "masks" / f"{source.stem}.png", overlay


def _named(source: Source, error: AtrousError) -> str:
    """An error that names its image."""
    text = str(error)
    return text if str(source.path) in text else f"{source.path}: {text}"


def stamp_of(path: Path, predictor: Predictor) -> str:
    """What a mask depends on: the image's content, the model and its preprocessing."""
    try:
        content = sha256(path)
    except OSError:
        return "unreadable"
    settings = predictor.preprocess.model_dump_json()
    what = f"{content} {predictor.engine.identity} {settings}"
    return hashlib.sha256(what.encode()).hexdigest()
