"""From what a tensor holds to the range that eight bits stand for.

Whatever lies outside the range is clipped to its ends, and what lies inside is rounded to one of
`levels + 1` values at equal distances. Every mode weighs the one error against the other:

    max             nothing is clipped
    percentile      a fixed share of the values is
    mse             the sum of the expected squares of both errors is least
    kl_divergence   the distribution that is left is the most like the one before

`kl_divergence` follows the entropy calibration of Migacz (8-bit inference with TensorRT, GTC 2017):
the histogram is compared with what is left of it when each level knows only how many values it
has. Taken literally that collapses, as all is like itself in a range of one bin, and three things
keep it from that. Both distributions cover all values that were seen, whatever the range: a level
is spread evenly over every value that is sent to it, so that the outermost ones reach to the
extremes and pay for their tails. Single values that are frequent, as the zeros of a ReLU and the
sixes of a ReLU6, would look the better the narrower their level is, though they do not move: they
are levelled where they are kept (TensorRT drops the first bin for that), and count in full where
they are clipped. And as nearly constant channels and the noise of thin histograms have the same
pull, the histogram is smoothed, by a 64th of the range that holds all but one value in ten
thousand: four levels of eight bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from atrous.compiler.int8.calibrate import Statistics
from atrous.errors import ConfigError

Mode = Literal["max", "percentile", "mse", "kl_divergence"]
Vector = NDArray[np.float64]
Cost = Callable[[float, float], float]

_RATIO = 2**0.25  # of the ends that a search tries first
_ROUNDS = 8
_BULK, _FINEST = 0.9999, 1 / 64  # share of the values, share of their range; see the module
_SPIKE = 4.0  # times its neighbours is what a single value makes, and no smooth shape
_LEFT = 1e-3  # of all values besides spikes have no shape worth the name
_SPIKE_SHARE = 0.002  # of all values; below it, smoothing is enough


def choose(
    statistics: Statistics,
    mode: Mode,
    *,
    levels: int = 255,
    percentile: float = 99.99,
    symmetric: bool = False,
) -> tuple[float, float]:
    """The range of values that is quantised.

    A tensor of one value gets the range from there to zero, in which both are exact; of zeros
    alone, `(0, 1)`.

    Args:
        statistics: of the tensor.
        mode: see the module.
        levels: steps between the ends: 255 for unsigned and 254 for symmetric signed bytes.
        percentile: share of the values that is kept, see `share`; half of the others is cut at
            either end, or all at one if the values have one sign.
        symmetric: both ends at the same distance from zero.

    Returns:
        Low, at most 0, and high, at least 0; they differ.

    Raises:
        ConfigError: the mode is unknown, or the percentile is none.
    """
    if mode not in get_args(Mode):
        raise ConfigError(
            f"backend.quantize.calibrate_mode: expected one of {', '.join(get_args(Mode))}, found "
            f"{mode!r}"
        )
    if levels < 2:
        raise ConfigError(f"levels: expected 2 or more, found {levels}")
    kept = share(percentile)
    low, high = min(statistics.low, 0.0), max(statistics.high, 0.0)
    if low == high:
        return (-1.0, 1.0) if symmetric else (0.0, 1.0)
    if statistics.low < statistics.high and mode != "max":
        shape = _Shape(statistics)
        if mode == "percentile":
            low, high = shape.quantiles(kept, symmetric)
        elif mode == "mse":
            low, high = _search(shape.squared_error(levels), low, high, shape.width, symmetric)
        elif spikes := shape.spikes_alone():
            low, high = spikes
        else:
            low, high = _search(shape.divergence(levels), low, high, shape.width, symmetric)
    if symmetric:
        far = max(-low, high)
        return -far, far
    return low, high


def share(percentile: float) -> float:
    """A percentile as a share, 0.5–1.

    `calibrate_range` is a share in VastModelZOO's files, as 0.9999; other tools say 99.99. Up to 1
    it is read as a share and above 50 in percent: nothing that makes sense is both.

    Raises:
        ConfigError: it is neither.
    """
    if 0.5 < percentile <= 1:
        return float(percentile)
    if 50 < percentile <= 100:
        return float(percentile) / 100
    raise ConfigError(
        "backend.quantize.calibrate_range: expected a percentile, as 99.99 or 0.9999, found "
        f"{percentile}"
    )


def squared_error(statistics: Statistics, low: float, high: float, levels: int = 255) -> float:
    """Expected square of the error per value if `low..high`, which has 0 in it, is quantised."""
    if statistics.low == statistics.high:
        step, value = (high - low) / levels, statistics.low
        zero = round(-low / step)
        return float((min(max(round(value / step), -zero), levels - zero) * step - value) ** 2)
    return _Shape(statistics).squared_error(levels)(low, high)


class _Shape:
    """A histogram with its edges, as a distribution.

    Attributes:
        width: of a bin.
    """

    def __init__(self, statistics: Statistics) -> None:
        bins = len(statistics.histogram)
        self._mass = statistics.histogram / max(1, int(statistics.histogram.sum()))
        self._edges: Vector = np.linspace(statistics.low, statistics.high, bins + 1)
        self.width = (statistics.high - statistics.low) / bins

    def quantiles(self, kept: float, symmetric: bool) -> tuple[float, float]:
        """The range that holds a share of the values; zero is in it."""
        low, high = float(self._edges[0]), float(self._edges[-1])
        below = np.concatenate([[0.0], np.cumsum(self._mass)])
        if symmetric and low < 0 < high:
            ends = np.unique(np.abs(self._edges))
            within = np.interp(ends, self._edges, below) - np.interp(-ends, self._edges, below)
            far = _smallest(ends, within, kept)
            return -far, far
        cut = (1 - kept) / 2 if low < 0 < high else 1 - kept
        first = -_smallest(-self._edges[::-1], 1 - below[::-1], 1 - cut) if low < 0 else 0.0
        last = _smallest(self._edges, below, 1 - cut) if high > 0 else 0.0
        return min(first, 0.0), max(last, 0.0)

    def squared_error(self, levels: int) -> Cost:
        """Range → expected squared error, of values spread evenly over their bins."""
        density = self._mass / self.width
        return lambda low, high: _squared_error(self._edges, density, low, high, levels)

    def spikes_alone(self) -> tuple[float, float] | None:
        """The range of the frequent values, where hardly any others are; zero is in it."""
        spikes = np.flatnonzero(_spikes(self._mass))
        if not len(spikes) or self._mass[spikes].sum() < 1 - _LEFT:
            return None
        first, last = self._edges[spikes[0]], self._edges[spikes[-1] + 1]
        return min(float(first), 0.0), max(float(last), 0.0)

    def divergence(self, levels: int) -> Cost:
        """Range → Kullback-Leibler divergence, in nats; see the module."""
        level = _without_spikes(self._mass)
        spikes = self._mass - level
        low, high = self.quantiles(_BULK, symmetric=False)
        smooth = _smoothed(level, _FINEST * (high - low) / self.width)
        edges = self._edges
        middles = (edges[1:] + edges[:-1]) / 2

        def cost(low: float, high: float) -> float:
            before = smooth + np.where((middles < low) | (middles > high), spikes, 0)
            below = np.concatenate([[0.0], np.cumsum(before)])
            inner = low + (np.arange(levels) + 0.5) * ((high - low) / levels)
            # A bin may lie across a border, and the first or last level beyond all values.
            borders = np.concatenate([[min(low, edges[0])], inner, [max(high, edges[-1])]])
            after = np.diff(np.interp(edges, borders, np.interp(borders, edges, below)))
            filled = before > 0
            ratio = before[filled] / np.maximum(after[filled], 1e-300)
            return float((before[filled] * np.log(ratio)).sum())

        return cost


def _smallest(ends: Vector, within: Vector, kept: float) -> float:
    """The smallest of the ends below which a share of the values lies, given that of each end."""
    # A stretch without values adds nothing: its beginning counts.
    rises = np.diff(within, prepend=-1.0) > 0
    return float(np.interp(kept, within[rises], ends[rises]))


def _squared_error(edges: Vector, density: Vector, low: float, high: float, levels: int) -> float:
    step = (high - low) / levels
    zero = min(max(round(-low / step), 0), levels)
    bottom, top = -zero * step, (levels - zero) * step
    inside = np.clip(edges, bottom, top)
    near = np.round(inside / step)
    # The integral of the squared distance to the nearest level, and to the ends from outside.
    integral = near * (step**3 / 12) + (inside - near * step) ** 3 / 3
    integral += (edges - inside) ** 3 / 3
    return float(np.diff(integral) @ density)


def _spikes(mass: Vector) -> NDArray[np.bool_]:
    """The bins that tower over two neighbours on either side."""
    most: Vector = np.maximum(_SPIKE * _around(mass).max(axis=0), _SPIKE_SHARE)
    return mass > most


def _without_spikes(mass: Vector) -> Vector:
    """The masses with spikes brought down to the mean of their neighbours."""
    return np.where(_spikes(mass), np.minimum(mass, _around(mass).mean(axis=0)), mass)


def _around(mass: Vector) -> Vector:
    """The two neighbours on either side, `(4, bins)`."""
    padded = np.pad(mass, 2)
    return np.stack([padded[:-4], padded[1:-3], padded[3:-1], padded[4:]])


def _smoothed(mass: Vector, bandwidth: float) -> Vector:
    """The masses after a Gaussian kernel of a deviation of so many bins, reflected at the ends."""
    reach = min(int(3 * bandwidth), len(mass) - 1)
    if reach < 1:
        return mass
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / bandwidth) ** 2)
    mirrored = np.pad(mass, reach, mode="symmetric")
    return np.convolve(mirrored, kernel / kernel.sum(), mode="valid")


def _search(
    cost: Cost, low: float, high: float, width: float, symmetric: bool
) -> tuple[float, float]:
    """The range within `low..high`, with zero in it, of the least cost.

    Both ends are drawn in to one distance, then each in turn, until neither moves.
    """
    if symmetric:
        far = _nearest(lambda end: cost(-end, end), max(-low, high), width)
        return -far, far
    if low == 0:
        return 0.0, _nearest(lambda end: cost(0.0, end), high, width)
    if high == 0:
        return -_nearest(lambda end: cost(-end, 0.0), -low, width), 0.0
    far = _nearest(lambda end: cost(max(low, -end), min(high, end)), max(-low, high), width)
    bottom, top = min(-low, far), min(high, far)
    for turn in range(_ROUNDS):
        before = bottom, top
        top = _nearest(lambda end: cost(-bottom, end), high, width, top if turn else None)  # noqa: B023
        bottom = _nearest(lambda end: cost(-end, top), -low, width, bottom if turn else None)  # noqa: B023
        if (bottom, top) == before:
            break
    return -bottom, top


def _nearest(
    cost: Callable[[float], float], far: float, width: float, near: float | None = None
) -> float:
    """The distance up to `far` of the least cost; of equal ones the largest.

    Tried are distances of equal ratios down to one bin, or only `near`, then those around the best.
    """
    steps = int(np.log(far / width) / np.log(_RATIO)) if far > width else 0
    start = [near] if near else [far / _RATIO**k for k in range(steps + 1)]
    tried = {end: cost(end) for end in start}
    ratio = _RATIO
    for _ in range(2):
        best = min(tried, key=lambda end: (tried[end], -end))
        for power in (-0.75, -0.5, -0.25, 0.25, 0.5, 0.75):
            end = min(best * ratio**power, far)
            tried.setdefault(end, cost(end))
        ratio **= 0.25
    return min(tried, key=lambda end: (tried[end], -end))
