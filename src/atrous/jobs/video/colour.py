"""What the samples of a clip mean: decoded frames → sRGB, and back to what its output is tagged as.

The arithmetic is that of FFmpeg's libswscale; here is decided what it is told.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atrous.errors import InputError
from atrous.jobs.video.pyav import av, reason
from atrous.runtime.stages import helper_threads

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Pixels = NDArray[np.uint8]


class _Matrix(IntEnum):
    """Between RGB and a luma with two chromas; numbers here and below are those of ITU-T H.273."""

    RGB = 0
    BT709 = 1
    UNSPECIFIED = 2
    RESERVED = 3
    BT601 = 6
    BT2020 = 9


_LIMITED, _FULL = 1, 2
_UNSPECIFIED = 2
_SRGB = 13
_BT709 = 1
_BT2020 = 9
# Light of another kind than that of SDR displays.
_CURVES = {
    8: "linear light",
    9: "a logarithmic curve",
    10: "a logarithmic curve",
    16: "PQ (HDR10)",
    17: "SMPTE 428",
    18: "HLG",
}
_WIDE = {9: "BT.2020", 10: "CIE XYZ", 11: "DCI-P3", 12: "Display P3"}
# What FFmpeg's own numbers of matrices are called in libswscale.
_SCALER = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}

_COMMAND = (
    "ffmpeg -i IN -vf zscale=transfer=linear:npl=203,tonemap=mobius,"
    "zscale=primaries=bt709:transfer=bt709:matrix=bt709:range=limited,format=yuv420p "
    "-c:a copy OUT.mp4"
)


@dataclass(frozen=True, slots=True)
class ColourTags:
    """What a file says about its samples, in the numbers of ITU-T H.273.

    Attributes:
        matrix: between RGB and luma with chromas.
        extent: whether samples use the whole range (2) or leave head and foot room (1).
        primaries: what red, green and blue are.
        curve: from samples to light.
    """

    matrix: int
    extent: int
    primaries: int
    curve: int


class Colours:
    """Makes RGB of the frames of one clip, and frames for its output of RGB; threads may share it.

    HDR and wide gamuts are brought to sRGB. Of SDR the samples are taken as they are, as players
    do, and the output is tagged as the source is. Transparent pixels are put on white.

    Args:
        name: of the source, for messages.
        first: its first frame; others may be tagged otherwise.

    Attributes:
        tags: of the output.
        change: what is done to the colours, in words; empty if nothing.

    Raises:
        InputError: its colours cannot be converted.
    """

    def __init__(self, name: str, first: VideoFrame) -> None:
        self._scaler, self._alone = av.video.reformatter.VideoReformatter(), threading.Lock()
        self.tags, self.change = _output_tags(first), ""
        if _managed(first):
            curve = _CURVES.get(first.color_trc)
            gamut = _WIDE.get(first.color_primaries)
            self.change = f"{' of '.join(filter(None, (curve, gamut)))} is brought to sRGB"
        self._name = name
        if _dolby_alone(first):
            raise self._refusal(first, "Dolby Vision without a picture for other players")
        self.rgb(first, first.width, first.height)

    def rgb(self, frame: VideoFrame, width: int, height: int) -> Pixels:
        """Pixels `(height, width, 3)` uint8 sRGB of a decoded frame, resized if need be.

        Raises:
            InputError: its colours cannot be converted.
        """
        alpha = any(component.is_alpha for component in frame.format.components)
        try:
            pixels = self._converted(frame, width, height, "rgba" if alpha else "rgb24")
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._refusal(frame, reason(error)) from None
        return _on_white(pixels) if alpha else pixels

    def frame(self, pixels: Pixels) -> VideoFrame:
        """Pixels `(H, W, 3)` uint8 sRGB, of even sizes, as the encoder takes them."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.color_range = _FULL
        tags = self.tags
        return frame.reformat(
            format="yuv420p",
            dst_colorspace=_SCALER[tags.matrix],
            dst_color_range=tags.extent,
            threads=1,
        )

    def _converted(self, frame: VideoFrame, width: int, height: int, layout: str) -> Pixels:
        source = _SCALER.get(_matrix(frame))
        if not _managed(frame):
            rgb = frame.reformat(width, height, layout, source, dst_color_range=_FULL, threads=1)
        else:
            # Its tables take seconds to make, and are kept by the scaler alone.
            with self._alone:
                rgb = self._scaler.reformat(
                    frame, width, height, layout, source, dst_color_range=_FULL,
                    dst_color_trc=_output_curve(frame), dst_color_primaries=_BT709,
                    threads=helper_threads(),
                )  # fmt: skip
        return np.asarray(rgb.to_ndarray(), np.uint8)

    def _refusal(self, frame: VideoFrame, why: str) -> InputError:
        return InputError(
            f"{self._name}: its colours cannot be brought to sRGB: {why} (matrix "
            f"{frame.colorspace}, curve {frame.color_trc}, primaries {frame.color_primaries} of "
            f"ITU-T H.273); convert it with: {_COMMAND}"
        )


def _matrix(frame: VideoFrame) -> int:
    """The matrix of a frame; where nothing says which, what players take for its size."""
    if frame.format.is_rgb:
        return _Matrix.RGB
    if frame.colorspace not in (_Matrix.RGB, _Matrix.UNSPECIFIED, _Matrix.RESERVED):
        return frame.colorspace
    if frame.color_primaries == _BT2020:
        return _Matrix.BT2020
    return _by_size(frame)


def _by_size(frame: VideoFrame) -> int:
    sides = sorted((frame.width, frame.height))
    return _Matrix.BT709 if sides[1] >= 1280 or sides[0] > 576 else _Matrix.BT601


def _managed(frame: VideoFrame) -> bool:
    return frame.color_trc in _CURVES or frame.color_primaries in _WIDE


def _output_curve(frame: VideoFrame) -> int:
    """What light is written as: sRGB if it was HDR, else as it was."""
    if frame.color_trc in _CURVES or frame.color_trc == _SRGB:
        return _SRGB
    return frame.color_trc if frame.color_trc in (4, 5) else _BT709


def _output_tags(first: VideoFrame) -> ColourTags:
    if _managed(first):
        return ColourTags(_Matrix.BT709, _LIMITED, _BT709, _output_curve(first))
    matrix = _matrix(first)
    rgb = matrix == _Matrix.RGB
    if rgb:
        matrix = _by_size(first)
    full = not rgb and (first.color_range == _FULL or first.format.name.startswith("yuvj"))
    extent = _FULL if full else _LIMITED
    return ColourTags(matrix, extent, first.color_primaries, first.color_trc)


def _dolby_alone(frame: VideoFrame) -> bool:
    """Whether a frame makes sense with its Dolby Vision metadata only (profile 5)."""
    sides: Iterable[Any] = frame.side_data
    dolby = any(side.type.name.startswith("DOVI") for side in sides)
    return dolby and frame.color_trc == _UNSPECIFIED


def _on_white(pixels: Pixels) -> Pixels:
    """`(H, W, 4)` uint8 RGBA → `(H, W, 3)`."""
    alpha = pixels[..., 3:].astype(np.uint16)
    return ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
