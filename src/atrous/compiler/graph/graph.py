"""An ONNX graph while it is rewritten: who makes a tensor, who reads it, what is known of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

_LIGHT = 1024
"""Tensors of more values than this do not take part in shape inference."""


class Graph:
    """A model whose nodes and constants can be looked up by name and exchanged.

    Args:
        model: copied; its input sizes should be fixed, or most shapes stay unknown.

    Attributes:
        nodes: in an order in which each comes after those that it reads.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        graph = self._model.graph
        self.nodes: list[NodeProto] = list(graph.node)
        self._constants: dict[str, TensorProto] = {t.name: t for t in graph.initializer}
        inputs = free_inputs(graph)
        del graph.input[:]
        graph.input.extend(inputs)
        self._shapes: dict[str, tuple[int | None, ...]] | None = None
        self._makers: dict[str, NodeProto] = {}
        self._readers: dict[str, list[NodeProto]] = {}
        self._taken: set[str] = set()
        self.refresh()

    def refresh(self) -> None:
        """Drop what nothing reads, and look everything up anew after a change."""
        self._drop_dead()
        self._makers = {name: node for node in self.nodes for name in node.output if name}
        self._readers = {}
        for node in self.nodes:
            for name in _reads(node):
                self._readers.setdefault(name, []).append(node)
        sparse = self._model.graph.sparse_initializer
        self._taken = {*self._constants, *self.inputs, *(t.values.name for t in sparse)}
        self._taken.update(name for node in self.nodes for name in _names(node))
        self._shapes = None

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs that are not constants."""
        return [value.name for value in self._model.graph.input]

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        return [value.name for value in self._model.graph.output]

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        versions = {entry.domain: entry.version for entry in self._model.opset_import}
        return int(versions.get("", versions.get("ai.onnx", 1)))

    @property
    def nbytes(self) -> int:
        """Bytes of all constants."""
        return sum(tensor.ByteSize() for tensor in self._constants.values())

    def maker(self, name: str) -> NodeProto | None:
        """The node that makes a tensor; `None` for inputs and constants."""
        return self._makers.get(name)

    def readers(self, name: str) -> list[NodeProto]:
        """The nodes that read a tensor; an output of the graph counts as read by nobody."""
        return self._readers.get(name, [])

    def only_reader(self, name: str) -> NodeProto | None:
        """The node that alone reads a tensor; `None` if others do or if it is an output."""
        readers = self.readers(name)
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor if all of it is known."""
        if self._shapes is None:  # inference is the slow part, and few rewrites ask
            self._shapes = self._inferred()
        shape = self._shapes.get(name)
        if shape is None or any(size is None for size in shape):
            return None
        return tuple(size for size in shape if size is not None)

    def constant(self, name: str) -> NDArray[Any] | None:
        """The values of a constant, `None` if it is computed or missing."""
        tensor = self._constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def add_constant(self, values: NDArray[Any], name: str) -> str:
        """Add a constant under `name`, or a free name like it, and return the name."""
        free = self.free_name(name)
        self._constants[free] = numpy_helper.from_array(np.asarray(values, order="C"), free)
        return free

    def free_name(self, name: str) -> str:
        """A name like `name` that no tensor has yet; it is taken from now on."""
        free, number = name, 1
        while free in self._taken:
            number += 1
            free = f"{name}_{number}"
        self._taken.add(free)
        return free

    def replace(self, node: NodeProto, nodes: Sequence[NodeProto]) -> None:
        """Put `nodes`, which make the same outputs, where `node` was."""
        at = next(index for index, other in enumerate(self.nodes) if other is node)
        self.nodes[at : at + 1] = nodes

    def bypass(self, node: NodeProto, source: str) -> bool:
        """Let the readers of `node`'s first output read `source` instead.

        Returns:
            False, and nothing changes, where the output leaves the graph and must keep its name,
            or where nothing reads it.
        """
        return node.output[0] not in self.outputs and self.redirect(node.output[0], source)

    def redirect(self, name: str, source: str) -> bool:
        """Let what reads `name` read `source` instead; return whether anything did."""
        readers = self._readers.pop(name, [])
        for reader in readers:
            _rename(reader, name, source)
        self._readers.setdefault(source, []).extend(readers)
        return bool(readers)

    def dtype(self, name: str) -> str:
        """The type of an input's values, as NumPy calls it."""
        value = next(v for v in self._model.graph.input if v.name == name)
        return str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))

    def set_input(self, name: str, dtype: int, shape: Sequence[int]) -> None:
        """Declare an input's type and shape anew."""
        value = next(v for v in self._model.graph.input if v.name == name)
        value.CopyFrom(helper.make_tensor_value_info(name, dtype, shape))

    def to_model(self) -> onnx.ModelProto:
        """The rewritten model, without notes on intermediate shapes."""
        model = onnx.ModelProto()
        model.CopyFrom(self._bare())
        model.graph.initializer.extend(self._constants.values())
        return model

    def _bare(self) -> onnx.ModelProto:
        bare = onnx.ModelProto()
        bare.ir_version = max(self._model.ir_version, 4)
        for field in ("opset_import", "functions", "metadata_props"):
            getattr(bare, field).extend(getattr(self._model, field))
        if self._model.producer_name:
            bare.producer_name = self._model.producer_name
        graph = self._model.graph
        bare.graph.name = graph.name or "graph"
        bare.graph.input.extend(graph.input)
        bare.graph.sparse_initializer.extend(graph.sparse_initializer)
        bare.graph.output.extend(graph.output)
        bare.graph.node.extend(self.nodes)
        return bare

    def _inferred(self) -> dict[str, tuple[int | None, ...]]:
        light = self._bare()
        for tensor in self._constants.values():
            if int(np.prod(tensor.dims)) <= _LIGHT:
                light.graph.initializer.append(tensor)
            else:
                shape = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                light.graph.input.append(shape)
        graph = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
        shapes: dict[str, tuple[int | None, ...]]
        shapes = {name: tuple(tensor.dims) for name, tensor in self._constants.items()}
        for value in (*graph.value_info, *graph.output, *graph.input):
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                shapes[value.name] = tuple(
                    d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None
                    for d in dims
                )
        return shapes

    def _drop_dead(self) -> None:
        needed = set(self.outputs)
        alive = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                alive.append(node)
                needed.update(_reads(node))
        self.nodes = alive[::-1]
        self._constants = {n: t for n, t in self._constants.items() if n in needed}


