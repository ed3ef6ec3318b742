"""Where two models of one network part: the signal-to-noise ratio of every tensor both make."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from atrous.compiler.graph.graph import Graph, showing
from atrous.compiler.int8.noise import decibels
from atrous.compiler.progress import Progress, Tell
from atrous.engines.layer_names import WEIGHTED, LayerNames
from atrous.engines.session import open_session
from atrous.errors import InputError
from atrous.record import Record

CLEAN = 40.0
"""Signal-to-noise ratio in dB above which nothing counts as lost."""

_FLOAT = np.dtype(np.float32)
_MEMORY = 256 * 2**20  # bytes of tensors that are held at once, of either model
_UNKNOWN = 16 * 2**20  # bytes of a tensor whose size the graph does not say

# Operators that move values and compute none: what they pass on is measured before them.
_MOVE = {"Cast", "Concat", "DequantizeLinear", "Expand", "Flatten", "Gather", "Identity", "Pad"}
_MOVE |= {"QuantizeLinear", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Transpose"}
_MOVE |= {"Unsqueeze", "Upsample"}
_AFTER = ("BatchNormalization", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu")

Inputs = Callable[[int], tuple[NDArray[np.generic], NDArray[np.generic]]]
"""Number of an image → what either model takes."""


class LayerNoise(Record):
    """A tensor that both models make.

    Attributes:
        tensor: its name.
        name: of the layer that makes it, for people.
        excluded_as: what `exclude_layers` calls that layer, empty if it has no weights.
        operator: that makes it, as `Conv`, or `Conv, Relu` behind an activation.
        decibels: signal-to-noise ratio with all that it inherits; `None` without noise.
        lost: dB less than the noisiest of the tensors that it is computed from, 0 if it is not
            less; more than `CLEAN` counts as `CLEAN`.
    """

    tensor: str
    name: str
    excluded_as: str = ""
    operator: str
    decibels: float | None
    lost: float

    @property
    def shown(self) -> str:
        """The ratio for people."""
        return "exact" if self.decibels is None else f"{self.decibels:.1f} dB"


@dataclass(frozen=True, slots=True)
class Common:
    """A tensor that both models make under one name.

    Attributes:
        name: of the tensor.
        before: what stands for it in the one graph: what its readers see of it.
        after: likewise in the other.
    """

    name: str
    before: str
    after: str


def common(before: onnx.ModelProto, after: onnx.ModelProto) -> list[Common]:
    """The tensors that two graphs make under one name, in the order of the first.

    A quantised tensor is taken behind its quantisers: they may do the work of an activation that
    the quantiser took out, and what is before them is then another tensor.
    """
    old, new = Graph(before), Graph(after)
    names = [name for node in old.nodes for name in node.output if node.op_type not in _MOVE]
    return [
        Common(name, _seen(old, name), _seen(new, name))
        for name in names
        if name and (node := new.maker(name)) is not None and node.op_type not in _MOVE
    ]


def _seen(graph: Graph, name: str) -> str:
    """What the readers of a tensor read of it."""
    for quantise in graph.readers(name):
        if quantise.op_type == "QuantizeLinear" and quantise.input[0] == name:
            for back in graph.readers(quantise.output[0]):
                if back.op_type == "DequantizeLinear":
                    return str(back.output[0])
    return name


def measure(
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    tensors: Sequence[Common],
    inputs: Inputs,
    count: int,
    tell: Tell,
) -> dict[str, float]:
    """The signal-to-noise ratio of each tensor.

    Both models run on ONNX Runtime without fusions: quantised layers compute in float, between
    their quantisers. Tensors are taken a few at a time, so that memory does not grow with them.

    Args:
        before: the signal.
        after: signal and noise.
        tensors: to measure.
        inputs: of the models.
        count: images.
        tell: called as it works.

    Returns:
        Name of the tensor → dB: variance, channel by channel, over the mean square of the
        difference; `inf` without noise, `-inf` without signal. Without those that differ in shape
        or are no float.

    Raises:
        InputError: a tensor is not finite.
        EngineError: ONNX Runtime refuses a model.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    parts = list(_parts(Graph(before), tensors))
    for number, part in enumerate(parts):
        old = _session(before, [one.before for one in part])
        new = _session(after, [one.after for one in part])
        for index in range(count):
            done = number * count + index + 1
            tell(Progress("measuring layers", done, len(parts) * count))
            first, second = inputs(index)
            for one, signal, other in zip(part, _run(old, first), _run(new, second), strict=True):
                if signal.shape != other.shape or {signal.dtype, other.dtype} != {_FLOAT}:
                    continue
                for role, values in (("first", signal), ("second", other)):
                    if not np.isfinite(values).all():
                        raise InputError(f"{one.name}: not finite in the {role} model")
                sums[one.name] = sums.get(one.name, np.zeros(2)) + _powers(signal, other)
    return {name: decibels(signal, noise) for name, (signal, noise) in sums.items()}


