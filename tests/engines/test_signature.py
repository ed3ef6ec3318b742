"""What a network takes and gives, as one value."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from atrous.engines.onnx_model import OnnxModel
from atrous.engines.signature import Runnable, Signature, TensorSpec, runnable
from atrous.errors import ArtifactError
from atrous.geometry import Axis

IMAGE = TensorSpec("x", (None, 3, 32, None), "uint8")
LOGITS = TensorSpec("y", (None, 5, 8, None), "float32")


def test_its_parts_have_names() -> None:
    found = Signature(IMAGE, LOGITS)
    assert (found.batch, found.size, found.dtype, found.classes) == (None, (32, None), "uint8", 5)
    assert found.takes(32, 7)
    assert not found.takes(31, 7)
    assert Signature.of(4, batch=2).batch == 2


@pytest.mark.parametrize(
    ("rule", "first", "last"), [("half_pixel", -0.375, 7.375), ("align_corners", 0.0, 7.0)]
)
def test_its_rule_carries_axes_on_to_the_grid(rule: str, first: float, last: float) -> None:
    found = Signature(IMAGE, LOGITS, rule)  # type: ignore[arg-type]
    grid = np.zeros((5, 8, 8), np.float32)
    rows, _ = found.on_grid(grid, (32, 32), Axis(32), Axis(32))
    # Positions are kept on the grid; what lies beyond its ends is its ends.
    expected = np.clip(np.linspace(first, last, 32), 0, 7)
    np.testing.assert_allclose(rows.positions(8), expected, atol=1e-6)


def test_a_runtime_is_given_the_graph_without_its_last_resize(
    small_model: Callable[..., onnx.ModelProto],
) -> None:
    model = OnnxModel(small_model(rule="align_corners"), name="small")
    assert model.proto.graph.node[-1].op_type == "Resize"
    short = runnable(model)
    nodes = onnx.ModelProto.FromString(short.content).graph.node
    assert [node.op_type for node in nodes] == ["AveragePool", "Conv"]
    assert short.coordinates == "align_corners"
    assert short.signature([IMAGE], [LOGITS]) == Signature(IMAGE, LOGITS, "align_corners")
    with pytest.raises(ArtifactError, match=r"small: expected one output, found 2 \(y, y\)"):
        short.signature([IMAGE], [LOGITS, LOGITS])


@pytest.mark.parametrize(
    ("image", "logits", "said"),
    [
        (TensorSpec("x", (1, 4, 8, 8), "float32"), LOGITS,
         "small: expected an input (N, 3, H, W), found (1, 4, 8, 8)"),
        (TensorSpec("x", (3, 8, 8), "float32"), LOGITS,
         "small: expected an input (N, 3, H, W), found (3, 8, 8)"),
        (TensorSpec("x", (1, 3, 8, 8), "float16"), LOGITS,
         "small: expected an input of float32 or uint8, found float16; export the network with a "
         "float32 input"),
        (IMAGE, TensorSpec("y", (1, 8, 8), "int64"),
         "small: expected float32 logits (N, C, H, W) as output, found int64 (1, 8, 8); export the "
         "network without its argmax"),
    ],
    ids=["channels", "axes", "type", "class_ids"],
)  # fmt: skip
def test_what_a_runtime_makes_of_a_network_has_our_form(
    image: TensorSpec, logits: TensorSpec, said: str
) -> None:
    with pytest.raises(ArtifactError) as error:
        Runnable("small", b"", "half_pixel").signature([image], [logits])
    assert str(error.value) == said
