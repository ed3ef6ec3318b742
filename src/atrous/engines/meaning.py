"""How somebody else's network is read: what the user says of it, and what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from atrous.errors import InputError
from atrous.labels import LabelSet, named

Layout = Literal["nchw", "nhwc"]
"""Order of the axes of scores: classes before the pixels, or behind them."""

Activation = Literal["softmax", "sigmoid", "none", "argmax"]
"""What makes probabilities of scores: `softmax` between classes that exclude each other, `sigmoid`
for each class alone, `none` where they are probabilities already, `argmax` where they are
decided."""

Applied = Literal["", "softmax", "sigmoid"]
"""A function that scores have been through, if any."""

BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class Hints:
    """What the user says of a network that does not say it itself.

    Attributes:
        layout: of its scores, where both would fit.
        output_name: of the output, or of any tensor, that holds the scores.
        threshold: probability from which on a pixel is foreground, of a network that says it for
            each class alone; 0.5 for one class, none for more, where the largest is taken.
        names: what its classes are called, where that is known.

    Raises:
        InputError: the threshold is no probability.
    """

    layout: Layout | None = None
    output_name: str | None = None
    threshold: float | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise InputError(f"`threshold`: expected between 0 and 1, got {self.threshold:g}")


@dataclass(frozen=True, slots=True)
class ScoreOutput:
    """Where the scores of the classes are, and what they have been through.

    Attributes:
        tensor: that holds them.
        axis: of the classes there, `None` if the graph does not say it.
        applied: the function behind `tensor` that was left out, as it keeps the order of scores.
        kept: the function that `tensor` has been through, because it stands before the enlargement.
        cut: a score from which on the graph decides for foreground, of a graph that does.
        decided: `tensor` holds class ids.
        classes: as many as these name, where the graph says it.
        step: from one id to the next, 255 where two are shown as black and white.
        notes: what was chosen and cut, for people.
    """

    tensor: str
    axis: int | None = None
    applied: Applied = ""
    kept: Applied = ""
    cut: float | None = None
    decided: bool = False
    classes: int | None = None
    step: int = 1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoreMeaning:
    """What a network's input and scores stand for, beyond their shapes.

    Attributes:
        activation: what makes probabilities of the scores.
        threshold: probability from which on a pixel is not background, `None` where the largest
            score wins.
        names: what the classes are called, as far as the graph says it.
        grey: whether it sees one channel, made of the three inside the graph.
    """

    activation: Activation = "softmax"
    threshold: float | None = None
    names: tuple[str, ...] = ()
    grey: bool = False


def with_background(labels: LabelSet, meaning: ScoreMeaning) -> LabelSet:
    """Labels for scores that may have a background before the classes that `labels` names."""
    if len(meaning.names) == labels.num_classes + 1:
        return named((BACKGROUND, *labels.names))
    return labels


PLAIN = ScoreMeaning()
"""Of logits of classes that exclude each other."""
