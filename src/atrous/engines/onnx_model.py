"""What the engines of ONNX files share: reading one, and what a segmentation network looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from atrous import artifact
from atrous.engines.base import DTYPES, TensorSpec
from atrous.engines.drop_resize import drop_last_resize
from atrous.errors import ArtifactError
from atrous.geometry import CoordinateRule


@dataclass(frozen=True, slots=True)
class Network:
    """An ONNX file, ready to be given to a runtime.

    Attributes:
        model: the graph, without its last resize where `atrous.upsample` does the same.
        coordinates: how its logit grid lies on the input.
        metadata: what the artefact says of itself, `None` for somebody else's model.
        identity: hash of the whole graph and its weights.
    """

    model: onnx.ModelProto
    coordinates: CoordinateRule
    metadata: artifact.Metadata | None
    identity: str


def read(path: Path) -> Network:
    """Read an ONNX file.

    Raises:
        ArtifactError: it is missing or damaged, or its metadata is.
    """
    whole = artifact.load(path)
    metadata, identity = artifact.metadata_of(whole, path), artifact.identity(whole)
    model, rule = drop_last_resize(whole)
    return Network(model, rule or "half_pixel", metadata, identity)


def one_image_to_logits(
    path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[TensorSpec, TensorSpec]:
    """The only input and the only output of a segmentation network.

    Args:
        path: named in errors.
        inputs: of the graph, as the runtime sees them.
        outputs: likewise.

    Raises:
        ArtifactError: it is not one image `(N, 3, H, W)`, float32 or uint8, in and float32 logits
            `(N, C, H, W)` out.
    """
    image, logits = _only(path, "input", inputs), _only(path, "output", outputs)
    if len(image.shape) != 4 or image.shape[1] not in (3, None):
        raise ArtifactError(f"{path}: expected an input (N, 3, H, W), found {image.shape}")
    if image.dtype not in DTYPES:
        raise ArtifactError(
            f"{path}: expected an input of {' or '.join(DTYPES)}, found {image.dtype}; export the "
            "network with a float32 input"
        )
    if len(logits.shape) != 4 or logits.dtype != "float32":
        raise ArtifactError(
            f"{path}: expected float32 logits (N, C, H, W) as output, found "
            f"{logits.dtype} {logits.shape}; export the network without its argmax"
        )
    return image, logits


def _only(path: Path, role: str, specs: Sequence[TensorSpec]) -> TensorSpec:
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise ArtifactError(f"{path}: expected one {role}, found {len(specs)} ({names})")
    return specs[0]
