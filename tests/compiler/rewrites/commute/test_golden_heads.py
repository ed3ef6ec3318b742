"""Heads as transformers, segmentation_models.pytorch and mmsegmentation write them."""

import zipfile
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest

from atrous.compiler import rewrites
from atrous.compiler.graph import macs
from atrous.compiler.graph.graph import Graph
from atrous.compiler.rewrites.base import Layout
from tests.builders.sketch import feeds, run

ARCHIVE = Path(__file__).parents[3] / "golden" / "heads.zip"
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

# The share of all arithmetic of these networks that is left where enlarging is no product, as on
# OpenVINO. Their heads are as narrow as their backbones, so it is less in earnest.
LEFT = {
    "transformers-segformer": 0.483,
    "transformers-upernet": 0.772,
    "mmseg-segformer": 0.640,
    "mmseg-hrnet-fcn": 0.397,
    "mmseg-pspnet": 0.437,
    "smp-unet": 0.751,
    "smp-segformer": 0.354,
}


@cache
def exported(name: str) -> onnx.ModelProto:
    with zipfile.ZipFile(ARCHIVE) as files:
        return onnx.load_from_string(files.read(f"{name}.onnx"))


@pytest.mark.heavy
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("exporter", ["old", "new"])
@pytest.mark.parametrize("size", ["128x192", "192x128"])
@pytest.mark.parametrize("network", LEFT)
def test_heads(network: str, size: str, exporter: str, layout: Layout) -> None:
    model = exported(f"{network}-{size}-{exporter}")
    after, changes = rewrites.apply(model, layout=layout)
    [change] = [change for change in changes if change.name == "commute-enlargement"]
    assert change.places
    share = macs.count(Graph(after)) / (change.gmacs_before * 1e9)
    assert share < 0.95
    if layout == "channels-last" and size == "128x192":
        assert share == pytest.approx(LEFT[network], abs=0.005)
    image = feeds(model)
    [one], [two] = run(model, image), run(after, image)
    assert np.abs(one - two).max() <= 1e-5 * np.ptp(one)
    assert (one.argmax(1) == two.argmax(1)).mean() > 0.9999
