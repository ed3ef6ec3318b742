"""Video files and cameras in, through PyAV: frames, and audio as it was compressed."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from atrous.errors import AtrousError, InputError, MissingInput
from atrous.jobs.video.clock import Clock
from atrous.jobs.video.interlaced import Deinterlacer
from atrous.jobs.video.joined import another
from atrous.jobs.video.pyav import ONE_FILE, av, reason
from atrous.pictures.opening import MAX_PIXELS
from atrous.runtime.stages import helper_threads

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_log = logging.getLogger("atrous")


NETWORK = ("rtsp://", "rtsps://", "rtmp://", "rtp://", "srt://", "tcp://", "udp://")
_TIMEOUT = 10.0  # seconds that a source on the network may stay silent

_TS_DISCONT = 0x200  # AVFMT_TS_DISCONT of FFmpeg
_FASTEST = 1000  # frames a second that are meant so; headers say 12800 where they do not know
_DOUBTFUL = 3  # packets of pictures before a join that may look cut short
_SLACK = 0.5  # seconds by which a header may promise too much


class _CutShort(Exception):
    """A packet is not whole."""


class Reader:
    """Frames of a clip or a camera, and its audio as it was compressed.

    Args:
        source: a file, `camera:N` (Video4Linux), a URL, or a container that PyAV has opened.
        live: whether frames come whether we keep up or not; by default the source's name says.
        max_pixels: of a frame; a larger one is refused before there is memory for it.

    Attributes:
        audio: packets that have come and nobody has taken.
        left_out: tracks that are neither `video` nor one of `sounds`, in words.
        live: see above.
        on_packet: called after every packet in the thread that takes frames.

    Raises:
        InputError: the source cannot be opened, has no video, or has too large a one.
    """

    def __init__(
        self,
        source: str | Path | InputContainer,
        live: bool | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.name = str(source) if isinstance(source, str | Path) else source.name
        camera = self.name.startswith("camera:")
        network = self.name.startswith(NETWORK)
        self.live = live if live is not None else camera or network
        self.on_packet: Callable[[], None] | None = None
        self.audio: deque[Packet[Any]] = deque()
        self._max_pixels, self._read, self._found = max_pixels, 0, 0
        self._end, self._deinterlacer = Fraction(0), Deinterlacer()
        self._said: set[str] = set()
        self._heard: set[int] = set()
        self._size: tuple[int, int] | None = None
        if isinstance(source, str | Path):
            self._container = self._open(camera, network)
        else:
            self._container = source
        try:
            self.video = self._choose()
            self._check_size(self.video.codec_context)
        except InputError:
            self._container.close()
            raise
        self._clock = Clock(self._start())
        self.sounds: list[AudioStream] = [*self._container.streams.audio]
        self.left_out = _in_words(
            self._container, {self.video.index, *(s.index for s in self.sounds)}
        )
        self._decoder = self._choose_decoder()
        self._decoder.options = {"max_pixels": str(max_pixels)}
        self._decoder.thread_count = helper_threads()
        self._decoder.thread_type = "AUTO"

    @property
    def rate(self) -> Fraction:
        """Frames in a second, as far as the source says."""
        for rate in (self.video.average_rate, self.video.guessed_rate):
            if rate and 0 < rate <= _FASTEST:
                return rate
        return Fraction(25)

    def frames(self) -> Generator[VideoFrame]:
        """Frames in the order in which they are shown, at times that never jump back.

        Raises:
            InputError: the source is damaged here, has fallen silent, or a frame is too large.
        """
        try:
            for frame in self._pictures():
                self._found += 1
                yield frame
        except _CutShort as cut:
            for frame in self._held():
                self._found += 1
                yield frame
            raise self._damaged(str(cut)) from None
        except AtrousError:
            raise
        except Exception as error:  # of a library, about a source that may hold anything
            raise self._damaged(reason(error)) from None
        if not self._found:
            raise InputError(f"{self.name}: expected a video, found no frame in it")
        if self._end < self._length() - _SLACK:
            raise self._damaged(f"it ends at {float(self._end):.1f} s of {self._length():.1f} s")
        if not self.live and os.path.lexists(self.name) and another(Path(self.name), self._read):
            self._say(
                "another clip begins behind its end and is left out, as players do; join clips "
                "with FFmpeg's concat demuxer"
            )

    def close(self) -> None:
        """Close the source."""
        self._container.close()

    def _length(self) -> float:
        """Seconds that the header promises, 0 where it is no promise or covers other tracks too.

        Matroska skips what is damaged and says nothing; other containers complain, or guess.
        """
        container, known = self._container, len(self.sounds) + len(self._container.streams.video)
        if not self._heard.issuperset(sound.index for sound in self.sounds):
            return 0.0  # a track that cannot be read may be the longest
        if self.live or "matroska" not in container.format.name or len(container.streams) > known:
            return 0.0
        return (container.duration or 0) / av.time_base

    def _pictures(self) -> Iterator[VideoFrame]:
        """Frames; what is read beside them is noted.

        Raises:
            _CutShort: a packet of a picture is damaged.
        """
        for packet in self._whole():
            self._read = max(self._read, (packet.pos or 0) + packet.size)
            if packet.pts is not None:
                length = packet.duration or 0
                self._end = max(self._end, (packet.pts + length) * packet.time_base)
            if packet.stream is not self.video:
                self._take_sound(packet)
            else:
                for frame in self._decoded(packet):
                    self._check_size(frame)
                    self._check_change(frame)
                    yield from self._timed(self._deinterlacer.frames(frame))
            if self.on_packet is not None:
                self.on_packet()
        yield from self._timed(self._deinterlacer.rest())

    def _held(self) -> Iterator[VideoFrame]:
        """The whole frames that decoder and deinterlacer still hold."""
        with suppress(av.FFmpegError):
            for frame in self._decoder.decode(None):
                yield from self._timed(self._deinterlacer.frames(frame))
            yield from self._timed(self._deinterlacer.rest())

    def _whole(self) -> Iterator[Packet[Any]]:
        """The packets of a source.

        Raises:
            _CutShort: one of a picture is damaged.
        """
        doubtful: list[Packet[Any]] = []
        for packet in self._container.demux(self.video, *self.sounds):
            if packet.stream is not self.video or self.live:
                yield packet
            elif doubtful or packet.is_corrupt:
                doubtful.append(packet)
                # Where transport streams were joined, whole packets before that look cut short.
                if packet.dts is not None and packet.dts < (doubtful[0].dts or 0):
                    yield from doubtful
                    doubtful.clear()
                elif packet.dts is None or len(doubtful) > _DOUBTFUL:
                    raise _CutShort("a packet is cut short")
            else:
                yield packet

    def _take_sound(self, packet: Packet[Any]) -> None:
        if packet.size:
            self._heard.add(packet.stream_index)
        if packet.dts is None:
            packet.dts = packet.pts
        if packet.dts is None:  # the end, or nowhere
            return
        base, when = packet.time_base, packet.pts if packet.pts is not None else packet.dts
        length = (packet.duration or 0) * base
        shift = round(self._clock.shift(packet.stream_index, when * base, length) / base)
        packet.dts += shift
        packet.pts = when + shift
        self.audio.append(packet)

    def _timed(self, frames: list[VideoFrame]) -> list[VideoFrame]:
        """Let the times of frames go on from those before."""
        for frame in frames:
            base = frame.time_base or self.video.time_base
            if frame.pts is None or base is None:
                continue
            length = (frame.duration or 0) * base or 1 / self.rate
            shift = self._clock.shift(self.video.index, frame.pts * base, length)
            frame.pts += round(shift / base)
            if self._clock.jumps:
                self._say("its timestamps jump; they are continued from where they were")
        return frames

    def _check_change(self, frame: VideoFrame) -> None:
        if frame.interlaced_frame:
            self._say("its frames are interlaced; they are made whole")
        size = (frame.width, frame.height)
        if self._size is None:
            self._size = size
        elif size != self._size:
            (width, height), (before, above) = size, self._size
            self._say(
                "its frames change their size; those of another are fitted into the first",
                f"from {before}×{above} to {width}×{height} after {self._found} frames",
            )

    def _say(self, what: str, more: str = "") -> None:
        """Log what is noticed on the way, once."""
        if what not in self._said:
            self._said.add(what)
            _log.warning("%s: %s%s", self.name, what, f" ({more})" if more else "")

    def _start(self) -> Fraction | None:
        """The time that becomes 0: clocks of broadcasts and cameras start anywhere."""
        if self.live:
            return None
        anywhere = self._container.format.flags & _TS_DISCONT
        start = self._container.start_time if anywhere else 0
        return Fraction(start, av.time_base) if start is not None else None

    def _decoded(self, packet: Packet[Any]) -> list[VideoFrame]:
        try:
            return self._decoder.decode(packet if packet.size else None)
        except (av.FFmpegError, ValueError) as error:
            self._check_size(self._decoder)  # the decoder has no room for more either
            if self.live:  # one that joins in the middle has to wait for a key frame
                return []
            raise self._damaged(reason(error)) from None

    def _check_size(self, picture: VideoFrame | VideoCodecContext) -> None:
        width, height = picture.width, picture.height
        if width * height > self._max_pixels:
            raise InputError(
                f"{self.name}: frames of {width}×{height} are more than {self._max_pixels} pixels; "
                f"raise `max_pixels` to read them"
            )

    def _damaged(self, why: str) -> InputError:
        if self.live:
            return InputError(f"{self.name}: the source ended after {self._found} frames: {why}")
        if not self._found and self._container.format.name.startswith("webp"):
            return InputError(
                f"{self.name}: an animated WebP, which FFmpeg does not read; convert it to GIF"
            )
        return InputError(
            f"{self.name}: damaged after {self._found} frames, expected more ({why}); get the file "
            f"again, or repair it with: ffmpeg -err_detect ignore_err -i IN -c copy OUT"
        )

    def _choose(self) -> VideoStream:
        """The track of moving pictures that players show."""
        cover = av.stream.Disposition.attached_pic
        moving = [s for s in self._container.streams.video if not s.disposition & cover]
        if not moving:
            raise InputError(f"{self.name}: expected a video, found no pictures in it that move")
        default = [s for s in moving if s.disposition & av.stream.Disposition.default]
        chosen = (default or moving)[0]
        if chosen.codec_context is None:
            raise InputError(
                f"{self.name}: its pictures are in a format that this PyAV cannot decode; convert "
                f"it with a program that plays it"
            )
        return chosen

    def _choose_decoder(self) -> VideoCodecContext:
        """One that sees transparency, which FFmpeg's own decoders of VP8 and VP9 overlook."""
        own: Any = self.video.codec_context
        name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(own.name, "")
        if self.video.metadata.get("alpha_mode") != "1" or name not in av.codecs_available:
            return cast("VideoCodecContext", own)
        decoder: Any = av.CodecContext.create(name, "r")
        decoder.extradata = own.extradata
        return cast("VideoCodecContext", decoder)

    def _open(self, camera: bool, network: bool) -> InputContainer:
        if "://" in self.name and not (network or os.path.lexists(self.name)):
            raise InputError(
                f"{self.name}: a URL of this kind is not opened, expected one of a camera "
                f"({', '.join(NETWORK)}); download the clip and name its file"
            )
        options = {"max_pixels": str(self._max_pixels), **({} if network else ONE_FILE)}
        try:
            if camera:
                return av.open(f"/dev/video{self.name.removeprefix('camera:')}", format="v4l2")
            if self.name.startswith("rtsp"):
                options["rtsp_transport"] = "tcp"
            return av.open(
                location(self.name),
                options=options,
                timeout=_TIMEOUT if network else None,
                metadata_errors="replace",
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            step = "name a camera that is there" if camera else "check that it is whole and a video"
            there = camera or network or os.path.lexists(self.name)
            raise (InputError if there else MissingInput)(
                f"{self.name}: expected a video, cannot be opened: {reason(error)}; {step}"
            ) from None


def location(name: str) -> str:
    """What FFmpeg is to open: a name that has a colon or a percent sign is none of its own."""
    return f"file:{name}" if os.path.lexists(name) else name


def _in_words(container: InputContainer, used: set[int]) -> tuple[str, ...]:
    """The tracks of a container that are not used."""
    kinds = Counter(str(s.type) for s in container.streams if s.index not in used)
    return tuple(f"{count} {kind} track{'s'[: count > 1]}" for kind, count in sorted(kinds.items()))
