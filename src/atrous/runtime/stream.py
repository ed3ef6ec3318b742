"""Segment a stream of images: decoding, inference and what follows overlap, order is kept."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from atrous.engines.base import Options
from atrous.runtime.pipeline import TIMEOUT, Overflow, Pipeline
from atrous.runtime.predictor import Predictor
from atrous.runtime.stages import Frame, Read, Steps, stages
from atrous.runtime.worker import Item

Image = str | Path | NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class StreamResult:
    """What became of one image.

    Attributes:
        index: how many images were handed in before it.
        source: what was handed in.
        class_map: `(H, W)` uint8 class ids at the image's own size, `None` if it failed.
        error: why it failed.
        outputs: step → its output, of the steps that are tapped: `decode` `(H, W, 3)` uint8 RGB,
            `preprocess` the network input, `infer` a `Prediction` with logits, `postprocess` the
            class map.
        seconds: step → how long it took; `queue` is the time between steps.
    """

    index: int
    source: Any
    class_map: NDArray[np.uint8] | None
    error: Exception | None
    outputs: dict[str, Any]
    seconds: dict[str, float]


class Stream:
    """A network at work on many images at once, results in the order they were handed in.

    Use it as a context manager; leaving it normally finishes what is under way, leaving it by an
    exception gives up what has not begun.

        with Stream.open(instances=2) as stream:
            for result in stream.run_batch(paths):
                ...

    Args:
        predictor: network, preprocessing and labels; as many calls of it run side by side as its
            engine has streams.
        batch: images that the network sees at once; by default its own number, 1 if it is free.
        wait: seconds to wait for a batch to fill.
        capacity: images under way, by default twice as many as work side by side.
        overflow: what `submit` does when that many are: `block`, or `drop` the oldest that waits.
        taps: steps whose outputs go into the results.
        read: makes pixels, or a `Picture`, of what is handed in; by default files are decoded and
            arrays taken. `image.Reading(taking).picture` reads files otherwise.
        timeout: seconds after which a step counts as stuck and the stream fails; `None` for never.
        helpers: threads before the network and after it, one for every two cores by default.

    Raises:
        ConfigError: the network takes another number of images at a time.
        InputError: another argument is out of range.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        batch: int | None = None,
        wait: float = 0.01,
        capacity: int | None = None,
        overflow: Overflow = "block",
        taps: Collection[str] = (),
        read: Read | None = None,
        timeout: float | None = TIMEOUT,
        helpers: int | None = None,
    ) -> None:
        self.predictor = predictor
        steps = Steps(predictor, read=read, taps=taps)
        work = stages(steps, batch=batch, wait=wait, helpers=helpers)
        self._pipeline = Pipeline(work, capacity=capacity, overflow=overflow, timeout=timeout)
        self._owned: Predictor | None = None

    @classmethod
    def open(
        cls,
        model: str | Path | None = None,
        *,
        instances: int = 1,
        engine: str = "auto",
        options: Options | None = None,
        **settings: Any,
    ) -> Self:
        """Open a model by any of its names; it is closed with the stream.

        Args:
            model: see `atrous.engines.open_engine`.
            instances: calls of the network that run side by side, sharing the threads.
            engine: `auto`, or the name of an engine.
            options: device, threads and cache; its `streams` are `instances`.
            settings: those of `Stream`.

        Raises:
            AtrousError: the model cannot be opened, or the settings do not fit it.
        """
        wanted = replace(options or Options(), streams=instances)
        predictor = Predictor.open(model, engine=engine, options=wanted)
        try:
            stream = cls(predictor, **settings)
        except BaseException:
            predictor.close()
            raise
        stream._owned = predictor
        return stream

    def run(self, image: Image) -> StreamResult:
        """Segment one image and wait for it.

        Raises:
            AtrousError: it failed.
        """
        [result] = self.run_batch([image])
        if result.error is not None:
            raise result.error
        return result

    def run_batch(self, images: Iterable[Image]) -> Iterator[StreamResult]:
        """Segment images, reading no further ahead than there is room; yields in their order.

        What `images` raises comes after the results of all images before. A loop that is left
        half-way gives up the results it has not seen; the stream may be used again.

        Raises:
            StreamError: the stream is closed, another loop takes its results, or a step is stuck;
                every image handed in has come out then.
        """
        for item in self._pipeline.map(Frame(image) for image in images):
            yield _result(item)

    def submit(self, image: Image) -> int | None:
        """Hand an image in while another thread takes `results`.

        Returns:
            its index, `None` if it was dropped.

        Raises:
            StreamError: the stream is closed, or a step is stuck.
        """
        return self._pipeline.submit(Frame(image))

    def results(self) -> Iterator[StreamResult]:
        """Yield results in order until the stream is closed and empty; for one thread."""
        for item in self._pipeline.results():
            yield _result(item)

    @property
    def dropped(self) -> int:
        """How many images had to make room for newer ones."""
        return self._pipeline.dropped

    def close(self) -> None:
        """Take nothing more in, finish what is under way; `results` still gives it."""
        try:
            self._pipeline.close()
        finally:
            self._release()

    def cancel(self) -> None:
        """Give up what has not begun, within half a second."""
        try:
            self._pipeline.cancel()
        finally:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if kind is None:
            self.close()
        else:
            self.cancel()

    def _release(self) -> None:
        if self._owned is not None:
            self._owned.close()


def _result(item: Item[Frame]) -> StreamResult:
    frame = item.value
    return StreamResult(
        item.index, frame.source, frame.class_map, item.error, frame.outputs, item.seconds
    )
