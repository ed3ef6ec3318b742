"""Segment many image files into a folder of masks and overlays, losing nothing on the way."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any

from atrous.image import Reading
from atrous.jobs.output import FAILURES, ImageResult, Output, Results
from atrous.jobs.renaming import follow_names
from atrous.jobs.sources import Source
from atrous.runtime.pipeline import TIMEOUT, Pipeline
from atrous.runtime.predictor import Predictor
from atrous.runtime.stages import Frame, Steps, stages
from atrous.runtime.worker import SKIP


def segment(
    predictor: Predictor,
    sources: Iterable[Source],
    output: Output,
    *,
    reading: Reading | None = None,
    batch: int | None = None,
    pipelined: bool = True,
    score: Callable[[Frame], Any] | None = None,
    timeout: float | None = TIMEOUT,
    whole: bool = True,
) -> Generator[ImageResult]:
    """Segment images as a stream: a few are under way at a time, results come in order.

    A file that fails becomes a result that says why, and the others go on. Closing the generator
    ends the work; what was finished is kept.

    Args:
        predictor: the network.
        sources: see `atrous.jobs.sources.find`.
        output: where the results go.
        reading: how images are read.
        batch: images that the network sees at once; by default its own number, 1 if it is free.
        pipelined: overlap decoding, the network and writing, which takes more cores than the
            network's. Else one thread for every call of the network does all that an image needs.
        score: called with every frame that was written; `outputs["infer"]` is its `Prediction`.
        timeout: seconds after which a step counts as stuck.
        whole: whether `sources` are all that go to `output`, and no part of them.

    Raises:
        ConfigError: the network takes another number of images at a time.
        InputError: `output` cannot be a folder.
        StreamError: a step is stuck.
    """
    reading = (reading or Reading()).by_default(predictor.preprocess.value_range)
    sources = list(sources)
    results = Results(output, predictor, str(reading.taking))
    if whole:
        follow_names(results, ((source.path, source.stem) for source in sources))
    job = _Job(results, score)
    steps = Steps(
        predictor,
        read=lambda source: reading.picture(source.path),
        taps=() if score is None else ("infer",),
    )
    work = stages(steps, before={"check": job.check}, after={"write": job.write}, batch=batch)
    together = not pipelined and work.network.batch == 1
    with Pipeline(work.in_one() if together else work, timeout=timeout) as pipeline:
        for item in pipeline.map(Frame(source) for source in sources):
            frame: Frame = item.value
            if item.error is None:
                yield frame.note
            elif isinstance(item.error, FAILURES):
                yield ImageResult.failure(frame.source.path, item.error)
            else:
                raise item.error


@dataclass(frozen=True, slots=True)
class _Job:
    """What is done to a frame before it is decoded, and at last."""

    results: Results
    score: Callable[[Frame], Any] | None

    def check(self, frame: Frame) -> object:
        """Leave out what has been done already."""
        frame.source.check()
        target = self.results.target(frame.source.path, frame.source.stem)
        frame.note = self.results.claim(target)
        return SKIP if isinstance(frame.note, ImageResult) else None

    def write(self, frame: Frame) -> None:
        """Write what was made."""
        assert frame.pixels is not None
        assert frame.class_map is not None
        written = self.results.write(frame.note, frame.pixels, frame.class_map, frame.valid)
        frame.note = written
        if self.score is not None:
            frame.note = replace(frame.note, score=self.score(frame))
