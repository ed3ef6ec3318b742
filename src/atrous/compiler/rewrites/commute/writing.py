"""The nodes that compute a term from a smaller map."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from atrous.compiler.graph.graph import Graph, attributes
from atrous.compiler.rewrites.chain import Chain
from atrous.compiler.rewrites.commute.enlargement import Enlargement
from atrous.compiler.rewrites.commute.phases import Taps, phases
from atrous.compiler.rewrites.commute.terms import Kernel, Term

INTERPOLATION = ("_rows", "_columns")
"""How the names of the interpolation matrices in a rewritten graph end."""


def write(graph: Graph, term: Term, target: str, bias: str = "", *, weight: str) -> list[NodeProto]:
    """The nodes that make `target` of a term.

    Args:
        graph: gets the constants.
        term: computed from a smaller map, or with layers folded into it.
        target: what the sum of products is called.
        bias: a tensor `(O,)` to add, only to a kernel of one tap.
        weight: how the names of the new weights begin. Layers are known by these.
    """
    found = term.enlargement
    if found is None:
        pads = [term.taps // 2] * 4
        return [_conv(graph, term, target, bias, weight, pads=pads)]
    if term.taps == 1:
        small = graph.free_name(f"{target}_small")
        products = _conv(graph, term, small, bias, weight)
        return [products, *_enlarged(graph, term, found, small, target)]
    if found.factors is not None:
        return _phases(graph, term, found.factors, target, weight)
    if term.layout == "planar" or term.group > 1:
        return _planar(graph, term, found, target, weight)
    return _channels_last(graph, term, found, target, weight)


def _conv(graph: Graph, term: Term, target: str, bias: str, weight: str, **how: Any) -> NodeProto:
    stored = graph.add_constant(term.kernel.astype(np.float32), weight)
    extra: dict[str, Any] = {"group": term.group} if term.group > 1 else {}
    inputs = [term.source, stored, *([bias] if bias else [])]
    return helper.make_node("Conv", inputs, [target], **extra, **how)


def _enlarged(
    graph: Graph, term: Term, found: Enlargement, source: str, target: str
) -> list[NodeProto]:
    """The products of a term, enlarged as the map that they were made from was to be."""
    if term.matrices:
        rows, columns = found.matrices(1)
        write = Chain(graph, source, target)
        write.times(columns[:, 0].T, "columns")  # (N, o, h, W)
        write.times(rows[:, 0], "rows", left=True)  # (N, o, H, W)
        return write.finish()
    batch = (graph.shape(found.source) or (1,))[0]
    sizes = np.array([batch, len(term.kernel), *found.large], np.int64)
    stored = graph.add_constant(sizes, f"{target}_sizes")
    how = attributes(found.node)
    kept = ("mode", "coordinate_transformation_mode", "nearest_mode")
    settings = {name: how[name] for name in kept if name in how}
    return [helper.make_node("Resize", [source, "", "", stored], [target], **settings)]


def _planar(
    graph: Graph, term: Term, found: Enlargement, target: str, weight: str
) -> list[NodeProto]:
    outputs, k = len(term.kernel), term.taps
    (h, w), (tall, wide) = found.small, found.large
    rows, columns = found.matrices(k)
    write = Chain(graph, term.source, target)
    taps = term.kernel.transpose(0, 2, 3, 1).reshape(k * k * outputs, -1, 1, 1)
    inputs = [term.source, graph.add_constant(taps.astype(np.float32), weight)]
    if term.bias.any():
        bias = term.bias.reshape(-1).astype(np.float32)
        inputs.append(graph.add_constant(bias, f"{target}_taps_bias"))
    conv = write.node("Conv", inputs)  # (N, o·row·column, h, w)
    if term.group > 1:
        conv.attribute.append(helper.make_attribute("group", term.group))
    write.shape(-1, k, h, w)
    write.transpose(0, 2, 1, 3)  # (N·o·row, h, column, w)
    write.shape(-1, k * w)
    write.times(columns.reshape(wide, -1).T, "columns")  # (N·o·row·h, W)
    write.shape(-1, outputs, k * h, wide)
    write.times(rows.reshape(tall, -1), "rows", left=True)  # (N, o, H, W)
    return write.finish()


def _channels_last(
    graph: Graph, term: Term, found: Enlargement, target: str, weight: str
) -> list[NodeProto]:
    outputs, channels, k = *term.kernel.shape[:2], term.taps
    (h, w), (tall, wide) = found.small, found.large
    rows, columns = found.matrices(k)
    write = Chain(graph, term.source, target)
    write.transpose(0, 2, 3, 1)
    write.shape(-1, 1, h * w, channels)
    taps = term.kernel.transpose(2, 1, 3, 0).reshape(k, channels, k * outputs)
    # One product a row, because weights of two axes can be quantised column by column.
    write.each(list(taps), weight, axis=1)  # (N, row, h·w, column·o)
    write.plus(term.bias.transpose(1, 2, 0).reshape(1, k, 1, k * outputs), "taps_bias")
    write.shape(-1, k * w, outputs)  # (N·row·h, w·column, o)
    write.times(columns.transpose(0, 2, 1).reshape(wide, -1), "columns", left=True)
    write.shape(-1, k * h, wide * outputs)  # (N, row·h, W·o)
    write.times(rows.reshape(tall, -1), "rows", left=True)  # (N, H, W·o)
    write.shape(-1, tall, wide, outputs)
    write.transpose(0, 3, 1, 2)
    return write.finish()


def _phases(
    graph: Graph, term: Term, factors: tuple[int, int], target: str, weight: str
) -> list[NodeProto]:
    outputs, places = len(term.kernel), []
    nodes = []
    for number, phase in enumerate(phases(factors)):
        kernel = _summed(_summed(term.kernel, 2, phase.rows), 3, phase.columns)
        part = replace(term, kernel=kernel)
        place = graph.free_name(f"{target}_place{number}")
        (top, bottom), (left, right) = _pads(phase.rows), _pads(phase.columns)
        pads = [top, left, bottom, right]
        nodes.append(_conv(graph, part, place, "", f"{weight}_place{number}", pads=pads))
        places.append(place)
    together = graph.free_name(f"{target}_places")
    nodes.append(helper.make_node("Concat", places, [together], axis=1))
    if factors[0] == factors[1]:  # (N, row·column·o, h, w)
        space = helper.make_node("DepthToSpace", [together], [target], blocksize=factors[0])
        return [*nodes, space]
    assert term.enlargement is not None
    (h, w), (tall, wide) = term.enlargement.small, term.enlargement.large
    write = Chain(graph, together, target)
    write.shape(-1, *factors, outputs, h, w)
    write.transpose(0, 3, 4, 1, 5, 2)
    write.shape(-1, outputs, tall, wide)
    return [*nodes, *write.finish()]


def _summed(kernel: Kernel, axis: int, taps: Taps) -> Kernel:
    """The kernel with the weights of taps added that fall on the same pixel."""
    columns = [kernel.take(which, axis).sum(axis) for _, which in taps]
    return np.stack(columns, axis)


def _pads(taps: Taps) -> tuple[int, int]:
    return -taps[0][0], taps[-1][0]
