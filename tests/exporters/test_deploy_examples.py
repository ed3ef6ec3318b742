"""The examples of `examples/deploy`, each run on a graph that was exported for it."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous import cache, image
from atrous.engines.onnx_model import OnnxModel
from atrous.exporters.standalone import save, standalone
from atrous.runtime.predictor import Predictor
from tests.builders.deploy import COMPARE, EXAMPLES


@dataclass
class Exported:
    """A standalone graph, a photograph of its size, and what Atrous says of that."""

    model: Path
    photograph: Path
    expected: NDArray[np.uint8]

    def agreement(self, run: object) -> float:
        """By what a program says; the test is skipped where it cannot run."""
        assert callable(run)
        try:
            classes, said = run(self.model, self.photograph)
        except COMPARE.Absent as absent:
            pytest.skip(str(absent))
        assert said.endswith(" ms")
        return float((classes == self.expected).mean())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return made("fast", tmp_path_factory.mktemp("deploy"))


def made(name: str, folder: Path) -> Exported:
    photograph = Image.fromarray(image.photograph()).resize((513, 513))
    photograph.save(folder / "cat.png")
    model = OnnxModel.read(cache.resolve(name))
    with Predictor.open(model, engine="onnxruntime") as predictor:
        pixels = np.asarray(photograph)
        save(standalone(model, predictor, [pixels]), folder / "model.onnx")
        expected = predictor(pixels).class_map()
    assert len(np.unique(expected)) > 1
    return Exported(folder / "model.onnx", folder / "cat.png", expected)


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_plain_python(exported: Exported, name: str) -> None:
    assert exported.agreement(partial(COMPARE.python, name)) >= 0.9999


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_plain_python_is_short_and_without_atrous(name: str) -> None:
    text = (EXAMPLES / f"plain_{name}.py").read_text()
    assert "atrous" not in text
    assert len([line for line in text.splitlines() if line]) <= 18


@pytest.mark.heavy
def test_node(exported: Exported) -> None:
    assert exported.agreement(COMPARE.node) >= 0.9999


@pytest.mark.heavy
def test_int8_is_exact_where_products_of_bytes_overflow(tmp_path: Path) -> None:
    """On x86 without VNNI; elsewhere it is anyway."""
    quantised = made("fast-int8", tmp_path)
    assert quantised.agreement(partial(COMPARE.python, "onnxruntime")) >= 0.9999
    assert quantised.agreement(COMPARE.node) >= 0.9999


@pytest.mark.heavy
def test_chromium(exported: Exported) -> None:
    assert exported.agreement(COMPARE.browser) >= 0.999


@pytest.mark.heavy
def test_cpp(exported: Exported, tmp_path: Path) -> None:
    def run(model: Path, photograph: Path) -> object:
        return COMPARE.cpp(COMPARE.built(tmp_path), model, photograph)

    assert exported.agreement(run) >= 0.9999


def test_versions_of_packages_are_locked() -> None:
    wanted = json.loads((EXAMPLES / "package.json").read_text())["dependencies"]
    locked = json.loads((EXAMPLES / "package-lock.json").read_text())["packages"]
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all(entry.get("integrity") for path, entry in locked.items() if path)
