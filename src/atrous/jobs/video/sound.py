"""What becomes of the audio of a clip: copied as it is, encoded anew, or left out."""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

from atrous.jobs.video.pyav import av

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.packet import Packet

_MP4 = frozenset({"aac", "mp3", "mp2", "ac3", "eac3", "opus", "alac", "flac", "dts"})
# What plays as it is in each container; Matroska takes all that FFmpeg has a name for.
_COPIED = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": frozenset(
        {"aac", "mp3", "ac3", "eac3", "alac", "amr_nb", "pcm_s16le", "pcm_s16be", "pcm_s24le"}
        | {"pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_u8", "pcm_alaw", "pcm_mulaw"}
    ),
    ".ts": frozenset({"aac", "mp2", "mp3", "ac3", "eac3", "opus", "dts"}),
    ".webm": frozenset({"opus", "vorbis"}),
}
_RATES = {
    "aac": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000),
    "libopus": (8000, 12000, 16000, 24000, 48000),
}
_LAYOUTS = {1: "mono", 6: "5.1"}


class Sound(Protocol):
    """One audio track on its way into a file."""

    def packets(self, packet: Packet[Any]) -> Iterable[Packet[Any]]:
        """What to write for the next packet of the source.

        Raises:
            FFmpegError: it cannot be encoded.
        """

    def rest(self) -> Iterable[Packet[Any]]:
        """What is to be written at the end."""


class Copied:
    """A track that is written as it was compressed.

    Args:
        container: what it is written into.
        source: the track.

    Raises:
        ValueError: the container cannot hold it.
    """

    def __init__(self, container: OutputContainer, source: AudioStream) -> None:
        self._stream = container.add_stream_from_template(source)
        self._last: Fraction | None = None

    def packets(self, packet: Packet[Any]) -> Iterable[Packet[Any]]:
        """The packet itself."""
        base, dts = packet.time_base, packet.dts
        assert dts is not None
        if self._last is not None and dts * base <= self._last:
            # Containers refuse a time that is not later than the one before.
            dts = packet.dts = int(self._last / base) + 1
            packet.pts = max(packet.pts or dts, dts)
        self._last = dts * base
        packet.stream = self._stream
        return [packet]

    def rest(self) -> Iterable[Packet[Any]]:
        """Nothing."""
        return []


class Encoded:
    """A track that is decoded and encoded anew; where it has gaps there is silence.

    Args:
        container: what it is written into.
        source: the track.
        codec: the encoder, `aac` or `libopus`.

    Attributes:
        lost: packets that could not be decoded.
    """

    def __init__(self, container: OutputContainer, source: AudioStream, codec: str) -> None:
        known, self.lost = source.codec_context, 0
        rate = min(
            _RATES[codec],
            key=lambda rate: (rate < known.sample_rate, abs(rate - known.sample_rate)),
        )
        layout = _LAYOUTS.get(known.channels, "stereo")
        self._source = source
        self._stream: Any = container.add_stream(codec, rate=rate, layout=layout)
        self._graph: Any = None
        self._form: tuple[str, str, int] | None = None

    def packets(self, packet: Packet[Any]) -> Iterable[Packet[Any]]:
        """What the encoder has made of the packet and those before it."""
        try:
            frames = self._source.codec_context.decode(packet)
        except (av.FFmpegError, ValueError):
            self.lost += 1
            return
        yield from self._encoded(frames)

    def rest(self) -> Iterable[Packet[Any]]:
        """What decoder, filters and encoder still hold."""
        with suppress(av.FFmpegError):
            yield from self._encoded(self._source.codec_context.decode(None))
        yield from self._drained()
        yield from self._stream.encode(None)

    def _encoded(self, frames: Iterable[AudioFrame]) -> Iterable[Packet[Any]]:
        for frame in frames:
            form = (frame.format.name, frame.layout.name, frame.sample_rate)
            if form != self._form:
                yield from self._drained()
                self._graph, self._form = self._filters(frame), form
            self._graph.push(frame)
            yield from self._ready()

    def _drained(self) -> Iterable[Packet[Any]]:
        if self._graph is not None:
            self._graph.push(None)
            yield from self._ready()

    def _ready(self) -> Iterable[Packet[Any]]:
        while True:
            try:
                frame = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            yield from self._stream.encode(frame)

    def _filters(self, frame: AudioFrame) -> Any:
        """From a decoded frame to what the encoder takes, at the same times."""
        target = self._stream.codec_context
        graph = av.filter.Graph()
        into = graph.add_abuffer(
            sample_rate=frame.sample_rate, format=frame.format.name, layout=frame.layout.name,
            time_base=frame.time_base,
        )  # fmt: skip
        resample = graph.add("aresample", f"{target.sample_rate}:async=1")
        form = graph.add(
            "aformat",
            f"sample_fmts={target.format.name}:sample_rates={target.sample_rate}"
            f":channel_layouts={target.layout.name}",
        )
        graph.link_nodes(into, resample, form, graph.add("abuffersink"))
        graph.configure()
        if target.frame_size:
            graph.set_audio_frame_size(target.frame_size)
        return graph


def add_sound(
    container: OutputContainer, suffix: str, source: AudioStream, name: str, *, copy: bool
) -> tuple[Sound | None, str]:
    """Make room for an audio track in a file.

    Args:
        container: the file.
        suffix: of its name.
        source: the track.
        name: of the track, for the note.
        copy: whether it may be copied.

    Returns:
        The way it is written, `None` if it is left out; and what is not as it was, in words,
        empty if nothing.
    """
    known = source.codec_context
    if known is None:
        return None, f"{name} is left out, its format is unknown"
    kind = known.codec.canonical_name  # that of a decoder may be another, as mp3float
    able = _COPIED.get(suffix, container.supported_codecs)
    if copy and not able.isdisjoint((kind, known.name)) and _holds(suffix, source):
        try:
            return Copied(container, source), ""
        except (av.FFmpegError, ValueError):
            pass
    codec, written = ("libopus", "Opus") if suffix == ".webm" else ("aac", "AAC")
    if not known.sample_rate or not known.channels:
        return None, f"{name} is left out, its {kind} cannot be decoded"
    sound = Encoded(container, source, codec)
    return sound, f"{name} is encoded as {written}, as {suffix} cannot hold its {kind}"


def _holds(suffix: str, source: AudioStream) -> bool:
    """Whether the description of a track can be written: MP4 finds out when a file is finished."""
    if suffix not in (".mp4", ".m4v", ".mov") or not source.codec_context.extradata:
        return True
    try:
        with av.open(io.BytesIO(), "w", format=suffix[1:].replace("m4v", "mp4")) as trial:
            stream = trial.add_stream_from_template(source)
            packet = av.Packet(bytes(64))
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = 0
            packet.duration = 20
            trial.mux(packet)
    except (av.FFmpegError, ValueError):
        return False
    return True
