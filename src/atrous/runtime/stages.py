"""The steps from a picture to its class map, as stages of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous.cores import cores
from atrous.errors import ConfigError, InputError
from atrous.image import Reading
from atrous.pictures.samples import Picture
from atrous.preprocess import Placement, Tensor
from atrous.runtime.prediction import Prediction
from atrous.runtime.predictor import Predictor
from atrous.runtime.worker import Stage

Pixels = NDArray[np.uint8]
Read = Callable[[Any], Pixels | Picture]
Work = Mapping[str, Callable[[Any], object]]
"""Name → function of a step."""

STEPS = ("decode", "preprocess", "infer", "postprocess")
"""The steps whose outputs can be tapped: RGB pixels, network input, `Prediction`, class map."""


@dataclass(slots=True, eq=False)
class Frame:
    """One image on its way; a field is there from the step that makes it to the last that needs it.

    Attributes:
        source: a file, or pixels.
        pixels: `(H, W, 3)` uint8, RGB.
        valid: `(H, W)` bool, where the image has data; `None` where that is everywhere.
        placement: where the image lies in the network input.
        tensor: the network input, `(3, H, W)`.
        prediction: logits on their grid.
        class_map: `(H, W)` uint8.
        outputs: step → its output, of the steps that are tapped.
        note: anything that a caller's own step leaves for the caller.
    """

    source: Any
    pixels: Pixels | None = None
    valid: NDArray[np.bool_] | None = None
    placement: Placement | None = None
    tensor: Tensor | None = None
    prediction: Prediction | None = None
    class_map: Pixels | None = None
    outputs: dict[str, Any] = field(default_factory=dict)
    note: Any = None


class Steps:
    """What is done to a frame.

    Args:
        predictor: network, preprocessing and labels.
        read: source → pixels, or a `Picture`; by default files are decoded and arrays taken.
        taps: names of steps whose outputs are kept in `Frame.outputs`.

    Raises:
        InputError: a tap is no step.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        read: Read | None = None,
        taps: Collection[str] = (),
    ) -> None:
        if unknown := [tap for tap in taps if tap not in STEPS]:
            raise InputError(f"tap {unknown[0]!r}: no such step; there are {', '.join(STEPS)}")
        self.predictor = predictor
        self._read = read or partial(
            _picture, Reading().by_default(predictor.preprocess.value_range)
        )
        self._taps = frozenset(taps)

    def decode(self, frame: Frame) -> None:
        """Read the source."""
        found = self._read(frame.source)
        picture = found if isinstance(found, Picture) else Picture(found)
        frame.pixels = self._tap(frame, "decode", picture.pixels)
        frame.valid = picture.valid

    def preprocess(self, frame: Frame) -> None:
        """Make the network input."""
        assert frame.pixels is not None
        tensor, frame.placement = self.predictor.prepare(frame.pixels)
        frame.tensor = self._tap(frame, "preprocess", tensor)

    def infer(self, frame: Frame) -> None:
        """Run the network on one frame."""
        self.infer_batch([frame])

    def infer_batch(self, frames: list[Frame]) -> None:
        """Run the network once for all frames; a network of fixed batch size sees zeros as well.

        If it fails, no frame has changed.
        """
        tensors, placements = [], []
        for frame in frames:
            assert frame.tensor is not None
            assert frame.placement is not None
            tensors.append(frame.tensor)
            placements.append(frame.placement)
        grids = self.predictor.logits(tensors)
        predictions = [*map(self.predictor.prediction, grids, placements)]
        for frame, prediction in zip(frames, predictions, strict=True):
            frame.prediction = self._tap(frame, "infer", prediction)
            frame.tensor = None

    def postprocess(self, frame: Frame) -> None:
        """Make the class map."""
        assert frame.prediction is not None
        class_map = frame.prediction.class_map()
        if frame.valid is not None:
            class_map[~frame.valid] = self.predictor.labels.ignore_index
        frame.class_map = self._tap(frame, "postprocess", class_map)
        frame.prediction = None

    def _tap(self, frame: Frame, step: str, output: Any) -> Any:
        if step in self._taps:
            frame.outputs[step] = output
        return output


@dataclass(frozen=True, slots=True)
class Stages:
    """What a `Pipeline` is made of, in this order.

    Attributes:
        prepare: decodes and makes the network input.
        network: runs the network, on a batch at a time where that is over 1.
        finish: makes the class map, and what a caller makes of it.
    """

    prepare: Stage[Frame]
    network: Stage[Frame]
    finish: Stage[Frame]

    def __iter__(self) -> Iterator[Stage[Frame]]:
        return iter((self.prepare, self.network, self.finish))

    def in_one(self) -> list[Stage[Frame]]:
        """All steps in one stage: each call of the network has one thread, which does the rest too.

        It sees images alone.
        """
        infer = self.network.steps["infer"]
        alone = infer if self.network.batch == 1 else lambda frame: infer([frame])
        steps = {**self.prepare.steps, "infer": alone, **self.finish.steps}
        return [Stage(steps, self.network.workers)]

    def doing(
        self,
        *,
        prepare: Work | None = None,
        network: Work | None = None,
        finish: Work | None = None,
    ) -> Stages:
        """The same threads with other steps."""
        wanted = zip(self, (prepare, network, finish), strict=True)
        return Stages(*(replace(stage, steps=steps or stage.steps) for stage, steps in wanted))


def stages(
    steps: Steps,
    *,
    before: Work | None = None,
    after: Work | None = None,
    batch: int | None = None,
    wait: float = 0.01,
    helpers: int | None = None,
) -> Stages:
    """Put the steps into three stages: what comes before the network, the network, what follows.

    Args:
        steps: see `Steps`.
        before: steps in front of `decode`; they may return `worker.SKIP`.
        after: steps behind `postprocess`.
        batch: images that the network sees at once; by default its own number, 1 if it is free.
        wait: seconds to wait for a batch to fill.
        helpers: threads of the first stage and of the last, one for every two cores by default.

    Raises:
        ConfigError: the network takes another number of images at a time.
    """
    engine = steps.predictor.engine
    own = engine.signature.batch
    batch = (own or 1) if batch is None else batch
    if own not in (None, batch):
        raise ConfigError(
            f"`batch` {batch}: the network takes {own} image{'s' * (own != 1)} at a time; export "
            f"it with batch {batch} or with a free one"
        )
    helpers = helper_threads() if helpers is None else helpers
    infer = steps.infer if batch == 1 else steps.infer_batch
    return Stages(
        Stage({**(before or {}), "decode": steps.decode, "preprocess": steps.preprocess}, helpers),
        Stage({"infer": infer}, engine.streams, batch, wait),
        Stage({"postprocess": steps.postprocess, **(after or {})}, helpers),
    )


def helper_threads() -> int:
    """Threads of a stage beside the network: one for every two cores, eight at most."""
    return max(1, min(8, cores() // 2))


def _picture(reading: Reading, source: str | Path | Pixels) -> Pixels | Picture:
    return source if isinstance(source, np.ndarray) else reading.picture(Path(source))
