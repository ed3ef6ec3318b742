"""Times that go on where those of a source jump back, as in clips that were joined."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

_JUMP = Fraction(1, 2)  # seconds; less is a frame out of its order


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
    to where the part before it ended. Jumps ahead, as where a camera paused, are kept.
    """

    def __init__(self) -> None:
        self._shifts = [Fraction(0)]
        self._tracks: dict[int, _Track] = {}

    @property
    def jumps(self) -> int:
        """How often times have jumped back."""
        return len(self._shifts) - 1

    def shift(self, index: int, when: Fraction, length: Fraction) -> Fraction:
        """What is to be added to the time of the next picture or sound of a track, in seconds.

        Args:
            index: of the track.
            when: its time, in the order of showing.
            length: how long it lasts.
        """
        track = self._tracks.get(index)
        if track is None:  # one that begins late belongs to the part that runs
            track = self._tracks[index] = _Track(self.jumps, when, when, Fraction(0))
        else:
            back = track.last - when
            if back >= _JUMP or (back >= length and when < track.first + length / 2):
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
