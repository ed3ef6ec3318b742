"""Which axis holds the classes, and what a threshold means to whom."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from atrous import engines
from atrous.artifact import Metadata
from atrous.engines.base import Options
from atrous.engines.onnx_model import OnnxModel
from atrous.errors import ConfigError
from atrous.labels import LabelSet, generic, named
from atrous.preprocess import Preprocess
from tests.builders.networks import make_small_model
from tests.builders.sketch import Sketch
from tests.builders.theirs import (
    PLAIN,
    SIGNS,
    Build,
    build,
    check,
    corners,
    first,
    last,
    model,
    numbers,
    one,
    one_score,
    red,
    scores_of,
    segmented,
    small_build,
    start,
)


def repeated(sketch: Sketch, small: str) -> str:
    """Enlarged by a matrix from each side."""
    rows, columns = (np.kron(np.eye(n), np.ones((4, 1))) for n in (6, 10))
    taller = sketch.node("MatMul", sketch.constant(rows), small)
    return sketch.node("MatMul", taller, sketch.constant(columns.T))


def linear(sketch: Sketch, image: str) -> str:
    """The eight scores by a matrix, behind the pixels."""
    scores = sketch.node("MatMul", last(sketch, image), sketch.constant(SIGNS.T))
    return sketch.node("Add", scores, sketch.constant(-SIGNS.sum(1) / 2))


def from_image(tail: Callable[[Sketch, str], str]) -> Build:
    def made() -> onnx.ModelProto:
        sketch, image = start()
        return model(sketch, tail(sketch, image))

    return made


def channel_sums(sketch: Sketch, image: str) -> str:
    """The eight scores from single channels, by operators that say nothing of axes."""
    ends = [(numbers(sketch, at), numbers(sketch, at + 1), numbers(sketch, 1)) for at in range(3)]
    planes = [sketch.node("Slice", image, *each) for each in ends]
    centred = [sketch.node("Sub", plane, sketch.constant([0.5])) for plane in planes]
    scores = []
    for signs in SIGNS:
        signed = [
            plane if sign > 0 else sketch.node("Neg", plane)
            for sign, plane in zip(signs, centred, strict=True)
        ]
        scores.append(sketch.node("Sum", *signed))
    return sketch.node("Max", sketch.node("Concat", *scores, axis=1), sketch.constant([-9.0]))


def scaled_up(sketch: Sketch, scores: str) -> str:
    """Times the exponential of a number that was learnt."""
    return sketch.node("Mul", sketch.node("Exp", sketch.constant([0.5])), scores)


def without_batch(sketch: Sketch, scores: str) -> str:
    alone = sketch.node("Squeeze", last(sketch, scores), numbers(sketch, 0))
    return sketch.node("Transpose", alone, perm=[2, 0, 1])


AXES = {
    "sizes_against_operators": small_build(repeated),
    "matrix_behind_the_pixels": from_image(linear),
    "matrix_before_the_pixels": from_image(lambda s, x: first(s, linear(s, x))),
    "nothing_but_sums": from_image(channel_sums),
    "times_a_constant": build(scaled_up),
    "three_axes": build(without_batch),
}


@pytest.mark.parametrize("name", AXES)
def test_the_axis_of_the_classes(name: str) -> None:
    check(AXES[name](), corners)


@pytest.mark.parametrize("count", [2, 4])
def test_pictures_of_a_fixed_batch_are_no_classes(count: int) -> None:
    sketch, image = start(batch=count)
    sure = sketch.node("Sigmoid", one_score(sketch, image))
    check(model(sketch, sketch.node("Squeeze", sure, numbers(sketch, 1))), red)


def square(tail: Callable[[Sketch, str], str]) -> onnx.ModelProto:
    """Eight scores of 8×8 pixels: their sizes say nothing of the axes."""
    sketch, image = start(8, 8)
    return model(sketch, tail(sketch, image))


@pytest.mark.parametrize("tail", [
    lambda s, x: scores_of(s, x),
    linear,
    lambda s, x: last(s, scores_of(s, x)),
    lambda s, x: first(s, linear(s, x)),
], ids=["conv", "matrix", "conv_last", "matrix_first"])  # fmt: skip
def test_operators_say_which_axis_it_is_where_sizes_do_not(
    tail: Callable[[Sketch, str], str],
) -> None:
    levels = np.random.default_rng(0).integers(0, 2, (8, 8, 3))
    image = np.where(levels, 215, 40).astype(np.uint8)
    preprocess = Preprocess(size=(8, 8), normalisation="div255")
    found = segmented(square(tail), image, preprocess=preprocess)
    assert np.array_equal(found, corners(image))


# Networks that say of themselves that Atrous made them


def ours(proto: onnx.ModelProto, labels: LabelSet) -> OnnxModel:
    return OnnxModel(proto, Metadata(name="ours", labels=labels, preprocess=PLAIN), "ours.onnx")


@pytest.mark.parametrize("proto", [
    make_small_model,
    build(last),
], ids=["our_form", "transposed_since"])  # fmt: skip
def test_a_threshold_means_nothing_to_classes_that_were_trained_against_each_other(
    proto: Build,
) -> None:
    made = proto()
    classes = 3 if made.graph.name == "small" else 8
    with pytest.raises(ConfigError) as error:
        engines.read_model(ours(made, generic(classes)), Options(threshold=0.5))
    assert str(error.value) == (
        "`threshold`: ours.onnx chooses between classes that exclude each other, where the largest "
        "score wins; a threshold belongs to a network of one class, or one that ends in a sigmoid"
    )


@pytest.mark.parametrize(
    ("labels", "names"),
    [(generic(1), ("background", "foreground")), (named(("road",)), ("background", "road"))],
    ids=["unnamed", "named"],
)
def test_one_class_of_ours_gets_a_background(labels: LabelSet, names: tuple[str, ...]) -> None:
    found = engines.read_model(ours(one(lambda s, x: x)(), labels), Options(threshold=0.3))
    assert found.metadata is not None
    assert found.metadata.labels.names == names
    assert found.metadata.threshold == 0.3
    # It goes on as a network of ours: another threshold is another number in its graph.
    other = engines.read_model(found, Options(threshold=0.6))
    assert other.metadata is not None
    assert other.metadata.threshold == 0.6
    assert other.identity != found.identity
