"""Whether a map that a network gives has its rows where those of the picture are."""

from __future__ import annotations

from onnx import NodeProto

from atrous.engines.class_axis import ELEMENTWISE, SPATIAL, rank_of
from atrous.engines.image_input import ImageInput
from atrous.engines.onnx_graph import OnnxGraph, attributes
from atrous.errors import ArtifactError

_KEEPING = (
    *SPATIAL, *ELEMENTWISE, "ArgMax", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Where",
    "Not", "Round", "Abs", "Pow", "Sqrt", "Erf", "Gelu", "Mish", "Softplus", "Selu", "Sum",
    "LayerNormalization", "GroupNormalization", "LpNormalization", "LRN",
)  # fmt: skip
"""Operators that leave the order of the axes as it is."""

_LAST = ((0, 2, 3, 1), (0, 3, 1, 2))
"""Between classes first and classes last."""


def check(graph: OnnxGraph, output: str, image: ImageInput, name: str) -> None:
    """Raise `ArtifactError` for a map whose rows are the columns of the picture.

    Sizes show that of pictures that are not square alone.

    Args:
        graph: of the network.
        output: of it.
        image: its input.
        name: of the network, in messages.
    """
    axes, tensor, before = [*range(rank_of(graph, output) or 0)], output, ""
    while tensor != image.name:
        node = graph.maker(tensor)
        inner = None if node is None else _axes_before(graph, node, axes)
        if node is None or inner is None:
            return
        computed = [one for one in node.input if one == image.name or _is_computed(graph, one)]
        if not computed:
            return
        axes, tensor = inner, computed[0]
        if node.op_type == "Transpose" and tuple(attributes(node)["perm"]) not in _LAST:
            before = before or tensor
    rows = (not image.alone) + (not image.last)
    if {rows, rows + 1} <= {*axes} and axes.index(rows) > axes.index(rows + 1):
        raise ArtifactError(
            f"{name}: its output {output} has rows and columns exchanged, by a Transpose; export "
            f"the network with scores (N, C, h, w), or `output_name` {before} takes what is before"
        )


def _is_computed(graph: OnnxGraph, tensor: str) -> bool:
    maker = graph.maker(tensor)
    return maker is not None and maker.op_type != "Constant"


def _axes_before(graph: OnnxGraph, node: NodeProto, axes: list[int]) -> list[int] | None:
    """The axes of a node's input that those of its output are, `None` where that is not known."""
    own = attributes(node)
    if node.op_type == "Transpose":
        return [own["perm"][axis] for axis in axes] if "perm" in own else None
    if node.op_type in ("Squeeze", "Unsqueeze"):
        given = graph.constant(node.input[1]) if len(node.input) > 1 else None
        changed = own.get("axes", []) if given is None else given.reshape(-1).tolist()
    elif node.op_type in _KEEPING:
        changed = [] if own.get("keepdims", 1) else [own.get("axis", 0)]
    else:
        return None
    more = node.op_type == "Unsqueeze"
    rank = rank_of(graph, node.output[0] if more else node.input[0])
    if not changed:
        return None if node.op_type.endswith("queeze") else axes
    if rank is None:
        return None
    kept = [axis for axis in range(rank) if axis not in {one % rank for one in changed}]
    return [kept.index(axis) for axis in axes if axis in kept] if more else [kept[a] for a in axes]
