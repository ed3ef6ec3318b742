"""Take pixels as they are decoded, uint8 RGB, and normalise them inside the graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from atrous.compiler.graph.graph import Graph, attributes
from atrous.compiler.rewrites.base import Outcome
from atrous.errors import ArtifactError
from atrous.preprocess import Preprocess

Triple = NDArray[np.float64]


def take_uint8(graph: Graph, preprocess: Preprocess) -> tuple[Preprocess, Outcome]:
    """Make the input uint8 `(N, 3, H, W)`, a quarter of the bytes of a float32 one.

    Subtracts the value that normalises to zero, so that zero padding stays right, and folds the
    scale into the first convolution where nothing else reads the input.

    Args:
        graph: with one float32 input `(N, 3, H, W)`; changed in place.
        preprocess: how that input is made today.

    Returns:
        The preprocessing of the new input. It pads with whole numbers, so that a padded image may
        see a mean that is off by half a grey level.

    Raises:
        ArtifactError: the input is not read by any node, or its size is not fixed.
    """
    [name] = graph.inputs
    readers, shape = graph.readers(name), graph.shape(name)
    if not readers or shape is None:
        raise ArtifactError(f"{name}: expected an input of fixed size that is read, found {shape}")
    zero, scale = _affine(preprocess)
    pixels, centred = graph.free_name(f"{name}_pixels"), graph.free_name(f"{name}_centred")
    column = (1, 3, 1, 1)
    nodes = [helper.make_node("Cast", [name], [pixels], to=TensorProto.FLOAT)]
    if zero.any():
        stored = graph.add_constant(zero.astype(np.float32).reshape(column), f"{name}_zero")
        nodes.append(helper.make_node("Sub", [pixels, stored], [centred]))
    last = nodes[-1].output[0]
    weight = graph.constant(readers[0].input[1]) if _is_first(readers) else None
    if weight is not None:
        kernel = (weight * scale.reshape(column)).astype(weight.dtype)
        readers[0].input[1] = graph.add_constant(kernel, f"{readers[0].input[1]}_scaled")
        place = "scale folded into the first convolution"
    else:
        factor = graph.add_constant(scale.astype(np.float32).reshape(column), f"{name}_scale")
        normalised = graph.free_name(f"{name}_normalised")
        nodes.append(helper.make_node("Mul", [last, factor], [normalised]))
        last, place = normalised, "normalised by a node of its own"
    graph.redirect(name, last)
    graph.nodes = [*nodes, *graph.nodes]
    graph.set_input(name, TensorProto.UINT8, shape)
    graph.refresh()
    padding = tuple(float(min(max(round(value), 0), 255)) for value in preprocess.padding_value)
    taken = {"normalisation": "none", "mean": (0.0,) * 3, "std": (1.0,) * 3, "padding": padding}
    return preprocess.model_copy(update=taken), Outcome((f"{name} as uint8, {place}",))


def _affine(preprocess: Preprocess) -> tuple[Triple, Triple]:
    """`(3,)` value that normalises to zero, and `(3,)` factor, per channel of the tensor."""
    mean, std = np.array(preprocess.mean), np.array(preprocess.std)
    match preprocess.normalisation:
        case "div255-mean-std":
            return 255 * mean, 1 / (255 * std)
        case "mean-std":
            return mean, 1 / std
        case "div255":
            return np.zeros(3), np.full(3, 1 / 255)
        case "div127.5-minus-one":
            return np.full(3, 127.5), np.full(3, 1 / 127.5)
        case "none":
            return np.zeros(3), np.ones(3)


def _is_first(readers: list[NodeProto]) -> bool:
    """Whether one dense convolution alone reads the input."""
    return (
        len(readers) == 1
        and readers[0].op_type == "Conv"
        and attributes(readers[0]).get("group", 1) == 1
    )
