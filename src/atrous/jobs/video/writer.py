"""Videos on their way into a file, through PyAV."""

from __future__ import annotations

import errno
import logging
import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atrous import files
from atrous.errors import ConfigError, InputError
from atrous.jobs.output import state
from atrous.jobs.video import SUFFIXES
from atrous.jobs.video.colour import Colours
from atrous.jobs.video.orientation import Orientation
from atrous.jobs.video.pyav import av, reason
from atrous.jobs.video.reader import Reader
from atrous.jobs.video.seal import seal, stamp_of
from atrous.jobs.video.sound import Sound, add_sound
from atrous.runtime.stages import helper_threads
from atrous.stamp import hashed

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_log = logging.getLogger("atrous")

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EPIPE}
_LONGEST = 255  # bytes of a name

# The quality is about that of the source: CRF 20 of x264, and what looks like it in VP9.
_ENCODERS = {
    "libx264": {"preset": "veryfast", "crf": "20"},
    "libopenh264": {},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "28", "b:v": "0"},
}


class Writer:
    """A video on its way into a file, which gets its name when it is whole.

    Pictures of odd width or height get one more column or row, a copy of the last: 4:2:0, the
    only layout that every player shows, needs even ones.

    Args:
        output: what to write; its suffix says as what.
        reader: whose time base, shape of pixels and audio are taken over.
        first: its first frame.
        colours: makes the encoder's frames.
        made_from: what it is stamped with, see `atrous.stamp.FileStamp`; without a stamp, as for
            what a camera saw once, it counts as nobody's to replace.

    Attributes:
        encoder: the name of the encoder.
        frames: how many were written.
        width: of a picture, before one column more.
        height: of a picture, before one row more.
        notes: what is not as in the source, in words.

    Raises:
        ConfigError: this PyAV has no encoder for it.
        InputError: the file cannot be written.
    """

    def __init__(
        self,
        output: Path,
        reader: Reader,
        first: VideoFrame,
        colours: Colours,
        made_from: str = "",
    ) -> None:
        self.output, self.frames, self._made_from = output, 0, made_from
        self._reader, self._colours = reader, colours
        self._last: int | None = None
        self._turn = Orientation.of(first)
        self.width, self.height = self._turn.size(first.width, first.height)
        self._temporary = output.with_name(
            f"{files.own_prefix()}{secrets.token_hex(8)}.part{output.suffix}"
        )
        self._sounds: dict[int, Sound] = {}
        self.notes: tuple[str, ...] = ()
        self._container: Any = None
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            files.clean(output.parent)
            # Whether a container holds an audio track is for sure when its head is written.
            for copy, sounds in ((True, reader.sounds), (False, reader.sounds), (False, [])):
                try:
                    self._open(first, sounds, copy)
                    break
                except (av.FFmpegError, OSError, ValueError):
                    if not sounds:
                        raise
                    self._abandon()
        except BaseException as error:
            self._abandon()
            if isinstance(error, (av.FFmpegError, OSError, ValueError)):
                raise InputError(f"{output}: cannot be written: {reason(error)}") from None
            raise

    @property
    def audio_tracks(self) -> int:
        """How many audio tracks it has."""
        return len(self._sounds)

    def picture(self, pixels: NDArray[np.uint8]) -> VideoFrame:
        """Pixels `(height, width, 3)` uint8 RGB as the encoder takes them; any thread may call."""
        odd = ((0, self.height % 2), (0, self.width % 2), (0, 0))
        if self.height % 2 or self.width % 2:
            pixels = np.pad(pixels, odd, mode="edge")
        return self._colours.frame(pixels)

    def write(self, picture: VideoFrame, source: VideoFrame) -> None:
        """Encode what `picture` returned, to be shown when `source` was."""
        base = source.time_base or self._reader.video.time_base or 1 / self._reader.rate
        length = source.duration or max(1, round(1 / self._reader.rate / base))
        pts = source.pts
        if self._last is not None and (pts is None or pts <= self._last):
            # Damaged clips and some cameras repeat times, which encoders refuse.
            pts = self._last + (length if pts is None else 1)
        self._last = picture.pts = pts or 0
        picture.time_base, picture.duration = base, length
        self._mux(lambda: self._video.encode(picture))
        self.frames += 1

    def audio(self) -> None:
        """Write the audio that the reader has."""
        while self._reader.audio:
            packet = self._reader.audio.popleft()
            track = packet.stream_index
            if track in self._sounds:
                self._sound(track, self._sounds[track].packets(packet))

    def finish(self, output: Path, *, whole: bool = True) -> None:
        """End the file and give it a name."""
        try:
            self.audio()
            self._mux(lambda: self._video.encode(None))
            for track, sound in [*self._sounds.items()]:
                self._sound(track, sound.rest())
            self._container.close()
            if self._made_from:
                what = self._made_from if whole else hashed(self._made_from, "partial")
                seal(self._temporary, what, output.suffix)
            self._temporary.replace(output)
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"{output}: cannot be written: {reason(error)}") from None

    def keep(self) -> Path | None:
        """End the file early under a name that says so; `None` if there is nothing to keep."""
        try:
            if self.frames:
                part = _free(partial(self.output))
                self.finish(part, whole=False)
                return part
        except InputError:
            pass
        self._abandon()
        return None

    def _abandon(self) -> None:
        """Remove what was written."""
        if self._container is not None:
            with suppress(av.FFmpegError, OSError):
                self._container.close()
        self._container = None
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _mux(self, packets: Callable[[], Iterable[Packet[Any]]]) -> None:
        try:
            self._container.mux([*packets()])
        except (av.FFmpegError, OSError) as error:
            raise InputError(
                f"{self.output}: cannot be written: {reason(error)}; check the space on its disk"
            ) from None

    def _sound(self, track: int, packets: Iterable[Packet[Any]]) -> None:
        """Write packets of an audio track; one that cannot go on costs no frame."""
        try:
            for packet in packets:
                self._container.mux_one(packet)
        except (av.FFmpegError, OSError, ValueError) as error:
            if getattr(error, "errno", None) in _DISK:
                raise InputError(
                    f"{self.output}: cannot be written: {reason(error)}; check its disk"
                ) from None
            del self._sounds[track]
            _log.warning("%s: an audio track ends early: %s", self._reader.name, reason(error))

    def _open(self, first: VideoFrame, sounds: list[AudioStream], copy: bool) -> None:
        """Begin the file, with these audio tracks."""
        self._container = av.open(f"file:{self._temporary}", "w")
        self.encoder, self._video = self._add_video(first)
        self._sounds.clear()
        suffix, notes = self.output.suffix.lower(), []
        for number, stream in enumerate(self._reader.sounds, 1):
            name = f"audio track {number}"
            sound, note = None, f"{name} is left out, {suffix} cannot hold it"
            if stream in sounds:
                sound, note = add_sound(self._container, suffix, stream, name, copy=copy)
            if sound is not None:
                self._sounds[stream.index] = sound
            notes += [note] if note else []
        self.notes = tuple(notes)
        self._container.start_encoding()

    def _add_video(self, first: VideoFrame) -> tuple[str, VideoStream]:
        wanted = ["libvpx-vp9"] if self.output.suffix.lower() == ".webm" else [*_ENCODERS][:2]
        able = [name for name in wanted if name in av.codecs_available]
        if not able:
            raise ConfigError(
                f"{self.output}: needs the encoder {' or '.join(wanted)}, which this PyAV "
                f"was built without; install PyAV from PyPI"
            )
        video: Any = self._container.add_stream(
            able[0], rate=self._reader.rate, options=_ENCODERS[able[0]]
        )
        context, source, tags = video.codec_context, self._reader.video, self._colours.tags
        context.width = self.width + self.width % 2
        context.height = self.height + self.height % 2
        context.pix_fmt = "yuv420p"
        context.thread_count = helper_threads()
        if source.time_base:
            video.time_base = context.time_base = source.time_base
        if shape := source.sample_aspect_ratio or source.codec_context.sample_aspect_ratio:
            context.sample_aspect_ratio = 1 / shape if self._turn.transposed else shape
        context.colorspace, context.color_range = tags.matrix, tags.extent
        context.color_primaries, context.color_trc = tags.primaries, tags.curve
        return able[0], video


