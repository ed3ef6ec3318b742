"""Sizes that a network does not take are found when it is opened, with one that it takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from atrous import engines
from atrous.engines import dry_run
from atrous.engines.base import Engine, Options
from atrous.engines.onnx_model import OnnxModel
from atrous.engines.signature import Signature
from atrous.errors import ArtifactError, EngineError, InputError
from atrous.evaluation.protocols import Protocol
from atrous.jobs.large import tiles
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from tests.builders.networks import make_joining
from tests.builders.sketch import Sketch

ENGINES = ["onnxruntime", "openvino"]


class Picky(Engine):
    """Runs at the sizes that `takes` accepts, and counts how often it was run."""

    name = "picky"
    untried = True

    def __init__(self, takes: Callable[[int, int], bool], identity: str) -> None:
        self.signature = Signature.of(3)
        self.takes, self.identity, self.runs = takes, identity, 0

    def _run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        self.runs += 1
        if not self.takes(*batch.shape[2:]):
            raise EngineError("this size does not fit")
        return batch[:, :, ::8, ::8].astype(np.float32)


def multiples(step: int, plus: int = 0) -> Callable[[int, int], bool]:
    return lambda height, width: height % step == width % step == plus


@pytest.mark.parametrize(
    ("takes", "size", "rule"),
    [
        (lambda height, width: True, (513, 513), "multiples of 1"),
        (multiples(2), (512, 512), "multiples of 2"),
        (multiples(4), (512, 512), "multiples of 4"),
        (multiples(14), (518, 518), "multiples of 14"),
        (multiples(11), (0, 0), ""),
        (multiples(32), (512, 512), "multiples of 32"),
        (multiples(64), (512, 512), "multiples of 64"),
        (lambda height, width: (height, width) == (256, 256), (256, 256), "256×256"),
        (
            lambda height, width: height % 4 == width % 4 == 0 and height < 300,
            (256, 256),
            "256×256",
        ),
        (lambda height, width: (height, width) == (512, 512), (512, 512), "512×512"),
    ],
)
def test_a_size_that_works_is_found(
    takes: Callable[[int, int], bool],
    size: tuple[int, int],
    rule: str,
    request: pytest.FixtureRequest,
) -> None:
    engine = Picky(takes, request.node.name)
    if not rule:  # of steps that nobody uses none is found, but it is said
        with pytest.raises(ArtifactError, match="none works: this size does not fit"):
            dry_run.choose(engine, "theirs")
        return
    found = dry_run.choose(engine, "theirs")
    assert (found.size, found.rule) == (size, rule)
    runs = engine.runs
    assert dry_run.choose(engine, "theirs") == found
    assert engine.runs == runs, "it was tried again"


def test_a_size_that_does_not_work_is_refused_with_one_that_does() -> None:
    engine = Picky(multiples(32), "refused")
    with pytest.raises(ArtifactError) as error:
        dry_run.check(engine, "theirs", (500, 700))
    assert str(error.value) == (
        "theirs: does not run at 500×700, but at multiples of 32: `size` 512,704"
    )
    dry_run.check(engine, "theirs", (512, 704))
    plus = Picky(multiples(16, 1), "plus")
    with pytest.raises(ArtifactError, match="at multiples of 16 plus 1: `size` 513"):
        dry_run.check(plus, "theirs", (512, 512))


@pytest.mark.parametrize("name", ENGINES)
def test_a_network_of_free_size_gets_one_that_works(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    if reason := engines.missing(name):
        pytest.skip(reason)
    made = OnnxModel(make_joining(5), name="theirs.onnx")
    with Predictor.open(made, engine=name) as predictor:
        assert predictor.preprocess.size == (512, 512)
        assert "squashed to 512×512 (it takes multiples of 32)" in caplog.text
    with pytest.raises(ArtifactError, match="at multiples of 32: `size` 224"):
        Predictor.open(made, engine=name, size=(225, 225))
    with pytest.raises(ArtifactError, match="at multiples of 32: `size` 224"):
        Predictor.open(made, engine=name, preprocess=Preprocess(size=(225, 225)))
    caplog.clear()
    with Predictor.open(made, engine=name, size=(256, 256)) as predictor:
        assert "squashed to 256×256, ImageNet" in caplog.text
        with pytest.raises(ArtifactError, match="at multiples of 32: `side` 64"):
            tiles.tiled(predictor, 65)


def test_a_protocol_names_itself_at_a_size_that_works() -> None:
    fitting = dry_run.Fitting((512, 512), 32)
    assert Protocol.parse("squash-513").at(fitting) == "protocol squash-512"
    assert Protocol.parse("tile-513-0.5").at(fitting) == "protocol tile-512-0.5"
    assert Protocol.parse("native").at(fitting) == "`size` 512"


def test_classes_that_the_graph_hides_are_counted() -> None:
    sketch = Sketch()
    five = sketch.conv(sketch.input(1, 3, "h", "w", name="image"), 3, 5)
    shape = sketch.node("Cast", sketch.node("Shape", five), to=TensorProto.FLOAT)
    shape = sketch.node("Cast", sketch.node("Floor", shape), to=TensorProto.INT64)
    made = OnnxModel(sketch.model(sketch.node("Reshape", five, shape), rank=4))
    with engines.open_engine(made, engine="onnxruntime") as opened:
        assert opened.signature.classes is None
    with Predictor.open(made, engine="onnxruntime", size=(16, 16)) as predictor:
        assert predictor.engine.signature.classes == 5
        assert predictor.labels.num_classes == 5


def test_scores_of_other_axes_than_the_graph_says_are_refused() -> None:
    sketch = Sketch()
    scores = sketch.conv(sketch.input(1, 3, "h", "w", name="image"), 3, 5)
    sizes = sketch.node("Cast", sketch.node("Shape", scores), to=TensorProto.FLOAT)
    long = sketch.node("Greater", sizes, sketch.constant(1.5))  # all but the batch
    kept = sketch.node("Compress", sketch.node("Shape", scores), long)
    made = sketch.model(sketch.node("Reshape", scores, kept), rank=4)
    made.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    with pytest.raises(ArtifactError) as error:
        Predictor.open(OnnxModel(made, name="theirs"), engine="onnxruntime", size=(16, 16))
    assert str(error.value) == (
        "theirs: made scores of the shape (5, 16, 16), expected (N, C, h, w)"
    )


def test_more_classes_than_a_class_map_holds_are_refused() -> None:
    sketch = Sketch()
    scores = sketch.conv(sketch.input(1, 3, 16, 16, name="image"), 3, 300)
    with pytest.raises(ArtifactError, match="gives 300 scores a pixel, and a class map holds 256"):
        Predictor.open(OnnxModel(sketch.model(scores)), engine="onnxruntime")


def test_scores_that_look_like_probabilities_are_said(caplog: pytest.LogCaptureFixture) -> None:
    sketch = Sketch()
    image = sketch.input(1, 3, 16, 16, name="image")
    square = sketch.node("Mul", image, image)
    mean = sketch.node("ReduceMean", square, sketch.constant([1], dtype=np.int64))
    # Between 0 and 1, by operators that no one knows as a sigmoid.
    odds = sketch.node("Div", mean, sketch.node("Add", mean, sketch.constant([1.0])))
    made = OnnxModel(sketch.model(odds), name="theirs")
    with Predictor.open(made, engine="onnxruntime") as predictor:
        assert "all that it gave to noise lies between 0 and 1" in caplog.text
        assert "`threshold` 0.622 is what means 0.5" in caplog.text
        before = predictor.engine.run(np.zeros((1, 3, 16, 16), np.float32))
        assert (before[:, 0] == 0).all()
    options = Options(threshold=0.622459)
    with Predictor.open(made, engine="onnxruntime", options=options) as predictor:
        scores = predictor.engine.run(np.zeros((1, 3, 16, 16), np.float32))
        np.testing.assert_allclose(scores[:, 0], 0.5, atol=1e-5)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.UINT8])
def test_scores_that_are_small_for_noise_alone_are_not_taken_for_probabilities(
    dtype: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of pixels as they are are not small."""
    sketch = Sketch()
    image = sketch.node("Cast", sketch.input(1, 3, 16, 16, dtype=dtype, name="image"), to=1)
    square = sketch.node("Mul", image, image)
    mean = sketch.node("ReduceMean", square, sketch.constant([1], dtype=np.int64))
    made = OnnxModel(sketch.model(sketch.node("Div", mean, sketch.constant([20000.0]))))
    with Predictor.open(made, engine="onnxruntime"):
        assert "gave to noise" not in caplog.text


