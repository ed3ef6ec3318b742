"""What a network takes and gives: decided here once, for every engine and verb.

Everything above the engines sees one kind of network: images `(N, 3, H, W)` in, logits
`(N, C, h, w)` out, and a rule by which the one lies on the other. For an ONNX file that is made in
three steps, as only a runtime knows the final shapes: `adapt` brings somebody else's graph to that
form, `runnable` turns it into what a runtime is given, and `Runnable.signature` reads what the
runtime then says of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from atrous.engines.drop_resize import drop_last_resize
from atrous.engines.meaning import PLAIN, ScoreMeaning
from atrous.engines.onnx_model import OnnxModel
from atrous.errors import ArtifactError, InputError
from atrous.geometry import Axis, CoordinateRule

DTYPES = ("float32", "uint8")
"""What a network may take: normalised values, or 0–255 where the graph normalises."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, shape and dtype of a model input or output. `None` is a free dimension."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def check(self, array: NDArray[Any]) -> None:
        """Raise `InputError` unless `array` fits."""
        fits = len(self.shape) == array.ndim and all(
            want in (None, got) for want, got in zip(self.shape, array.shape, strict=True)
        )
        if not fits or array.dtype != self.dtype:
            raise InputError(
                f"{self.name}: expected {self.dtype} {self.shape}, got {array.dtype} {array.shape}"
            )


@dataclass(frozen=True, slots=True)
class Signature:
    """What a network takes and what it gives.

    Attributes:
        input: images, `(N, 3, H, W)`, float32, or uint8 where the graph normalises.
        output: their logits, `(N, C, h, w)` float32, `h × w` at most `H × W`.
        coordinates: how the logit grid `h × w` lies on the input `H × W`.
        meaning: what the scores stand for.
    """

    input: TensorSpec
    output: TensorSpec
    coordinates: CoordinateRule = "half_pixel"
    meaning: ScoreMeaning = PLAIN

    @classmethod
    def of(
        cls,
        classes: int,
        dtype: str = "float32",
        batch: int | None = None,
        size: tuple[int | None, int | None] = (None, None),
    ) -> Self:
        """Of a network that takes any number of images of any size, unless said otherwise."""
        return cls(
            TensorSpec("input", (batch, 3, *size), dtype),
            TensorSpec("output", (batch, classes, None, None), "float32"),
        )

    @property
    def batch(self) -> int | None:
        """Images that it takes at a time, `None` for any number."""
        return self.input.shape[0]

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Height and width of the input, `None` where they are free."""
        return self.input.shape[2], self.input.shape[3]

    @property
    def dtype(self) -> str:
        """Of the input."""
        return self.input.dtype

    @property
    def classes(self) -> int | None:
        """How many it tells apart, `None` where the graph hides it."""
        return self.output.shape[1]

    def takes(self, height: int, width: int) -> bool:
        """Whether inputs of this size fit."""
        own = self.size
        return own[0] in (None, height) and own[1] in (None, width)

    def on_grid(
        self, grid: NDArray[np.float32], size: tuple[int, int], rows: Axis, columns: Axis
    ) -> tuple[Axis, Axis]:
        """Carry axes over the network input on to the logit grid.

        Args:
            grid: `(C, h, w)` logits of one image.
            size: `(H, W)` of the network input that they were made from.
            rows: positions on the input's rows.
            columns: positions on the input's columns.
        """
        axes = (
            rows.on_grid(grid.shape[1], size[0], self.coordinates),
            columns.on_grid(grid.shape[2], size[1], self.coordinates),
        )
        if self.meaning.activation == "argmax":  # between two classes there is no third
            return replace(axes[0], nearest=True), replace(axes[1], nearest=True)
        return axes


@dataclass(frozen=True, slots=True)
class Runnable:
    """An ONNX network as a runtime is given it.

    Attributes:
        name: of the network, in messages.
        content: the serialised graph. Not a proto, so that no second copy of the weights is held
            while a runtime makes its own.
        coordinates: how the logit grid lies on the input.
        meaning: what its scores stand for.
    """

    name: str
    content: bytes
    coordinates: CoordinateRule
    meaning: ScoreMeaning = PLAIN

    def signature(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Signature:
        """What the network takes and gives.

        Args:
            inputs: of `content`, as the runtime sees them.
            outputs: likewise.

        Raises:
            ArtifactError: it is not one image `(N, 3, H, W)`, float32 or uint8, in and float32
                logits `(N, C, H, W)` out.
        """
        image, logits = self._only("input", inputs), self._only("output", outputs)
        if len(image.shape) != 4 or image.shape[1] not in (3, None):
            raise ArtifactError(f"{self.name}: expected an input (N, 3, H, W), found {image.shape}")
        if image.dtype not in DTYPES:
            raise ArtifactError(
                f"{self.name}: expected an input of {' or '.join(DTYPES)}, found {image.dtype}; "
                "export the network with a float32 input"
            )
        if len(logits.shape) != 4 or logits.dtype != "float32":
            raise ArtifactError(
                f"{self.name}: expected float32 logits (N, C, H, W) as output, found "
                f"{logits.dtype} {logits.shape}; export the network without its argmax"
            )
        return Signature(image, logits, self.coordinates, self.meaning)

    def _only(self, role: str, specs: Sequence[TensorSpec]) -> TensorSpec:
        if len(specs) != 1:
            names = ", ".join(spec.name for spec in specs)
            raise ArtifactError(f"{self.name}: expected one {role}, found {len(specs)} ({names})")
        return specs[0]


def runnable(model: OnnxModel) -> Runnable:
    """What a runtime is given of a network: without its last resize, where `atrous.upsample` can.

    Args:
        model: in our form, see `adapt`; left as it is.
    """
    proto, rule = drop_last_resize(model.proto)
    meaning = model.meaning or PLAIN
    return Runnable(model.name, proto.SerializeToString(), rule or "half_pixel", meaning)
