"""What a benchmark is asked to measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from atrous.artifact import Arithmetic
from atrous.cores import cores
from atrous.engines.base import Device
from atrous.engines.meaning import Layout
from atrous.errors import ConfigError

Scenario = Literal["single-stream", "multi-stream", "server", "offline"]
"""How work arrives, by MLPerf's names (Reddi et al., MLPerf Inference Benchmark, 2020)."""

Feed = Literal["images", "pixels", "tensors"]
"""What is handed in: files to decode, decoded pixels, or network inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One measurement.

    Attributes:
        model: see `atrous.engines.open_engine`.
        engine: `auto`, or the name of an engine.
        device: where it runs.
        threads: CPU threads of each process, 0 for an even share of the cores.
        instances: calls of the network side by side in each process.
        processes: that run at once, each with an engine of its own.
        batch: images that the network sees at once, `None` for its own number.
        size: height and width of the network input, `None` for its own.
        scenario: how work arrives. `single-stream`: the next image when the last one is done;
            `multi-stream`: the next `instances` batches when the last ones are done; `server`: at
            random (a Poisson process); `offline`: as fast as it is taken.
        feed: what is handed in.
        synchronous: an image goes through all steps in one thread; else steps overlap.
        seconds: measured at least, after the warm-up.
        queries: measured at least.
        rate: images per second that arrive in scenario `server`; `None` looks for the highest.
        bound: milliseconds that the 99th percentile of the latency may take in `server`.
        images: folder of the images that are fed, `None` for random ones.
        npz: list of npz files that are fed as pixels, in place of `images`.
        vdsp: preprocessing in place of the model's own.
        cache: folder where engines keep what they build.
        layout: see `atrous.engines.base.Options`, as for the next three.
        output_name: likewise.
        threshold: likewise.
        precision: likewise.

    Raises:
        ConfigError: a value is out of range, or two do not go together.
    """

    model: str | None = None
    engine: str = "auto"
    device: Device = "cpu"
    threads: int = 0
    instances: int = 1
    processes: int = 1
    batch: int | None = None
    size: tuple[int, int] | None = None
    scenario: Scenario = "offline"
    feed: Feed = "tensors"
    synchronous: bool = False
    seconds: float = 10.0
    queries: int = 1
    rate: float | None = None
    bound: float | None = None
    images: Path | None = None
    npz: Path | None = None
    vdsp: Path | None = None
    cache: Path | None = None
    layout: Layout | None = None
    output_name: str | None = None
    threshold: float | None = None
    precision: Arithmetic | None = None

    def __post_init__(self) -> None:
        least = {
            "instances": 1,
            "processes": 1,
            "batch": 1,
            "queries": 1,
            "threads": 0,
            "seconds": 0,
        }
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and not value >= smallest:
                raise ConfigError(f"`{name}`: expected {smallest} or more, got {value:g}")
        for name, amount in (("rate", self.rate), ("bound", self.bound)):
            if amount is not None and not amount > 0:
                raise ConfigError(f"`{name}`: expected more than 0, got {amount:g}")
        if self.scenario not in get_args(Scenario) or self.feed not in get_args(Feed):
            raise ConfigError(f"no scenario {self.scenario!r} that is fed with {self.feed!r}")
        self._agree()

    def _agree(self) -> None:
        """Raise `ConfigError` where two settings contradict each other."""
        together = (self.instances, self.processes, self.batch or 1)
        if self.scenario == "single-stream" and max(together) > 1:
            raise ConfigError(
                "`scenario` single-stream is one image at a time: expected `instances` 1, "
                f"`processes` 1 and `batch` 1, got {', '.join(map(str, together))}; `scenario` "
                "multi-stream takes several at once"
            )
        if self.scenario != "server" and (self.rate is not None or self.bound is not None):
            raise ConfigError("`rate` and `bound` belong to `scenario` server")
        if self.scenario == "server" and self.rate is None and self.bound is None:
            raise ConfigError(
                "`scenario` server: expected `rate`, images per second, or `bound`, milliseconds, "
                "to look for the highest rate that holds it"
            )
        if self.feed == "images" and self.images is None:
            raise ConfigError("`feed` images decodes files: expected `images`, a folder")
        if self.synchronous and self.feed != "tensors" and (self.batch or 1) > 1:
            raise ConfigError(
                "`synchronous` 1 takes each image through all steps alone: expected `batch` 1, got "
                f"{self.batch}; `synchronous` 0 makes batches, so does `feed` tensors"
            )

    @property
    def own_threads(self) -> int:
        """CPU threads of each process as engines are asked for them, 0 for one per core."""
        if self.threads or self.processes == 1:
            return self.threads
        return max(1, cores() // self.processes)
