"""What a comparison of two models found."""

from __future__ import annotations

from pydantic import Field

from atrous import __version__
from atrous.compiler.explain.layers import CLEAN, LayerNoise
from atrous.formatting import as_share, shortened
from atrous.record import Record

Figures = dict[str, str]
"""Caption → picture as a data URI."""


class Side(Record):
    """One of the two models.

    Attributes:
        file: where it was read.
        name: what it calls itself, empty for somebody else's model.
        precision: how its weights are stored, empty for somebody else's model.
        identity: hash of its graph and weights.
        bytes: size of the file.
    """

    file: str
    name: str
    precision: str
    identity: str
    bytes: int


class Seen(Record):
    """An image that both models segmented.

    Attributes:
        image: its file name.
        agreement: share of the pixels with the same class, 0–1.
        change: the commonest change of class, as `dog → cat`, empty if there is none.
    """

    image: str
    agreement: float
    change: str


class Explanation(Record):
    """How two models of one network differ.

    Attributes:
        atrous: version that compared them.
        before: usually the float model.
        after: usually the int8 model.
        engine: that made the class maps.
        engine_version: of that.
        notes: what speaks against the comparison, one sentence each.
        agreement: share of the pixels with the same class, mean over the images, 0–1.
        images: in the order in which they were given.
        unreadable: images that were left out, and why.
        measured: images on which the layers were measured.
        layers: in the order of `before`.
        pictures: of the images that differ most; on the page alone.
    """

    atrous: str = __version__
    before: Side
    after: Side
    engine: str
    engine_version: str
    notes: tuple[str, ...] = ()
    agreement: float
    images: tuple[Seen, ...]
    unreadable: tuple[str, ...] = ()
    measured: int
    layers: tuple[LayerNoise, ...]
    pictures: tuple[tuple[Seen, Figures], ...] = Field(default=(), exclude=True, repr=False)

    @property
    def worst(self) -> list[LayerNoise]:
        """The layers that lose something, the worst first."""
        losing = [layer for layer in self.layers if layer.lost > 0]
        return sorted(losing, key=lambda layer: -layer.lost)

    @property
    def least(self) -> Seen:
        """The image that differs most."""
        return min(self.images, key=lambda one: one.agreement)

    def lines(self) -> list[str]:
        """What the terminal shows."""
        many = len(self.images) > 1
        least = f", least on {self.least.image}: {as_share(self.least.agreement)}" if many else ""
        lines = [
            f"{self.before.file} → {self.after.file}",
            f"same class on {as_share(self.agreement)} of the pixels of {len(self.images)} "
            f"image{'s' if many else ''} ({self.engine}){least}",
            f"common layers: {len(self.layers)}, the last at {self.layers[-1].shown}",
        ]
        if not self.worst:
            lines.append(f"no layer falls below {CLEAN:.0f} dB")
        for layer in self.worst[:5]:
            lines.append(f"  {layer.name} loses {layer.lost:.1f} dB, down to {layer.shown}")
        if self.unreadable:
            lines.append(f"left out: {shortened(self.unreadable, 1)}")
        return lines
