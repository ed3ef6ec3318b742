"""PyTorch, eager: runs a network as it is; the reference that exports are compared with."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from atrous import models, snapshot, texts
from atrous.artifact import Metadata
from atrous.cache import row_of
from atrous.cores import lent
from atrous.engines.base import Engine, Options
from atrous.engines.decide import no_threshold
from atrous.engines.meaning import BACKGROUND, ScoreMeaning
from atrous.engines.score_output import constant_of
from atrous.engines.signature import Signature
from atrous.errors import ArtifactError, ConfigError, EngineError
from atrous.files import sha256
from atrous.geometry import CoordinateRule
from atrous.labels import LABEL_SETS, LabelSet, generic, named, of_number
from atrous.preprocess import Preprocess, Tensor

_log = logging.getLogger("atrous")


class GridNetwork(Protocol):
    """A network that can stop before its last enlargement, as those of `atrous.models`.

    Attributes:
        num_classes: number of classes.
    """

    num_classes: int

    @property
    def coordinates(self) -> CoordinateRule:
        """How the grid of the logits lies on the images."""
        ...

    def logits_grid(self, images: torch.Tensor, /) -> torch.Tensor:
        """Map images `(N, 3, H, W)` to logits `(N, num_classes, h, w)`."""
        ...

    def parameters(self) -> Iterator[torch.Tensor]:
        """All weights."""
        ...

    def state_dict(self) -> Mapping[str, torch.Tensor]:
        """All weights and statistics by name."""
        ...


class TorchEngine(Engine):
    """Run a checkpoint or a network on PyTorch.

    Args:
        model: a `.safetensors` or `.pth` file; or a network in evaluation mode, which is run as it
            is, where it is, and says nothing of itself.
        options: device, streams and threads; the number of threads holds for the whole process.
        output_stride: 8 or 16, or `None` for what the file says, else 16.

    Raises:
        ArtifactError: the file is damaged or of an unknown architecture.
        ConfigError: a threshold is asked for, and it has several classes; or another output.
        EngineError: the device is not available.
    """

    name = "torch"

    def __init__(
        self,
        model: Path | GridNetwork,
        options: Options | None = None,
        output_stride: int | None = None,
    ) -> None:
        options = options or Options()
        if options.device == "tensorrt":
            raise EngineError("engine torch runs on cpu or cuda; tensorrt needs an ONNX file")
        if options.device == "cuda" and not torch.cuda.is_available():
            raise EngineError("this PyTorch sees no CUDA device; run it on the cpu")
        if options.threads or options.streams > 1 or lent():
            torch.set_num_threads(max(1, options.cores // options.streams))
        options.need_fp32(self.name, None)
        if options.output_name is not None:
            raise ConfigError(
                f"`output_name` {options.output_name}: a checkpoint gives its scores and nothing "
                "else; the option is for ONNX files"
            )
        self.streams = options.streams
        network: GridNetwork
        if isinstance(model, Path):
            loaded = models.load(model, output_stride=output_stride)
            loaded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            network = loaded.to(torch.device(options.device))
            self.metadata = describe(loaded, model)
            self.identity = self.metadata.weights_sha256
        else:
            network = model
            self.identity = _identity(network)
        self._network: GridNetwork | None = network
        self._device = next(network.parameters()).device
        self.signature = replace(
            Signature.of(max(2, network.num_classes)), coordinates=network.coordinates
        )
        # One score says how likely the foreground is: 0 is as likely as not.
        self._floor: float | None = None
        if network.num_classes == 1:
            names = (BACKGROUND, "foreground")
            threshold = options.threshold or 0.5
            self._floor = constant_of(threshold, logit=True)
            meaning = ScoreMeaning("sigmoid", threshold, names)
            self.signature = replace(self.signature, meaning=meaning)
            if options.threshold is not None:
                self.identity = f"{self.identity}-{threshold:g}"
            if self.metadata is not None and self.metadata.labels.name == "generic":
                self.metadata = self.metadata.model_copy(update={"labels": named(names)})
        elif options.threshold is not None:
            raise no_threshold(str(model) if isinstance(model, Path) else "the network")

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
            if self._floor is not None:
                logits = torch.nn.functional.pad(logits, (0, 0, 0, 0, 1, 0), value=self._floor)
            return np.asarray(logits.float().contiguous().cpu().numpy())

    def close(self) -> None:
        """Free the network."""
        self._network = None


def _identity(network: GridNetwork) -> str:
    """Hash of all weights and statistics."""
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def describe(network: models.DeepLab, path: Path, labels: LabelSet | None = None) -> Metadata:
    """Metadata for a checkpoint.

    It is what its header says, as `atrous train` writes it; where that is silent, what the zoo says
    of the file, if it is one of the zoo's (see `atrous.cache.row_of`); then what the configuration
    says that lies beside it in a snapshot of Hugging Face's hub; and last its shapes.

    Args:
        network: as loaded from `path`.
        path: the checkpoint.
        labels: its classes; without, and where nothing names them, 21 are taken as VOC's and 19 as
            Cityscapes', said aloud.

    Raises:
        ArtifactError: the header is damaged.
    """
    recorded, row = models.recorded_metadata(path), row_of(path)
    preprocess = snapshot.preprocess(path) or Preprocess(size=_usual_size(network))
    if row is not None:
        preprocess = Preprocess.from_dict(asdict(row.preprocessing))
    try:
        if labels is None and "labels" in recorded:
            labels = LabelSet.from_dict(texts.parse_json(recorded["labels"]))
        if "preprocess" in recorded:
            preprocess = Preprocess.from_dict(texts.parse_json(recorded["preprocess"]))
    except (ValueError, ConfigError) as error:
        raise ArtifactError(f"{path}: its header is damaged: {error}; get it again") from None
    if labels is None and row and row.labels and row.num_classes == network.num_classes:
        labels = LABEL_SETS[row.labels]
    if labels is None:
        labels = snapshot.labels(path)
    if labels is None and network.num_classes == 1:
        labels = generic(1)  # the foreground
    if labels is None:
        labels = of_number(network.num_classes)
        _log.warning(
            "%s does not name its %d classes: taking them as label set %r; `labels` names them",
            path,
            network.num_classes,
            labels.name,
        )
    known = Metadata(
        name=path.stem,
        variant=network.variant.name,
        output_stride=network.output_stride,
        labels=labels,
        preprocess=preprocess,
        weights_sha256=sha256(path),
    )
    protocol = recorded.get("protocol")
    return known.model_copy(update={"protocol": protocol}) if protocol else known


def recorded_size(path: Path) -> tuple[int, int] | None:
    """Height and width of the input that the header of a checkpoint of `atrous train` names.

    Raises:
        ArtifactError: the header is damaged.
    """
    text = models.recorded_metadata(path).get("preprocess")
    try:
        return None if text is None else Preprocess.from_dict(json.loads(text)).size
    except (ValueError, ConfigError) as error:
        raise ArtifactError(f"{path}: its header is damaged: {error}; get it again") from None


def _usual_size(network: models.DeepLab) -> tuple[int, int]:
    """513, as the papers have it; 512 where corners are aligned, which wants multiples of 16."""
    return (512, 512) if network.coordinates == "align_corners" else Preprocess().size
