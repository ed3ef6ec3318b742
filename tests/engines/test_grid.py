"""Scores on a grid that is no whole fraction of the picture are told, or refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from atrous import engines
from atrous.engines import grid
from atrous.engines.base import Options
from atrous.engines.onnx_model import OnnxModel
from atrous.errors import ArtifactError
from atrous.runtime.predictor import Predictor
from tests.builders.sketch import Sketch
from tests.builders.theirs import model, start


@pytest.mark.parametrize(
    ("side", "picture", "told"),
    [
        (256, 256, False), (255, 256, False), (257, 256, False), (33, 513, False),
        (65, 513, False), (129, 513, False), (257, 513, False), (128, 512, False),
        (63, 500, False), (62, 500, False), (16, 224, False), (37, 518, False), (7, 224, False),
        (1, 224, False), (512, 256, False), (511, 256, False), (1024, 256, False),
        (196, 256, True), (388, 572, True), (60, 256, True), (254, 256, True), (288, 256, True),
        (260, 256, True), (384, 256, True),
    ],
)  # fmt: skip
def test_grids_at_no_whole_stride_are_told(side: int, picture: int, told: bool) -> None:
    said = grid.note((side, side), (picture, picture))
    assert bool(said) == told
    if told:
        assert f"its scores are {side}×{side} for a picture of {picture}×{picture}" in said
    assert not grid.note((side, None), (None, picture))


def notes(made: onnx.ModelProto) -> str:
    return "; ".join(engines.read_model(OnnxModel(made), Options()).notes)


def convolved(height: int | str, width: int | str, **settings: Any) -> onnx.ModelProto:
    """A layer of nine by nine that sees neighbours, one that sees none, and a function."""
    sketch, image = start(height, width)
    seen = sketch.conv(image, 3, 4, 9, **settings)
    return model(sketch, sketch.node("Relu", sketch.conv(seen, 4, 5)))


def padded(before: int, behind: str = "") -> onnx.ModelProto:
    """The same layer where the picture is padded beforehand, and what is made of it enlarged."""
    sketch, image = start(32, 32)
    ends = sketch.constant([0, 0, before, before] * 2, dtype=np.int64)
    seen = sketch.conv(sketch.node("Pad", image, ends), 3, 5, 9, pads=[0] * 4)
    return model(sketch, sketch.resize(seen, 1, 5, 48, 48) if behind else seen)


CROPPED: dict[str, Callable[[], onnx.ModelProto]] = {
    "fixed": lambda: convolved(32, 32, pads=[0] * 4),
    "free": lambda: convolved("h", "w", pads=[0] * 4),
    "valid": lambda: convolved(32, 32, auto_pad="VALID"),
}


@pytest.mark.parametrize("name", CROPPED)
def test_a_network_that_leaves_out_the_border_is_refused(name: str) -> None:
    sizes = "248×376 for a picture of 256×384" if name == "free" else "24×24 for a picture of 32×32"
    with pytest.raises(
        ArtifactError,
        match=f"its scores are {sizes}, as its convolutions leave out the border: .*; export the "
        "network with padded convolutions",
    ):
        notes(CROPPED[name]())


@pytest.mark.parametrize("made", [
    lambda: convolved(32, 32, pads=[4] * 4),
    lambda: convolved(32, 32, auto_pad="SAME_UPPER"),
    lambda: convolved("h", "w", pads=[4] * 4),
    lambda: padded(4),
])  # fmt: skip
def test_padded_convolutions_are_taken(made: Callable[[], onnx.ModelProto]) -> None:
    assert "stride" not in notes(made())


@pytest.mark.parametrize("made", [lambda: padded(12), lambda: padded(0, "enlarged")])
def test_a_grid_of_another_cause_is_told(made: Callable[[], onnx.ModelProto]) -> None:
    assert "its scores are 48×48 for a picture of 32×32, which is at no whole stride" in notes(
        made()
    )


def test_a_grid_of_a_free_size_is_told_when_it_runs(caplog: pytest.LogCaptureFixture) -> None:
    sketch = Sketch()
    image = sketch.input(1, 3, "h", "w", name="image")
    ends = sketch.constant([0, 0, 5, 5] * 2, dtype=np.int64)
    made = model(sketch, sketch.conv(sketch.node("Pad", image, ends), 3, 5))
    with Predictor.open(OnnxModel(made, name="theirs"), engine="onnxruntime", size=(32, 32)):
        assert "theirs: its scores are 42×42 for a picture of 32×32, which is at no" in caplog.text
