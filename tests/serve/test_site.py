"""The page without a server: its folder, and what it does in a real browser."""

import base64
import hashlib
import http.server
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atrous import image
from atrous.engines.onnx_model import OnnxModel
from atrous.errors import ArtifactError, ConfigError
from atrous.exporters.standalone import Standalone, Wanted, standalone, views
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from atrous.serve import site
from tests.builders.browser import LABELS, NAMES, Watched, chromium
from tests.builders.command import Run
from tests.builders.deploy import COMPARE, EXAMPLES
from tests.builders.networks import make_small_model
from tests.builders.server import Pixels, halves, png

PACKAGE = EXAMPLES / "node_modules" / "onnxruntime-web"
NO_WEBGPU = "No available adapters."
"""Chromium's own line where it is asked for WebGPU and has none."""

FAKE = {name: name.encode() for name in site.RUNTIME}


@pytest.fixture(scope="module")
def made() -> Standalone:
    model = OnnxModel(make_small_model(64), name="small")
    preprocess = Preprocess(size=(64, 64))
    with Predictor.open(
        model, engine="onnxruntime", preprocess=preprocess, labels=LABELS
    ) as predictor:
        return standalone(model, predictor, views(), Wanted(any_size=True))


def test_the_folder_is_whole_and_says_nothing_of_a_server(made: Standalone, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    site.write(made, folder, FAKE)
    index = (folder / "index.html").read_text()
    assert "server" not in index
    assert "Pictures stay in this browser." in index
    assert "openapi" not in index
    assert {file.name for file in (folder / "runtime").iterdir()} == set(site.RUNTIME)
    about = json.loads((folder / "model.json").read_text())
    assert [one["name"] for one in about["labels"]["classes"]] == list(LABELS.names)
    assert "require-corp" in (folder / "_headers").read_text()
    site.write(made, folder, FAKE)  # an earlier page is replaced
    (folder / "notes.md").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds notes.md, which this command does not write"):
        site.write(made, folder, FAKE)


def package(*names: str) -> bytes:
    file = BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as made:
        for name in names:
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(name)
            made.addfile(entry, BytesIO(name.encode()))
    return file.getvalue()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "registry"
    folder.mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.heavy
def test_the_runtime_is_downloaded_once_and_checked(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))
    content = package(*site.RUNTIME)
    source = tmp_path / "registry" / "web-1.tgz"
    source.write_bytes(content)
    checksum = f"sha512:{hashlib.sha512(content).hexdigest()}"
    url = f"{registry}/web-1.tgz"
    assert site.runtime_files(None, url=url, checksum=checksum) == FAKE
    source.unlink()
    assert site.runtime_files(None, url=url, checksum=checksum) == FAKE
    (tmp_path / "registry" / "web-2.tgz").write_bytes(content)
    with pytest.raises(ArtifactError, match="expected sha512:00, found"):
        site.runtime_files(None, url=f"{registry}/web-2.tgz", checksum="sha512:00")
    short = package("ort.wasm.min.mjs")
    (tmp_path / "registry" / "web-3.tgz").write_bytes(short)
    checksum = f"sha512:{hashlib.sha512(short).hexdigest()}"
    with pytest.raises(ArtifactError, match=r"no package of onnxruntime-web .*simd-threaded.mjs"):
        site.runtime_files(None, url=f"{registry}/web-3.tgz", checksum=checksum)


def test_the_version_is_that_of_the_examples() -> None:
    packages = json.loads((EXAMPLES / "package-lock.json").read_text())["packages"]
    entry = packages["node_modules/onnxruntime-web"]
    assert entry["version"] == site.VERSION
    digits = base64.b64decode(entry["integrity"].removeprefix("sha512-")).hex()
    assert f"sha512:{digits}" == site.CHECKSUM


def test_a_folder_that_is_no_runtime(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"has no ort.wasm.min.mjs; expected the folder that `npm"
    ):
        site.runtime_files(tmp_path)


