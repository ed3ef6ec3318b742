"""Statistics of the tensors of a network over images, in memory that does not grow with them.

Two passes: the first finds the range of each tensor, the second counts a histogram over it. An
image is decoded and run twice; nothing of it is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from atrous.compiler.graph.graph import free_inputs, showing
from atrous.compiler.int8 import samples
from atrous.compiler.progress import Progress, Tell, silent
from atrous.cores import cores
from atrous.engines.session import first_line, open_session
from atrous.errors import ArtifactError, ConfigError, EngineError, InputError
from atrous.preprocess import Preprocess

Array = NDArray[Any]
Tensor = NDArray[np.float32]

MOST_BINS = 2**15
_SLICE = 2**16
"""Values that are worked on at a time, so that what is made of them stays in the cache."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a tensor holds, over all images.

    Attributes:
        low: its smallest value.
        high: its largest value, at least `low`.
        histogram: `(bins,)` int64, values in equal parts of `low..high`; a value on the border of
            two belongs to the upper one, `high` to the last. All in the first if `low == high`.
        mean: `(C,)` float64 over axis 1 of a tensor of four axes, `None` for others.
        count: how many values were seen.
    """

    low: float
    high: float
    histogram: NDArray[np.int64]
    mean: NDArray[np.float64] | None
    count: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What came of the images.

    Attributes:
        statistics: of each tensor.
        used: the images that were read, sorted.
        unreadable: why each of the others was not, one line that begins with its path.
    """

    statistics: dict[str, Statistics]
    used: tuple[Path, ...]
    unreadable: tuple[str, ...]


def collect(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    images: Sequence[Path],
    preprocess: Preprocess,
    *,
    bins: int = 4096,
    tell: Tell = silent,
) -> Collected:
    """Run images through a network and describe its tensors.

    The result depends on which images there are, not on their order. An image that cannot be read
    is left out. A batch of several is filled with different images; the last one is filled up
    with its own, which then count more than once.

    Args:
        model: one input, float32 or uint8 `(N, 3, H, W)`; an open N is taken as 1.
        tensors: names of what is described; the input may be among them.
        images: image or npz files.
        preprocess: makes the input.
        bins: of the histograms, at most `MOST_BINS`.
        tell: called as it works.

    Raises:
        ConfigError: there are no images.
        InputError: none of them can be read, or one cannot be read a second time.
        ArtifactError: a name is not that of a tensor of numbers, or a value is NaN or infinite.
        EngineError: ONNX Runtime refuses the model.
    """
    if not images:
        raise ConfigError("calibration: expected at least one image, found none; see dataset.path")
    if not 2 <= bins <= MOST_BINS:
        raise ConfigError(f"bins: expected 2 to {MOST_BINS}, found {bins}")
    network = _Network(model, tensors)

    def prepared(path: Path) -> Array:
        return preprocess(samples.read(path, preprocess), preprocess.empty(network.dtype))

    files = sorted(images)
    used: list[Path] = []
    unreadable: list[str] = []
    ranges = {name: _Range() for name in network.names}
    with ThreadPoolExecutor(max_workers=min(4, cores())) as pool:
        readable = _inputs(files, prepared, "ranges", tell, unreadable)
        for batch, shown in _batches(readable, network.batch):
            used += shown
            _add(pool, ranges, network.run(batch))
            _check_finite(ranges, shown)
        if not used:
            raise InputError(
                f"calibration: none of the {len(files)} images can be read; the first: "
                f"{unreadable[0]}"
            )
        counts = {name: _Counts(found.low, found.high, bins) for name, found in ranges.items()}
        again = _inputs(used, prepared, "histograms", tell)
        for batch, _ in _batches(again, network.batch):
            _add(pool, counts, network.run(batch))
    described = {name: ranges[name].finished(counts[name].histogram) for name in ranges}
    return Collected(described, tuple(used), tuple(unreadable))


class _Network:
    """A model whose tensors can be looked at.

    Attributes:
        names: of the wanted tensors, in the order in which the graph makes them.
        batch: images that go in at once.
    """

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str]) -> None:
        graph = model.graph
        inputs = free_inputs(graph)
        if len(inputs) != 1:
            raise ArtifactError(f"calibration: expected one input, found {len(inputs)}")
        [value] = inputs
        self._input = value.name
        made = [self._input, *(name for node in graph.node for name in node.output if name)]
        if missing := set(tensors).difference(made):
            raise ArtifactError(f"calibration: the network makes no tensor {min(missing)!r}")
        self.names = [name for name in made if name in set(tensors)]
        self._outputs = [name for name in self.names if name != self._input]
        kind = value.type.tensor_type
        self.dtype = "uint8" if kind.elem_type == TensorProto.UINT8 else "float32"
        dims = kind.shape.dim
        self.batch = dims[0].dim_value if dims and dims[0].dim_value > 0 else 1
        # Without wanted tensors below the input there is nothing to run.
        shown = showing(model, self._outputs) if self._outputs else model
        # Higher levels compute in other layouts and merge nodes, and would have to undo it. An
        # arena keeps the most that was ever needed, beside the outputs that it makes anew.
        self._session = open_session(shown, "calibration", optimised="basic", arena=False)
        for output in self._session.get_outputs():
            if output.type not in ("tensor(float)", "tensor(float16)", "tensor(double)"):
                raise ArtifactError(
                    f"calibration: expected numbers of floating point in {output.name}, found "
                    f"{output.type}"
                )

    def run(self, batch: Array) -> dict[str, Tensor]:
        """The wanted tensors, float32."""
        found: dict[str, Array] = {self._input: batch}
        if self._outputs:
            try:
                values = self._session.run(self._outputs, {self._input: batch})
            except Exception as error:
                raise EngineError(
                    f"calibration: ONNX Runtime failed: {first_line(error)}"
                ) from None
            found.update(zip(self._outputs, values, strict=True))
        return {name: found[name].astype(np.float32, copy=False) for name in self.names}


