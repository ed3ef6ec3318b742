"""Networks of known answers."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


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


def make_joining(halvings: int) -> onnx.ModelProto:
    """A network of free size that works at multiples of 2 to the power of `halvings` alone, where
    what was halved meets its own enlargement. Its class is the brightest channel."""
    nodes, last = [], "image"
    for step in range(halvings):
        window = {"kernel_shape": [2, 2], "strides": [2, 2]}
        nodes.append(helper.make_node("MaxPool", [last], [f"down{step}"], **window))
        last = f"down{step}"
    for step in reversed(range(halvings)):
        nodes.append(helper.make_node("Resize", [last, "", "two"], [f"up{step}"], mode="nearest"))
        beside = f"down{step - 1}" if step else "image"
        nodes.append(helper.make_node("Sub", [f"up{step}", beside], [f"gap{step}"]))
        nodes.append(helper.make_node("Add", [f"gap{step}", beside], [f"join{step}"]))
        last = f"join{step}"
    nodes.append(helper.make_node("Sub", [last, last], ["nothing"]))
    nodes.append(helper.make_node("Add", ["image", "nothing"], ["scores"]))
    graph = helper.make_graph(
        nodes,
        "joining",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [numpy_helper.from_array(np.float32([1, 1, 2, 2]), "two")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
