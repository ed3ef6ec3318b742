"""Video files and cameras in, video files out, through PyAV (the extra `video`)."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous.errors import ConfigError, InputError
from atrous.jobs.video import SUFFIXES
from atrous.runtime.stages import helper_threads

try:
    import av
    from av.container import InputContainer
    from av.error import FFmpegError
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.reformatter import ColorRange
    from av.video.stream import VideoStream
except ImportError as missing:
    raise ConfigError(
        f"video needs PyAV, which cannot be loaded ({missing}); pip install 'atrous[video]'"
    ) from None

NETWORK = ("rtsp://", "rtsps://", "rtmp://", "rtp://", "srt://", "tcp://", "udp://")
_TIMEOUT = 10.0  # seconds that a source on the network may stay silent

_SLACK = 0.5  # seconds by which a header may promise too much

# The quality is about that of the source: CRF 20 of x264, and what looks like it in VP9.
_ENCODERS = {
    "libx264": {"preset": "veryfast", "crf": "20"},
    "libopenh264": {},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "28", "b:v": "0"},
}


class Reader:
    """Frames of a clip or a camera, and its audio as it was compressed.

    Args:
        source: a file, `camera:N` (Video4Linux), a URL, or a container that PyAV has opened.
        live: whether frames come whether we keep up or not; by default the source's name says.

    Attributes:
        audio: packets that have come and nobody has taken.
        live: see above.
        on_packet: called after every packet in the thread that takes frames.

    Raises:
        InputError: the source cannot be opened, or has no video.
    """

    def __init__(self, source: str | Path | InputContainer, live: bool | None = None) -> None:
        self.name = str(source) if isinstance(source, str | Path) else source.name
        camera = self.name.startswith("camera:")
        network = self.name.startswith(NETWORK)
        self.live = live if live is not None else camera or network
        self.on_packet: Callable[[], None] | None = None
        self.audio: deque[Packet[Any]] = deque()
        if isinstance(source, str | Path):
            self._container = self._open(camera, network)
        else:
            self._container = source
        if not self._container.streams.video:
            self._container.close()
            raise InputError(f"{self.name}: expected a video, found no pictures in it")
        self.video: VideoStream = self._container.streams.video[0]
        self.sounds: list[Stream] = [*self._container.streams.audio]
        self.video.codec_context.thread_count = helper_threads()
        self.video.thread_type = "AUTO"

    @property
    def rate(self) -> Fraction:
        """Frames in a second, as far as the source says."""
        return self.video.average_rate or self.video.guessed_rate or Fraction(25)

    def frames(self) -> Generator[VideoFrame]:
        """Frames in the order in which they are shown; ends with the source.

        Raises:
            InputError: the source is damaged here, or has fallen silent.
        """
        found, end = 0, Fraction(0)
        try:
            for packet in self._container.demux(self.video, *self.sounds):
                if packet.pts is not None:
                    end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
                if packet.stream is not self.video:
                    if packet.dts is not None:
                        self.audio.append(packet)
                elif packet.is_corrupt and not self.live:
                    raise self._damaged(found, "a packet is cut short")
                else:
                    for frame in self._decoded(packet, found):
                        found += 1
                        yield frame
                if self.on_packet is not None:
                    self.on_packet()
        except (FFmpegError, OSError) as error:
            raise self._damaged(found, _reason(error)) from None
        if not found:
            raise InputError(f"{self.name}: expected a video, found no frame in it")
        if end < self._length() - _SLACK:
            raise self._damaged(found, f"it ends at {float(end):.1f} s of {self._length():.1f} s")

    def close(self) -> None:
        """Close the source."""
        self._container.close()

    def _length(self) -> float:
        """Seconds that the header promises, 0 where it is no promise or covers other tracks too.

        Matroska skips what is damaged and says nothing; other containers complain, or guess.
        """
        container, known = self._container, len(self.sounds) + len(self._container.streams.video)
        if self.live or "matroska" not in container.format.name or len(container.streams) > known:
            return 0.0
        return (container.duration or 0) / av.time_base

    def _decoded(self, packet: Packet[Any], found: int) -> list[VideoFrame]:
        try:
            return self.video.decode(packet)
        except FFmpegError as error:
            if self.live:  # one that joins in the middle has to wait for a key frame
                return []
            raise self._damaged(found, _reason(error)) from None

    def _damaged(self, found: int, reason: str) -> InputError:
        if self.live:
            return InputError(f"{self.name}: the source ended after {found} frames: {reason}")
        return InputError(
            f"{self.name}: damaged after {found} frames, expected more ({reason}); get the file "
            f"again, or repair it with: ffmpeg -err_detect ignore_err -i IN -c copy OUT"
        )

    def _open(self, camera: bool, network: bool) -> InputContainer:
        try:
            if camera:
                return av.open(f"/dev/video{self.name.removeprefix('camera:')}", format="v4l2")
            options = {"rtsp_transport": "tcp"} if self.name.startswith("rtsp") else None
            return av.open(self.name, options=options, timeout=_TIMEOUT if network else None)
        except (FFmpegError, OSError, ValueError) as error:
            step = "name a camera that is there" if camera else "check that it is whole and a video"
            raise InputError(
                f"{self.name}: expected a video, cannot be opened: {_reason(error)}; {step}"
            ) from None


class Writer:
    """A video on its way into a file, which gets its name when it is whole.

    Pictures of odd width or height get one more column or row, a copy of the last: 4:2:0, the
    only layout that every player shows, needs even ones.

    Args:
        output: what to write; its suffix says as what.
        reader: whose time base, shape of pixels, colours and audio are taken over.
        first: its first frame.

    Attributes:
        encoder: the name of the encoder.
        frames: how many were written.
        width: of a picture, before one column more.
        height: of a picture, before one row more.

    Raises:
        ConfigError: this PyAV has no encoder for it.
        InputError: the file cannot be written, or cannot hold the audio as it is.
    """

    def __init__(self, output: Path, reader: Reader, first: VideoFrame) -> None:
        self.output, self.frames = output, 0
        self._reader = reader
        self._last: int | None = None
        turned = rotation(first) % 2
        self.width, self.height = (first.width, first.height)[:: -1 if turned else 1]
        self._tags = (first.colorspace, first.color_range or ColorRange.MPEG)
        self._temporary = output.with_name(f".{output.stem}.{os.getpid()}.part{output.suffix}")
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._temporary), "w")
        except (FFmpegError, OSError, ValueError) as error:
            raise InputError(f"{output}: cannot be written: {_reason(error)}") from None
        try:
            self.encoder, self._video = self._add_video(first, bool(turned))
            self._sounds = {stream.index: self._add_audio(stream) for stream in reader.sounds}
            self._container.start_encoding()
        except BaseException as error:
            self._container.close()
            self._temporary.unlink(missing_ok=True)
            if isinstance(error, (FFmpegError, ValueError)) and not isinstance(error, InputError):
                raise InputError(f"{output}: cannot be written: {_reason(error)}") from None
            raise

    def picture(self, pixels: NDArray[np.uint8]) -> VideoFrame:
        """Pixels `(height, width, 3)` uint8 RGB as the encoder takes them; any thread may call."""
        odd = ((0, self.height % 2), (0, self.width % 2), (0, 0))
        if self.height % 2 or self.width % 2:
            pixels = np.pad(pixels, odd, mode="edge")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.color_range = ColorRange.JPEG
        colorspace, color_range = self._tags
        return frame.reformat(
            format="yuv420p", dst_colorspace=colorspace, dst_color_range=color_range, threads=1
        )

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
            packet.stream = self._sounds[packet.stream.index]
            self._mux(lambda packet=packet: [packet])  # type: ignore[misc]

    def finish(self, output: Path) -> None:
        """End the file and give it a name."""
        try:
            self.audio()
            self._mux(lambda: self._video.encode(None))
            self._container.close()
            self._temporary.replace(output)
        except (FFmpegError, OSError) as error:
            raise InputError(f"{output}: cannot be written: {_reason(error)}") from None

    def keep(self) -> Path | None:
        """End the file early under a name that says so; `None` if there is nothing to keep."""
        part = partial(self.output)
        try:
            if self.frames:
                self.finish(part)
                return part
        except InputError:
            pass
        self.discard()
        return None

    def discard(self) -> None:
        """Remove what was written."""
        self._container.close()
        self._temporary.unlink(missing_ok=True)

    def _mux(self, packets: Callable[[], list[Any]]) -> None:
        try:
            self._container.mux(packets())
        except (FFmpegError, OSError) as error:
            raise InputError(
                f"{self.output}: cannot be written: {_reason(error)}; check the space on its disk"
            ) from None

    def _add_video(self, first: VideoFrame, turned: bool) -> tuple[str, VideoStream]:
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
        context, source = video.codec_context, self._reader.video
        context.width = self.width + self.width % 2
        context.height = self.height + self.height % 2
        context.pix_fmt = "yuv420p"
        context.thread_count = helper_threads()
        if source.time_base:
            video.time_base = context.time_base = source.time_base
        if shape := source.sample_aspect_ratio or source.codec_context.sample_aspect_ratio:
            context.sample_aspect_ratio = 1 / shape if turned else shape
        context.colorspace, context.color_range = first.colorspace, self._tags[1]
        context.color_primaries, context.color_trc = first.color_primaries, first.color_trc
        return able[0], video

    def _add_audio(self, stream: Stream) -> Stream:
        try:
            return self._container.add_stream_from_template(stream)
        except (ValueError, FFmpegError):
            raise InputError(
                f"{self.output}: cannot hold {stream.codec_context.name} audio, which "
                f"{self._reader.name} has, as it is; name the output .mkv"
            ) from None


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
    return output.with_name(f"{output.stem}.partial{output.suffix}")


def rotation(frame: VideoFrame) -> int:
    """Quarter turns, anticlockwise, that put a frame upright: 0–3."""
    return round(frame.rotation / 90) % 4


def upright(frame: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
    """RGB pixels `(height, width, 3)` uint8 as a person should see them.

    Args:
        frame: as it was decoded.
        width: of the result; a frame of another size, after a change on the way, is resized.
        height: of the result.
    """
    turns = rotation(frame)
    size = (height, width) if turns % 2 else (width, height)
    rgb = frame.reformat(*size, format="rgb24", dst_color_range=ColorRange.JPEG, threads=1)
    pixels: NDArray[Any] = rgb.to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, turns) if turns else pixels)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
