"""Segment a video: a clip or a camera in, the same clip with its classes painted on out."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from inspect import GEN_RUNNING, getgeneratorstate
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atrous.errors import AtrousError, InputError
from atrous.files import sha256
from atrous.jobs.output import model_of, state
from atrous.jobs.video.colour import Colours
from atrous.jobs.video.orientation import Orientation
from atrous.jobs.video.paint import Paint
from atrous.jobs.video.pyav import ONE_FILE, av
from atrous.jobs.video.reader import Reader, location
from atrous.jobs.video.seal import stamp_of
from atrous.jobs.video.writer import Writer, check_name, upright
from atrous.palette import OPACITY
from atrous.pictures.opening import MAX_PIXELS
from atrous.runtime.pipeline import TIMEOUT, Pipeline, room
from atrous.runtime.predictor import Predictor
from atrous.runtime.stages import Frame, Steps, stages
from atrous.runtime.worker import SKIP, Item
from atrous.stamp import hashed

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

Pixels = NDArray[np.uint8]

_log = logging.getLogger("atrous")
_READING = "video-1"  # changes where the same clip comes out otherwise
_PATIENCE = 12.0  # a little more than a source on the network may stay silent


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a video.

    Attributes:
        output: the file.
        frames: how many it has; 0 if it is kept and does not say.
        segmented: how many of them the network saw.
        dropped: frames of a live source that had to make room for newer ones.
        size: width and height of a picture in it.
        encoder: what compressed it.
        audio: how many audio tracks it has.
        seconds: how long it took.
        kept: whether it was there already, made from the same by the same model, and stays.
    """

    output: Path
    frames: int
    segmented: int
    dropped: int
    size: tuple[int, int]
    encoder: str
    audio: int
    seconds: float
    kept: bool = False


