"""What a convolution reads, taken apart: terms that may be computed on smaller maps.

A convolution over a concatenation is a sum of one term per map, over a sum one per addend. Each
term may be computed from the map itself, or from what that was made of, as long as only
enlargements and layers that mix channels lie between; the ways differ in arithmetic alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from atrous.compiler.graph.graph import Graph, attributes
from atrous.compiler.rewrites.base import Layout
from atrous.compiler.rewrites.commute.channels import channel_mix
from atrous.compiler.rewrites.commute.enlargement import Enlargement, area, enlargement
from atrous.compiler.rewrites.commute.phases import phases

Kernel = NDArray[np.float64]

RESIZED: dict[Layout, int] = {"planar": 48, "channels-last": 4}
"""What one value of a map costs that a `Resize` enlarges, in multiply-accumulates."""


@dataclass(frozen=True, slots=True)
class Term:
    """One way to compute a term of a convolution.

    Attributes:
        source: the map that it is computed from.
        kernel: `(O, D / group, k, k)` over `source`.
        bias: `(O, k, k)`: what each tap adds where it falls on the map.
        group: of the channels.
        pixels: of the map that the convolution makes.
        layout: of the engine.
        enlargement: done after the products, `None` where `source` is of that size.
        matrices: it is done by matrix products, as with taps it always is.
        saved: multiply-accumulates that other layers no longer do.
        folded: layers that are part of the kernel now.
    """

    source: str
    kernel: Kernel
    bias: Kernel
    group: int
    pixels: int
    layout: Layout
    enlargement: Enlargement | None = None
    matrices: bool = False
    saved: int = 0
    folded: int = 0

    @property
    def taps(self) -> int:
        """Of either side of the kernel."""
        return int(self.kernel.shape[2])

    @property
    def macs(self) -> int:
        """Multiply-accumulates, less what is saved."""
        found, outputs = self.enlargement, len(self.kernel)
        if found is None:
            return self.kernel.size * self.pixels - self.saved
        if found.factors is not None and self.taps > 1:
            shares = [len(one.rows) * len(one.columns) for one in phases(found.factors)]
            return self.kernel[:, :, 0, 0].size * area(found.small) * sum(shares) - self.saved
        products = self.kernel.size * area(found.small)
        if self.taps == 1 and not self.matrices:
            return products - self.saved
        (h, w), (tall, wide), k = found.small, found.large, self.taps
        return products + outputs * (k * h * wide * k * w + tall * wide * k * h) - self.saved

    @property
    def cost(self) -> int:
        """`macs`, and what the values of an enlarged map cost."""
        resized = self.enlargement is not None and self.taps == 1 and not self.matrices
        return self.macs + RESIZED[self.layout] * len(self.kernel) * self.pixels * resized

    @property
    def exact(self) -> bool:
        """Whether it is what it should be at the border too, where taps fall on zeros."""
        spread = self.enlargement is not None and self.enlargement.factors is None
        return self.taps == 1 or spread or not self.bias.any()


@dataclass(slots=True)
class Part:
    """A map of a concatenation that a convolution reads.

    Attributes:
        name: the map.
        plain: its term, as the convolution has it.
        ways: other ways to the same term; each is a sum of terms.
        reasons: why an enlargement is none of them.
    """

    name: str
    plain: Term
    ways: list[list[Term]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def best(self) -> list[Term] | None:
        """The cheapest way that saves arithmetic, `None` where none does."""
        saving = [way for way in self.ways if sum(one.macs for one in way) < self.plain.macs]
        best = min(saving, key=_cost, default=None)
        # What it costs to enlarge the map as it is lies in neither: more of it must pay off.
        return best if best is not None and _cost(best) < self.plain.cost + _resize(best) else None


def parts(
    graph: Graph, names: list[str], kernels: list[Kernel], pixels: int, layout: Layout
) -> list[Part]:
    """What a convolution reads, map by map, with every way to compute each.

    Args:
        graph: only looked at.
        names: of the maps, which it reads as if they were one.
        kernels: of each, `(O, C / group, k, k)`.
        pixels: of the map that it makes.
        layout: of the engine.
    """
    found = []
    for name, kernel in zip(names, kernels, strict=True):
        shape = graph.shape(name) or ()
        group = shape[1] // kernel.shape[1]
        bias = np.zeros((len(kernel), *kernel.shape[2:]))
        part = Part(name, Term(name, kernel, bias, group, pixels, layout))
        part.ways = [[term] for term in _back(graph, part.plain, part.reasons)]
        addends = _addends(graph, name)
        if addends:
            starts = [replace(part.plain, source=addend) for addend in addends]
            every = [[one, *_back(graph, one, part.reasons)] for one in starts]
            part.ways.append([min(ways, key=lambda term: term.cost) for ways in every])
        found.append(part)
    return found


def joined(graph: Graph, name: str) -> list[str]:
    """The maps that a concatenation of channels joins, or the map itself."""
    node = graph.maker(name)
    if node is None or node.op_type != "Concat" or attributes(node)["axis"] not in (1, -3):
        return [name]
    return [part for source in node.input for part in joined(graph, source)]


def _back(graph: Graph, term: Term, reasons: list[str]) -> Iterator[Term]:
    """The term computed from further and further back."""
    alone = True
    while True:
        node = graph.maker(term.source)
        alone = alone and node is not None and graph.only_reader(term.source) is not None
        if node is not None and node.op_type == "Resize" and term.enlargement is None:
            one = enlargement(graph, node)
            if isinstance(one, str):
                reasons.append(one)
                return
            same = one.small == one.large
            term = replace(term, source=one.source, enlargement=None if same else one)
        elif term.group == 1 and (mix := channel_mix(graph, term.source)) is not None:
            alone = alone and mix.dies(graph)
            term = replace(
                term,
                source=mix.source,
                kernel=np.einsum("ocyx,cd->odyx", term.kernel, mix.matrix, optimize=True),
                bias=term.bias + np.einsum("ocyx,c->oyx", term.kernel, mix.bias, optimize=True),
                saved=term.saved + (mix.macs(graph) if alone else 0),
                folded=term.folded + 1,
            )
        else:
            return
        if term.exact:
            yield term
            found = term.enlargement
            bilinear = found is not None and found.factors is None
            if bilinear and term.taps == 1 and term.layout == "planar":
                yield replace(term, matrices=True)


def _addends(graph: Graph, name: str) -> list[str]:
    """The maps that a sum adds, if nothing else reads it; empty where it is none."""
    node = graph.maker(name)
    if node is None or node.op_type != "Add" or graph.only_reader(name) is None:
        return []
    if any(graph.shape(source) != graph.shape(name) for source in node.input):
        return []
    return [one for source in node.input for one in _addends(graph, source) or [source]]


def _cost(way: list[Term]) -> int:
    return sum(term.cost for term in way)


def _resize(way: list[Term]) -> int:
    """What it costs to enlarge the maps that a way no longer enlarges."""
    return sum(
        RESIZED[term.layout] * term.kernel.shape[1] * term.group * term.pixels
        for term in way
        if term.enlargement is not None
    )
