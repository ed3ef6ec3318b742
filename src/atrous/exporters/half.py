"""Store weights in half precision: half the file, the same fp32 arithmetic."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

_SMALL = 64
_LARGEST = float(np.finfo(np.float16).max)


def store_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store every fp32 weight as fp16 behind one `Cast` back to fp32.

    Runtimes fold the casts when they load the file. Tensors of fewer than 64 values and those
    whose values fp16 cannot hold stay as they are.

    Args:
        model: left as it is.

    Returns:
        A copy. Its inputs, outputs and arithmetic are those of `model`.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {tensor.name for tensor in graph.initializer}
    casts = []
    for index, tensor in enumerate(graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < _SMALL or not np.abs(values).max() <= _LARGEST:
            continue
        name = tensor.name
        stored = f"{name}_fp16"
        while stored in taken:
            stored += "_"
        graph.initializer[index].CopyFrom(numpy_helper.from_array(values.astype("f2"), stored))
        casts.append(onnx.helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return half
