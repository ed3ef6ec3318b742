"""A network that many clients use at once: a short queue in front of a pipeline of threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from atrous.errors import InputError, StreamError
from atrous.geometry import Axis
from atrous.pictures.samples import Picture
from atrous.preprocess import Placement, Tensor
from atrous.runtime.pipeline import TIMEOUT, Pipeline
from atrous.runtime.predictor import Predictor
from atrous.runtime.stages import Frame, Steps, stages
from atrous.runtime.worker import SKIP, Item
from atrous.serve.metrics import Metrics
from atrous.serve.refusal import Refusal
from atrous.serve.settings import Settings

LARGEST_VALUE: Final = 65504.0
"""Of a network input: the largest number of fp16, in which some engines compute."""


@dataclass(slots=True, eq=False)
class ImageJob:
    """One image on its way through a model.

    Attributes:
        finish: makes the answer from the frame, in a thread: `class_map`, `outputs["infer"]` and,
            with `keep_pixels`, `pixels` are there.
        pixels: makes RGB pixels, or a `Picture`, in a thread; or a tensor is given.
        tensor: the network input, `(3, H, W)`.
        keep_pixels: whether `finish` needs them.
        answer: what `finish` made.
        waited: seconds before it went into the pipeline.
        gone: nobody waits for it any more.
        done: resolved when it comes out.
    """

    finish: Callable[[Frame], Any]
    pixels: Callable[[], NDArray[np.uint8] | Picture] | None = None
    tensor: Tensor | None = None
    keep_pixels: bool = False
    answer: Any = None
    waited: float = 0.0
    gone: bool = False
    done: asyncio.Future[Item[Frame]] | None = field(default=None, repr=False)


class Model:
    """Runs images of many clients through one network.

    The queue is short on purpose: what is taken in is answered in about twice the time that it
    takes alone, and the rest is told at once to try again. What waits is not decoded yet.

    Args:
        name: what clients call it.
        predictor: closed with the model.
        settings: limits and batching.
        metrics: counts what it does.

    Attributes:
        places: images that may be under way.
        under_way: images that are.
        broken: why it does not work any more, empty while it does.

    Raises:
        ConfigError: the network takes another number of images at a time.
    """

    def __init__(
        self, name: str, predictor: Predictor, settings: Settings, metrics: Metrics
    ) -> None:
        self.name, self.predictor = name, predictor
        self._patience, self._metrics = settings.answer_seconds, metrics
        self._steps = Steps(predictor, read=lambda job: job.pixels(), taps=("infer",))
        work = stages(self._steps, batch=settings.batch, wait=settings.wait)
        self.batch = work.network.batch
        work = work.doing(
            prepare={"decode": self._decode, "preprocess": self._preprocess},
            network={"infer": self._infer if self.batch == 1 else self._infer_batch},
            finish={"postprocess": self._postprocess, "encode": self._encode},
        )
        # One that the network works on, and one that is ready when it has finished.
        room = 2 * work.network.workers * self.batch
        self.places = settings.queue or room
        self.under_way = 0
        self.broken = ""
        self._room = asyncio.Semaphore(room)
        self._pipeline = Pipeline(work, capacity=room, timeout=TIMEOUT)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._taker: threading.Thread | None = None

    def check_room(self, count: int = 1) -> None:
        """Raise `Refusal` if the queue is full; whatever comes alone has room."""
        if self.broken:
            raise Refusal(503, f"model {self.name!r} has stopped: {self.broken}")
        if self.under_way and self.under_way + count > self.places:
            raise Refusal(
                503,
                f"model {self.name!r} has {self.under_way} images under way, the limit is "
                f"{self.places}; try again",
            )

    async def run(self, jobs: list[ImageJob]) -> list[Item[Frame]]:
        """Run images through the network.

        If the caller is cancelled, what has not begun is left out.

        Returns:
            for each what came out; its job has the answer.

        Raises:
            Refusal: the queue is full, it takes too long, or an image is not as it should be.
            AtrousError: the network failed.
        """
        self.check_room(len(jobs))
        self.under_way += len(jobs)
        try:
            async with asyncio.timeout(self._patience):
                if len(jobs) == 1:
                    items = [await self._one(jobs[0])]
                else:
                    items = await asyncio.gather(*map(self._one, jobs))
        except TimeoutError:
            raise Refusal(504, f"no answer within {self._patience:g} s; try again") from None
        finally:
            self.under_way -= len(jobs)
            for job in jobs:
                job.gone = True
        for item in items:
            if isinstance(item.error, StreamError):
                raise Refusal(503, f"model {self.name!r} has stopped: {item.error}")
            if isinstance(item.error, InputError):
                raise Refusal(422, str(item.error))
            if item.error is not None:
                raise item.error
            self._metrics.steps(self.name, item.seconds)
        return items

    def close(self, *, wait: bool = True) -> None:
        """End its threads; what is under way is finished if `wait`."""
        try:
            with suppress(StreamError):
                self._pipeline.close() if wait else self._pipeline.cancel()
        finally:
            self.predictor.close()

    async def _one(self, job: ImageJob) -> Item[Frame]:
        began = time.perf_counter()
        await self._room.acquire()
        job.waited = time.perf_counter() - began
        try:
            if self._taker is None:
                self._loop = asyncio.get_running_loop()
                self._taker = threading.Thread(target=self._take, daemon=True, name="atrous taker")
                self._taker.start()
            job.done = asyncio.get_running_loop().create_future()
            self._pipeline.submit(Frame(job))
        except BaseException as error:
            self._room.release()
            if isinstance(error, StreamError):
                raise Refusal(503, f"model {self.name!r} has stopped: {error}") from None
            raise
        item = await job.done
        job.done = None  # or item and job hold each other until the collector comes
        item.seconds["queue"] += job.waited
        return item

    # In threads

    def _take(self) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has ended
            for item in self._pipeline.results(ordered=False):
                self._loop.call_soon_threadsafe(self._came_out, item)

    def _decode(self, frame: Frame) -> object:
        job: ImageJob = frame.source
        if job.gone:
            return SKIP
        if job.tensor is None:
            self._steps.decode(frame)
            return None
        # By channels, so that the second look finds them in the cache; NaN fails both comparisons.
        if not all(c.min() >= -LARGEST_VALUE and c.max() <= LARGEST_VALUE for c in job.tensor):
            raise Refusal(422, f"input: expected numbers within ±{LARGEST_VALUE:g}")
        height, width = job.tensor.shape[1:]
        frame.tensor, frame.placement = job.tensor, whole(height, width)
        return None

    def _preprocess(self, frame: Frame) -> None:
        if frame.tensor is None:
            self._steps.preprocess(frame)
        if not frame.source.keep_pixels:
            frame.pixels = None

    def _infer(self, frame: Frame) -> object:
        if frame.source.gone:
            return SKIP
        self._metrics.batch(self.name, 1)
        self._steps.infer(frame)
        return None

    def _infer_batch(self, frames: list[Frame]) -> None:
        if wanted := [frame for frame in frames if not frame.source.gone]:
            self._metrics.batch(self.name, len(wanted))
            self._steps.infer_batch(wanted)

    def _postprocess(self, frame: Frame) -> object:
        if frame.prediction is None or frame.source.gone:
            return SKIP
        self._steps.postprocess(frame)
        return None

    def _encode(self, frame: Frame) -> None:
        frame.source.answer = frame.source.finish(frame)
        frame.outputs.clear()

    # In the loop

    def _came_out(self, item: Item[Frame]) -> None:
        self._room.release()
        if isinstance(item.error, StreamError):
            self.broken = str(item.error)
        done = item.value.source.done
        if done is not None and not done.done():
            done.set_result(item)


def whole(height: int, width: int) -> Placement:
    """The placement of a network input on itself."""
    return Placement(Axis(height), Axis(width), (0, height, 0, width))
