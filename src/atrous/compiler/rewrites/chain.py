"""Nodes of a graph that are written in a row, each reading the one before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from atrous.compiler.graph.graph import Graph


class Chain:
    """Appends nodes that each read the one before.

    Args:
        graph: gets the constants.
        source: what the first node reads.
        target: what the last one makes; names of constants begin with it.

    Attributes:
        nodes: what was written.
        last: the tensor that the next one reads.
    """

    def __init__(self, graph: Graph, source: str, target: str) -> None:
        self.nodes: list[NodeProto] = []
        self._graph, self.last, self._target = graph, source, target

    def shape(self, *shape: int) -> None:
        """Reshape, as `Reshape` of ONNX does."""
        values = np.array(shape, np.int64)
        stored = self._graph.add_constant(values, f"{self._target}_shape{len(self.nodes)}")
        self.node("Reshape", [self.last, stored])

    def node(self, kind: str, inputs: list[str]) -> NodeProto:
        """Append a node of these inputs, and return it for its attributes."""
        self.last = self._graph.free_name(f"{self._target}_{len(self.nodes)}")
        self.nodes.append(helper.make_node(kind, inputs, [self.last]))
        return self.nodes[-1]

    def transpose(self, *order: int) -> None:
        """Put the axes into this order."""
        node = self.node("Transpose", [self.last])
        node.attribute.append(helper.make_attribute("perm", order))

    def of(self, kind: str, **constants: NDArray[np.generic]) -> NodeProto:
        """Append a node that reads the one before and then these constants."""
        names = [
            self._graph.add_constant(values, f"{self._target}_{name}")
            for name, values in constants.items()
        ]
        return self.node(kind, [self.last, *names])

    def pick(self, places: NDArray[np.int64], *, axis: int) -> None:
        """Take these places along an axis."""
        gather = self.of("Gather", places=places)
        gather.attribute.append(helper.make_attribute("axis", axis))

    def plus(self, values: NDArray[np.floating], name: str) -> None:
        """Add a constant, unless it is 0."""
        if values.any():
            stored = self._graph.add_constant(values.astype(np.float32), f"{self._target}_{name}")
            self.node("Add", [self.last, stored])

    def times(self, matrix: NDArray[np.floating], name: str, *, left: bool = False) -> None:
        """Multiply by a constant, from the right or from the left."""
        self._product(matrix, f"{self._target}_{name}", left)

    def each(self, matrices: list[NDArray[np.float64]], weight: str, *, axis: int) -> None:
        """Multiply by each constant from the right, and join the products along `axis`."""
        source, products = self.last, []
        for matrix in matrices:
            self.last = source
            self._product(matrix, weight, left=False)
            products.append(self.last)
        self.node("Concat", products).attribute.append(helper.make_attribute("axis", axis))

    def _product(self, matrix: NDArray[np.floating], name: str, left: bool) -> None:
        stored = self._graph.add_constant(matrix.astype(np.float32), name)
        self.node("MatMul", [stored, self.last] if left else [self.last, stored])

    def finish(self) -> list[NodeProto]:
        """Let the last node make the target, and return all."""
        self.nodes[-1].output[0] = self._target
        return self.nodes
