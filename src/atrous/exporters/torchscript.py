"""PyTorch → TorchScript, compared with the network it came from."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from atrous.agreement import TOLERANCE, Agreement, compare, pairs_of
from atrous.artifact import KEY, Metadata
from atrous.files import write_whole
from atrous.models import DeepLab


def export_torchscript(
    network: DeepLab, path: Path, *, metadata: Metadata, pixels: NDArray[np.uint8]
) -> Agreement:
    """Trace a network and write it as TorchScript, the metadata in its extra file `atrous`.

    Args:
        network: filled, in evaluation mode, on the CPU.
        path: the `.pt` file to make, whole or not at all.
        metadata: its `preprocess.size` is the size it is traced and compared at.
        pixels: `(H, W, 3)` uint8 RGB photograph to compare on.

    Raises:
        ArtifactError: the traced network disagrees with PyTorch; nothing is written.
    """
    batch = torch.from_numpy(metadata.preprocess(pixels)[None])
    content = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still asked for
        traced = torch.jit.trace(network, (batch,))  # type: ignore[no-untyped-call]
        extra = {KEY: metadata.model_dump_json().encode()}
        torch.jit.save(traced, content, _extra_files=extra)
        content.seek(0)
        loaded = torch.jit.load(content)  # type: ignore[no-untyped-call]
        difference = compare(pairs_of(network(batch).numpy(), loaded(batch).numpy()))
    difference.check(f"{path}: the TorchScript export", TOLERANCE["fp32"])
    write_whole(path, content.getvalue())
    return difference
