"""What runs on the machines of a cluster: an actor that holds one engine and segments batches."""

from __future__ import annotations

import os
import pickle
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory, gettempdir
from typing import IO, Any

from atrous.engines.base import Options
from atrous.errors import AtrousError, ConfigError, EngineError
from atrous.image import Reading
from atrous.jobs import folder
from atrous.jobs.cluster import remote
from atrous.jobs.output import FAILURES, FOLDERS, ImageResult, Output, join
from atrous.jobs.sources import Source
from atrous.labels import LabelSet
from atrous.pictures.samples import Notes, Taking
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor

MOST_TRIES = 2
"""Workers that a batch may lose before it is given up."""

_COPIES = 8


@dataclass(frozen=True, slots=True)
class ClusterJob:
    """What is the same for all images.

    Attributes:
        model: a reference to name → content of the model's files; the first is the one to open.
        identity: of the model.
        engine: name of the engine.
        options: of the engine.
        preprocess: of the images.
        labels: what the classes are called.
        output: its place is an absolute path or a URL.
        token: name of a file in `output`, empty if it is a URL: who sees it shares the folder.
        taking: how samples are taken where a file does not say.
        max_pixels: refuse larger images before decoding them.
    """

    model: Any
    identity: str
    engine: str
    options: Options
    preprocess: Preprocess
    labels: LabelSet
    output: Output
    token: str
    taking: Taking
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of one image.

    Attributes:
        index: the image's number, -1 for all that are to come.
        result: `None` if its worker was lost `MOST_TRIES` times.
        failure: why this machine can do nothing.
        notes: what was decided about samples, see `atrous.pictures.samples.Notes.said`.
    """

    index: int
    result: ImageResult | None = None
    failure: AtrousError | None = None
    notes: dict[str, str] = field(default_factory=dict)


class Tries:
    """An actor beside the caller that counts how often a batch was begun.

    Ray gives a batch whose worker died to another without an end, so a picture that kills its
    worker would kill them all, one after the other.
    """

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, batch: int) -> int:
        """Count, and tell how often it was."""
        self._begun[batch] += 1
        return self._begun[batch]


class Segmenter:
    """A callable class for `ray.data.Dataset.map_batches`.

    Args:
        job: what to do.
        begin: tells how often a batch was begun, see `Tries`.
        get: fetches the model's files.
        claim: keep this process to cores of its own.
    """

    def __init__(
        self,
        job: ClusterJob,
        begin: Callable[[int], int],
        get: Callable[[Any], Mapping[str, bytes]],
        claim: bool = True,
    ) -> None:
        self._job, self._begin = job, begin
        self._network = threading.Lock()
        self._failure: AtrousError | None = None
        self._notes = Notes(tell=lambda text: None)
        try:
            self._check_output()
            if claim and job.options.device == "cpu":
                self._cores = claim_cores(job.options.threads)
            self._predictor = _open(job, get(job.model))
        except AtrousError as error:
            self._failure = type(error)(f"{socket.gethostname()}: {error}")

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[bytes]]:
        """Segment images.

        Args:
            batch: columns `index`, `place` and `stem`.

        Returns:
            a column of pickled `Reply`.
        """
        numbers = [int(number) for number in batch["index"]]
        # Names as bytes, which Arrow holds whatever they are.
        places, stems = (map(os.fsdecode, batch[name]) for name in ("place", "stem"))
        images = [*map(remote.RemoteImage, places, stems)]
        replies = [Reply(-1, failure=self._failure)]
        if self._failure is None:
            if self._begin(numbers[0]) > MOST_TRIES:
                replies = [*map(Reply, numbers)]
            else:
                try:
                    replies = [*map(Reply, numbers, self.segment(images))]
                    replies[0] = replace(replies[0], notes=self._notes.said)
                except AtrousError as error:
                    replies = [Reply(-1, failure=error)]
        return {"reply": [pickle.dumps(reply) for reply in replies]}

    def segment(self, images: Sequence[remote.RemoteImage]) -> list[ImageResult]:
        """Segment images, whose paths are absolute; results come in their order.

        What lies behind URLs is fetched before and put there after, so that `folder.segment` sees
        files alone.

        Raises:
            AtrousError: no image can be segmented.
        """
        job = self._job
        with TemporaryDirectory(prefix="atrous-") as scratch, ThreadPoolExecutor(_COPIES) as copies:
            desk = _Desk(job, Path(scratch))
            found = [*copies.map(desk.fetch, range(len(images)), images)]
            with self._network:
                made = folder.segment(
                    self._predictor,
                    [source for source in found if isinstance(source, Source)],
                    desk.output,
                    reading=Reading(job.taking, job.max_pixels, self._notes),
                    pipelined=job.options.device != "cpu",
                    whole=False,
                )
                results = [next(made) if isinstance(one, Source) else one for one in found]
                made.close()
            for image, one in zip(images, found, strict=True):
                if isinstance(one, Source):
                    self._call(str(one.path), image.place)
            return [*copies.map(desk.put, images, results)]

    def _call(self, path: str, place: str) -> None:
        """Say of the image behind a URL what it is called there."""
        said = self._notes.said
        said.update({kind: text.replace(path, place) for kind, text in said.items()})

    def _check_output(self) -> None:
        place = self._job.output.place
        if self._job.token and not Path(place, self._job.token).is_file():
            raise ConfigError(
                f"{place} is another folder here: expected one that all machines share, "
                "or a URL such as s3://bucket/folder"
            )


class _Desk:
    """Where the files of one batch lie while it is worked on.

    Attributes:
        output: what `folder.segment` writes into.
    """

    def __init__(self, job: ClusterJob, scratch: Path) -> None:
        self._scratch = scratch
        self._place = str(job.output.place)
        self._away = remote.is_url(self._place)
        here = scratch / "out" if self._away else Path(self._place)
        self.output = replace(job.output, place=here)

    def fetch(self, number: int, image: remote.RemoteImage) -> Source | ImageResult:
        """Have the image here, and what was made of it before."""
        source = Source(Path(image.place), Path(image.stem))
        try:
            if remote.is_url(image.place):
                name = PurePosixPath(image.place.partition("::")[0])
                source = replace(source, path=self._scratch / f"{number}{name.suffix}")
                remote.fetch(image.place, source.path)
            if self._away and not self.output.force:
                for url, file in self._results(image):
                    if remote.exists(url):
                        file.parent.mkdir(parents=True, exist_ok=True)
                        remote.fetch(url, file)
        except FAILURES as error:
            return ImageResult.failure(image.place, error)
        return source

    def put(self, image: remote.RemoteImage, result: ImageResult) -> ImageResult:
        """Take the results where they belong, in the order in which they were written."""
        if result.status == "failed":
            error = result.error.replace(str(result.source), image.place)
            for kind in FOLDERS:
                error = error.replace(join(self.output.place, kind), join(self._place, kind))
            return replace(result, error=error)
        if result.status == "written" and self._away:
            try:
                for url, file in self._results(image):
                    remote.put(file, url)
            except AtrousError as error:
                return ImageResult.failure(image.place, error)
        return result

    def _results(self, image: remote.RemoteImage) -> list[tuple[str, Path]]:
        names = self.output.names(image.stem).values()
        return [(join(self._place, name), Path(self.output.place, name)) for name in names]


def _open(job: ClusterJob, files: Mapping[str, bytes]) -> Predictor:
    """Open the model; the engine has read its files when they are gone again."""
    with TemporaryDirectory(prefix="atrous-") as name:
        for file, content in files.items():
            Path(name, file).parent.mkdir(parents=True, exist_ok=True)
            Path(name, file).write_bytes(content)
        path = Path(name, next(iter(files)))
        predictor = Predictor.open(
            path,
            engine=job.engine,
            options=job.options,
            preprocess=job.preprocess,
            labels=job.labels,
        )
    if predictor.engine.identity != job.identity:
        predictor.close()
        raise EngineError(
            f"{path.name}: read as another model ({predictor.engine.identity[:12]}) than where the "
            f"command was given ({job.identity[:12]}); install the same versions everywhere"
        )
    return predictor


def claim_cores(count: int) -> list[IO[str]]:
    """Keep this process to cores that no other worker on this machine has, if as many are free.

    Threads of engines settle on the first cores they may use, in every process on the same. A claim
    is a lock on a file: it ends with the process, however that ends.

    Returns:
        the open files that hold the claim, none if there is no such thing here.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    import fcntl

    locks = Path(gettempdir()) / f"atrous-cores-{os.getuid()}"
    locks.mkdir(mode=0o700, exist_ok=True)
    claimed: dict[int, IO[str]] = {}
    for core in sorted(os.sched_getaffinity(0)):
        file: IO[str] = (locks / str(core)).open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        claimed[core] = file
        if len(claimed) == count:
            for thread in Path("/proc/self/task").iterdir():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), claimed)
            return list(claimed.values())
    for file in claimed.values():
        file.close()
    return []