@pytest.mark.heavy
def test_the_command(atrous: Run, tmp_path: Path) -> None:
    runtime = tmp_path / "dist"
    runtime.mkdir()
    for name in FAKE:
        (runtime / name).write_bytes(b"")
    model = tmp_path / "small.onnx"
    model.write_bytes(make_small_model(64).SerializeToString())
    output = tmp_path / "site"
    done = atrous(
        "page", "-m", model, "-o", output, "--runtime", runtime, "--size", "64x64",
        "--labels", "background,cat,sky", "--name", "pets",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "pets, onnxruntime-web; same class as Atrous on" in done.out
    assert json.loads((output / "model.json").read_text())["name"] == "pets"
    done = atrous("page", "-m", model, "-o", output, "--runtime", output)
    assert done.code == 2
    assert "--runtime" in done.err


@pytest.fixture(scope="module")
def folder(made: Standalone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not PACKAGE.is_dir():
        pytest.skip(f"needs npm's packages: cd {EXAMPLES}; npm ci --ignore-scripts")
    folder = tmp_path_factory.mktemp("page") / "site"
    site.write(made, folder, site.runtime_files(PACKAGE))
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(folder: Path, browser: Any) -> Iterator[Watched]:
    """The page with threads, which asks nobody else and has nothing to complain of."""
    with COMPARE.served(folder) as url:
        watched = Watched(browser.new_page(viewport={"width": 1280, "height": 860}), url)
        watched.page.set_default_timeout(60_000)
        watched.page.wait_for_selector("#empty:visible")
        yield watched
        assert set(watched.complaints) <= {NO_WEBGPU}
        assert watched.refused == []
        assert watched.hosts <= {url.removeprefix("http://"), ""}


def expected(made: Standalone, pixels: Pixels) -> Pixels:
    import onnxruntime

    session = onnxruntime.InferenceSession(made.model.SerializeToString())
    return np.asarray(session.run(["classes"], {"image": pixels[None]})[0][0])


def saved(page: Watched, output: str, path: Path) -> Image.Image:
    with page.page.expect_download() as started:
        page.page.click(f"[data-output={output}]")
    started.value.save_as(path)
    return Image.open(path)


@pytest.mark.heavy
def test_keys_are_enough_and_a_photograph_gets_its_classes_and_times(
    page: Watched, made: Standalone
) -> None:
    page.tab_to("#sample")
    page.page.keyboard.press("Enter")
    page.page.wait_for_selector("#result:visible")
    page.settle()
    assert page.page.inner_text("#name") == "cat.jpg, 451 × 300"
    shares = image.class_shares(expected(made, image.photograph()))
    assert [name for name, _ in page.legend()] == [LABELS.names[i] for i in shares]
    assert "WebAssembly" in page.page.inner_text("figcaption")
    assert "threads" in page.page.inner_text("figcaption")
    words = page.page.inner_text("#times").split()
    assert {"decode", "infer", "all"} < set(words)
    assert float(words[words.index("infer") + 1]) > 0
    page.page.keyboard.press("ArrowRight")
    assert page.readout.endswith("column 225, row 150")


@pytest.mark.heavy
def test_the_mask_is_that_of_the_graph(page: Watched, made: Standalone, tmp_path: Path) -> None:
    picture = halves(90, 120)
    page.show(png(picture))
    mask = np.asarray(saved(page, "mask", tmp_path / "mask.png").convert("L"))
    np.testing.assert_array_equal(mask, expected(made, picture))
    overlay = np.asarray(saved(page, "overlay", tmp_path / "overlay.png").convert("RGB"))
    assert overlay.shape == (90, 120, 3)
    assert overlay[45, 20].tolist() == [200, 0, 0]  # the background has no paint


@pytest.mark.heavy
def test_large_pictures_keep_their_size(page: Watched) -> None:
    page.show(png(halves(200, 2000)), "wide.png")
    assert page.page.inner_text("#name") == "wide.png, 2000 × 200"
    assert page.hover(0.25, 0.5).startswith("background · column 500")


@pytest.mark.heavy
def test_what_is_no_picture_is_said_and_the_last_result_stays(page: Watched) -> None:
    page.show(png(halves(50, 80)), "first.png")
    page.upload(b"no picture", "broken.png")
    page.page.locator("#message").filter(has_text="broken.png").wait_for()
    assert "cannot read it as a picture" in page.page.inner_text("#message")
    assert page.page.inner_text("#name").startswith("first.png")
    page.page.click("#dismiss")


@pytest.mark.heavy
def test_narrow_and_dark(page: Watched) -> None:
    page.show(png(halves(50, 80)))
    page.page.set_viewport_size({"width": 390, "height": 844})
    assert page.page.evaluate("document.documentElement.scrollWidth") == 390
    page.page.emulate_media(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.page.evaluate(ground) == "rgb(20, 22, 27)"


@pytest.mark.heavy
def test_without_the_headers_there_is_one_thread(folder: Path, browser: Any) -> None:
    with COMPARE.served(folder, isolated=False) as url:
        page = Watched(browser.new_page(), url)
        page.page.set_default_timeout(60_000)
        page.page.click("#sample")
        page.page.wait_for_selector("#result:visible")
        assert "WebAssembly, 1 thread" in page.page.inner_text("figcaption")
        assert set(page.complaints) <= {NO_WEBGPU}


@pytest.mark.heavy
def test_webgpu_where_there_is_one(
    folder: Path, browser: Any, made: Standalone, tmp_path: Path
) -> None:
    """Software stands in for a graphics processor, which the page would leave alone by itself."""
    program = next(filter(None, map(shutil.which, NAMES)))
    arguments = ["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
    graphics = browser.browser_type.launch(executable_path=program, args=arguments)
    with COMPARE.served(folder) as url:
        page = Watched(graphics.new_page(), f"{url}/?engine=webgpu")
        page.page.set_default_timeout(60_000)
        if not page.page.evaluate("navigator.gpu?.requestAdapter().then(Boolean)"):
            pytest.skip("this Chromium has no WebGPU, not even in software")
        picture = halves(40, 60)
        page.show(png(picture))
        assert "WebGPU" in page.page.inner_text("figcaption")
        mask = np.asarray(saved(page, "mask", tmp_path / "mask.png").convert("L"))
        assert (mask == expected(made, picture)).mean() >= 0.999
    graphics.close()
