from fractions import Fraction as F

import pytest

from atrous.jobs.video.clock import Clock


def moved(times: list[float], length: float = 1.0) -> list[float]:
    clock = Clock()
    found = [F(time) for time in times]
    return [float(time + clock.shift(0, time, F(length))) for time in found]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([0, 1, 2, 9, 10], [0, 1, 2, 9, 10]),  # a pause
        ([0, 1, 0, 1], [0, 1, 2, 3]),
        ([5, 6, 7, 5, 6, 5], [5, 6, 7, 8, 9, 10]),
        ([10, 11, 12, 3, 4], [10, 11, 12, 13, 14]),
        ([0, 1, 1, 2], [0, 1, 1, 2]),  # repeated: no jump
        ([-1, 0, -1, 0], [-1, 0, 1, 2]),
        ([0, 1, 99999, 100000], [0, 1, 2, 3]),
    ],
)
def test_one_track(times: list[float], expected: list[float]) -> None:
    assert moved(times) == expected


@pytest.mark.parametrize(
    ("start", "first", "expected"), [(F(7), 8, 1), (None, 8, 0), (None, -1, -1), (F(0), 8, 8)]
)
def test_the_start(start: F | None, first: int, expected: int) -> None:
    clock = Clock(start)
    assert first + clock.shift(0, F(first), F(1)) == expected
    assert first + 1 + clock.shift(0, F(first + 1), F(1)) == expected + 1


def test_a_track_that_begins_a_day_ahead_does_not_drag_the_others_along() -> None:
    clock = Clock()
    assert clock.shift(0, F(0), F(1)) == 0
    assert clock.shift(1, F(99999), F(1)) + 99999 == 1
    assert clock.shift(0, F(1), F(1)) == 0


def test_a_frame_out_of_its_order_is_no_jump() -> None:
    assert moved([0, 0.08, 0.04, 0.12], 0.04) == [0, 0.08, 0.04, 0.12]


@pytest.mark.parametrize("first", [0, 1])
def test_tracks_stay_together_whichever_jumps_first(first: int) -> None:
    clock = Clock()
    for time in range(3):
        for track in (0, 1):
            assert clock.shift(track, F(time), F(1)) == 0
    assert clock.shift(first, F(0), F(1)) == 3
    assert clock.shift(1 - first, F(0), F(1)) == 3
    assert clock.jumps == 1


def test_a_track_that_is_behind_moves_its_part_on() -> None:
    """Sound is read ahead of the pictures: its part ends later than it seemed."""
    clock = Clock()
    clock.shift(0, F(0), F(1))
    clock.shift(1, F(0), F(1))
    assert clock.shift(1, F(-1), F(1)) == 2
    assert [clock.shift(0, F(time), F(1)) for time in (1, 2)] == [0, 0]
    assert clock.shift(0, F(-1), F(1)) == 4
    assert clock.shift(1, F(0), F(1)) == 4


def test_a_track_that_begins_late_belongs_to_the_part_that_runs() -> None:
    clock = Clock()
    for time in (0, 1, 0):
        clock.shift(0, F(time), F(1))
    assert clock.shift(1, F(0), F(1)) == 2
