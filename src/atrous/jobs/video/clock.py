"""Times that go on where those of a source jump, as in clips that were joined."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

_JUMP = Fraction(1, 2)  # seconds; less is a frame out of its order
_PAUSE = Fraction(6 * 3600)  # more than MP4 holds between two frames at 90 kHz


@dataclass(slots=True)
class _Track:
    """Where one track is, in seconds: its part, that part's first and last time, and our end."""

    part: int
    first: Fraction
    last: Fraction
    end: Fraction


class Clock:
    """Says by how much the times of a source are to be moved, so that they never jump back.

    Every part that begins with a jump back is moved as a whole, all its tracks by the same time,
    to where the part before it ended; so is one that begins with a jump ahead that no pause
    explains. Shorter jumps ahead, as where a camera paused, are kept.

    Args:
        start: the time that becomes 0, in seconds; `None` for the first that comes, if it is over
            0.
    """

    def __init__(self, start: Fraction | None = Fraction(0)) -> None:
        self._shifts = [] if start is None else [-start]
        self._tracks: dict[int, _Track] = {}

    @property
    def jumps(self) -> int:
        """How often times have jumped."""
        return len(self._shifts) - 1

    def shift(self, index: int, when: Fraction, length: Fraction) -> Fraction:
        """What is to be added to the time of the next picture or sound of a track, in seconds.

        Args:
            index: of the track.
            when: its time, in the order of showing.
            length: how long it lasts.
        """
        if not self._shifts:
            self._shifts.append(min(-when, Fraction(0)))
        track = self._tracks.get(index)
        if track is None:  # one that begins late belongs to the part that runs
            ends = [other.end for other in self._tracks.values()]
            track = self._tracks[index] = _Track(self.jumps, when, when, Fraction(0))
            if ends and when + self._shifts[-1] - max(ends) >= _PAUSE:
                self._begin(track, when)
        else:
            back = track.last - when
            restarts = back >= length and when < track.first + length / 2
            if restarts or back >= _JUMP or -back - length >= _PAUSE:
                self._begin(track, when)
        shift = self._shifts[track.part]
        track.last = max(track.last, when)
        track.end = max(track.end, when + shift + length)
        return shift

    def _begin(self, track: _Track, when: Fraction) -> None:
        """Let the next part of a track begin."""
        track.part, track.first, track.last = track.part + 1, when, when
        if track.part == len(self._shifts):
            self._shifts.append(max(other.end for other in self._tracks.values()) - when)
        else:
            self._shifts[track.part] = max(self._shifts[track.part], track.end - when)