def segment_video(
    predictor: Predictor,
    source: str | Path | InputContainer,
    output: Path,
    *,
    overlay: bool = True,
    opacity: float = OPACITY,
    every: int = 1,
    batch: int | None = None,
    force: bool = False,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int | None], object] | None = None,
    live: bool | None = None,
    timeout: float | None = TIMEOUT,
) -> Summary:
    """Segment a video; every frame keeps its place and its time.

    A live source never waits: where the network does not keep up, frames are left out. It ends
    when the source does or at a `KeyboardInterrupt`, and its file is whole. A clip that cannot be
    finished, because it is damaged, the network fails or at a `KeyboardInterrupt`, leaves what was
    done as `NAME.partial.SUFFIX`, which plays. Rotated and mirrored clips are put upright, HDR is
    brought to sRGB, and times that jump back go on from where they were. Audio is copied as it is,
    or encoded anew where the output cannot hold it; subtitles and other tracks are left out. What
    is not as in the source is logged once.

    Args:
        predictor: the network.
        source: a file, `camera:N`, a URL, or a container that PyAV has opened, closed at the end.
        output: `.mp4`, `.m4v`, `.mov`, `.mkv`, `.ts` (H.264) or `.webm` (VP9).
        overlay: paint over the picture; else the palette colours alone.
        opacity: of the paint, 0–1.
        every: only each that-many-th frame goes through the network, those between show its
            classes.
        batch: frames that the network sees at once; by default its own number, 1 if it is free.
        force: make the output again if it is there already, whoever made it.
        max_pixels: of a frame; a source with a larger one is refused.
        progress: called after every frame with how many are done, and how many there are if the
            file says so.
        live: whether the source goes on whether we keep up or not; by default its name says.
        timeout: seconds after which a step counts as stuck.

    Raises:
        ConfigError: the network takes another number of frames at a time.
        InputError: an argument is out of range, the source cannot be read or is damaged, or the
            output cannot be written.
        EngineError: the network failed.
        StreamError: a step is stuck.
    """
    if every < 1 or not 0 <= opacity <= 1:
        raise InputError(
            f"expected every of 1 or more and an opacity of 0–1, got {every} and {opacity:g}"
        )
    check_name(output)
    began = time.perf_counter()
    made_from = _made_from(source, predictor, overlay, opacity, every)
    if _stands(source, output, made_from, force):
        return _kept_as_it_is(output, time.perf_counter() - began)
    reader = Reader(source, live, max_pixels)
    frames = reader.frames()
    try:
        first = next(frames)
        colours = Colours(reader.name, first)
        writer = Writer(output, reader, first, colours, made_from)
        _tell(reader, first, colours, writer)
        total = None if reader.live else reader.video.frames or None
        job = _Job(
            Paint(predictor.labels, opacity), overlay, colours, writer, every, progress, total
        )
        try:
            steps = Steps(predictor, read=job.read)
            work = stages(
                steps, before={"choose": job.choose}, after={"paint": job.paint}, batch=batch
            )
            pipeline = Pipeline(
                work,
                # Frames between two of the network's take places too, and it must not run dry.
                capacity=room(work) * min(every, 4),
                overflow="drop" if reader.live else "block",
                timeout=timeout,
            )
            values = (Frame(_Shot(*shot)) for shot in enumerate(chain([first], frames)))
            if reader.live:
                _follow(pipeline, values, job.done)
            else:
                reader.on_packet = writer.audio
                with pipeline, closing(pipeline.map(values)) as items:  # type: ignore[type-var]
                    for item in items:
                        job.done(item)
            writer.finish(output)
        except AtrousError as error:
            raise type(error)(f"{error}; {_kept(writer)}") from None
        except BaseException:
            _log.warning("%s: not finished; %s", output, _kept(writer))
            raise
    finally:
        if (
            getgeneratorstate(frames) != GEN_RUNNING
        ):  # a camera that hangs is left to the thread that reads it
            reader.close()
    size = (writer.width + writer.width % 2, writer.height + writer.height % 2)
    return Summary(
        output,
        writer.frames,
        job.segmented,
        pipeline.dropped + job.unseen,
        size,
        writer.encoder,
        writer.audio_tracks,
        time.perf_counter() - began,
    )


@dataclass(frozen=True, slots=True)
class _Shot:
    """A frame of the source and its number."""

    number: int
    picture: VideoFrame


class _Job:
    """What is done to the frames of one video.

    Args:
        paint: makes the pictures.
        overlay: whether over the frames.
        colours: what the samples of the source mean.
        writer: takes the pictures.
        every: only each that-many-th frame goes through the network.
        progress: called with the frames written and `total`.
        total: how many there will be.

    Attributes:
        segmented: frames that the network saw.
        unseen: frames left out because none before them was segmented.
    """

    def __init__(
        self,
        paint: Paint,
        overlay: bool,
        colours: Colours,
        writer: Writer,
        every: int,
        progress: Callable[[int, int | None], object] | None,
        total: int | None,
    ) -> None:
        self.segmented = self.unseen = 0
        self._paint, self._overlay, self._writer, self._every = paint, overlay, writer, every
        self._progress, self._total, self._colours = progress, total, colours
        self._latest: Pixels | None = None

    def choose(self, frame: Frame) -> object:
        """Leave out what the network need not see."""
        return SKIP if frame.source.number % self._every else None

    def read(self, shot: _Shot) -> Pixels:
        """The pixels of a frame."""
        return upright(shot.picture, self._colours, self._writer.width, self._writer.height)

    def paint(self, frame: Frame) -> None:
        """Make the picture of a frame that the network saw."""
        assert frame.class_map is not None
        frame.note = self._picture(frame.pixels if self._overlay else None, frame.class_map)
        frame.pixels = None

    def done(self, item: Item[Frame]) -> None:
        """Write a frame, in order."""
        if item.error is not None:
            raise self._failure(item.error)
        frame, writer = item.value, self._writer
        writer.audio()
        if frame.class_map is not None:
            self._latest, self.segmented = frame.class_map, self.segmented + 1
            picture = frame.note
        elif self._latest is not None:
            pixels = self.read(frame.source) if self._overlay else None
            picture = self._picture(pixels, self._latest)
        else:
            self.unseen += 1
            return
        writer.write(picture, frame.source.picture)
        if self._progress is not None:
            self._progress(writer.frames, self._total)

    def _failure(self, error: Exception) -> Exception:
        """What a step failed with, as an error that names the clip if the clip is to blame."""
        if isinstance(error, MemoryError):
            size = f"{self._writer.width}×{self._writer.height}"
            return InputError(f"{self._writer.output}: no memory for frames of {size}")
        return error

    def _picture(self, pixels: Pixels | None, class_map: Pixels) -> VideoFrame:
        return self._writer.picture(self._paint(pixels, class_map))


