"""Return the worst layers to float until int8 loses no more than it may."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from atrous.compiler.graph.graph import Graph
from atrous.compiler.int8 import noise
from atrous.compiler.int8.plan import Prepared
from atrous.compiler.int8.qdq import ConvLayer
from atrous.compiler.progress import Progress, Tell
from atrous.errors import ConfigError
from atrous.record import Record

RANKED = 24
"""Layers, the noisiest in themselves, whose effect on the logits is measured."""

Score = Callable[[onnx.ModelProto], float]
"""Measures a model: mIoU in percent."""


class Attempt(Record):
    """One attempt to hold the budget.

    Attributes:
        floats: layers in float besides those that `prepare` kept, worst first.
        drop: points of mIoU lost against the float model.
    """

    floats: tuple[str, ...]
    drop: float


def hold(
    prepared: Prepared,
    *,
    max_drop: float,
    reference: float,
    score: Score,
    tell: Tell,
) -> list[Attempt]:
    """Find how many of the worst layers have to be in float: double their number, then bisect.

    Args:
        prepared: the model.
        max_drop: points of mIoU that may be lost.
        reference: mIoU of the float model, percent.
        score: measures a model the same way.
        tell: called as it works.

    Returns:
        The attempts: those that do not hold, then those that do, the one with the fewest layers
        last.

    Raises:
        ConfigError: it does not hold even with every ranked layer in float.
    """

    def attempt(floats: tuple[str, ...]) -> Attempt:
        return Attempt(floats=floats, drop=reference - score(prepared.write(floats)))

    attempts = [attempt(())]
    if attempts[0].drop <= max_drop:
        return attempts
    ranked = [layer.name for layer in rank(prepared, tell)]

    def holds(count: int) -> bool:
        tell(Progress(f"{count} layer{'s' * (count != 1)} back to float"))
        attempts.append(attempt(tuple(ranked[:count])))
        return attempts[-1].drop <= max_drop

    enough, few = 1, 0
    while not holds(enough):
        if enough >= len(ranked):
            raise ConfigError(
                f"backend.quantize.max_drop: {max_drop} points cannot be held: with the "
                f"{len(ranked)} worst layers in float int8 still loses {attempts[-1].drop:.2f}; "
                "allow more, or compile to fp16"
            )
        few, enough = enough, min(2 * enough, len(ranked))
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if holds(middle) else (middle, enough)
    failed = [one for one in attempts if not one.drop <= max_drop]
    held = [one for one in attempts if one.drop <= max_drop]
    return failed + sorted(held, key=lambda one: -len(one.floats))


def rank(prepared: Prepared, tell: Tell) -> list[ConvLayer]:
    """The quantised layers by what each alone does to the logits, worst first."""
    graph = Graph(prepared.model)
    layers = [layer for layer in prepared.layers if layer.name not in prepared.kept]
    layers = sorted(layers, key=lambda layer: prepared.noise[layer.name])[:RANKED]
    effect = {}
    for done, layer in enumerate(layers, 1):
        tell(Progress("ranking layers", done, len(layers)))
        effect[layer.name] = noise.on_output(
            graph, [layer], prepared.spans, prepared.measured, prepared.form
        )
    return sorted(layers, key=lambda layer: effect[layer.name])
