"""Convolve before enlarging instead of after: most of the work of many segmentation heads.

The decoder of DeepLabV3+ computes `conv3x3(concat(low, enlarge(high)))` on a grid 16 times as large
as that of `high` (arXiv:1802.02611); the heads of UPerNet, PSPNet, SegFormer and HRNet do likewise.
Split by input channel, the convolution is a sum. Mixing channels commutes with enlarging, so that a
1×1 convolution of an enlarged map is the enlarged 1×1 convolution, and of a 3×3 one the share over
`enlarge(high)` is a sum over the nine taps of `shift(enlarge(W_tap · high))`. The nine products
`W_tap · high` are made on the small grid; shifting, filling with zeros at the border and enlarging
bilinearly are one linear map that is separable:

    out[o] = Σ_tap  A_row(tap) · (W_tap · high)[o] · B_column(tap)ᵀ

with `A` and `B` interpolation matrices whose rows are shifted by one tap and are zero where the
tap falls outside. The sums over taps become part of two matrix products, with `A = [A_0 A_1 A_2]`.
Where pixels are repeated instead, as in many a U-Net, see `phases.py`. Layers before the
enlargement that only mix channels become part of the products (`channels.py`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import NodeProto, helper

from atrous.compiler.graph.graph import Graph, attributes
from atrous.compiler.rewrites.base import Layout, Outcome
from atrous.compiler.rewrites.commute.enlargement import area
from atrous.compiler.rewrites.commute.terms import Kernel, Part, Term, joined, parts
from atrous.compiler.rewrites.commute.writing import write
from atrous.engines.layer_names import module_of

TOO_LITTLE = "enlarges too little to save arithmetic"


def rewrite(graph: Graph, layout: Layout = "planar") -> Outcome:
    """Rewrite every 1×1 or 3×3 convolution over enlarged maps where that takes less arithmetic.

    Args:
        graph: changed in place.
        layout: `planar` makes the products of 3×3 convolutions with a 1×1 convolution, and enlarges
            planes by matrix products; `channels-last` makes them with matrix products whose last
            axis is the channel, which engines that keep activations so need not reorder.
    """
    places, left = [], []
    for conv in [node for node in graph.nodes if node.op_type == "Conv"]:
        names = joined(graph, conv.input[0])
        weight = graph.constant(conv.input[1])
        reason = _unfit(graph, conv, names)
        if reason:
            if any(_resized(graph, name) for name in names):
                left.append(f"{module_of(conv)}: {reason}")
            continue
        assert weight is not None
        found = _parts(graph, conv, names, weight, layout)
        enlarged = [part for part in found if part.reasons or _moves(part.ways)]
        if not enlarged:
            continue
        if not any(part.best is not None and _moves([part.best]) for part in found):
            reasons = [reason for part in enlarged for reason in part.reasons or [TOO_LITTLE]]
            left.append(f"{module_of(conv)}: {', '.join(reasons)}")
            continue
        graph.replace(conv, _Rewritten(graph, conv, found).nodes)
        places.append(f"{module_of(conv)} {_described(found)}")
        graph.refresh()
    return Outcome(tuple(places), tuple(left))


def _unfit(graph: Graph, conv: NodeProto, names: list[str]) -> str:
    """Why a convolution cannot be rewritten, empty if it can."""
    weight = graph.constant(conv.input[1])
    if weight is None:
        return "its weights are not constant"
    if weight.dtype != np.float32:
        return f"its weights are {weight.dtype}"
    settings = attributes(conv)
    kernel = "×".join(map(str, weight.shape[2:]))
    padding = settings.get("auto_pad", "NOTSET")
    if padding in ("NOTSET", ""):
        same = settings.get("pads", [0] * 4) == [len(weight[0, 0]) // 2] * 4
    else:
        same = padding in ("SAME_UPPER", "SAME_LOWER") or weight.shape[2:] == (1, 1)
    plain = all(s == 1 for name in ("strides", "dilations") for s in settings.get(name, [1]))
    known = weight.shape[2:] in ((1, 1), (3, 3))
    if not known or not same or not plain:
        return (
            f"needs a 1×1 or 3×3 convolution of stride 1 that keeps the size, found {kernel}"
            + " of another kind" * known
        )
    sizes = [graph.shape(name) for name in (*names, conv.output[0])]
    if any(size is None or len(size) != 4 for size in sizes):
        return "its sizes are not fixed"
    channels = [size[1] for size in sizes[:-1] if size is not None]
    if settings.get("group", 1) > 1 and any(count % weight.shape[1] for count in channels):
        return "its groups reach over several maps"
    return ""


def _resized(graph: Graph, name: str) -> bool:
    maker = graph.maker(name)
    return maker is not None and maker.op_type == "Resize"


def _parts(
    graph: Graph, conv: NodeProto, names: list[str], weight: Kernel, layout: Layout
) -> list[Part]:
    """What the convolution reads, each with its share of the weights."""
    channels = [(graph.shape(name) or ())[1] for name in names]
    group = attributes(conv).get("group", 1)
    kernel = weight.astype(np.float64)
    if group == 1:
        kernels = np.split(kernel, np.cumsum(channels)[:-1], axis=1)
    else:  # each map has outputs of its own
        outputs = np.cumsum(
            [count // weight.shape[1] * (len(weight) // group) for count in channels]
        )
        kernels = np.split(kernel, outputs[:-1])
    shape = graph.shape(conv.output[0]) or ()
    return parts(graph, names, kernels, area((shape[2], shape[3])), layout)


def _moves(ways: list[list[Term]]) -> bool:
    """Whether a term is computed on a smaller map."""
    return any(term.enlargement is not None for way in ways for term in way)


def _described(found: list[Part]) -> str:
    terms = [term for part in found for term in part.best or []]
    grids = [term.enlargement.grid for term in terms if term.enlargement is not None]
    folded = sum(term.folded for term in terms)
    more = f", with {folded} layer{'s' * (folded > 1)} before it" if folded else ""
    return f"over maps of {', '.join(grids)}{more}"


class _Rewritten:
    """The nodes that take the place of a convolution.

    Args:
        graph: gets their constants.
        conv: the convolution.
        found: what it reads.

    Attributes:
        nodes: they make what `conv` makes.
    """

    def __init__(self, graph: Graph, conv: NodeProto, found: list[Part]) -> None:
        self.nodes: list[NodeProto] = []
        self._graph = graph
        self._output, self._weight = conv.output[0], conv.input[1]
        self._bias = next((name for name in conv.input[2:] if name), "")
        if attributes(conv).get("group", 1) == 1:
            self._sum(found)
        else:
            self._apart(found)

    def _sum(self, found: list[Part]) -> None:
        """One term after the other, added."""
        plain = [part for part in found if part.best is None]
        terms = [(at, term) for at, part in enumerate(found) for term in part.best or []]
        self._constant(sum(term.bias for _, term in terms if term.taps == 1))
        alone = len(terms) + bool(plain) == 1 and (terms[0][1].taps == 1 or not self._bias)
        sums = []
        if plain:
            sums.append(self._plain(plain))
        for at, term in terms:
            target = self._output if alone else self._graph.free_name(f"{self._output}_coarse{at}")
            bias = self._take_bias() if term.taps == 1 or term.enlargement is None else ""
            weight = f"{self._weight}_coarse{at}"
            self.nodes += write(self._graph, term, target, bias, weight=weight)
            sums.append(target)
        if self._bias:
            sums.append(self._column(self._take_bias()))
        while len(sums) > 1:
            total = self._output
            if len(sums) > 2:
                total = self._graph.free_name(f"{self._output}_sum{len(sums)}")
            self.nodes.append(helper.make_node("Add", [sums.pop(0), sums.pop(0)], [total]))
            sums.insert(0, total)

    def _apart(self, found: list[Part]) -> None:
        """Groups of channels: every map has outputs of its own, side by side."""
        made = []
        for at, part in enumerate(found):
            terms = part.best or [part.plain]
            for term in terms:
                target = self._graph.free_name(f"{self._output}_group{at}")
                weight = f"{self._weight}_group{at}"
                self.nodes += write(self._graph, term, target, weight=weight)
                made.append(target)
        joint = self._graph.free_name(f"{self._output}_groups") if self._bias else self._output
        self.nodes.append(helper.make_node("Concat", made, [joint], axis=1))
        if self._bias:
            column = self._column(self._take_bias())
            self.nodes.append(helper.make_node("Add", [joint, column], [self._output]))

    def _plain(self, plain: list[Part]) -> str:
        """The convolution of the maps that stay as they are."""
        source = plain[0].name
        if len(plain) > 1:
            source = self._graph.free_name(f"{self._output}_fine_concat")
            names = [part.name for part in plain]
            self.nodes.append(helper.make_node("Concat", names, [source], axis=1))
        kernel = np.concatenate([part.plain.kernel for part in plain], axis=1)
        fine = self._graph.free_name(f"{self._output}_fine")
        term = replace(plain[0].plain, source=source, kernel=kernel)
        weight = f"{self._weight}_fine"
        self.nodes += write(self._graph, term, fine, self._take_bias(), weight=weight)
        return fine

    def _constant(self, extra: Kernel | int) -> None:
        """Add to the bias what folded layers bring."""
        values = np.asarray(extra).reshape(-1).astype(np.float32)
        if not values.any():
            return
        stored = self._graph.add_constant(values, f"{self._output}_bias")
        own = self._graph.constant(self._bias) if self._bias else np.zeros(1, np.float32)
        if own is not None:
            self._bias = self._graph.add_constant(values + own, f"{self._output}_bias")
            return
        total = self._graph.free_name(f"{self._output}_bias_sum")
        self.nodes.append(helper.make_node("Add", [self._bias, stored], [total]))
        self._bias = total

    def _take_bias(self) -> str:
        bias, self._bias = self._bias, ""
        return bias

    def _column(self, bias: str) -> str:
        column = self._graph.free_name(f"{bias}_column")
        shape = self._graph.add_constant(np.array([-1, 1, 1]), f"{column}_shape")
        self.nodes.append(helper.make_node("Reshape", [bias, shape], [column]))
        return column
