"""Dense 3×3 convolutions by Winograd's minimal filtering (arXiv:1509.09308), written as products.

The map is cut into tiles of `m + 2` by `m + 2` pixels, which overlap by two, and

    out = A · [(G · w · Gᵀ) ⊙ (B · tile · Bᵀ)] · Aᵀ

are `m` by `m` outputs. `⊙` is a product over the channels for each of the `(m + 2)²` places of a
tile: 36 instead of 144 for `m = 4`. Neither OpenVINO nor ONNX Runtime does that on CPUs. Pixels are
gathered place by place, so that what is done to tiles and products, `kron(B, B)` and `kron(A, A)`,
is one matrix product each. A dilated convolution has the tiles of as many smaller maps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from atrous.compiler.graph.graph import Graph, attributes
from atrous.compiler.rewrites.base import Layout, Outcome
from atrous.compiler.rewrites.chain import Chain
from atrous.compiler.rewrites.winograd.algorithm import TAPS, Places, TiledAxis
from atrous.engines.layer_names import module_of

WORTH = 60
"""Multiplications that have to be saved for each number that is moved; measured on both engines."""

LARGEST_FILE = 3 << 29
"""Bytes of weights; an ONNX file holds 2 GiB, and a rewritten layer has four times its weights."""


def rewrite(graph: Graph, layout: Layout = "planar") -> Outcome:
    """Rewrite every dense 3×3 convolution of stride 1 where that saves enough arithmetic.

    Args:
        graph: changed in place; sizes have to be fixed.
        layout: how activations lie in memory: `planar` ones have to be turned for it, and back.
    """
    places, small, large = [], 0, 0
    room = LARGEST_FILE - graph.nbytes
    for conv in [node for node in graph.nodes if node.op_type == "Conv"]:
        found = _Convolution.read(graph, conv)
        if found is None:
            continue
        if not found.worth(turned=layout == "planar"):
            small += 1
        elif found.nbytes > room:
            large += 1
        else:
            room -= found.nbytes
            graph.replace(conv, found.nodes(graph))
            places.append(f"{module_of(conv)} {found}")
    graph.refresh()
    left = []
    if small:
        left.append(f"{_counted(small)} that would gain nothing by it")
    if large:
        left.append(f"{_counted(large)} whose weights would make the file too large")
    return Outcome(tuple(places), tuple(left))


def _counted(count: int) -> str:
    return f"{count} convolution{'s' * (count > 1)} of 3×3"


@dataclass(frozen=True, slots=True)
class _Convolution:
    """A convolution that can be computed so.

    Attributes:
        conv: the node.
        weight: `(O, C, 3, 3)`.
        batch: images of a batch.
        rows: how the rows are cut into tiles.
        columns: how the columns are.
    """

    conv: NodeProto
    weight: NDArray[np.float32]
    batch: int
    rows: TiledAxis
    columns: TiledAxis

    @classmethod
    def read(cls, graph: Graph, conv: NodeProto) -> _Convolution | None:
        """The convolution of a node; `None` if it is no dense 3×3 of stride 1, or of free size."""
        weight, settings = graph.constant(conv.input[1]), attributes(conv)
        if weight is None or weight.shape[2:] != (TAPS, TAPS) or weight.dtype != np.float32:
            return None
        if settings.get("group", 1) != 1 or set(settings.get("strides", (1,))) != {1}:
            return None
        source, target = graph.shape(conv.input[0]), graph.shape(conv.output[0])
        if source is None or target is None or 0 in (*source, *target):
            return None
        dilations = settings.get("dilations", (1, 1))
        match settings.get("auto_pad", "NOTSET"):
            case "NOTSET" | "":
                before = tuple(settings.get("pads", (0, 0, 0, 0))[:2])
            case "VALID":
                before = (0, 0)
            case _:  # for three taps both SAME are alike
                before = tuple(dilations)
        rows, columns = (
            TiledAxis(target[2 + at], source[2 + at], before[at], dilations[at]) for at in (0, 1)
        )
        return cls(conv, weight, source[0], rows, columns)

    def __str__(self) -> str:
        """The tiles, as the literature calls them, and the size of the map."""
        outputs = f"{self.rows.minimal.outputs}×{self.columns.minimal.outputs}"
        return f"by F({outputs}, 3×3) on {self.rows.size}×{self.columns.size}"

    @property
    def nbytes(self) -> int:
        """How many bytes larger the weights become."""
        places = self.rows.minimal.products * self.columns.minimal.products
        return self.weight.nbytes * (places - TAPS * TAPS) // (TAPS * TAPS)

    def worth(self, *, turned: bool) -> bool:
        """Whether it saves enough arithmetic.

        Args:
            turned: whether the channels have to be put last for it, and back.
        """
        rows, columns, (outputs, inputs) = self.rows, self.columns, self.weight.shape[:2]
        tiles = rows.tiles * columns.tiles
        places = rows.minimal.products * columns.minimal.products
        results = rows.minimal.outputs * columns.minimal.outputs
        # Taps on padding are no work: the engines leave them out.
        saved = outputs * inputs * (rows.direct * columns.direct - tiles * places)
        saved -= tiles * places * (inputs * places + outputs * results)
        read = rows.padded * columns.padded + 2 * tiles * places
        made = tiles * (places + 2 * results)
        if turned:
            read += rows.source * columns.source
            made += rows.size * columns.size
        return bool(saved >= WORTH * (inputs * read + outputs * made))

    def nodes(self, graph: Graph) -> list[NodeProto]:
        """The nodes that take its place."""
        rows, columns, (outputs, inputs) = self.rows, self.columns, self.weight.shape[:2]
        a, b = rows.minimal, columns.minimal
        places, results = a.products * b.products, a.outputs * b.outputs
        write = Chain(graph, self.conv.input[0], self.conv.output[0])
        ends = (0, 0, rows.before, columns.before, 0, 0, rows.after, columns.after)
        write.of("Pad", pads=np.array(ends, np.int64))
        write.transpose(0, 2, 3, 1)
        write.shape(self.batch, -1, inputs)
        write.pick(_pixels(rows.inputs, columns.inputs, columns.padded), axis=1)
        write.shape(self.batch, places, -1)
        write.times(np.kron(a.inputs, b.inputs), "tiles", left=True)
        write.shape(self.batch, places, -1, inputs)
        kernel = np.einsum("ia,ocab,jb->ijco", a.weights, self.weight, b.weights, optimize=True)
        write.times(kernel.reshape(places, inputs, outputs), self.conv.input[1])
        write.shape(self.batch, places, -1)
        write.times(np.kron(a.results, b.results), "results", left=True)
        write.shape(self.batch, -1, outputs)
        order = np.empty((rows.results, columns.results), np.int64)
        made = _pixels(rows.outputs, columns.outputs, columns.results)
        order.flat[made] = np.arange(results * rows.tiles * columns.tiles)
        write.pick(order[: rows.size, : columns.size].reshape(-1), axis=1)
        write.shape(self.batch, rows.size, columns.size, outputs)
        if bias := next((name for name in self.conv.input[2:] if name), ""):
            write.node("Add", [write.last, bias])
        write.transpose(0, 3, 1, 2)
        return write.finish()


def _pixels(rows: Places, columns: Places, width: int) -> Places:
    """`(places of a tile · tiles,)`: the pixel of each, row by row of a map of this width."""
    return (rows[:, None, :, None] * width + columns[None, :, None, :]).reshape(-1)
