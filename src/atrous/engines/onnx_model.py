"""An ONNX network as a value, read from a file or made in memory, that engines open."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

import onnx

from atrous import artifact
from atrous.artifact import Metadata
from atrous.engines.meaning import ScoreMeaning


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A whole network and what it says of itself.

    Attributes:
        proto: graph and weights, also those that lay in a file beside it; not to be changed.
        metadata: what the artefact says of itself, `None` for somebody else's model.
        name: in messages; of the file, or of what the network was made from.
        meaning: what its scores stand for, `None` where nobody has looked; see `adapt`.
        notes: what was decided about somebody else's network, for people.
    """

    proto: onnx.ModelProto = field(repr=False)
    metadata: Metadata | None = None
    name: str = "the model"
    meaning: ScoreMeaning | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read an ONNX file.

        Raises:
            ArtifactError: it is missing or damaged, or its metadata is.
        """
        proto = artifact.load(path)
        return cls(proto, artifact.metadata_of(proto, path), str(path))

    @cached_property
    def identity(self) -> str:
        """Hash of the graph and its weights."""
        return artifact.identity(self.proto)

    def __str__(self) -> str:
        return self.name
