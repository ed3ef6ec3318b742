"""Round the weights of a layer together, so that what it computes changes least.

To the nearest step no weight errs by more than half of one, but a layer adds up thousands of
products, and where inputs rise and fall together so do the errors. GPTQ (arXiv:2210.17323) rounds
the weights of one input after the other and makes up for the error of each with those that are
still to come, as far as the second moments of the inputs say that they can.

It matters most to a network that was trained on from weights of 8 bits: nearly all of what that
taught it is less than half a step, and to the nearest step all of it is lost.

The largest weight of each scale stays the largest, so that whoever finds the scale from the result
finds the same. An output that errs more on images that it was not rounded for gets the nearest
steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from atrous.compiler.form import Form
from atrous.compiler.graph.graph import Graph, attributes, showing
from atrous.compiler.int8 import qdq
from atrous.compiler.int8.qdq import ConvLayer
from atrous.compiler.progress import Tell, counted
from atrous.engines.session import open_session

HELD_OUT = 4
"""One in so many images is not rounded for, but judged by."""

POSITIONS = 1000
"""Places of an image that are looked at, drawn at random."""

LARGEST = 4608
"""Weights of one output that make up for one another at most; of larger kernels those of a tap."""

MEMORY = 2**28
"""Bytes of second moments that are gathered at a time."""

_DAMPING = 0.01  # of the mean second moment, added to each: as in the paper
_BLOCK = 128  # inputs after which those behind them are brought up to date

Floats = NDArray[np.float32]


def together(
    graph: Graph,
    layers: Sequence[ConvLayer],
    left: Collection[str],
    inputs: Sequence[NDArray[np.generic]],
    form: Form,
    *,
    tell: Tell,
) -> tuple[ConvLayer, ...]:
    """Round the weights of layers.

    Args:
        graph: float; left as it is.
        layers: of it.
        left: names of those that stay in float.
        inputs: of the network; of one alone nothing is learnt.
        form: of the weights.
        tell: called with every group of layers that is looked at in one run.

    Returns:
        The layers; those for which it is better with `rounded` weights.
    """
    if len(inputs) < 2:
        return tuple(layers)
    found = (_Rounding.of(graph, layer, form) for layer in layers if layer.name not in left)
    roundings = [one for one in found if one is not None]
    done: dict[str, Floats] = {}
    for group in counted(list(_groups(roundings)), "rounding weights together", tell):
        _look(graph, group, inputs)
        for one in group:
            rounded = one.best()
            if rounded is not None:
                done[one.layer.name] = rounded
            one.forget()
    return tuple(replace(layer, rounded=done.get(layer.name)) for layer in layers)


def _groups(roundings: Sequence[_Rounding]) -> Iterator[list[_Rounding]]:
    """Layers that are looked at in one run."""
    group: list[_Rounding] = []
    for one in roundings:
        if group and sum(other.nbytes for other in group) + one.nbytes > MEMORY:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _look(graph: Graph, group: Sequence[_Rounding], inputs: Sequence[NDArray[np.generic]]) -> None:
    """Show the layers what they read on each image."""
    [name] = graph.inputs
    sources = sorted({one.layer.source for one in group} - {name})
    model = showing(graph.to_model(), sources) if sources else None
    session = open_session(model, "rounding weights", optimised="basic") if model else None
    random = np.random.default_rng(0)
    for number, image in enumerate(inputs):
        values: dict[str, Any] = {name: image}
        if session is not None:
            values |= zip(sources, session.run(sources, {name: image}), strict=True)
        judged = number % HELD_OUT == min(HELD_OUT, len(inputs)) - 1
        for one in group:
            one.look(values[one.layer.source], random, judged=judged)


@dataclass(slots=True)
class _Rounding:
    """The weights of one layer as blocks that make up for one another, `(blocks, outputs, n)`.

    Attributes:
        layer: whose they are.
        weights: in float.
        scale: of each output of each block, `(blocks, outputs)`.
        largest: which weights stay at the end of their scale.
        levels: steps from zero to there.
        centred: whether the mean of its error is taken off its bias.
        summed: whether blocks are taps of the same outputs, not groups of their own.
        columns: inputs and a source of chance → what blocks read at some places,
            `(blocks, places, n)`.
        join: blocks → weights of the layer.
        moments: second moments of what the blocks read, `(blocks, n, n)`.
        judged: what they read on images that are not rounded for.
    """

    layer: ConvLayer
    weights: Floats
    scale: Floats
    largest: NDArray[np.bool_]
    levels: int
    centred: bool
    summed: bool
    columns: Callable[[Floats, np.random.Generator], Floats]
    join: Callable[[Floats], Floats]
    moments: Floats | None = None
    judged: Floats | None = None

    @classmethod
    def of(cls, graph: Graph, layer: ConvLayer, form: Form) -> _Rounding | None:
        """That of a layer; `None` if it is of a kind that is rounded to the nearest step."""
        node = graph.maker(layer.name)
        weight = np.asarray(graph.constant(layer.weight))
        scale, levels = qdq.scales(graph, layer, form)
        if node is None or layer.operator == "ConvTranspose":
            return None
        if layer.operator == "Conv":
            if weight.ndim != 4 or weight.shape[1] > LARGEST:
                return None
            split, join, columns = _convolution(node, weight)
        else:
            transposed = layer.operator == "Gemm" and attributes(node).get("transB", 0)
            if weight.shape[1 if transposed else 0] > LARGEST or attributes(node).get("transA", 0):
                return None
            split, join, columns = _product(transposed=bool(transposed))
        full = np.broadcast_to(scale, weight.shape)
        return cls(
            layer,
            split(weight),
            split(full)[:, :, 0],
            split(np.abs(weight) >= full * np.float32(levels - 0.01)),
            levels,
            centred=layer.operator == "Conv",
            summed=layer.operator == "Conv" and _is_tapped(node, weight),
            columns=columns,
            join=join,
        )

    @property
    def nbytes(self) -> int:
        """Of the second moments."""
        blocks, _, n = self.weights.shape
        return 4 * int(blocks * n * n)

    def look(self, values: Floats, random: np.random.Generator, *, judged: bool) -> None:
        """See what the layer reads on one image."""
        read = self.columns(np.asarray(values, np.float32), random)
        if judged:
            self.judged = read if self.judged is None else np.concatenate([self.judged, read], 1)
            return
        moments = read.transpose(0, 2, 1) @ read
        self.moments = moments if self.moments is None else self.moments + moments

    def best(self) -> Floats | None:
        """The weights as int8 holds them; `None` if the nearest steps are no worse."""
        assert self.moments is not None
        scale = self.scale[:, :, None]
        nearest = np.clip(np.rint(self.weights / scale), -self.levels, self.levels) * scale
        try:
            found = self._rounded(_factors(self.moments))
        except np.linalg.LinAlgError:  # infinite moments, of values that no range holds either
            return None
        better = (self._error(found) < self._error(nearest))[..., None]
        return self.join(np.where(better, found, nearest)) if better.any() else None

    def forget(self) -> None:
        """Free what was seen."""
        self.moments = self.judged = None

    def _error(self, rounded: Floats) -> Floats:
        """Mean square of what rounding changes on the judged images, of each output."""
        assert self.judged is not None
        read = self.judged
        if self.centred:
            read = read - read.mean(axis=1, keepdims=True)
        changed = (rounded - self.weights) @ read.transpose(0, 2, 1)
        error: Floats = np.square(changed.sum(axis=0) if self.summed else changed).mean(axis=-1)
        return error

    def _rounded(self, factors: Floats) -> Floats:
        left, whole = self.weights.copy(), np.empty_like(self.weights)
        for first in range(0, left.shape[2], _BLOCK):
            last = min(first + _BLOCK, left.shape[2])
            errors = np.empty_like(left[:, :, first:last])
            for at in range(first, last):
                value = left[:, :, at]
                steps = np.clip(np.rint(value / self.scale), -self.levels, self.levels)
                ends = np.copysign(np.float32(self.levels), self.weights[:, :, at])
                whole[:, :, at] = np.where(self.largest[:, :, at], ends, steps) * self.scale
                error = (value - whole[:, :, at]) / factors[:, at, at][:, None]
                left[:, :, at + 1 : last] -= error[:, :, None] * factors[:, None, at, at + 1 : last]
                errors[:, :, at - first] = error
            left[:, :, last:] -= errors @ factors[:, first:last, last:]
        return whole


def _factors(moments: Floats) -> Floats:
    """Upper triangular `U` of `UᵀU`, the inverse of the second moments, damped; in their place."""
    for block in moments:  # one at a time, as in float64 they are large
        damped = block.astype(np.float64)
        level = damped.trace() / len(damped)
        damped[np.diag_indices_from(damped)] += _DAMPING * level if level > 0 else 1.0
        # Factored from the end, the inverse of the factor is that of the inverse.
        block[:] = np.linalg.inv(np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1])
    return moments


_Split = Callable[[NDArray[Any]], NDArray[Any]]
_Columns = Callable[[Floats, np.random.Generator], Floats]


def _product(*, transposed: bool) -> tuple[_Split, _Split, _Columns]:
    """How the weights of a matrix product are blocks, and what these read."""

    def split(weight: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(weight if transposed else weight.T)[None]

    def join(blocks: Floats) -> Floats:
        return np.ascontiguousarray(blocks[0] if transposed else blocks[0].T)

    def columns(values: Floats, random: np.random.Generator) -> Floats:
        rows = values.reshape(-1, values.shape[-1])
        return rows[_some(len(rows), random)][None]

    return split, join, columns


def _convolution(node: NodeProto, weight: NDArray[Any]) -> tuple[_Split, _Split, _Columns]:
    """How the weights of a convolution are blocks, and what these read."""
    known = attributes(node)
    groups = known.get("group", 1)
    outputs, channels, height, width = weight.shape
    taps = _is_tapped(node, weight)

    def split(weight: NDArray[Any]) -> NDArray[Any]:
        if taps:
            return np.ascontiguousarray(weight.transpose(2, 3, 0, 1).reshape(-1, outputs, channels))
        return weight.reshape(groups, outputs // groups, -1)

    def join(blocks: Floats) -> Floats:
        if taps:
            whole = blocks.reshape(height, width, outputs, channels)
            return np.ascontiguousarray(whole.transpose(2, 3, 0, 1))
        return blocks.reshape(weight.shape)

    def columns(values: Floats, random: np.random.Generator) -> Floats:
        strides, dilations = known.get("strides", [1, 1]), known.get("dilations", [1, 1])
        sides = values.shape[2:]
        pads = _pads(known, sides, (height, width), strides, dilations)
        padded = np.pad(values, ((0, 0), (0, 0), *pads))
        down, across = (
            (padded.shape[2 + axis] - dilations[axis] * ((height, width)[axis] - 1) - 1)
            // strides[axis]
            + 1
            for axis in (0, 1)
        )
        chosen = _some(len(values) * down * across, random)
        image, place = np.divmod(chosen, down * across)
        row, column = np.divmod(place, across)
        rows = (row * strides[0])[:, None] + np.arange(height) * dilations[0]
        columns = (column * strides[1])[:, None] + np.arange(width) * dilations[1]
        read = padded[image[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        if taps:
            return np.ascontiguousarray(read.reshape(len(chosen), -1, channels).swapaxes(0, 1))
        parts = read.reshape(len(chosen), height, width, groups, channels)
        return np.ascontiguousarray(parts.transpose(3, 0, 4, 1, 2).reshape(groups, len(chosen), -1))

    return split, join, columns


def _is_tapped(node: NodeProto, weight: NDArray[Any]) -> bool:
    """Whether the weights of each tap are a block of their own."""
    return bool(attributes(node).get("group", 1) == 1 and weight[0].size > LARGEST)


def _pads(
    known: dict[str, Any],
    sides: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[tuple[int, int]]:
    """What a convolution puts before and behind each side."""
    auto = known.get("auto_pad", b"NOTSET")
    auto = auto.decode() if isinstance(auto, bytes) else auto
    if auto in ("NOTSET", ""):
        top, left, bottom, right = known.get("pads", [0, 0, 0, 0])
        return [(top, bottom), (left, right)]
    pads = []
    for side, size, stride, dilation in zip(sides, kernel, strides, dilations, strict=True):
        reach = (-(-side // stride) - 1) * stride + dilation * (size - 1) + 1
        total = 0 if auto == "VALID" else max(reach - side, 0)
        less, more = total // 2, total - total // 2
        pads.append((more, less) if auto == "SAME_LOWER" else (less, more))
    return pads


def _some(count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Some of so many places."""
    if count <= POSITIONS:
        return np.arange(count)
    return random.choice(count, POSITIONS, replace=False)