def check_name(output: Path) -> None:
    """Refuse a name whose suffix is no container that we write.

    Raises:
        InputError: it is none.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{output}: expected a name that ends in one of {', '.join(sorted(SUFFIXES))}, got "
            f"{output.suffix or 'none'}"
        )


def partial(output: Path) -> Path:
    """Where the beginning of a video is kept that could not be finished."""
    ending = f".partial{output.suffix}"
    room = _LONGEST - len(os.fsencode(ending))
    return output.with_name(os.fsdecode(os.fsencode(output.stem)[:room]) + ending)


def _free(part: Path) -> Path:
    """A name near this one under which nothing is that Atrous did not make."""
    for name in (part, *(part.with_stem(f"{part.stem}-{number}") for number in range(2, 100))):
        with suppress(InputError):
            state(name, "", stamp_of)
            return name
    raise InputError(f"{part}: is in the way")


def upright(frame: VideoFrame, colours: Colours, width: int, height: int) -> NDArray[np.uint8]:
    """RGB pixels `(height, width, 3)` uint8 as a person should see them.

    Args:
        frame: as it was decoded.
        colours: what its samples mean.
        width: of the result; a frame of another size, after a change on the way, is fitted into
            it, with black bars where its shape differs.
        height: of the result.
    """
    turn = Orientation.of(frame)
    shown = turn.size(frame.width, frame.height)
    scale = min(width / shown[0], height / shown[1])
    across, down = (max(1, round(side * scale)) for side in shown)
    if width - across <= width / 100 and height - down <= height / 100:
        across, down = width, height
    pixels = turn(colours.rgb(frame, *turn.size(across, down)))
    if (across, down) == (width, height):
        return pixels
    left, top = (width - across) // 2, (height - down) // 2
    result = np.zeros((height, width, 3), np.uint8)
    result[top : top + down, left : left + across] = pixels
    return result
