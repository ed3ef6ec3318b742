"""File names of any bytes: no verb stumbles over them or lets them speak to the terminal."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.builders.command import Run

NAMES = (
    b"plain",
    b"caf\xe9",
    b"two\nlines",
    b"esc\x1b[31mred",
    b"rtl\xe2\x80\xaegpj",
    b"-dash",
    b":cat:[b]",
)
COUNT = len(NAMES)
SEEN = (r"caf\xe9", r"two\nlines", r"esc\x1b[31mred", r"rtl\u202egpj", ":cat:[b]")


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set in a folder that is not called in UTF-8 itself."""
    root = tmp_path / os.fsdecode(b"d\xe9t")
    shade = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) % 256
    for number, name in enumerate(map(os.fsdecode, NAMES)):
        for kind in ("images", "masks"):
            (root / kind).mkdir(parents=True, exist_ok=True)
        pixels = np.dstack([shade, shade.T, shade + number]).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{name}.png")
        Image.fromarray((shade % 3).astype(np.uint8)).save(root / "masks" / f"{name}.png")
    (root / "own.yaml").write_text(
        "images: images\nmasks: masks\nclasses: [a, b, c]\nmask_type: ids\n"
    )
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return root


@pytest.fixture
def model(tmp_path: Path, small_model: Callable[..., onnx.ModelProto]) -> Path:
    onnx.save(small_model(size=32, classes=3), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def clean(text: str) -> bool:
    """Whether text holds nothing but lines of UTF-8."""
    text.encode()
    return not set(text) & {chr(code) for code in (*range(10), *range(11, 32), 127, 0x202E)}


def test_predict_and_stream(atrous: Run, odd: Path, model: Path) -> None:
    for word in ("written", "kept"):
        done = atrous("predict", odd / "images", "-m", model, "-o", odd / "out")
        assert (done.code, f"{COUNT} {word}" in done.out) == (0, True), done.err
        assert clean(done.out)
        assert r"d\xe9t/out/masks" in done.out
        if word == "written":
            assert all(name in done.out for name in SEEN)
    found = {path.name for path in (odd / "out" / "masks").iterdir()}
    assert found == {f"{os.fsdecode(name)}.png" for name in NAMES}
    done = atrous("predict", odd / "images", "-m", model, "-o", odd / "out", "--json")
    assert {json.loads(line)["mask"] for line in done.out.splitlines()} == {
        str(odd / "out" / "masks" / name) for name in found
    }
    for path in (odd / "images").iterdir():
        path.write_bytes(b"no picture")
    done = atrous("predict", odd / "images", "-m", model, "-o", odd / "out")
    failures = [line for line in done.err.splitlines() if line.startswith("failed: ")]
    assert (done.code, len(failures), clean("".join(failures))) == (1, COUNT, True)

    done = atrous("stream", "--file_path", odd / "images", "-m", model, "-o", odd / "s")
    assert (done.code, done.out.count("\n")) == (1, 1)


@pytest.mark.heavy
def test_reports(atrous: Run, odd: Path, model: Path) -> None:
    spec = f"folder:{odd}/own.yaml:all"
    done = atrous("doctor", "--data", spec)
    assert (done.code, clean(done.out)) == (0, True), done.err
    common = ("eval", "-m", model, "--data", spec, "--protocol", "squash-32")
    done = atrous(*common, "--json-file", odd / "r.json", "--report", odd / "report")
    assert "Traceback" not in done.err, done.err
    assert clean(done.out)
    assert json.loads((odd / "r.json").read_text())["stamp"]["images"] == COUNT
    page = (odd / "report" / "index.html").read_text()
    assert clean(page.replace("\t", " "))
    assert all(name in page for name in (r"caf\xe9", r"esc\x1b[31mred"))
    done = atrous("train", "--init", spec, "-o", odd / "recipe.yaml")
    assert "Traceback" not in done.err, done.err


@pytest.mark.heavy
def test_bench(atrous: Run, odd: Path, model: Path) -> None:
    images = ("--images", odd / "images", "--json-file", odd / "b.json")
    short = ("--scenario", "single-stream", "--seconds", "0.1")
    done = atrous("bench", "-m", model, *images, *short)
    assert done.code == 0, done.err
    assert json.loads((odd / "b.json").read_text())["plan"]["images"].endswith(r"d\xe9t/images")
