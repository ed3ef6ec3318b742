"""The input of somebody else's network, brought to `(N, 3, H, W)`, float32 or uint8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from atrous.engines.onnx_graph import (
    FLOATS,
    Dims,
    OnnxGraph,
    attributes,
    described,
    dims_of,
    type_name,
)
from atrous.errors import ArtifactError

_BYTES = (
    TensorProto.UINT8,
    TensorProto.UINT16,
    TensorProto.UINT32,
    TensorProto.INT16,
    TensorProto.INT32,
    TensorProto.INT64,
)
"""Types of whole numbers that hold pixels of 0–255."""

_PASSING = ("Cast", "Identity", "Sub", "Add", "Mul", "Div", "Pad", "QuantizeLinear")
"""Operators that leave the order of the axes as it is, from which pixels are made values."""

GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in a grey picture (ITU-R BT.601), as Pillow has them."""


@dataclass(frozen=True, slots=True)
class ImageInput:
    """What a network takes.

    Attributes:
        value: the input.
        channels: 1 or 3.
        last: whether the channels are the last axis.
        alone: whether it takes one picture without an axis for more.
        masks: further inputs, which are to be ones.
    """

    value: onnx.ValueInfoProto
    channels: int
    last: bool
    alone: bool
    masks: tuple[onnx.ValueInfoProto, ...] = ()

    @property
    def name(self) -> str:
        """Of the input."""
        return self.value.name

    @property
    def kind(self) -> int:
        """Type of its values."""
        return int(self.value.type.tensor_type.elem_type)

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Height and width, `None` where they are free."""
        dims = dims_of(self.value.type.tensor_type)
        if not dims:
            return None, None
        start = (0 if self.alone else 1) + (0 if self.last else 1)
        return dims[start], dims[start + 1]

    @property
    def batch(self) -> int | None:
        """Pictures that it takes at a time, `None` for any number."""
        dims = dims_of(self.value.type.tensor_type)
        return 1 if self.alone else dims[0] if dims else None

    @property
    def takes_one(self) -> bool:
        """Whether it takes one picture at a time, and not several that are counted."""
        return self.batch in (None, 1)

    @property
    def as_it_is(self) -> bool:
        """Whether it is `(N, 3, H, W)` already, float32 or uint8, and alone, and says so."""
        known = self.kind in (TensorProto.FLOAT, TensorProto.UINT8)
        known = known and self.value.type.tensor_type.HasField("shape")
        return known and self.channels == 3 and not (self.last or self.alone or self.masks)


def find(graph: OnnxGraph, name: str) -> ImageInput:
    """What a network takes.

    Args:
        graph: of the network.
        name: of the network, in messages.

    Raises:
        ArtifactError: it takes something else than pictures; says what.
    """
    images = [value for value in graph.inputs if not _is_mask(value)]
    masks = [value for value in graph.inputs if _is_mask(value)]
    if not images:
        images, masks = masks, []
    pictures = [value for value in images if _looks_like_one(value)]
    if not pictures:
        given = ", ".join(map(described, images)) or "none"
        said = f"{name}: expected an input of pictures (N, 3, H, W) or (N, H, W, 3), found {given}"
        if any(value.type.tensor_type.elem_type == TensorProto.INT8 for value in images):
            said += (
                "; the graph does not say how pixels of 0–255 become int8: export the network with "
                "a uint8 input, or with a float32 input that a QuantizeLinear inside makes whole "
                "numbers of"
            )
        raise ArtifactError(said)
    if len(images) > 1:
        others = ", ".join(described(value) for value in images if value is not pictures[0])
        raise ArtifactError(
            f"{name}: takes more than a picture: {others}; Atrous has nothing to give there: "
            "export the network with these inputs filled in"
        )
    found = _understood(graph, pictures[0], name)
    return ImageInput(found.value, found.channels, found.last, found.alone, tuple(masks))


def _is_mask(value: onnx.ValueInfoProto) -> bool:
    dims = value.type.tensor_type.shape.dim
    return "mask" in value.name.lower() and (
        len(dims) == 3 or (len(dims) == 4 and dims[1].dim_value == 1)
    )


def _looks_like_one(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.tensor_type
    ranks = (0, 3, 4) if not kind.HasField("shape") else (3, 4)
    return kind.elem_type in (*FLOATS, *_BYTES) and len(kind.shape.dim) in ranks


def _understood(graph: OnnxGraph, value: onnx.ValueInfoProto, name: str) -> ImageInput:
    """Which axis holds the channels, and how many they are."""
    dims: Dims = dims_of(value.type.tensor_type) or (None,) * 4
    alone = len(dims) == 3
    first, last = dims[0 if alone else 1], dims[-1]
    told_last, told = _first_use(graph, value.name)
    is_last = last in (1, 3) and first not in (1, 3)
    if told_last is not None and first is None and last is None:
        is_last = told_last
    elif told_last and last in (1, 3):
        is_last = True
    elif last in (1, 3) and first is None:
        is_last = told_last is not False
    elif first and last and not {first, last} & {1, 3}:
        is_last = last < first if told_last is None else told_last
    channels = (last if is_last else first) or told or 3
    if channels not in (1, 3):
        raise ArtifactError(
            f"{name}: takes pictures of {channels} channels, {described(value)}; Atrous gives it "
            "RGB or grey ones: expected 3 channels or 1"
        )
    return ImageInput(value, channels, is_last, alone)


def _first_use(graph: OnnxGraph, name: str) -> tuple[bool | None, int | None]:
    """Whether the channels come last, and how many they are, as far as the first layers say it."""
    for _ in range(16):
        readers = graph.readers(name)
        moves = [node for node in readers if node.op_type not in ("Shape", "Size")]
        if len(moves) != 1:
            convs = [node for node in moves if node.op_type == "Conv"]
            return (False, _channels(graph, convs[0])) if convs else (None, None)
        [node] = moves
        if node.op_type == "Transpose":
            order = tuple(attributes(node).get("perm", ()))
            if order in ((0, 3, 1, 2), (2, 0, 1)):
                following = _first_use(graph, node.output[0])
                return True, following[1]
            return None, None
        if node.op_type == "Conv":
            return False, _channels(graph, node)
        if node.op_type not in _PASSING:
            return None, None
        name = node.output[0]
    return None, None


def _channels(graph: OnnxGraph, conv: NodeProto) -> int | None:
    dims = graph.dims(conv.input[1])
    group = attributes(conv).get("group", 1)
    return dims[1] * group if dims is not None and len(dims) == 4 and dims[1] else None


def bring(graph: OnnxGraph, found: ImageInput) -> list[str]:
    """Make the input `(N, 3, H, W)`, float32 or uint8.

    Args:
        graph: changed.
        found: what it takes now.

    Returns:
        What was done, for people.
    """
    name, kind, notes = found.name, found.kind, []
    before = len(graph.graph.node)
    pixels = TensorProto.FLOAT if kind in FLOATS else TensorProto.UINT8
    folded = found.channels == 1 and _fold_grey(graph, found)
    source, steps = name, []
    if found.channels == 1 and not folded:
        steps.append("grey")
    if kind not in (TensorProto.FLOAT, TensorProto.UINT8):
        steps.append("type")
    steps += ["last"] * found.last + ["alone"] * found.alone
    if steps:
        rest = graph.free_name(f"{name}_taken")
        graph.redirect(name, rest)
        for step in steps:
            source = _step(graph, step, source, name, kind, pixels)
        graph.graph.node[-1].output[0] = rest
    _fill_masks(graph, found)
    graph.to_front(len(graph.graph.node) - before)
    _declare(graph, found, pixels)
    if found.channels == 1:
        notes.append("it sees grey pictures (one channel)")
    if found.last:
        notes.append("its pictures are channels-last: transposed inside")
    if kind not in (TensorProto.FLOAT, TensorProto.UINT8):
        notes.append(f"its pictures are {type_name(kind)}: converted inside")
    if found.masks:
        names = ", ".join(mask.name for mask in found.masks)
        notes.append(f"{names}: ones, as the whole picture counts")
    return notes


def _step(graph: OnnxGraph, step: str, source: str, name: str, kind: int, pixels: int) -> str:
    """One conversion on the way from our input to the network's own."""
    match step:
        case "grey":
            return _grey(graph, source, name, pixels)
        case "type":
            return graph.add("Cast", [source], f"{name}_typed", to=kind)
        case "last":
            return graph.add("Transpose", [source], f"{name}_last", perm=[0, 2, 3, 1])
        case _:
            return graph.with_axes("Squeeze", source, [0], f"{name}_alone")


