"""Score the frames of a stream against a folder of masks; see `atrous.vastai.validation`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous.errors import ConfigError, InputError
from atrous.evaluation.health import check_predictions
from atrous.jobs.sources import Source
from atrous.metrics import Absent, ConfusionMatrix
from atrous.runtime.predictor import Predictor
from atrous.runtime.stages import Frame
from atrous.vastai.validation import count, protocol_name, rules


@dataclass(frozen=True, slots=True)
class FrameScore:
    """What became of one frame.

    Attributes:
        name: file name of its image.
        counts: `(C, C)` pixels by true and predicted class, `None` if none were counted.
        error: why not, empty if there is no mask of this image.
    """

    name: str
    counts: NDArray[np.int64] | None = None
    error: str = ""


class Truth:
    """A folder of masks, `NAME.png` for `NAME.jpg`, in the subfolders that the images are in.

    Args:
        folder: of palette or grey images whose values are class ids.
        predictor: gives the labels and the size; must squash its images.
        absent: what classes that occur nowhere do to the mean.

    Attributes:
        matrix: of the scores that were added.
        scored: how many images those are.
        without: file names of the images without a mask.

    Raises:
        ConfigError: there is no such folder, or the preprocessing is of another protocol.
    """

    def __init__(self, folder: Path, predictor: Predictor, absent: Absent = "skip") -> None:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder; expected one of masks, NAME.png")
        if predictor.preprocess.fit != "squash":
            raise ConfigError(
                f"accuracy is measured under protocol squash-N, this preprocessing does "
                f"{predictor.preprocess.fit}; leave the masks out, or let atrous eval score it"
                " under another protocol"
            )
        self._folder, self._predictor = folder, predictor
        self.matrix = self._matrix(absent)
        self.scored = 0
        self.without: list[str] = []

    def score(self, frame: Frame) -> FrameScore:
        """Compare one frame, whose `Prediction` is tapped, with its mask.

        Args:
            frame: made of a `Source`, with pixels and class map.
        """
        assert frame.pixels is not None
        source: Source = frame.source
        name = source.path.name
        path = self._folder / source.stem.with_name(f"{source.path.stem}.png")
        if not path.exists():
            return FrameScore(name)
        matrix = self._matrix()
        class_map = self._predictor.at_input(frame.outputs["infer"]).class_map()
        try:
            count(matrix, path, class_map, frame.pixels.shape[:2])
        except InputError as error:
            return FrameScore(name, error=str(error))
        return FrameScore(name, matrix.counts)

    def add(self, score: FrameScore) -> None:
        """Count a score; for one thread."""
        if score.counts is not None:
            self.matrix.counts += score.counts
            self.scored += 1
        elif not score.error:
            self.without.append(score.name)

    @property
    def protocol(self) -> str:
        """Which pixels are compared, and how absent classes count, in one line."""
        preprocess = self._predictor.preprocess
        return (
            f"{protocol_name(preprocess.size)}, {preprocess.interpolation}, "
            f"{rules(preprocess.size, self.matrix)}"
        )

    def health(self) -> list[str]:
        """What the scores say of the model, one sentence per failure."""
        # Logits that are no numbers are failures of their images.
        return check_predictions(self.matrix, self._predictor.labels.names, 0)

    def _matrix(self, absent: Absent = "skip") -> ConfusionMatrix:
        labels = self._predictor.labels
        return ConfusionMatrix(labels.num_classes, labels.ignore_index, absent)
