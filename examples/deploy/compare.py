"""Run a standalone graph wherever it can run here, and compare the class maps.

python examples/deploy/compare.py STANDALONE.onnx PHOTOGRAPHS...

One line for each runtime: its version, milliseconds for a photograph (the median), and the share of
the pixels with the class that ONNX Runtime gives them in Python.
"""

from __future__ import annotations

import mimetypes
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

HERE = Path(__file__).parent
CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PATIENCE = 300
"""Seconds for one photograph."""

ClassMap = NDArray[np.uint8]
Run = Callable[[Path, Path], tuple[ClassMap, str]]
"""From a model and a PNG file to the class map, and `RUNTIME VERSION: MILLISECONDS ms`."""


class Absent(Exception):
    """A runtime is not here; says what is missing."""


def _program(*parts: str) -> str:
    found = next(filter(None, map(shutil.which, parts)), None)
    if found is None:
        raise Absent(f"needs {' or '.join(parts)}")
    return found


def _packages() -> None:
    if not (HERE / "node_modules").is_dir():
        raise Absent(f"needs npm's packages: cd {HERE}; npm ci --ignore-scripts")


def _called(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=PATIENCE
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()


def _written(command: list[str | Path], model: Path, photograph: Path) -> tuple[ClassMap, str]:
    """What a program writes that takes MODEL PHOTOGRAPH CLASSES.png."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "classes.png"
        said = _called(*command, model, photograph, output)
        return np.asarray(Image.open(output)), said


def python(name: str, model: Path, photograph: Path) -> tuple[ClassMap, str]:
    """One of the scripts `plain_NAME.py`."""
    return _written([sys.executable, HERE / f"plain_{name}.py"], model, photograph)


def node(model: Path, photograph: Path) -> tuple[ClassMap, str]:
    """`segment.mjs`, by onnxruntime-node."""
    program = _program("node")
    _packages()
    return _written([program, HERE / "segment.mjs"], model, photograph)


def built(folder: Path) -> Path:
    """Build `segment.cpp` against the wheel of OpenVINO."""
    cmake, _ = _program("cmake"), _program("g++", "c++", "clang++")
    try:
        import openvino
    except ImportError:
        raise Absent("needs openvino: pip install openvino") from None
    wheel = Path(openvino.__path__[0])
    _called(cmake, "-S", HERE, "-B", folder, f"-DOpenVINO_DIR={wheel / 'cmake'}")
    _called(cmake, "--build", folder)
    return folder / "segment"


def cpp(program: Path, model: Path, photograph: Path) -> tuple[ClassMap, str]:
    """`segment.cpp`, which reads and writes pictures without compression."""
    with tempfile.TemporaryDirectory() as name:
        given, output = Path(name) / "photograph.ppm", Path(name) / "classes.pgm"
        Image.open(photograph).convert("RGB").save(given)
        said = _called(program, model, given, output)
        return np.asarray(Image.open(output)), said


class _Handler(SimpleHTTPRequestHandler):
    """The files of a folder, isolated, so that WebAssembly may have threads; and some others."""

    extensions_map: ClassVar = {".mjs": "text/javascript", ".wasm": "application/wasm"}
    others: ClassVar[dict[str, bytes]] = {}
    isolated = True

    def end_headers(self) -> None:
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def send_head(self) -> Any:
        data = self.others.get(self.path.partition("?")[0])
        if data is None:
            return super().send_head()
        self.send_response(200)
        self.send_header("Content-Type", mimetypes.guess_type(self.path)[0] or "text/plain")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return BytesIO(data)

    def log_message(self, *_: object) -> None:
        """Nothing: what is wrong is seen in the page."""


@contextmanager
def served(folder: Path, *, isolated: bool = True, **others: bytes) -> Iterator[str]:
    """The address of a folder, and of data by name besides."""

    class Handler(_Handler):
        pass

    Handler.isolated = isolated
    Handler.others = {f"/{name}": data for name, data in others.items()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def browser(model: Path, photograph: Path, *, isolated: bool = True) -> tuple[ClassMap, str]:
    """`browser.html` in a headless Chromium, by onnxruntime-web in WebAssembly."""
    program = _program(*CHROMIUM)
    _packages()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise Absent("needs playwright: pip install playwright") from None
    others = {"model": model.read_bytes(), "photograph": photograph.read_bytes()}
    read = """() => {
        const { width, height } = seen;
        const { data } = seen.getContext("2d").getImageData(0, 0, width, height);
        return [height, width, Array.from(data.filter((_, at) => at % 4 === 0))];
    }"""
    with sync_playwright() as driver, served(HERE, isolated=isolated, **others) as url:
        opened = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = opened.new_page()
        broken: list[str] = []
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.goto(f"{url}/browser.html?model=model&photograph=photograph")
        wait = "said.textContent.endsWith(' ms')"
        page.wait_for_function(wait, timeout=1e3 * PATIENCE)
        height, width, values = page.evaluate(read)
        said = page.inner_text("#said")
        opened.close()
    if broken:
        raise RuntimeError(broken[0])
    return np.array(values, np.uint8).reshape(height, width), said


def sized(model: Path, photograph: Path, folder: Path) -> Path:
    """A photograph as PNG, at the size that the graph takes."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    [_, height, width, _] = session.get_inputs()[0].shape
    picture = Image.open(photograph).convert("RGB")
    if isinstance(height, int):
        picture = picture.resize((width, height))
    path = folder / f"{photograph.stem}.png"
    picture.save(path)
    return path


def main(model: Path, photographs: list[Path]) -> None:
    """Print a line for each runtime."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = [sized(model, one, folder) for one in photographs]
        try:
            program = partial(cpp, built(folder / "build"))
        except Absent as absent:
            program = absent
        runs: dict[str, Run | Absent] = {
            "ONNX Runtime, Python": partial(python, "onnxruntime"),
            "ONNX Runtime, Node": node,
            "ONNX Runtime, Chromium": browser,
            "ONNX Runtime, Chromium, 1 thread": partial(browser, isolated=False),
            "OpenVINO, Python": partial(python, "openvino"),
            "OpenVINO, C++": program,
        }
        first: list[ClassMap] = []
        for what, run in runs.items():
            try:
                if isinstance(run, Absent):
                    raise run
                found = [run(model, picture) for picture in pictures]
            except Absent as absent:
                print(f"{what}: {absent}")
                continue
            maps = [classes for classes, _ in found]
            first = first or maps
            said = [line.removesuffix(" ms").rpartition(": ") for _, line in found]
            version, time = said[0][0], statistics.median(float(one[2]) for one in said)
            same = [float((a == b).mean()) for a, b in zip(maps, first, strict=True)]
            print(
                f"{what:34s} {version:50s} {time:6.0f} ms   {100 * statistics.mean(same):.4f} % "
                f"(least {100 * min(same):.4f} %)",
                flush=True,
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
