"""The one contract every inference backend meets.

An engine turns a batch of preprocessed images into logits. It knows nothing of labels or colours
and does not enlarge the logits: an engine may stop before the network's last resize, and says by
which rule the logit grid lies on the input, so that `atrous.upsample` goes straight to any size.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from atrous.artifact import Arithmetic, Metadata
from atrous.cores import cores
from atrous.engines.built import warn_once
from atrous.engines.meaning import Hints, Layout
from atrous.engines.signature import Signature
from atrous.errors import ConfigError, EngineError
from atrous.preprocess import Tensor

Device = Literal["cpu", "cuda", "tensorrt"]


@dataclass(frozen=True, slots=True)
class Options:
    """How an engine uses the machine.

    Attributes:
        device: `cpu`, `cuda`, or `tensorrt` (ONNX Runtime only).
        threads: CPU threads of one engine, 0 for one per core.
        streams: how many calls from different threads the engine runs at the same time. They share
            `threads` and the weights.
        cache: folder where engines keep what they built from a model, so that it opens faster the
            next time (OpenVINO, TensorRT); `None` keeps nothing.
        layout: order of the axes of somebody else's scores, `nchw` or `nhwc`, where both fit.
        output_name: of the output, or any tensor, that holds the scores, where several might.
        threshold: probability from which on a pixel is not background, for networks that say it
            for each class alone.
        names: of the classes, where they are known beforehand.
        precision: what floats are computed in, `fp32` or `bf16`; by default what the model says.

    Raises:
        ConfigError: a value is out of range, or `cache` is a file.
    """

    device: Device = "cpu"
    threads: int = 0
    streams: int = 1
    cache: Path | None = None
    layout: Layout | None = None
    output_name: str | None = None
    threshold: float | None = None
    names: tuple[str, ...] = ()
    precision: Arithmetic | None = None

    def __post_init__(self) -> None:
        if self.device not in get_args(Device):
            raise ConfigError(
                f"device: expected cpu, cuda or tensorrt, got {self.device!r}; which GPU is used "
                "says the variable CUDA_VISIBLE_DEVICES"
            )
        if self.threads < 0:
            raise ConfigError(f"threads: expected 0 (one per core) or more, got {self.threads}")
        if self.streams < 1:
            raise ConfigError(f"streams: expected 1 or more, got {self.streams}")
        if self.cache is not None and os.path.isfile(self.cache):  # noqa: PTH113 (never raises)
            raise ConfigError(f"cache: expected a folder, found a file: {self.cache}")
        _ = self.hints

    def with_changes(
        self, device: Device | None, threads: int | None, cache: str | Path | None
    ) -> Self:
        """The same, but for what is not `None`."""
        given: dict[str, Any] = {
            "device": device,
            "threads": threads,
            "cache": Path(cache) if cache else None,
        }
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    @property
    def hints(self) -> Hints:
        """How somebody else's network is read."""
        return Hints(self.layout, self.output_name, self.threshold, self.names)

    @property
    def cores(self) -> int:
        """CPU threads of all streams together; where 0 was asked for, the cores it may run on."""
        return self.threads or cores()

    def arithmetic(self, metadata: Metadata | None) -> Arithmetic:
        """What the floats of a model are computed in: as asked for, else as it says of itself."""
        return self.precision or (metadata.arithmetic if metadata else "fp32")

    def need_fp32(self, engine: str, metadata: Metadata | None) -> None:
        """Raise `EngineError` if a model is to be computed in bf16 on an engine that cannot."""
        if self.arithmetic(metadata) != "fp32":
            raise EngineError(
                f"engine {engine} does not compute in bf16 (`precision`): engine openvino does, on "
                "the CPU; `precision` fp32 computes this model everywhere"
            )

    def cache_folder(self, builder: str, identity: str) -> Path | None:
        """The folder, made if need be, for what `builder` makes of one model.

        Args:
            builder: as `openvino`.
            identity: of the model.

        Returns:
            The folder, `None` if nothing is to be kept or it cannot be made, which is said.
        """
        if self.cache is None:
            return None
        folder = self.cache / f"{builder}-{identity[:16]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            warn_once(f"`cache`: {folder} cannot be made, and nothing is kept: {error.strerror}")
            return None
        return folder


class Engine(ABC):
    """A loaded model on a device. Use it as a context manager, or call `close`.

    Attributes:
        name: of the backend, as `onnxruntime`.
        signature: what the network takes and gives.
        metadata: what the artefact says of itself, `None` for somebody else's model.
        streams: calls from different threads that it runs at the same time.
        identity: hash of graph and weights, or of the checkpoint; names the model in results.
        arithmetic: what it computes floats in.
        untried: it may not run at a size that it says it takes, see `dry_run`.
    """

    name: str
    identity: str = ""
    streams: int = 1
    arithmetic: Arithmetic = "fp32"
    untried: bool = False
    signature: Signature
    metadata: Metadata | None = None

    @property
    def title(self) -> str:
        """Its name for people, as `openvino` or `openvino in bf16`."""
        return self.name if self.arithmetic == "fp32" else f"{self.name} in {self.arithmetic}"

    def run(self, batch: Tensor) -> NDArray[np.float32]:
        """Return class scores for a batch.

        Args:
            batch: `(N, 3, H, W)` of `signature.dtype`, as the artefact's preprocessing makes it.

        Returns:
            `(N, C, h, w)` logits, `h × w` at most `H × W`. The next call may reuse the memory:
            copy what you keep.

        Raises:
            InputError: `batch` does not fit the signature.
            EngineError: the backend failed.
        """
        self.signature.input.check(batch)
        return self._run(batch)

    def close(self) -> None:
        """Free the device memory. Safe to call twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @abstractmethod
    def _run(self, batch: Tensor) -> NDArray[np.float32]: ...
