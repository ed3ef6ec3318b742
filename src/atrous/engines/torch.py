"""PyTorch, eager: runs a checkpoint as it is; the reference that exports are compared with."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from atrous import models
from atrous.artifact import Metadata
from atrous.engines.base import Engine, Options, TensorSpec
from atrous.errors import ArtifactError, ConfigError, EngineError
from atrous.files import sha256
from atrous.labels import LABEL_SETS, LabelSet, generic
from atrous.preprocess import Preprocess, Tensor

_log = logging.getLogger("atrous")


class TorchEngine(Engine):
    """Run a checkpoint on PyTorch.

    Args:
        path: `.safetensors` or `.pth`.
        options: device, streams and threads; the number of threads holds for the whole process.
        output_stride: 8 or 16, or `None` for what the file says, else 16.

    Raises:
        ArtifactError: the file is damaged or of an unknown architecture.
        EngineError: the device is not available.
    """

    name = "torch"

    def __init__(
        self, path: Path, options: Options | None = None, output_stride: int | None = None
    ) -> None:
        options = options or Options()
        if options.device == "tensorrt":
            raise EngineError("engine torch runs on cpu or cuda; tensorrt needs an ONNX file")
        if options.device == "cuda" and not torch.cuda.is_available():
            raise EngineError("this PyTorch sees no CUDA device; use --device cpu")
        if options.threads or options.streams > 1:
            torch.set_num_threads(max(1, options.cores // options.streams))
        self.streams = options.streams
        self._device = torch.device(options.device)
        network = models.load(path, output_stride=output_stride)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network: models.DeepLab | None = network.to(self._device)
        self.input = TensorSpec("input", (None, 3, None, None), "float32")
        self.output = TensorSpec("output", (None, network.num_classes, None, None), "float32")
        self.metadata = describe(network, path)
        self.identity = self.metadata.weights_sha256

    def _run(self, batch: Tensor) -> NDArray[np.float32]:
        network = self._network  # another thread may close the engine
        if network is None:
            raise EngineError("this engine is closed")
        with torch.inference_mode():
            images = torch.from_numpy(batch).to(self._device, memory_format=torch.channels_last)
            try:
                logits = network.logits_grid(images)
            except RuntimeError as error:
                raise EngineError(f"PyTorch failed: {error}") from error
            return np.asarray(logits.contiguous().cpu().numpy())

    def close(self) -> None:
        """Free the network."""
        self._network = None


def describe(network: models.DeepLab, path: Path, labels: LabelSet | None = None) -> Metadata:
    """Metadata for a checkpoint: what its header says, as `atrous train` writes it, or its shapes.

    Args:
        network: as loaded from `path`.
        path: the checkpoint.
        labels: its classes; without, and where the header names none, 21 are taken as VOC's and 19
            as Cityscapes', said aloud.

    Raises:
        ArtifactError: the header is damaged.
    """
    recorded = models.recorded_metadata(path)
    try:
        if labels is None and "labels" in recorded:
            labels = LabelSet.from_dict(json.loads(recorded["labels"]))
        preprocess = Preprocess.from_dict(json.loads(recorded.get("preprocess", "{}")))
    except (ValueError, ConfigError) as error:
        raise ArtifactError(f"{path}: its header is damaged: {error}; get it again") from None
    if labels is None:
        sizes = {known.num_classes: known for known in LABEL_SETS.values()}
        labels = sizes.get(network.num_classes) or generic(network.num_classes)
        _log.warning(
            "%s does not name its %d classes: taking them as label set %r; --labels NAME names "
            "them",
            path,
            network.num_classes,
            labels.name,
        )
    return Metadata(
        name=path.stem,
        variant=network.variant.name,
        output_stride=network.output_stride,
        labels=labels,
        preprocess=preprocess,
        weights_sha256=sha256(path),
    )
