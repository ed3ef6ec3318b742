"""An installed Chromium, a page that watches itself, and a server with two models that differ."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.labels import LabelSet
from atrous.runtime.predictor import Predictor
from atrous.serve.server import Server, listen, run, url_of
from atrous.serve.service import Service
from atrous.serve.settings import Settings
from tests.builders.server import Network, Pixels, segmenter, until

sync_api = pytest.importorskip("playwright.sync_api")

LABELS = LabelSet("pets", ("background", "cat", "sky"), ((0, 0, 0), (220, 40, 0), (0, 60, 220)))
# The shell is Chromium without windows: a page in it takes an eighth of the processor time.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


class Darkest(Network):
    """The class of a pixel is its darkest channel."""

    def _look(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return -super()._look(batch)


@dataclass
class Pair:
    url: str
    models: dict[str, Predictor]
    engine: Network

    def class_map(self, model: str, pixels: Pixels) -> Pixels:
        return self.models[model](pixels).class_map()


@contextmanager
def serving_pair(**settings: Any) -> Iterator[Pair]:
    """A server of `bright`, whose engine can be stopped, and `dark`."""
    engine = Network()
    models = {"bright": segmenter(engine, LABELS), "dark": segmenter(Darkest(), LABELS)}
    told = Settings(port=0, **settings)
    service = Service(models, told)
    started: list[Server] = []
    with listen(told) as bound:
        thread = threading.Thread(target=run, args=(service, bound, started.append))
        thread.start()
        until(lambda: bool(started))
        try:
            yield Pair(url_of(bound), models, engine)
        finally:
            engine.go.set()
            started[0].should_exit = True
            thread.join(10)
            assert not thread.is_alive()


@contextmanager
def chromium() -> Iterator[Any]:
    """The Chromium of this machine; the test is skipped if there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"needs one of {', '.join(NAMES)}: apt-get install chromium-headless-shell")
    with sync_api.sync_playwright() as driver:
        # In a container the browser has no sandbox of its own.
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page, and what it should not do: complain, ask other hosts, be refused."""

    page: Any
    url: str
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    refused: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(9000)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.page.on("response", self._response)
        self.page.goto(self.url)

    def _console(self, message: Any) -> None:
        # Chromium's own line for a refusal, which `refused` has.
        if not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)

    def _response(self, response: Any) -> None:
        if response.status >= 400:
            self.refused.append(response.status)

    def upload(self, data: bytes, name: str = "picture.png", kind: str = "image/png") -> None:
        file = {"name": name, "mimeType": kind, "buffer": data}
        self.page.set_input_files("#file", file)

    def show(self, data: bytes, name: str = "picture.png", kind: str = "image/png") -> None:
        """Upload a picture and wait for its result."""
        self.upload(data, name, kind)
        self.page.locator("#name").filter(has_text=name).wait_for()
        self.settle()

    def settle(self) -> None:
        self.page.wait_for_selector("body[aria-busy=false]")

    def pixels(self, selector: str) -> Pixels:
        """What is seen of an element."""
        shot = self.page.locator(selector).first.screenshot()
        return np.asarray(Image.open(BytesIO(shot)).convert("RGB"))

    def hover(self, x: float, y: float, stage: int = 0) -> str:
        """Point at fractions of a picture; returns what the page says to that."""
        box = self.page.locator(".stage").nth(stage).bounding_box()
        self.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        return self.readout

    @property
    def readout(self) -> str:
        return str(self.page.inner_text("#readout"))

    def legend(self) -> list[list[str]]:
        rows = self.page.locator("#legend tbody tr").all()
        return [[cell.inner_text() for cell in row.locator("th, td").all()] for row in rows]

    def tab_to(self, selector: str) -> None:
        """Press Tab until an element has the focus."""
        for _ in range(40):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"Tab never comes to {selector}")
