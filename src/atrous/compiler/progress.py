"""What a compile tells while it works."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Protocol, TypeVar

T_co = TypeVar("T_co", covariant=True)


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


class _Parts(Sized, Iterable[T_co], Protocol[T_co]):
    """What can be counted before it is gone through."""


def counted(parts: _Parts[T_co], step: str, tell: Tell) -> Iterator[T_co]:
    """The parts of a step, each told as it is begun."""
    for number, part in enumerate(parts, 1):
        tell(Progress(step, number, len(parts)))
        yield part


def silent(progress: Progress) -> None:
    """Tell nobody."""
