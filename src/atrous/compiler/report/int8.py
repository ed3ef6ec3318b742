"""What a report says of int8."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

from pydantic import Field

from atrous.compiler.int8.budget import Attempt
from atrous.compiler.int8.plan import Prepared
from atrous.engines.layer_names import LayerNames
from atrous.formatting import shortened
from atrous.record import Record


class Int8(Record):
    """How a model was quantised.

    Attributes:
        method: how ranges were chosen.
        images: that it was calibrated on.
        unreadable: images that were left out, and why.
        weight_bits: 8, or 7 where products of bytes saturate.
        processor: its instructions for int8, on the machine that compiled.
        layers: that are int8.
        kept: layer → why it stays in float.
        noise: layer → signal-to-noise ratio if it alone is quantised, dB; without those that have
            no noise or no signal.
        names: layer → what it is called for people, where that is something else.
        returned: layers returned to float to hold `max_drop`.
        attempts: to hold it.
    """

    method: str
    images: int
    unreadable: tuple[str, ...] = ()
    weight_bits: int
    processor: str
    layers: int
    kept: dict[str, str]
    noise: dict[str, float]
    names: dict[str, str] = Field(default_factory=dict)
    returned: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()

    @classmethod
    def of(cls, prepared: Prepared, attempts: Sequence[Attempt], processor: str) -> Self:
        """From what was prepared, and the attempts to hold a budget."""
        returned = attempts[-1].floats if attempts else ()
        chosen = {layer.name for layer in prepared.chosen(returned)}
        feeding = {
            layer.name: "a layer in float reads it"
            for layer in prepared.layers
            if layer.name not in chosen.union(prepared.kept, returned)
        }
        noise = {n: round(db, 2) for n, db in prepared.noise.items() if math.isfinite(db)}
        return cls(
            method=prepared.calibration.method,
            images=len(prepared.calibration.images),
            unreadable=prepared.unreadable,
            weight_bits=prepared.form.bits,
            processor=processor,
            layers=len(chosen),
            kept={**prepared.kept, **feeding},
            noise=dict(sorted(noise.items(), key=lambda item: item[1])),
            names=_names(prepared),
            returned=returned,
            attempts=tuple(attempts),
        )

    def called(self, layer: str) -> str:
        """What a layer is called for people."""
        return self.names.get(layer, layer)

    def lines(self) -> list[str]:
        """What the terminal shows."""
        lines = [
            f"int8: {self.layers} of {self.layers + len(self.kept) + len(self.returned)} layers, "
            f"{self.method} on {self.images} images, {self.weight_bits}-bit weights "
            f"({self.processor})"
        ]
        if self.kept:
            few = [f"{self.called(name)} ({why})" for name, why in self.kept.items()]
            lines.append(f"in float: {shortened(few, 3)}")
        if self.returned:
            returned = [self.called(name) for name in self.returned]
            lines.append(
                f"returned to float: {shortened(returned, 4, ', ')}; drop "
                f"{self.attempts[0].drop:.2f} → {self.attempts[-1].drop:.2f} points"
            )
        if self.unreadable:
            lines.append(f"not calibrated on: {shortened(self.unreadable, 1)}")
        return lines


def _names(prepared: Prepared) -> dict[str, str]:
    nodes = LayerNames(prepared.model).model.graph.node
    called = {name: node.name for node in nodes for name in node.output}
    layers = [layer.name for layer in prepared.layers]
    return {name: called[name] for name in layers if called.get(name, name) != name}
