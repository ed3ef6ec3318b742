"""What several tests need: photographs-like images, a small model, the shared data."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.builders.threads import threads

SHARED = Path(__file__).parents[2] / "shared"

# A job that a script puts into the background ignores Ctrl-C, and what it starts inherits that: the
# tests which interrupt a command would wait for its end.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"needs {SHARED}, which is not part of the repository")
    return SHARED


@pytest.fixture
def guard() -> Iterator[None]:
    """A deadlock fails the test instead of stopping the whole run, and no thread is left behind."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("deadlock: the test has not ended within a minute")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    try:
        yield
        end = time.monotonic() + 10
        while threads() and time.monotonic() < end:
            time.sleep(0.01)
        assert not threads()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def image() -> NDArray[np.uint8]:
    """A `(40, 60, 3)` picture whose left half is red and right half green."""
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, :30, 0] = 200
    picture[:, 30:, 1] = 200
    return picture


@pytest.fixture
def small_model() -> Callable[..., onnx.ModelProto]:
    return make_small_model


def make_small_model(
    size: int | str = 32,
    classes: int = 3,
    rule: str = "half_pixel",
    mode: str = "linear",
    enlarge_to: int | None = None,
    dtype: str = "float32",
) -> onnx.ModelProto:
    """A network whose class is the brightest channel: average pooling by 4, 1×1, resize.

    With more classes than 3, the others get a constant low score. An input of another `dtype` is
    cast first.
    """
    weight = np.zeros((classes, 3, 1, 1), np.float32)
    weight[:3, :, 0, 0] = np.eye(3)
    bias = np.full(classes, -100, np.float32)
    bias[:3] = 0
    grid = size // 4 if isinstance(size, int) else None
    target = enlarge_to or size
    nodes = [
        helper.make_node("AveragePool", ["input"], ["p"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["p", "weight", "bias"], ["logits"]),
        helper.make_node(
            "Resize",
            ["logits", "", "scales" if grid is None else "", "" if grid is None else "sizes"],
            ["output"],
            mode=mode,
            coordinate_transformation_mode=rule,
        ),
    ]
    if grid is None:
        nodes[-1].input.pop()
    free = size if isinstance(size, str) else None
    image = TensorProto.FLOAT
    if dtype != "float32":
        image = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        nodes[0].input[0] = "image"
        nodes.insert(0, helper.make_node("Cast", ["input"], ["image"], to=TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", image, [1, 3, size, size])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, classes, target, target])],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(bias, "bias"),
            numpy_helper.from_array(np.array([1, 1, 4, 4], np.float32), "scales")
            if free
            else numpy_helper.from_array(np.array([1, classes, target, target]), "sizes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model