def _powers(signal: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[float, float]:
    """Sums of squares of the signal, without its means, and of the noise."""
    spatial = tuple(range(2, signal.ndim))
    if math.prod(signal.shape[2:]) > 1:
        centred = signal - signal.mean(axis=spatial, keepdims=True)
    else:  # a vector varies over its channels
        centred = signal - signal.mean()
    noise = other - signal
    return _square(centred), _square(noise)


def _square(values: NDArray[np.float32]) -> float:
    flat = values.reshape(-1)
    return float(np.dot(flat, flat))


def _parts(graph: Graph, tensors: Sequence[Common]) -> Iterator[list[Common]]:
    """The tensors in runs that fit in memory."""
    part: list[Common] = []
    held = 0
    for one in tensors:
        shape = graph.shape(one.name)
        size = _UNKNOWN if shape is None else 4 * math.prod(shape)
        if part and held + size > _MEMORY:
            yield part
            part, held = [], 0
        part.append(one)
        held += size
    yield part


def _session(model: onnx.ModelProto, outputs: Sequence[str]) -> ort.InferenceSession:
    cut = Graph(showing(model, outputs)).to_model()  # what none of them needs is not run
    # Otherwise quantisers would be fused into the layers, and tensors between them be gone.
    return open_session(cut, "measuring layers", optimised="none")


def _run(session: ort.InferenceSession, tensor: NDArray[np.generic]) -> list[NDArray[np.float32]]:
    [given] = session.get_inputs()
    outputs: list[NDArray[np.float32]] = session.run(None, {given.name: tensor})
    return outputs


def layers(model: onnx.ModelProto, ratios: Mapping[str, float]) -> tuple[LayerNoise, ...]:
    """What was measured, in the order of a graph; without tensors that hold no signal.

    Args:
        model: the one that makes the signal.
        ratios: of `measure`.
    """
    graph, named = Graph(model), Graph(LayerNames(model).model)
    known = {name: ratio for name, ratio in ratios.items() if ratio > -math.inf}
    found = []
    for node in graph.nodes:
        name = node.output[0]
        if name not in known:
            continue
        sources = [min(known[one], CLEAN) for one in _sources(graph, name, known)]
        lost = min(sources, default=CLEAN) - known[name]
        behind = _behind(named, name)
        operators = [node.op_type]
        if behind is not None and behind.op_type != node.op_type:
            operators.insert(0, behind.op_type)
        found.append(
            LayerNoise(
                tensor=name,
                name=behind.name if behind is not None else name,
                excluded_as=behind.output[0] if behind is not None else "",
                operator=", ".join(operators),
                decibels=round(known[name], 2) if known[name] < math.inf else None,
                lost=round(max(0.0, lost), 2),
            )
        )
    return tuple(found)


def _sources(graph: Graph, name: str, known: Mapping[str, float]) -> set[str]:
    """The nearest measured tensors that one is computed from."""
    found, seen = set(), {name}
    left = [name]
    while left:
        node = graph.maker(left.pop())
        for source in node.input if node is not None else ():
            if source in known:
                found.add(source)
            elif source and source not in seen:
                seen.add(source)
                left.append(source)
    return found


def _behind(graph: Graph, tensor: str) -> onnx.NodeProto | None:
    """The node with weights whose result, maybe after an activation, a tensor is."""
    node = graph.maker(tensor)
    while node is not None and node.op_type in _AFTER:
        node = graph.maker(node.input[0])
    return node if node is not None and node.op_type in WEIGHTED else None