def _fold_grey(graph: OnnxGraph, found: ImageInput) -> bool:
    """Give the first convolution three channels, where it alone reads the input; exact."""
    readers = graph.readers(found.name)
    if found.last or found.alone or found.kind != TensorProto.FLOAT or len(readers) != 1:
        return False
    [conv] = readers
    weight = graph.constant(conv.input[1]) if conv.op_type == "Conv" else None
    if weight is None or weight.shape[1] != 1 or attributes(conv).get("group", 1) != 1:
        return False
    wide = (weight * GREY.reshape(1, 3, 1, 1)).astype(weight.dtype)
    conv.input[1] = graph.add_constant(wide, f"{conv.input[1]}_of_grey")
    return True


def _grey(graph: OnnxGraph, source: str, name: str, pixels: int) -> str:
    weight = graph.add_constant(GREY.reshape(1, 3, 1, 1), f"{name}_grey_weight")
    if pixels != TensorProto.UINT8:
        return graph.add("Conv", [source, weight], f"{name}_grey")
    values = graph.add("Cast", [source], f"{name}_values", to=TensorProto.FLOAT)
    mixed = graph.add("Conv", [values, weight], f"{name}_mixed")
    half = graph.add_constant(np.array(0.5, np.float32), f"{name}_half")
    rounded = graph.add("Floor", [graph.add("Add", [mixed, half], f"{name}_up")], f"{name}_whole")
    return graph.add("Cast", [rounded], f"{name}_grey", to=TensorProto.UINT8)


