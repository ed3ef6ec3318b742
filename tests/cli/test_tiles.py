"""`atrous predict --tile`, also of an image that is larger than the memory it may take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tests.builders.command import Run

rasterio = pytest.importorskip("rasterio", reason="needs the extra large")
PLACE = rasterio.Affine(0.5, 0, 4e5, 0, -0.5, 5e6)


LIMIT = 2 * 2**30
"""Bytes of address space."""


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    """A network of one strided convolution, 21 classes on a grid of stride 8."""
    weights = np.random.default_rng(0).normal(0, 1, (21, 3, 8, 8)).astype(np.float32)
    size = np.array([1, 21, 513, 513])
    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["grid"], strides=[8, 8]),
        helper.make_node("Resize", ["grid", "", "", "size"], ["output"], mode="linear"),
    ]
    shapes = (("input", [1, 3, 513, 513]), ("output", [1, 21, 513, 513]))
    given, made = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes)
    tensors = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(size, "size")]
    graph = helper.make_graph(nodes, "quick", [given], [made], tensors)
    opset = [helper.make_opsetid("", 18)]
    path = tmp_path / "quick.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path


@pytest.mark.heavy
@pytest.mark.parametrize("height", [600, pytest.param(20_000, marks=pytest.mark.slow)])
def test_20000_columns_within_2_gib(quick: Path, tmp_path: Path, height: int) -> None:
    """Memory grows with the width alone, so the quick test is as wide as the slow one."""
    pytest.importorskip("resource", reason="no limit on memory without it")
    image, width = tmp_path / "wide.tif", 20_000
    random = np.random.default_rng(0)
    with rasterio.open(
        image, "w", driver="GTiff", width=width, height=height, count=3, dtype="uint8",
        photometric="rgb", transform=PLACE,
    ) as file:  # fmt: skip
        for top in range(0, height, 100):
            window = rasterio.windows.Window(0, top, width, 100)
            coarse = random.integers(0, 256, (3, 2, 400), np.uint8)
            file.write(coarse.repeat(50, 1).repeat(50, 2), window=window)
    command = [
        sys.executable, "-c",
        f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({LIMIT}, {LIMIT}))\n"
        "from atrous.cli import main; main()",
        "predict", str(image), "-m", str(quick), "-o", str(tmp_path / "out"), "--tile", "513",
        "--engine", "onnxruntime",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "out" / "masks" / "wide.tif") as mask:
        assert (mask.height, mask.width, mask.transform) == (height, width, PLACE)
        assert len(np.unique(mask.read(1, window=rasterio.windows.Window(0, 400, width, 300)))) > 9


def test_overlap_belongs_to_tiles(atrous: Run, tmp_path: Path) -> None:
    done = atrous("predict", "x.tif", "-o", str(tmp_path / "out"), "--overlap", "0.5")
    assert done.code == 2
    assert "--overlap belongs to images in tiles (--tile): not for whole images" in done.err


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_a_limit_on_pixels_holds_for_tiles(
    name: str, quick: Path, atrous: Run, tmp_path: Path
) -> None:
    Image.new("RGB", (50, 40)).save(tmp_path / name)
    command = ("predict", tmp_path / name, "-m", quick, "-o", tmp_path / "out", "--tile", "513")
    done = atrous(*command, "--max-pixels", "1000")
    assert done.code == 1
    assert f"{name}: 50×40 is 2000 pixels, the limit is 1000; make it smaller, or" in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tile", "512"), "error: --tile 512: the network takes (513, 513) pixels; take a sq"),
        (("--tile", "513", "--overlap", "2"), "error: --overlap: expected 0 to 0.75, got 2"),
    ],
)
def test_wrong_tiles(
    atrous: Run, quick: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "x.png").touch()
    done = atrous("predict", tmp_path / "x.png", "-o", tmp_path / "o", "-m", quick, *options)
    assert done.code == 2
    assert message in done.err
