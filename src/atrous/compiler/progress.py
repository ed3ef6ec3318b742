"""What a compile tells while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A step that begins or goes on, or something that was decided on the way.

    Attributes:
        step: in a few words, the same from its beginning to its end.
        done: parts of it that are done or under way, 0 where they are not counted.
        total: parts that there are, 0 where they are not counted.
        detail: more about this part, as `mIoU 71.2%`.
    """

    step: str
    done: int = 0
    total: int = 0
    detail: str = ""

    def __str__(self) -> str:
        """One line for people."""
        count = f": {self.done} of {self.total}" if self.total else ""
        return f"{self.step}{count}{f', {self.detail}' if self.detail else ''}"


Tell = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Tell nobody."""