def _fill_masks(graph: OnnxGraph, found: ImageInput) -> None:
    """Make ones of the further inputs, as large as the picture."""
    for mask in found.masks:
        whole = graph.add("Shape", [found.name], f"{mask.name}_picture")
        axes = np.array([0, 2, 3] if len(mask.type.tensor_type.shape.dim) == 3 else [0, 1, 2, 3])
        picked = graph.add_constant(axes, f"{mask.name}_axes")
        shape = graph.add("Gather", [whole, picked], f"{mask.name}_shape")
        if len(axes) == 4:
            factor = graph.add_constant(np.array([1, 3, 1, 1]), f"{mask.name}_factor")
            shape = graph.add("Div", [shape, factor], f"{mask.name}_one_channel")
        dtype = mask.type.tensor_type.elem_type
        one = helper.make_tensor("value", dtype, [1], [1])
        ones = graph.add("ConstantOfShape", [shape], f"{mask.name}_ones", value=one)
        graph.redirect(mask.name, ones)


def _declare(graph: OnnxGraph, found: ImageInput, pixels: int) -> None:
    """Write down what the only input is now."""
    own = [dim.dim_value or dim.dim_param for dim in found.value.type.tensor_type.shape.dim]
    dims: Sequence[int | str | None] = [size or None for size in own] or [None] * 4
    if found.alone:
        dims = [1, *dims]
    rows, columns = (dims[1], dims[2]) if found.last else (dims[2], dims[3])
    value = helper.make_tensor_value_info(found.name, pixels, [dims[0], 3, rows, columns])
    constants = {tensor.name for tensor in graph.graph.initializer}
    kept = [one for one in graph.graph.input if one.name in constants]
    del graph.graph.input[:]
    graph.graph.input.extend([value, *kept])
