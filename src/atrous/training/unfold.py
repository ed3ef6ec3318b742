"""The network of an exported artefact, as it can be trained further.

An export folds each batch norm into the convolution before it:

    scale · (weight * x) + shift = (scale · weight) * x + shift

The file holds `scale · weight` and `shift`. A batch norm of scale 1, mean 0, variance 1 - eps and
that shift behind a convolution of that weight is the same function, so nothing of the network is
lost. What is lost are the statistics of its activations: it is trained with frozen ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from atrous import artifact
from atrous.artifact import Metadata
from atrous.errors import ArtifactError
from atrous.models.checkpoint import listing
from atrous.models.deeplab import build

_HALF = "_fp16"
"""What `atrous.exporters.half` puts behind the name of a weight that it stores as fp16."""


def unfold(path: Path) -> tuple[Metadata, dict[str, Tensor]]:
    """Read the weights of a network from an artefact that `atrous export` wrote as fp32 or fp16.

    Args:
        path: the ONNX file.

    Returns:
        Its metadata, and a state dict of its network: with it the network computes what the file
        does, up to rounding.

    Raises:
        ArtifactError: the file is broken, is of somebody else, or its convolutions are not those of
            the network that it names, as after `atrous compile`.
    """
    model = artifact.load(path)
    known = artifact.metadata_of(model, path)
    if known is None or not known.variant:
        raise ArtifactError(
            f"{path}: cannot be trained further: only ONNX files that atrous export wrote say "
            "which network they hold; start from the checkpoint it was exported from"
        )
    stored = {
        tensor.name.removesuffix(_HALF): numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
    }
    with torch.device("meta"):
        network = build(
            known.variant,
            known.labels.num_classes,
            known.output_stride or 16,
            separable=any(".convs.1.0.body." in name for name in stored),
        )
    state = dict(_state(network, stored))
    missing = [name for name in network.state_dict() if name not in state]
    if missing:
        raise ArtifactError(
            f"{path}: cannot be trained further: {len(missing)} tensors of {known.variant} are not "
            f"in it: {listing(missing)}. Compiled files (int8 too) hold other ones; start from the "
            "checkpoint, or from the file that atrous export wrote"
        )
    return known, state


def _state(
    network: nn.Module, stored: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a network that are found among those of the file, by name."""
    norms = dict(_pairs(network))
    for name, part in network.named_modules():
        if not isinstance(part, nn.Conv2d):
            continue
        for kind in ("weight", "bias"):
            if (found := stored.get(f"{name}.{kind}")) is not None:
                yield f"{name}.{kind}", torch.tensor(found, dtype=torch.float32)
        shift = stored.get(f"{name}.weight_bias")
        if name not in norms or shift is None:
            continue
        norm, own = norms[name]
        ones = torch.ones(len(shift))
        yield f"{norm}.weight", ones
        yield f"{norm}.bias", torch.tensor(shift, dtype=torch.float32)
        yield f"{norm}.running_mean", torch.zeros(len(shift))
        yield f"{norm}.running_var", ones - own.eps
        yield f"{norm}.num_batches_tracked", torch.tensor(0)


def _pairs(network: nn.Module) -> Iterator[tuple[str, tuple[str, nn.BatchNorm2d]]]:
    """Name of each convolution with a batch norm behind it, and that batch norm."""
    for name, parent in network.named_modules():
        prefix = f"{name}." if name else ""
        for (first, part), (second, norm) in pairwise(parent.named_children()):
            if isinstance(part, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                yield f"{prefix}{first}", (f"{prefix}{second}", norm)
