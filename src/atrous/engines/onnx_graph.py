"""Look up what makes and what reads the tensors of an ONNX graph, and add nodes at its ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

Dims = tuple[int | None, ...]

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
"""Types of values."""

_LIGHT = 1024
"""Tensors of more values than this do not take part in shape inference."""


class OnnxGraph:
    """A graph whose tensors can be looked up by name.

    Args:
        model: not changed, unless by the methods that say so.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.graph = model.graph

    @cached_property
    def makers(self) -> dict[str, NodeProto]:
        """Tensor → the node that makes it."""
        return {name: node for node in self.graph.node for name in node.output if name}

    @cached_property
    def _tensors(self) -> dict[str, TensorProto]:
        found = {tensor.name: tensor for tensor in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                found[node.output[0]] = node.attribute[0].t
        return found

    @cached_property
    def _kinds(self) -> dict[str, onnx.TypeProto.Tensor]:
        inferred = onnx.shape_inference.infer_shapes(_light(self.model), data_prop=True).graph
        values = (*inferred.input, *inferred.value_info, *inferred.output)
        return {value.name: value.type.tensor_type for value in values}

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        versions = {entry.domain: entry.version for entry in self.model.opset_import}
        return int(versions.get("", versions.get("ai.onnx", 1)))

    @property
    def inputs(self) -> list[onnx.ValueInfoProto]:
        """The inputs that are not constants, which old files list too."""
        constants = {tensor.name for tensor in self.graph.initializer}
        constants |= {tensor.values.name for tensor in self.graph.sparse_initializer}
        return [value for value in self.graph.input if value.name not in constants]

    def maker(self, name: str) -> NodeProto | None:
        """The node that makes a tensor; `None` for inputs and constants."""
        return self.makers.get(name)

    def readers(self, name: str) -> list[NodeProto]:
        """The nodes that read a tensor, those whose bodies do included."""
        return [node for node in self.graph.node if name in _reads(node)]

    def constant(self, name: str) -> NDArray[Any] | None:
        """The values of a constant, `None` if it is computed."""
        tensor = self._tensors.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def dims(self, name: str) -> Dims | None:
        """The shape of a tensor, `None` for sizes that are free, or for all of it."""
        if name in self._tensors:
            return tuple(self._tensors[name].dims)
        kind = self._kinds.get(name)
        return dims_of(kind) if kind is not None and kind.HasField("shape") else None

    def kind(self, name: str) -> int:
        """The type of a tensor's values, 0 if it is not known."""
        kind = self._kinds.get(name)
        return kind.elem_type if kind is not None else 0

    # These change the graph.

    def free_name(self, name: str) -> str:
        """A name like `name` that no tensor has yet."""
        taken = {t.name for t in (*self.graph.initializer, *self.graph.input)}
        taken.update(other for node in self.graph.node for other in _names(node))
        return next(
            free
            for free in (name, *(f"{name}_{number}" for number in range(2, len(taken) + 3)))
            if free not in taken
        )

    def add_constant(self, values: NDArray[Any], name: str) -> str:
        """Add a constant under a name like `name`, and return that."""
        free = self.free_name(name)
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), free))
        return free

    def add(self, kind: str, inputs: Sequence[str], name: str, **settings: Any) -> str:
        """Add a node at the end, and return the name of its output, which is like `name`."""
        free = self.free_name(name)
        self.graph.node.append(helper.make_node(kind, inputs, [free], name=free, **settings))
        return free

    def with_axes(self, kind: str, source: str, axes: Sequence[int], name: str) -> str:
        """Add a Squeeze or Unsqueeze, whose axes became an input in operator set 13."""
        if self.opset < 13:
            return self.add(kind, [source], name, axes=list(axes))
        return self.add(kind, [source, self.add_constant(np.array(axes), f"{name}_axes")], name)

    def to_front(self, count: int) -> None:
        """Move the last `count` nodes to the beginning."""
        nodes = [NodeProto.FromString(node.SerializeToString()) for node in self.graph.node]
        del self.graph.node[:]
        self.graph.node.extend([*nodes[len(nodes) - count :], *nodes[: len(nodes) - count]])

    def redirect(self, name: str, source: str) -> None:
        """Let what reads `name` read `source` instead."""
        for node in self.graph.node:
            _rename(node, name, source)

    def set_output(self, name: str, dims: Sequence[int | str | None], kind: int) -> None:
        """Make a tensor the only output, and drop what it does not need."""
        del self.graph.output[:]
        self.graph.output.append(helper.make_tensor_value_info(name, kind, list(dims)))
        self.prune()

    def prune(self) -> None:
        """Drop the nodes, constants and notes on shapes that no output needs."""
        needed = {value.name for value in self.graph.output}
        alive = []
        for node in reversed(self.graph.node):
            if needed.intersection(node.output):
                needed.update(_reads(node))
                alive.append(node)
        kept = [NodeProto.FromString(node.SerializeToString()) for node in reversed(alive)]
        del self.graph.node[:]
        self.graph.node.extend(kept)
        for tensor in [one for one in self.graph.initializer if one.name not in needed]:
            self.graph.initializer.remove(tensor)
        made = {name for node in kept for name in node.output}
        for value in [one for one in self.graph.value_info if one.name not in made]:
            self.graph.value_info.remove(value)


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of its own with the same content."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def dims_of(kind: onnx.TypeProto.Tensor) -> Dims:
    """The sizes that a type declares, `None` where they are free."""
    return tuple(d.dim_value if d.dim_value > 0 else None for d in kind.shape.dim)


