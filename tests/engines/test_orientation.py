"""Maps whose rows are the columns of the picture, which only operators show of square ones."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from atrous import engines
from atrous.engines.base import Options
from atrous.engines.onnx_model import OnnxModel
from atrous.errors import ArtifactError
from atrous.preprocess import Preprocess
from tests.builders.sketch import Sketch
from tests.builders.theirs import (
    INT64,
    argmax,
    corners,
    last,
    model,
    numbers,
    one_score,
    scores_of,
    segmented,
    start,
)

SIDE = 8
Tail = Callable[[Sketch, str], str]


def turned(sketch: Sketch, tensor: str, *perm: int) -> str:
    return sketch.node("Transpose", tensor, perm=perm or (0, 1, 3, 2))


def square(tail: Tail, dtype: int = 1, score: Tail = scores_of) -> onnx.ModelProto:
    sketch, image = start(SIDE, SIDE)
    return model(sketch, tail(sketch, score(sketch, image)), dtype=dtype)


def flat_ids(sketch: Sketch, scores: str) -> str:
    return argmax(sketch, scores, keepdims=0)


EXCHANGED = {
    "scores": lambda: square(turned),
    "scores_last": lambda: square(lambda s, x: turned(s, x, 0, 3, 2, 1)),
    "probabilities": lambda: square(lambda s, x: s.node("Softmax", turned(s, x), axis=1)),
    "ids": lambda: square(lambda s, x: turned(s, argmax(s, x)), INT64),
    "flat_ids": lambda: square(lambda s, x: turned(s, flat_ids(s, x), 0, 2, 1), INT64),
    "one_score": lambda: square(
        lambda s, x: turned(s, s.node("Squeeze", x, numbers(s, 0, 1)), 1, 0), score=one_score
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXCHANGED)
def test_exchanged_rows_and_columns_are_refused_with_a_way_out(name: str) -> None:
    made = EXCHANGED[name]()
    with pytest.raises(ArtifactError, match="has rows and columns exchanged, by a Transpose") as e:
        engines.read_model(OnnxModel(made), Options())
    [way_out] = [part.split()[0] for part in str(e.value).split("`output_name` ")[1:]]
    found = engines.read_model(OnnxModel(made), Options(output_name=way_out))
    assert "Transpose" not in {node.op_type for node in found.proto.graph.node}


def hidden(sketch: Sketch, scores: str) -> str:
    """Through a shape that says nothing of axes."""
    return turned(sketch, sketch.node("Reshape", scores, numbers(sketch, 1, 8, SIDE, SIDE)))


def in_between(sketch: Sketch, scores: str) -> str:
    """A layer that sees columns as rows."""
    weight = sketch.constant(np.eye(8).reshape(8, 8, 1, 1))
    return turned(sketch, sketch.node("Conv", turned(sketch, scores), weight))


def from_last() -> onnx.ModelProto:
    """Channels exchanged with columns, before and behind."""
    sketch = Sketch()
    image = turned(sketch, sketch.input(1, SIDE, SIDE, 3, name="image"), 0, 3, 2, 1)
    return model(sketch, turned(sketch, scores_of(sketch, image), 0, 3, 2, 1))


@pytest.mark.parametrize("made", [
    lambda: square(in_between),
    lambda: square(last),
    lambda: square(lambda s, x: turned(s, turned(s, x, 0, 3, 2, 1), 0, 3, 2, 1)),
    lambda: square(lambda s, x: s.node("Squeeze", x, numbers(s, 0))),
    from_last,
], ids=["between_layers", "last", "there_and_back", "no_batch", "from_last"])  # fmt: skip
def test_rows_that_are_rows_in_the_end_are_taken(made: Callable[[], onnx.ModelProto]) -> None:
    image = np.where(np.random.default_rng(0).integers(0, 2, (SIDE, SIDE, 3)), 215, 40)
    pixels = image.astype(np.uint8)
    preprocess = Preprocess(size=(SIDE, SIDE), normalisation="div255")
    options = {"layout": "nhwc"} if made is from_last else {}
    found = segmented(made(), pixels, preprocess=preprocess, **options)
    assert np.array_equal(found, corners(pixels))


def test_what_a_shape_hides_is_not_guessed() -> None:
    assert engines.read_model(OnnxModel(square(hidden)), Options(layout="nchw")).proto
