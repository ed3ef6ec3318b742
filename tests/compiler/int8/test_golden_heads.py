"""Heads of other libraries in int8: rewritten, they agree with the float model as before."""

import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from atrous.compiler import rewrites
from atrous.compiler.config import CompileConfig, DatasetSection, Frontend
from atrous.compiler.form import Form
from atrous.compiler.int8 import noise
from atrous.compiler.int8.plan import prepare
from atrous.compiler.progress import silent
from atrous.compiler.rewrites import Rewritten
from atrous.compiler.sections import Backend, Quantize
from atrous.data.synthetic import draw
from atrous.preprocess import Preprocess
from tests.builders.sketch import as_written, run

ARCHIVE = Path(__file__).parents[2] / "golden" / "heads.zip"
NETWORKS = (
    *("transformers-segformer", "transformers-upernet", "mmseg-segformer", "mmseg-hrnet-fcn"),
    *("mmseg-pspnet", "smp-unet", "smp-segformer"),
)
CHANCE = 0.007
"""What rounding other numbers may change among the close scores of random weights."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(8):
        Image.fromarray(draw(0, number)[0]).save(folder / f"{number}.png")
    return folder


def agreement(
    original: onnx.ModelProto, model: onnx.ModelProto, engine: str, images: Path, size: str
) -> float:
    """Share of the pixels whose class int8 keeps; judged as it is written."""
    height, width = map(int, size.split("x"))
    preprocess = Preprocess(size=(height, width))
    settings = Quantize(calibrate_mode="kl_divergence")
    config = CompileConfig(
        name="net",
        frontend=Frontend(checkpoint="network.onnx"),
        backend=Backend(quantize=settings),
        dataset=DatasetSection(path=str(images)),
    )
    network = Rewritten(original, model, preprocess)
    prepared = prepare(network, config, Form.of(engine, settings), tell=silent)
    written, shares = prepared.write(), []
    for one in prepared.inputs:
        feed = {"input": one}
        [expected], [actual] = run(original, feed), as_written(written, feed)
        shares.append((expected.argmax(1) == actual.argmax(1)).mean())
    return float(np.mean(shares))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("exporter", ["old", "new"])
@pytest.mark.parametrize("size", ["128x192", "192x128"])
@pytest.mark.parametrize("network", NETWORKS)
def test_int8_after_the_rewrite_agrees_as_well_as_without(
    network: str,
    size: str,
    exporter: str,
    engine: str,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(noise, "LOUD", -np.inf)  # every layer in int8 on both sides
    with zipfile.ZipFile(ARCHIVE) as files:
        original = onnx.load_from_string(files.read(f"{network}-{size}-{exporter}.onnx"))
    form = Form.of(engine, Quantize())
    after, changes = rewrites.apply(original, skip=["winograd"], layout=form.layout)
    assert changes[-2].places
    before = agreement(original, original, engine, images, size)
    rewritten = agreement(original, after, engine, images, size)
    assert rewritten > before - CHANCE, f"{100 * before:.2f} % → {100 * rewritten:.2f} %"
