from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.jobs.video.job import segment_video
from atrous.jobs.video.orientation import Orientation
from tests.builders.clips import make_clip, picture, play, predictor_of

EIGHT = [
    (1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0),
    (-1, 0, 0, 1), (0, 1, 1, 0), (1, 0, 0, -1), (0, -1, -1, 0),
]  # fmt: skip


def matrix(a: float, b: float, c: float, d: float) -> NDArray[np.int32]:
    return np.array([a * 65536, b * 65536, 0, c * 65536, d * 65536, 0, 7, 9, 1 << 30], np.int32)


def shown(pixels: NDArray[Any], a: int, b: int, c: int, d: int) -> NDArray[Any]:
    """Every pixel where a player puts it, moved so that none is outside."""
    height, width = pixels.shape[:2]
    q, p = np.mgrid[:height, :width]
    x, y = a * p + c * q, b * p + d * q
    x, y = x - x.min(), y - y.min()
    result = np.zeros((y.max() + 1, x.max() + 1, *pixels.shape[2:]), pixels.dtype)
    result[y, x] = pixels
    return result


@pytest.mark.parametrize("turn", EIGHT)
@pytest.mark.parametrize("scale", [1, 0.5])
def test_all_eight(turn: tuple[int, int, int, int], scale: float) -> None:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    orientation = Orientation.from_matrix(matrix(*(scale * value for value in turn)))
    expected = shown(pixels, *turn)
    assert (orientation(pixels) == expected).all()
    assert orientation.size(6, 4) == expected.shape[1::-1]
    assert orientation.size(*orientation.size(6, 4)) == (6, 4)


@pytest.mark.parametrize(
    ("numbers", "oblique"),
    [((0.999, 0.03, -0.03, 0.999), 0), ((0.866, 0.5, -0.5, 0.866), 30), ((0, 0, 0, 0), 0)],
)
def test_what_is_no_quarter_turn_is_left_undone(
    numbers: tuple[float, float, float, float], oblique: float
) -> None:
    found = Orientation.from_matrix(matrix(*numbers))
    assert (found.transposed, found.left_right, found.upside_down) == (False, False, False)
    assert found.oblique == pytest.approx(oblique, abs=0.1)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("turn", EIGHT)
def test_clips_come_out_as_players_show_them(
    tmp_path: Path, suffix: str, turn: tuple[int, int, int, int]
) -> None:
    plain = make_clip(tmp_path / f"plain{suffix}", 2, sound=False)
    source = tmp_path / f"in{suffix}"
    with av.open(str(plain)) as before, av.open(str(source), "w") as after:
        stream: Any = after.add_stream_from_template(before.streams.video[0])
        stream.set_display_matrix([int(value) for value in matrix(*turn)])
        for packet in before.demux(video=0):
            if packet.size:
                packet.stream = stream
                after.mux(packet)
    segment_video(predictor_of(), source, tmp_path / "out.mp4", opacity=0.0)
    after_all = play(tmp_path / "out.mp4")
    assert after_all.rotations == {0}
    expected = shown(picture(0), *turn)
    assert after_all.pixels[0].shape == expected.shape
    assert np.abs(after_all.pixels[0].astype(int) - expected).mean() < 12
    assert after_all.times[0] == Fraction(0)