def _made_from(source: str | Path | InputContainer, predictor: Predictor, *setting: object) -> str:
    """Hash of all that a video depends on; empty if its source can be read only once.

    Raises:
        InputError: the source cannot be read.
    """
    if not isinstance(source, str | Path) or not os.path.lexists(source):
        return ""
    if not Path(source).is_file():
        return ""
    try:
        return hashed(sha256(Path(source)), _READING, model_of(predictor), *map(str, setting))
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror}") from None


def _stands(source: str | Path | InputContainer, output: Path, made_from: str, force: bool) -> bool:
    """Whether the output is there already, made from the same.

    Raises:
        InputError: it is the source, or another file that is not to be replaced.
    """
    there = isinstance(source, str | Path) and os.path.lexists(source)
    if there and output.exists() and output.samefile(str(source)):
        raise InputError(f"{output}: is the source itself; name another output")
    found = state(output, made_from, stamp_of, force=force)
    if found == "stale" and not made_from and not force:
        raise InputError(f"{output}: is there already; name another output, or give `force`")
    return found == "stands" and not force


def _kept_as_it_is(output: Path, seconds: float) -> Summary:
    """What an output has that is there already."""
    with av.open(location(str(output)), options=ONE_FILE) as container:
        video, sounds = container.streams.video[0], container.streams.audio
        size = (video.width, video.height)
        return Summary(output, video.frames, 0, 0, size, "", len(sounds), seconds, kept=True)


def _tell(reader: Reader, first: VideoFrame, colours: Colours, writer: Writer) -> None:
    """Log what will not be as in the source."""
    notes = [colours.change] if colours.change else []
    if oblique := Orientation.of(first).oblique:
        notes.append(f"it is to be shown turned by {oblique:.0f}°, which is left undone")
    notes += writer.notes
    if reader.left_out:
        notes.append(f"left out: {', '.join(reader.left_out)}")
    if notes:
        _log.warning("%s: %s", reader.name, "; ".join(notes))


def _follow(
    pipeline: Pipeline[Frame], values: Iterable[Frame], done: Callable[[Item[Frame]], None]
) -> None:
    """Read a live source in a thread of its own, so that it never waits for what follows.

    A `KeyboardInterrupt` ends it, as nothing else would.
    """
    failures: list[Exception] = []

    def capture() -> None:
        try:
            for value in values:
                pipeline.submit(value)
        except Exception as error:
            failures.append(error)
        finally:
            pipeline.close()

    thread = threading.Thread(target=capture, daemon=True, name="atrous capture")
    thread.start()
    try:
        with closing(pipeline.results()) as items:  # type: ignore[type-var]
            for item in items:
                done(item)
    except KeyboardInterrupt:
        return
    finally:
        pipeline.cancel()
        thread.join(_PATIENCE)
    if failures:
        raise failures[0]


def _kept(writer: Writer) -> str:
    """End the file early and say where it is."""
    part = writer.keep()
    if part is None:
        return "nothing was written"
    return f"the first {writer.frames} frames are kept in {part}"
