"""Frames of known colours, written sample by sample from the formulas of the standards."""

from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.errors import InputError
from atrous.jobs.video.colour import Colours

Floats = NDArray[np.float64]

# ITU-T H.273, table 4: how much red and blue are of the luma.
WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
COLOURS = np.array(
    [(200, 40, 90), (30, 160, 60), (60, 50, 210), (128, 128, 128), (250, 250, 250), (5, 5, 5)]
)
TO_2020 = np.array(
    [[0.6274, 0.0691, 0.0164], [0.3293, 0.9195, 0.0880], [0.0433, 0.0114, 0.8956]]
)  # fmt: skip


def frame_of(
    signal: Floats,
    matrix: int,
    *,
    full: bool = False,
    bits: int = 8,
    size: tuple[int, int] = (96, 32),
) -> Any:
    """Vertical bars of these colours, 0–1, as planes of Y, Cb and Cr."""
    red, blue = WEIGHTS[matrix]
    y = signal @ [red, 1 - red - blue, blue]
    chroma = ((signal[:, 2] - y) / (2 - 2 * blue), (signal[:, 0] - y) / (2 - 2 * red))
    one, most = 2 ** (bits - 8), 2**bits - 1
    luma = y * most if full else (16 + y * 219) * one
    planes = [luma, *((c * most + 128 * one) if full else (128 + c * 224) * one for c in chroma)]
    frame = av.VideoFrame(*size, "yuv420p" if bits == 8 else f"yuv420p{bits}le")
    kind = np.uint8 if bits == 8 else np.uint16
    for plane, values in zip(frame.planes, planes, strict=True):
        row = np.zeros(plane.line_size // np.dtype(kind).itemsize, kind)
        row[: plane.width] = np.repeat(np.round(values), -(-plane.width // len(values)))[
            : plane.width
        ]
        plane.update(np.tile(row, (plane.height, 1)).tobytes())
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    return frame


def bars(pixels: NDArray[np.uint8], count: int = len(COLOURS)) -> NDArray[np.int64]:
    """The colour in the middle of each bar."""
    height, width = pixels.shape[:2]
    centres = [(2 * bar + 1) * width // (2 * count) for bar in range(count)]
    return pixels[height // 2, centres].astype(np.int64)


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", WEIGHTS)
def test_every_matrix_and_range(matrix: int, full: bool, bits: int) -> None:
    frame = frame_of(COLOURS / 255, matrix, full=full, bits=bits)
    colours = Colours("a", frame)
    assert bars(colours.rgb(frame, 96, 32)) == pytest.approx(COLOURS, abs=3)
    assert (colours.tags.matrix, colours.tags.extent) == (matrix, 2 if full else 1)
    assert not colours.change


@pytest.mark.parametrize(
    ("size", "matrix"), [((96, 32), 6), ((720, 576), 6), ((1280, 720), 1), ((720, 1280), 1)]
)
def test_what_says_no_matrix_has_that_of_its_size(size: tuple[int, int], matrix: int) -> None:
    frame = frame_of(COLOURS / 255, matrix, size=size)
    frame.colorspace = frame.color_range = 2
    frame.color_range = 0
    colours = Colours("a", frame)
    assert bars(colours.rgb(frame, *size)) == pytest.approx(COLOURS, abs=3)
    assert (colours.tags.matrix, colours.tags.extent) == (matrix, 1)


@pytest.mark.parametrize("layout", ["rgb24", "gbrp", "bgr0", "bgra", "yuvj420p", "gray"])
def test_every_layout_comes_back(layout: str) -> None:
    """And what the output says of itself is how it is read."""
    grey = layout == "gray"
    pixels = np.repeat(np.repeat(COLOURS[None], 32, 0), 16, 1).astype(np.uint8)
    if grey:
        pixels[:] = pixels[..., :1]
        frame = av.VideoFrame.from_ndarray(pixels[..., 0], format=layout)
    else:
        whole = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        whole.color_range = 2
        frame = whole.reformat(format=layout)
    colours = Colours("a", frame)
    found = colours.rgb(frame, 96, 32)
    assert bars(found) == pytest.approx(bars(pixels), abs=3)
    encoded = colours.frame(found)
    assert encoded.format.name == "yuv420p"
    encoded.colorspace, encoded.color_range = colours.tags.matrix, colours.tags.extent
    shown = encoded.reformat(format="rgb24", dst_color_range=2).to_ndarray()
    assert bars(shown) == pytest.approx(bars(found), abs=3)


def test_transparent_pixels_are_on_white() -> None:
    pixels = np.zeros((32, 48, 4), np.uint8)
    pixels[..., 0] = 200
    pixels[:, 16:32, 3], pixels[:, 32:, 3] = 128, 255
    frame = av.VideoFrame.from_ndarray(pixels, format="rgba")
    found = bars(Colours("a", frame).rgb(frame, 48, 32), 3)
    assert found == pytest.approx(np.array([(255,) * 3, (227, 127, 127), (200, 0, 0)]), abs=2)


def light(srgb: NDArray[Any]) -> Floats:
    s = np.asarray(srgb) / 255.0
    return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)


def pq(relative: Floats) -> Floats:
    """SMPTE ST 2084; 1 is the white of SDR, 203 of 10000 nit."""
    y = np.maximum(relative * 0.0203, 0) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("curve", "change"),
    [(16, "PQ (HDR10) of BT.2020 is brought to sRGB"), (14, "BT.2020 is brought to sRGB")],
)
def test_hdr_and_wide_gamuts(curve: int, change: str) -> None:
    """HLG is among the cases."""
    if curve == 16:
        signal = pq(light(COLOURS) @ TO_2020)
    else:
        signal = ((COLOURS / 255) ** 2.4 @ TO_2020) ** (1 / 2.4)
    frame = frame_of(signal, 9, bits=10)
    frame.color_trc, frame.color_primaries = curve, 9
    colours = Colours("a", frame)
    assert colours.change == change
    tags = colours.tags
    assert (tags.matrix, tags.primaries, tags.curve) == (1, 1, 13 if curve == 16 else 1)
    found = bars(colours.rgb(frame, 96, 32))
    assert np.abs(found - COLOURS).mean() < 12
    assert np.abs(found - COLOURS).max() < 30


@pytest.mark.parametrize("matrix", [8, 10, 14])
def test_what_cannot_be_converted_is_refused_with_a_way_out(matrix: int) -> None:
    frame = frame_of(COLOURS / 255, 1)
    frame.colorspace = matrix
    with pytest.raises(InputError, match=rf"^clip: .*matrix {matrix}, .*ffmpeg -i IN .*zscale"):
        Colours("clip", frame)
