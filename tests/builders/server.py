"""A live server in a thread of the test process, around networks that are functions."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.engines.fake import FakeEngine
from atrous.errors import EngineError
from atrous.labels import VOC, LabelSet, generic
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from atrous.serve.server import Server, listen, run, url_of
from atrous.serve.service import Service
from atrous.serve.settings import Settings

Pixels = NDArray[np.uint8]
BROKEN = 250
"""A picture of this grey makes the network fail."""


class Network(FakeEngine):
    """The class of a pixel is its brightest channel; it can be made to wait, and to fail."""

    def __init__(self, *, classes: int = 3, streams: int = 1) -> None:
        super().__init__(self._look, num_classes=classes)
        self.streams = streams
        self.go = threading.Event()
        self.go.set()
        self.calls: list[int] = []
        self.closed = False

    def _look(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.calls.append(len(batch))
        assert self.go.wait(20)
        if batch[0, 0, 0, 0] == BROKEN:
            raise EngineError("the device is gone")
        more = (self.signature.classes or 3) - 3
        rest = np.full((len(batch), more, *batch.shape[2:]), -1, np.float32)
        return np.concatenate([batch, rest], axis=1)

    def close(self) -> None:
        self.closed = True


def segmenter(engine: Network | None = None, labels: LabelSet | None = None) -> Predictor:
    preprocess = Preprocess(size=(8, 8), normalisation="none")
    return Predictor(engine or Network(), preprocess, labels or generic(3))


@dataclass
class Live:
    url: str
    service: Service
    server: Server
    engine: Network
    client: httpx.Client

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    def segment(self, data: bytes, **query: object) -> httpx.Response:
        return self.client.post("/v1/segment", content=data, params=query)


def until(condition: Callable[[], bool], seconds: float = 8.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@contextmanager
def _running(service: Service, settings: Settings) -> Iterator[tuple[Server, httpx.Client]]:
    bound = listen(settings)
    started: list[Server] = []
    thread = threading.Thread(target=lambda: run(service, bound, started.append))
    thread.start()
    until(lambda: bool(started))
    try:
        with httpx.Client(base_url=url_of(bound), timeout=15) as client:
            yield started[0], client
    finally:
        started[0].should_exit = True
        thread.join(10)
        bound.close()
        assert not thread.is_alive()


@contextmanager
def serving_models(models: dict[str, Predictor]) -> Iterator[httpx.Client]:
    """A client of a server of these models, which it closes."""
    settings = Settings(port=0)
    with _running(Service(models, settings), settings) as (_, client):
        yield client


@contextmanager
def serving(engine: Network | None = None, **changes: object) -> Iterator[Live]:
    engine = engine or Network()
    settings = replace(Settings(port=0), **changes)  # type: ignore[arg-type]
    voc = segmenter(Network(classes=21), VOC)
    service = Service({"small": segmenter(engine), "voc": voc}, settings)
    with _running(service, settings) as (server, client):
        try:
            yield Live(str(client.base_url).rstrip("/"), service, server, engine, client)
        finally:
            engine.go.set()
    assert engine.closed


def png(pixels: Pixels, kind: str = "PNG") -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, format=kind)
    return file.getvalue()


def halves(height: int = 8, width: int = 16) -> Pixels:
    """The left half is red (class 0), the right half green (class 1)."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : width // 2, 0] = 200
    picture[:, width // 2 :, 1] = 200
    return picture
