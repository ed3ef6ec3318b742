"""How much a network runs, found out before any runtime unrolls it."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import numpy_helper

from atrous import limits
from atrous.limits import TooCostly

_Key = tuple[str, str]


def check(model: onnx.ModelProto, name: object) -> None:
    """See that a network ends: functions in functions and loops in loops multiply.

    Args:
        model: with or without its weights.
        name: of it, in messages.

    Raises:
        TooCostly: it runs more nodes than `limits.NODES`, repeats without an end that its file
            tells, or is nested deeper than `limits.DEPTH`.
    """
    cost = _Cost(model, name)
    if cost.of(model.graph.node, _constants(model.graph), 0) > limits.NODES:
        raise TooCostly(
            f"{name}: it runs more than {limits.NODES} nodes, its functions written out and its "
            "loops unrolled; export it without them"
        )


class _Cost:
    """Counts nodes; a function is counted once, however often it is called."""

    def __init__(self, model: onnx.ModelProto, name: object) -> None:
        self._functions = {(one.domain, one.name): one for one in model.functions}
        self._known: dict[_Key, int] = {}
        self._name = name

    def of(self, nodes: Iterable[onnx.NodeProto], constants: dict[str, int], depth: int) -> int:
        if depth > limits.DEPTH:
            raise TooCostly(f"{self._name}: its functions or loops are nested too deep")
        total = 0
        for node in nodes:
            inner = sum(
                self.of(graph.node, constants | _constants(graph), depth + 1)
                for attribute in node.attribute
                for graph in (
                    *([attribute.g] if attribute.HasField("g") else ()),
                    *attribute.graphs,
                )
            )
            if node.op_type == "Loop" and node.domain in ("", "ai.onnx"):
                inner *= self._times(node, constants)
            total += 1 + inner + self._called((node.domain, node.op_type), depth)
        return total

    def _called(self, key: _Key, depth: int) -> int:
        function = self._functions.get(key)
        if function is None:
            return 0
        if key not in self._known:
            self._known[key] = limits.NODES + 1  # of one that calls itself
            self._known[key] = self.of(function.node, {}, depth + 1)
        return self._known[key]

    def _times(self, node: onnx.NodeProto, constants: dict[str, int]) -> int:
        """How often a loop runs; a number that is computed is taken for one that ends."""
        if not node.input or not node.input[0]:
            raise TooCostly(
                f"{self._name}: the loop {node.name or node.output[0]!r} has no largest number of "
                "runs; export the network without it"
            )
        return max(1, constants.get(node.input[0], 1))


def _constants(graph: onnx.GraphProto) -> dict[str, int]:
    """The single whole numbers among a graph's weights and constants."""
    tensors = {one.name: one for one in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            tensors.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    return {
        name: int(numpy_helper.to_array(tensor).reshape(-1)[0])
        for name, tensor in tensors.items()
        if tensor.data_type == onnx.TensorProto.INT64
        and tensor.data_location != onnx.TensorProto.EXTERNAL
        and len(tensor.dims) <= 1
        and list(tensor.dims) in ([], [1])
        and (len(tensor.raw_data) == 8 or len(tensor.int64_data) == 1)
    }