def free_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs that are not constants, which old files list too; before version 4 they had to."""
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {tensor.values.name for tensor in graph.sparse_initializer}
    return [value for value in graph.input if value.name not in constants]


def showing(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """A copy of a model whose outputs are these tensors, of whatever type and shape."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
    return shown


def attributes(node: NodeProto) -> dict[str, Any]:
    """The attributes that a node sets; text as `str`."""
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {
        k: v.decode("utf-8", "replace") if isinstance(v, bytes) else v for k, v in values.items()
    }


def _reads(node: NodeProto) -> Iterable[str]:
    yield from (name for name in node.input if name)
    for body in _bodies(node):  # branches and loop bodies read tensors from outside
        for inner in body.node:
            yield from _reads(inner)


def _names(node: NodeProto) -> Iterable[str]:
    yield from (*node.input, *node.output)
    for body in _bodies(node):
        yield from (value.name for value in (*body.input, *body.initializer))
        for inner in body.node:
            yield from _names(inner)


def _rename(node: NodeProto, name: str, source: str) -> None:
    for index, read in enumerate(node.input):
        if read == name:
            node.input[index] = source
    for body in _bodies(node):
        for inner in body.node:
            _rename(inner, name, source)


def _bodies(node: NodeProto) -> Iterable[onnx.GraphProto]:
    for attribute in node.attribute:
        yield from (attribute.g, *attribute.graphs)