class _Range:
    """Smallest and largest value of a tensor, and the sums over its channels, so far."""

    def __init__(self) -> None:
        self.low, self.high, self.count = np.inf, -np.inf, 0
        self._sums: NDArray[np.float64] | None = None
        self._seen = 0

    def add(self, values: Tensor) -> None:
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        # NaN has to stay; which of Python's and numpy's functions keep it differs.
        self.low, self.high = float(np.minimum(self.low, low)), float(np.maximum(self.high, high))
        self.count += values.size
        if values.ndim == 4:
            rows = values.reshape(*values.shape[:2], -1)
            # Numpy adds the values of a row pairwise: float32 is precise enough there.
            sums = rows.sum(axis=2).sum(axis=0, dtype=np.float64)
            self._sums = sums if self._sums is None else self._sums + sums
            self._seen += rows.shape[0] * rows.shape[2]

    def finished(self, histogram: NDArray[np.int64]) -> Statistics:
        if not self.count:
            return Statistics(0.0, 0.0, histogram, None, 0)
        mean = None if self._sums is None else self._sums / self._seen
        return Statistics(self.low, self.high, histogram, mean, self.count)


class _Counts:
    """The histogram of a tensor so far."""

    def __init__(self, low: float, high: float, bins: int) -> None:
        self.histogram = np.zeros(bins, np.int64)
        self._low = np.float32(low)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            self._scale = np.float32(bins / np.float64(high - low))
        # Also where the values lie so close that float32 cannot tell their parts apart.
        self._constant = not (high > low and np.isfinite(self._scale))

    def add(self, values: Tensor) -> None:
        flat, bins = values.reshape(-1), len(self.histogram)
        if self._constant:
            self.histogram[0] += flat.size
            return
        shifted = np.empty(min(_SLICE, flat.size), np.float32)
        indices = np.empty(shifted.shape, np.uint16)
        for start in range(0, flat.size, _SLICE):
            part = flat[start : start + _SLICE]
            above, index = shifted[: part.size], indices[: part.size]
            np.subtract(part, self._low, out=above)
            np.multiply(above, self._scale, out=index, casting="unsafe")
            np.minimum(index, bins - 1, out=index)
            # A third faster than bincount, and other threads run meanwhile; exact up to 2**24.
            counted = cv2.calcHist([index.reshape(1, -1)], [0], None, [bins], [0, bins])
            self.histogram += counted.reshape(-1).astype(np.int64)


def _add(
    pool: ThreadPoolExecutor, parts: Mapping[str, _Range | _Counts], values: dict[str, Tensor]
) -> None:
    """Count the values of every tensor, several tensors at once."""
    list(pool.map(lambda name: parts[name].add(values[name]), parts))


def _check_finite(ranges: dict[str, _Range], shown: Sequence[Path]) -> None:
    for name, found in ranges.items():
        with np.errstate(over="ignore"):
            span = np.float32(found.high - found.low)
        if found.count and not np.isfinite(span):
            which = str(shown[0]) if len(shown) == 1 else f"one of {shown[0]} … {shown[-1]}"
            raise ArtifactError(
                f"calibration: expected finite values in the tensor {name}, found NaN, infinite or "
                f"overflowing ones for {which}; the network cannot be quantised as it is"
            )


def _inputs(
    files: Sequence[Path],
    prepared: Callable[[Path], Array],
    part: str,
    tell: Tell,
    unreadable: list[str] | None = None,
) -> Iterator[tuple[Path, Array]]:
    """Inputs of the images; without those that cannot be read, if a list takes the reasons."""
    for number, path in enumerate(files, 1):
        tell(Progress("calibrating", number, len(files), part))
        try:
            made = prepared(path)
        except InputError as error:
            if unreadable is None:
                raise
            text = str(error)
            unreadable.append(text if text.startswith(str(path)) else f"{path}: {text}")
            tell(Progress(f"left out: {unreadable[-1]}"))
            continue
        yield path, made


def _batches(images: Iterator[tuple[Path, Array]], size: int) -> Iterator[tuple[Array, list[Path]]]:
    """Inputs stacked to batches of `size`; the last is filled up by repeating its images."""
    while taken := list(itertools.islice(images, size)):
        filled = [made for _, made in itertools.islice(itertools.cycle(taken), size)]
        yield np.stack(filled), [path for path, _ in taken]
