"""The unit of mean and standard deviation, where a file contradicts itself."""

from __future__ import annotations

from collections.abc import Sequence

from atrous.preprocess import Normalisation


def agreed(
    where: str, mean: Sequence[float], std: Sequence[float], *, divided: bool
) -> tuple[Normalisation, tuple[str, ...]]:
    """The formula in which statistics make sense.

    Files disagree with what they say of their division by 255, and statistics in the wrong unit
    make no sense at all: no mean of 0–1 is over 1, and a spread of 0.2 out of 255 is a blank image.

    Args:
        where: the statistics stand, in the note.
        mean: of the channels.
        std: likewise.
        divided: whether the file says that values are divided by 255 first.

    Returns:
        The formula, and what had to be decided, if anything.
    """
    neutral = set(mean) == {0.0} and set(std) == {1.0}
    in_bytes = max(*map(abs, mean), *std) > 1
    first = divided if neutral else not in_bytes
    notes: tuple[str, ...] = ()
    if first != divided:
        unit, does = ("0–1", "are") if first else ("0–255", "are not")
        notes = (
            f"{where}: mean and std are in units of {unit}, so values {does} divided by 255 first",
        )
    return "div255-mean-std" if first else "mean-std", notes