def test_a_fixed_size_that_fails_is_found_too() -> None:
    sketch = Sketch()
    scores = sketch.conv(sketch.input(1, 3, 16, 16, name="image"), 3, 4)
    halves = sketch.node("MaxPool", scores, kernel_shape=[2, 2], strides=[2, 2])
    shape = sketch.node("Shape", halves)
    wrong = sketch.node("Reshape", scores, shape)
    made = OnnxModel(sketch.model(wrong, rank=4), name="theirs")
    with pytest.raises(ArtifactError, match="theirs: "):
        Predictor.open(made, engine="onnxruntime")


def test_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from atrous.engines.tried import tried

    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path))
    seen: list[int] = []

    def run() -> dict[str, list[int | None]]:
        seen.append(1)
        return {"a": [1, None]}

    assert tried(["x"], run, "a") == tried(["x"], run, "a") == {"a": [1, None]}
    assert len(seen) == 1
    [file] = (tmp_path / "tried").iterdir()
    file.write_bytes(b"\xff no JSON")
    assert tried(["x"], run, "a") == {"a": [1, None]}
    assert len(seen) == 2
    file.write_text('{"b": [1]}')  # by an earlier version
    assert tried(["x"], run, "a") == {"a": [1, None]}
    assert len(seen) == 3
    monkeypatch.setenv("ATROUS_CACHE", str(file))  # no folder can be made there
    assert tried(["x"], run, "a") == {"a": [1, None]}


def test_a_threshold_out_of_range() -> None:
    with pytest.raises(InputError, match="`threshold`: expected between 0 and 1, got 1"):
        Options(threshold=1.0)