def attributes(node: NodeProto) -> dict[str, Any]:
    """The attributes that a node sets; text as `str`."""
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {
        k: v.decode("utf-8", "replace") if isinstance(v, bytes) else v for k, v in values.items()
    }


def described(value: onnx.ValueInfoProto) -> str:
    """Name, type and shape of an input or output, for messages."""
    kind = value.type.tensor_type
    if not kind.elem_type:
        return f"{value.name} ({value.type.WhichOneof('value') or 'of no type'})"
    dims = (str(d.dim_value or d.dim_param or "?") for d in kind.shape.dim)
    return f"{value.name} {type_name(kind.elem_type)} ({', '.join(dims)})"


def type_name(kind: int) -> str:
    """What NumPy calls a type of values."""
    if kind not in TensorProto.DataType.values():
        return f"unknown type {kind}"
    name = str(TensorProto.DataType.Name(kind)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def _light(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with shapes in place of its large constants, so that little is copied."""
    light = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph, own = light.graph, model.graph
    graph.name = own.name or "graph"
    graph.node.extend(own.node)
    graph.output.extend(own.output)
    graph.value_info.extend(own.value_info)
    graph.sparse_initializer.extend(own.sparse_initializer)
    constants = {tensor.name for tensor in own.initializer}
    graph.input.extend(value for value in own.input if value.name not in constants)
    for tensor in own.initializer:
        if int(np.prod(tensor.dims)) <= _LIGHT:
            graph.initializer.append(tensor)
        else:
            shape = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            graph.input.append(shape)
    return light


def _visit(node: NodeProto, see: Callable[[NodeProto], None]) -> None:
    """Call `see` with a node and with those of its bodies."""
    see(node)
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            for inner in body.node:
                _visit(inner, see)


def _reads(node: NodeProto) -> set[str]:
    found: set[str] = set()
    _visit(node, lambda one: found.update(name for name in one.input if name))
    for attribute in node.attribute:  # a body may hand on a tensor from outside
        for body in (attribute.g, *attribute.graphs):
            found.update(value.name for value in body.output)
    return found


def _names(node: NodeProto) -> Iterable[str]:
    found: set[str] = set()
    _visit(node, lambda one: found.update([*one.input, *one.output]))
    return found


def _rename(node: NodeProto, name: str, source: str) -> None:
    def see(one: NodeProto) -> None:
        for index, read in enumerate(one.input):
            if read == name:
                one.input[index] = source

    _visit(node, see)
