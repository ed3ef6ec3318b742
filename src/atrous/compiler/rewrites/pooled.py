"""The pooled branch of an ASPP is constant over the map: add it as one vector per image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from atrous.compiler.graph.graph import Graph, attributes
from atrous.compiler.rewrites.base import Layout, Outcome
from atrous.engines.layer_names import module_of


def rewrite(graph: Graph, layout: Layout = "planar") -> Outcome:
    """Take a 1×1 map that is enlarged into a `Concat` out of it.

    The projection after the `Concat` is linear and 1×1, so that its share of a branch that is the
    same everywhere (arXiv:1706.05587, section 3.3) is the same everywhere too: the projection of
    the 1×1 map, added to the rest.
    """
    places, left = [], []
    for conv in [node for node in graph.nodes if node.op_type == "Conv"]:
        concat = graph.maker(conv.input[0])
        if concat is None or concat.op_type != "Concat":
            continue
        if attributes(concat)["axis"] not in (1, -3):
            continue
        sources = [_single_pixel(graph, name) for name in concat.input]
        if not any(sources):
            continue
        weight = graph.constant(conv.input[1])
        sizes = [graph.shape(name) for name in concat.input]
        if weight is None or any(size is None or len(size) != 4 for size in sizes):
            left.append(f"{module_of(conv)}: its weights or sizes are not known")
            continue
        channels = [size[1] for size in sizes if size]
        settings = attributes(conv)
        moves = any(settings.get("pads", ())) or set(settings.get("strides", (1,))) != {1}
        if weight.shape[1:] != (sum(channels), 1, 1) or moves:
            left.append(
                f"{module_of(conv)}: the convolution after the pooled branch is not a plain 1×1"
            )
            continue
        if all(sources):
            left.append(f"{module_of(conv)}: nothing but pooled branches")
            continue
        graph.replace(conv, _split(graph, conv, concat, sources, weight, channels))
        places.append(module_of(conv))
        graph.refresh()
    return Outcome(tuple(places), tuple(left))


def _single_pixel(graph: Graph, name: str) -> str:
    """The `(N, C, 1, 1)` map that `name` repeats, empty if it repeats none."""
    maker = graph.maker(name)
    if maker is None or maker.op_type not in ("Resize", "Upsample", "Expand", "Tile"):
        return ""
    if attributes(maker).get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return ""  # may fill in another value
    source, target = graph.shape(maker.input[0]), graph.shape(name)
    if source is None or target is None or len(source) != 4 or source[2:] != (1, 1):
        return ""
    return maker.input[0] if source[:2] == target[:2] and target[2:] != (1, 1) else ""


def _split(
    graph: Graph,
    conv: NodeProto,
    concat: NodeProto,
    sources: list[str],
    weight: NDArray[np.float32],
    channels: list[int],
) -> list[NodeProto]:
    parts = np.split(weight, np.cumsum(channels)[:-1], axis=1)
    wide = [at for at, source in enumerate(sources) if not source]
    pooled = [at for at, source in enumerate(sources) if source]
    name = conv.output[0]
    nodes = []

    def joined(which: list[int], names: list[str], role: str) -> tuple[str, str]:
        kernel = np.concatenate([parts[at] for at in which], axis=1)
        stored = graph.add_constant(kernel, f"{conv.input[1]}_{role}")
        if len(which) == 1:
            return names[which[0]], stored
        output = graph.free_name(f"{name}_{role}_concat")
        nodes.append(helper.make_node("Concat", [names[at] for at in which], [output], axis=1))
        return output, stored

    vector, main = graph.free_name(f"{name}_pooled"), graph.free_name(f"{name}_wide")
    nodes.append(
        helper.make_node("Conv", [*joined(pooled, sources, "pooled"), *conv.input[2:]], [vector])
    )
    wide_inputs = joined(wide, list(concat.input), "wide")
    nodes.append(helper.make_node("Conv", list(wide_inputs), [main]))
    nodes.append(helper.make_node("Add", [main, vector], [name]))
    return nodes
