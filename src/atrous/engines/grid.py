"""How the grid of the scores may lie on the picture, as far as their sizes say it."""

from __future__ import annotations

from atrous.engines.class_axis import ELEMENTWISE
from atrous.engines.onnx_graph import Dims, OnnxGraph, attributes

_MOVING = (*ELEMENTWISE, "BatchNormalization", "Transpose", "Squeeze", "Unsqueeze", "ArgMax")


def times(dims: Dims) -> str:
    """A shape for people, as 24×40."""
    return "×".join(str(size or "?") for size in dims)


def lies_on(grid: Dims, size: Dims) -> bool:
    """Whether a grid may lie on a picture, at one stride for both axes, as far as sizes are known.

    A side that is fixed while that of the picture is free does not lie on it.
    """
    if any(s is None and g is not None for g, s in zip(grid, size, strict=True)):
        return False
    known = [(g, s) for g, s in zip(grid, size, strict=True) if g is not None and s is not None]
    if len(known) < 2:
        return True
    (rows, height), (columns, width) = known
    if height == width:
        return rows == columns
    least = max(height / (rows + 1), width / (columns + 1))
    most = min(height / max(rows - 1, 0.5), width / max(columns - 1, 0.5))
    return least <= most


def note(grid: Dims, size: Dims) -> str:
    """What is to be said of a grid at no whole stride, empty if there is nothing.

    Args:
        grid: height and width of the scores, `None` where they are free.
        size: likewise of the picture.
    """
    known = [(g, s) for g, s in zip(grid, size, strict=True) if g and s]
    if all(_is_whole(g, s) for g, s in known):
        return ""
    return (
        f"its scores are {times(grid)} for a picture of {times(size)}, which is at no whole "
        "stride: taken to cover all of it; where the network crops or pads it, masks are displaced"
    )


def _is_whole(side: int, picture: int) -> bool:
    """Whether a side is a whole fraction of the picture's, or a multiple, give or take one."""
    if side > picture:
        return abs(side - round(side / picture) * picture) <= 1
    strides = (picture // side, picture // side + 1)
    return any(abs(side - picture / stride) <= 1 for stride in strides)


def crops(graph: OnnxGraph, tensor: str) -> bool:
    """Whether the last convolution that sees neighbours leaves out the border, as that of the
    original U-Net does."""
    while (node := graph.maker(tensor)) is not None:
        if node.op_type == "Conv":
            own, weight = attributes(node), graph.dims(node.input[1]) or ()
            kernel = own.get("kernel_shape", weight[2:])
            if any(side and side > 1 for side in kernel):
                before = graph.maker(node.input[0])
                padded = any(own.get("pads", ())) or own.get("auto_pad", "").startswith("SAME")
                return not padded and (before is None or before.op_type != "Pad")
        elif node.op_type not in _MOVING or node.op_type in ("Resize", "Pad"):
            return False
        tensor = node.input[0]
    return False
