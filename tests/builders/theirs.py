"""Somebody else's networks, whose answers are known: the classes are the corners of the cube of
colours, or one is red."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from atrous import engines
from atrous.engines.base import Options
from atrous.engines.onnx_model import OnnxModel
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from tests.builders.sketch import Sketch

INT64, INT32, UINT8 = TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8
HEIGHT, WIDTH = 24, 40
SIGNS = (((np.arange(8)[:, None] >> np.arange(3)) & 1) * 2 - 1).astype(np.float32)
"""Of the eight corners of the cube of colours."""

PLAIN = Preprocess(size=(HEIGHT, WIDTH), normalisation="div255")

Pixels = NDArray[np.uint8]


def picture(seed: int = 0) -> Pixels:
    """Blocks of eight by eight pixels in eight colours."""
    ids = np.random.default_rng(seed).integers(0, 8, (HEIGHT // 8, WIDTH // 8))
    ids = np.kron(ids, np.ones((8, 8), int))
    return np.where((ids[..., None] >> np.arange(3)) & 1, 215, 40).astype(np.uint8)


def corners(image: Pixels) -> Pixels:
    """The class of every pixel: its corner of the cube of colours."""
    return ((image > 127) * np.array([1, 2, 4])).sum(-1).astype(np.uint8)


def red(image: Pixels) -> Pixels:
    return (image[..., 0] > 127).astype(np.uint8)


def start(
    height: int | str = HEIGHT, width: int | str = WIDTH, opset: int = 18, batch: int | str = 1
) -> tuple[Sketch, str]:
    sketch = Sketch(opset)
    return sketch, sketch.input(batch, 3, height, width, name="image")


def scores_of(sketch: Sketch, image: str, name: str = "scores") -> str:
    """Eight scores for the eight corners, of pixels 0–1."""
    weight = sketch.constant(SIGNS.reshape(8, 3, 1, 1))
    return sketch.node("Conv", image, weight, sketch.constant(-SIGNS.sum(1) / 2), name=name)


def one_score(sketch: Sketch, image: str, sharpness: float = 10) -> str:
    """Over 0 where red is over a half."""
    weight = sketch.constant(np.float32([sharpness, 0, 0]).reshape(1, 3, 1, 1))
    return sketch.node("Conv", image, weight, sketch.constant([-sharpness / 2]), name="one")


def model(sketch: Sketch, *outputs: str, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """The finished graph, with the sizes of its outputs as far as onnx infers them."""
    made = sketch.model(*outputs, dtype=dtype)
    for value in made.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(made, data_prop=True)
    del made.graph.output[:]
    made.graph.output.extend(inferred.graph.output)
    return made


def segmented(
    network: onnx.ModelProto,
    image: Pixels | None = None,
    engine: str = "onnxruntime",
    preprocess: Preprocess = PLAIN,
    labels: Any = None,
    **hints: Any,
) -> Pixels:
    given = OnnxModel(network, name="theirs.onnx")
    options = Options(threads=1, **hints)
    with Predictor.open(
        given, engine=engine, options=options, preprocess=preprocess, labels=labels
    ) as predictor:
        return predictor(picture() if image is None else image).class_map()


def quarter(sketch: Sketch, image: str) -> str:
    """The picture on a grid of stride 4."""
    return sketch.node("AveragePool", image, kernel_shape=[4, 4], strides=[4, 4])


def enlarged(sketch: Sketch, small: str, channels: int, **settings: Any) -> str:
    return sketch.resize(small, 1, channels, HEIGHT, WIDTH, **settings)


Build = Callable[[], onnx.ModelProto]


def build(
    tail: Callable[[Sketch, str], str], dtype: int = TensorProto.FLOAT, opset: int = 18
) -> Build:
    """The eight scores, and something behind them."""

    def made() -> onnx.ModelProto:
        sketch, image = start(opset=opset)
        return model(sketch, tail(sketch, scores_of(sketch, image)), dtype=dtype)

    return made


def small_build(
    tail: Callable[[Sketch, str], str], dtype: int = TensorProto.FLOAT, opset: int = 18
) -> Build:
    """The same on a grid of stride 4, which the tail enlarges."""

    def made() -> onnx.ModelProto:
        sketch, image = start(opset=opset)
        return model(sketch, tail(sketch, scores_of(sketch, quarter(sketch, image))), dtype=dtype)

    return made


def last(sketch: Sketch, scores: str) -> str:
    return sketch.node("Transpose", scores, perm=[0, 2, 3, 1])


def argmax(sketch: Sketch, scores: str, **settings: Any) -> str:
    return sketch.node("ArgMax", scores, **{"axis": 1, "keepdims": 1, **settings})


def numbers(sketch: Sketch, *values: int) -> str:
    return sketch.constant(list(values), dtype=np.int64)


def sides(sketch: Sketch, image: str, first: int, end: int) -> str:
    """Sizes of the picture, as exporters with free axes look them up."""
    shape = sketch.node("Shape", image)
    return sketch.node("Slice", shape, numbers(sketch, first), numbers(sketch, end))


def one(
    tail: Callable[[Sketch, str], str],
    dtype: int = TensorProto.FLOAT,
    grid: bool = False,
    opset: int = 18,
) -> Build:
    """One score for red, and something behind it; with `grid` on a grid of stride 4."""

    def made() -> onnx.ModelProto:
        sketch, image = start(opset=opset)
        source = quarter(sketch, image) if grid else image
        return model(sketch, tail(sketch, one_score(sketch, source)), dtype=dtype)

    return made


def check(made: onnx.ModelProto, meant: Callable[[Pixels], Pixels], **settings: Any) -> None:
    """Both engines see the classes: all, where scores are made for every pixel, or those in the
    middle of the blocks, as scores on a coarse grid are interpolated between them."""
    for engine in ("onnxruntime", "openvino"):
        if not engines.missing(engine):
            found, right = segmented(made, engine=engine, **settings), meant(picture())
            coarse = any(node.op_type == "AveragePool" for node in made.graph.node)
            apart = (slice(3, None, 8), slice(3, None, 8)) if coarse else ()
            assert np.array_equal(found[apart], right[apart]), engine
            assert (found == right).mean() > 0.7, engine


def first(sketch: Sketch, image: str) -> str:
    return sketch.node("Transpose", image, perm=[0, 3, 1, 2])


def scaled(sketch: Sketch, image: str) -> str:
    values = sketch.node("Cast", image, to=1)
    return sketch.node("Div", values, sketch.constant([255.0]))


def scaled_first(sketch: Sketch, image: str) -> str:
    return first(sketch, scaled(sketch, image))


def batched(sketch: Sketch, image: str) -> str:
    return sketch.node("Unsqueeze", image, sketch.constant([0], dtype=np.int64))
