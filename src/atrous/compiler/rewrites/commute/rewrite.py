"""Convolve before enlarging instead of after: most of the work of a DeepLabV3+ decoder.

The decoder computes `conv3x3(concat(low, enlarge(high)))` on a grid 16 times as large as that of
`high` (arXiv:1802.02611). Split by input channel, the convolution is a sum, and its share over
`enlarge(high)` is a sum over the nine taps of `shift(enlarge(W_tap · high))`, as mixing channels
commutes with enlarging. The nine products `W_tap · high` are made on the small grid; shifting,
filling with zeros at the border and enlarging bilinearly are one linear map that is separable:

    out[o] = Σ_tap  A_row(tap) · (W_tap · high)[o] · B_column(tap)ᵀ

with `A` and `B` interpolation matrices whose rows are shifted by one tap and are zero where the tap
falls outside. The sums over taps become part of two matrix products, with `A = [A_0 A_1 A_2]`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from atrous.compiler.graph.graph import Graph, attributes
from atrous.compiler.rewrites.base import Layout, Outcome

Matrix = NDArray[np.float64]

INTERPOLATION = ("_rows", "_columns")
"""How the names of the interpolation matrices in a rewritten graph end."""

_RULES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")


@dataclass(frozen=True, slots=True)
class _Enlargement:
    """A `Resize` that enlarges `(N, C, h, w)` to `(N, C, H, W)` bilinearly.

    Attributes:
        source: the small map.
        small: `(C, h, w)`.
        large: `(H, W)`.
        rule: coordinate rule of the `Resize`.
    """

    source: str
    small: tuple[int, int, int]
    large: tuple[int, int]
    rule: str

    def matrices(self) -> tuple[Matrix, Matrix]:
        """`A` `(H, 3, h)` and `B` `(W, 3, w)`: tap by tap the shifted interpolation matrices."""
        (_, h, w), (tall, wide) = self.small, self.large
        return _shifted(interpolation(h, tall, self.rule)), _shifted(
            interpolation(w, wide, self.rule)
        )

    def macs(self, outputs: int) -> int:
        """Multiply-accumulates of the rewritten share of a convolution, per image."""
        (channels, h, w), (tall, wide) = self.small, self.large
        return outputs * (9 * channels * h * w + 3 * h * wide * 3 * w + tall * wide * 3 * h)


def rewrite(graph: Graph, layout: Layout = "planar") -> Outcome:
    """Rewrite every 3×3 convolution over enlarged maps where that takes less arithmetic.

    Args:
        graph: changed in place.
        layout: `planar` makes the nine products with a 1×1 convolution and enlarges planes;
            `channels-last` makes them with matrix products whose last axis is the channel, which
            engines that keep activations so need not reorder.
    """
    places, left = [], []
    for conv in [node for node in graph.nodes if node.op_type == "Conv"]:
        concat = graph.maker(conv.input[0])
        names = [conv.input[0]]
        if concat is not None and concat.op_type == "Concat":
            if attributes(concat)["axis"] not in (1, -3):
                continue
            names = list(concat.input)
        makers = [graph.maker(name) for name in names]
        if not any(maker is not None and maker.op_type == "Resize" for maker in makers):
            continue
        reason = _unfit(graph, conv, names)
        if reason:
            left.append(f"{conv.output[0]}: {reason}")
            continue
        found = [_enlargement(graph, name) for name in names]
        weight = np.asarray(graph.constant(conv.input[1]))
        outputs, reasons = len(weight), list[str]()
        kept: list[_Enlargement | None] = []
        for part in found:
            if isinstance(part, str):
                reasons += [part] if part else []
                kept.append(None)
            elif part.macs(outputs) < outputs * part.small[0] * 9 * math.prod(part.large):
                kept.append(part)
            else:
                reasons.append("enlarges too little to save arithmetic")
                kept.append(None)
        if not any(kept):
            left.append(f"{conv.output[0]}: {', '.join(reasons)}")
            continue
        graph.replace(conv, _rewritten(graph, conv, names, kept, layout))
        grids = [f"{part.small[1]}×{part.small[2]}" for part in kept if part]
        places.append(f"{conv.output[0]} over maps of {', '.join(grids)}")
        graph.refresh()
    return Outcome(tuple(places), tuple(left))


def interpolation(size: int, target: int, rule: str) -> Matrix:
    """The `(target, size)` matrix that enlarges a line linearly, as ONNX `Resize` does.

    Args:
        size: length of the line.
        target: length it is enlarged to.
        rule: `half_pixel`, `pytorch_half_pixel`, `align_corners` or `asymmetric`.
    """
    index = np.arange(target)
    match rule:
        case "align_corners":
            at = index * ((size - 1) / (target - 1)) if target > 1 else index * 0.0
        case "asymmetric":
            at = index * (size / target)
        case "pytorch_half_pixel" if target == 1:
            at = index * 0.0
        case _:
            at = (index + 0.5) * (size / target) - 0.5
    at = np.clip(at, 0, size - 1)
    below = np.floor(at).astype(int)
    above = np.minimum(below + 1, size - 1)
    matrix = np.zeros((target, size))
    np.add.at(matrix, (index, below), 1 - (at - below))
    np.add.at(matrix, (index, above), at - below)
    return matrix


def _shifted(matrix: Matrix) -> Matrix:
    """`(target, 3, size)`: the matrix as taps -1, 0 and 1 of a zero-padded convolution see it."""
    padded = np.pad(matrix, ((1, 1), (0, 0)))
    return np.stack([padded[tap : tap + len(matrix)] for tap in range(3)], axis=1)


def _unfit(graph: Graph, conv: NodeProto, names: list[str]) -> str:
    """Why a convolution over a resized map cannot be rewritten, empty if it can."""
    weight = graph.constant(conv.input[1])
    if weight is None:
        return "its weights are not constant"
    if weight.dtype != np.float32:
        return f"its weights are {weight.dtype}"
    settings = attributes(conv)
    kernel = "×".join(map(str, weight.shape[2:]))
    padding = settings.get("auto_pad", "NOTSET")
    if padding in ("NOTSET", ""):
        same = settings.get("pads") == [1] * 4
    else:
        same = padding in ("SAME_UPPER", "SAME_LOWER")
    plain = all(s == 1 for name in ("strides", "dilations") for s in settings.get(name, [1]))
    if weight.shape[2:] != (3, 3) or not same or not plain or settings.get("group", 1) != 1:
        return f"needs a dense 3×3 convolution of stride 1 and padding 1, found {kernel}" + (
            "" if weight.shape[2:] != (3, 3) else " of another kind"
        )
    sizes = [graph.shape(name) for name in names]
    if any(size is None or len(size) != 4 for size in sizes) or graph.shape(conv.output[0]) is None:
        return "its sizes are not fixed"
    return ""


def _enlargement(graph: Graph, name: str) -> _Enlargement | str:
    """The enlargement behind a tensor, or why it is none; empty if it is no `Resize` at all."""
    resize = graph.maker(name)
    if resize is None or resize.op_type != "Resize":
        return ""
    settings = attributes(resize)
    source, target = graph.shape(resize.input[0]), graph.shape(name)
    if source is None or target is None or len(source) != 4:
        return "the sizes of the resize are not fixed"
    rule = settings.get("coordinate_transformation_mode", "half_pixel")
    if settings.get("mode", "nearest") != "linear" or settings.get("antialias", 0):
        return "the resize is not plainly linear"
    if rule not in _RULES:
        return f"resizes by the rule {rule}"
    if settings.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return "the resize keeps the aspect ratio"
    if source[:2] != target[:2]:
        return "the resize changes more than height and width"
    if len(resize.input) > 2 and resize.input[2]:
        scales = graph.constant(resize.input[2])
        if scales is None:
            return "the scales of the resize are not constant"
        exact = np.array(target[2:]) / np.array(source[2:])
        # With scales given, these and not the ratio of the sizes place the pixels.
        if scales.size and not np.allclose(scales[-2:], exact, rtol=1e-7, atol=0):
            return "the scales of the resize are not the ratio of its sizes"
    return _Enlargement(resize.input[0], source[1:], (target[2], target[3]), rule)


def _rewritten(
    graph: Graph,
    conv: NodeProto,
    names: list[str],
    parts: list[_Enlargement | None],
    layout: Layout,
) -> list[NodeProto]:
    """The nodes that take the place of `conv`."""
    weight = np.asarray(graph.constant(conv.input[1]))
    channels = [(graph.shape(name) or ())[1] for name in names]
    kernels = np.split(weight, np.cumsum(channels)[:-1], axis=1)
    output = conv.output[0]
    nodes: list[NodeProto] = []
    sums = []
    rest = [at for at, part in enumerate(parts) if part is None]
    bias = [name for name in conv.input[2:] if name]
    if rest:
        kernel = np.concatenate([kernels[at] for at in rest], axis=1)
        source = names[rest[0]]
        if len(rest) > 1:
            source = graph.free_name(f"{output}_fine_concat")
            nodes.append(helper.make_node("Concat", [names[i] for i in rest], [source], axis=1))
        fine = graph.free_name(f"{output}_fine")
        stored = graph.add_constant(kernel, f"{conv.input[1]}_fine")
        nodes.append(helper.make_node("Conv", [source, stored, *bias], [fine], pads=[1] * 4))
        sums.append(fine)
    write = _planar if layout == "planar" else _channels_last
    for at, part in enumerate(parts):
        if part is not None:
            coarse = graph.free_name(f"{output}_coarse{at}")
            nodes += write(graph, part, kernels[at], coarse)
            sums.append(coarse)
    if not rest and bias:
        column = graph.free_name(f"{bias[0]}_column")
        shape = graph.add_constant(np.array([-1, 1, 1]), f"{column}_shape")
        nodes.append(helper.make_node("Reshape", [bias[0], shape], [column]))
        sums.append(column)
    while len(sums) > 2:
        total = graph.free_name(f"{output}_sum{len(sums)}")
        nodes.append(helper.make_node("Add", [sums.pop(0), sums.pop(0)], [total]))
        sums.insert(0, total)
    nodes.append(helper.make_node("Add" if len(sums) == 2 else "Identity", sums, [output]))
    return nodes


class _Writer:
    """Appends nodes that each read the one before."""

    def __init__(self, graph: Graph, source: str, target: str) -> None:
        self.nodes: list[NodeProto] = []
        self._graph, self._last, self._target = graph, source, target

    def shape(self, *shape: int) -> None:
        values = np.array(shape, np.int64)
        stored = self._graph.add_constant(values, f"{self._target}_shape{len(self.nodes)}")
        self.node("Reshape", [self._last, stored])

    def node(self, kind: str, inputs: list[str]) -> NodeProto:
        self._last = self._graph.free_name(f"{self._target}_{len(self.nodes)}")
        self.nodes.append(helper.make_node(kind, inputs, [self._last]))
        return self.nodes[-1]

    def transpose(self, *order: int) -> None:
        node = self.node("Transpose", [self._last])
        node.attribute.append(helper.make_attribute("perm", order))

    def times(self, matrix: NDArray[np.floating], name: str, *, left: bool = False) -> None:
        """Multiply by a constant, from the right or from the left."""
        stored = self._graph.add_constant(matrix.astype(np.float32), f"{self._target}_{name}")
        self.node("MatMul", [stored, self._last] if left else [self._last, stored])

    def each(self, matrices: list[NDArray[np.float32]], name: str, *, axis: int) -> None:
        """Multiply by each constant from the right, and join the products along `axis`."""
        source, products = self._last, []
        for matrix in matrices:
            self._last = source
            self.times(matrix, name)
            products.append(self._last)
        self.node("Concat", products).attribute.append(helper.make_attribute("axis", axis))

    def finish(self) -> list[NodeProto]:
        self.nodes[-1].output[0] = self._target
        return self.nodes


def _planar(
    graph: Graph, part: _Enlargement, kernel: NDArray[np.float32], target: str
) -> list[NodeProto]:
    outputs = len(kernel)
    (channels, h, w), (tall, wide) = part.small, part.large
    rows, columns = part.matrices()
    write = _Writer(graph, part.source, target)
    taps = kernel.transpose(0, 2, 3, 1).reshape(9 * outputs, channels, 1, 1)
    stored = graph.add_constant(taps, f"{target}_taps")
    write.node("Conv", [part.source, stored])  # (N, o·row·column, h, w)
    write.shape(-1, 3, h, w)
    write.transpose(0, 2, 1, 3)  # (N·o·row, h, column, w)
    write.shape(-1, 3 * w)
    write.times(columns.reshape(wide, -1).T, "columns")  # (N·o·row·h, W)
    write.shape(-1, outputs, 3 * h, wide)
    write.times(rows.reshape(tall, -1), "rows", left=True)  # (N, o, H, W)
    return write.finish()


def _channels_last(
    graph: Graph, part: _Enlargement, kernel: NDArray[np.float32], target: str
) -> list[NodeProto]:
    outputs = len(kernel)
    (channels, h, w), (tall, wide) = part.small, part.large
    rows, columns = part.matrices()
    write = _Writer(graph, part.source, target)
    write.transpose(0, 2, 3, 1)
    write.shape(-1, 1, h * w, channels)
    taps = kernel.transpose(2, 1, 3, 0).reshape(3, channels, 3 * outputs)
    # Three products, because weights of two axes can be quantised column by column.
    write.each(list(taps), "taps", axis=1)  # (N, row, h·w, column·o)
    write.shape(-1, 3 * w, outputs)  # (N·row·h, w·column, o)
    write.times(columns.transpose(0, 2, 1).reshape(wide, -1), "columns", left=True)
    write.shape(-1, 3 * h, wide * outputs)  # (N, row·h, W·o)
    write.times(rows.reshape(tall, -1), "rows", left=True)  # (N, H, W·o)
    write.shape(-1, tall, wide, outputs)
    write.transpose(0, 3, 1, 2)
    return write.finish()
