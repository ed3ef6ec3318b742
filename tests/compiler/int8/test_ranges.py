from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.compiler.int8 import ranges
from atrous.compiler.int8.calibrate import Statistics
from atrous.compiler.int8.ranges import Mode
from atrous.errors import ConfigError

Values = NDArray[np.float32]
CUTTING: list[Mode] = ["percentile", "mse", "kl_divergence"]
ALL: list[Mode] = ["max", *CUTTING]
N = 200_000


def described(values: Values | list[float], bins: int = 4096) -> Statistics:
    array = np.asarray(values, np.float32)
    low, high = float(array.min()), float(array.max())
    histogram = np.zeros(bins, np.int64)
    if low == high:
        histogram[0] = array.size
    else:
        histogram[:] = np.histogram(array, bins, (low, high))[0]
    return Statistics(low, high, histogram, None, array.size)


def gaussian(count: int = N) -> Values:
    return np.random.default_rng(0).normal(size=count).astype(np.float32)


def laplace() -> Values:
    return np.random.default_rng(1).laplace(size=N).astype(np.float32)


def relu() -> Values:
    return np.maximum(gaussian(), 0)


def relu6() -> Values:
    return np.clip(3 * gaussian(), 0, 6)


def mixed() -> Values:
    """As channels of a linear layer: most narrow, few wide."""
    values = gaussian()
    values[: N // 20] *= 20
    return values


def bordered() -> Values:
    """A third of the values are one constant, as padding leaves it."""
    values = gaussian()
    values[: N // 3] = 0.7
    return values


SHAPES = [gaussian, laplace, relu, relu6, mixed, bordered]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 5], (0, 5)),
        ([-4, -1], (-4, 0)),
        ([-1, 3], (-1, 3)),
        ([3, 3], (0, 3)),
        ([-2, -2], (-2, 0)),
        ([0, 0], (0, 1)),
    ],
)
def test_max_is_the_range_with_zero(values: list[float], expected: tuple[float, float]) -> None:
    assert ranges.choose(described(values), "max") == expected


@pytest.mark.parametrize("mode", ALL)
@pytest.mark.parametrize("value", [-2.5, 0.0, 1e-30, 7.0])
def test_a_constant_is_exact(mode: Mode, value: float) -> None:
    statistics = described([value] * 5)
    low, high = ranges.choose(statistics, mode)
    assert low <= 0 <= high
    assert low < high
    assert ranges.squared_error(statistics, low, high) == 0
    far = ranges.choose(statistics, mode, symmetric=True)
    assert far[0] == -far[1] < 0


@pytest.mark.parametrize(
    ("histogram", "low", "high", "kept", "symmetric", "expected"),
    [
        # Ten bins of width 1; the last value of ten is cut, its stretch without values too.
        ([5, 4, 0, 0, 0, 0, 0, 0, 0, 1], 0, 10, 0.9, False, (0, 2)),
        ([1, 0, 0, 0, 0, 0, 0, 0, 4, 5], -10, 0, 0.9, False, (-2, 0)),
        # Half of what is cut at either end.
        ([1, 0, 0, 4, 4, 0, 0, 0, 0, 1], -5, 5, 0.8, False, (-2, 0)),
        ([1, 0, 0, 4, 0, 4, 0, 0, 0, 1], -5, 5, 0.8, False, (-2, 1)),
        # What is cut below is all there is below zero.
        ([1, 0, 0, 0, 0, 0, 0, 9, 10, 0], -5, 5, 0.8, False, (0, 3.8)),
        # Within a bin, the share of it.
        ([10, 10, 10, 10, 10, 10, 10, 10, 10, 10], 0, 10, 0.95, False, (0, 9.5)),
        ([10, 10, 10, 10, 10, 10, 10, 10, 10, 10], -5, 5, 0.9, False, (-4.5, 4.5)),
        ([1, 0, 0, 4, 0, 4, 0, 0, 0, 1], -5, 5, 0.8, True, (-2, 2)),
        ([5, 4, 0, 0, 0, 0, 0, 0, 0, 1], 0, 10, 0.9, True, (-2, 2)),
        ([5, 4, 0, 0, 0, 0, 0, 0, 0, 1], 0, 10, 1, False, (0, 10)),
    ],
)
def test_percentile(
    histogram: list[int],
    low: float,
    high: float,
    kept: float,
    symmetric: bool,
    expected: tuple[float, float],
) -> None:
    counts = np.array(histogram, np.int64)
    statistics = Statistics(low, high, counts, None, int(counts.sum()))
    found = ranges.choose(statistics, "percentile", percentile=kept, symmetric=symmetric)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "expected"), [(99.99, 0.9999), (0.9999, 0.9999), (1, 1), (100, 1)]
)
def test_percentiles_are_shares_or_in_percent(given: float, expected: float) -> None:
    assert ranges.share(given) == pytest.approx(expected)


@pytest.mark.parametrize("given", [0, 0.5, 1.5, 50, 101, -1, float("nan")])
def test_what_is_no_percentile_is_refused(given: float) -> None:
    with pytest.raises(ConfigError, match=r"calibrate_range: expected a percentile, as 99\.99 or"):
        ranges.share(given)


@pytest.mark.parametrize("mode", ALL)
def test_a_single_step_is_no_quantiser(mode: Mode) -> None:
    with pytest.raises(ConfigError, match=r"levels: expected 2 or more, found 1$"):
        ranges.choose(described([-1, 1]), mode, levels=1)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="calibrate_mode: expected one of max, percentile, mse"):
        ranges.choose(described([0, 1]), "entropy")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("low", "high", "levels", "expected"),
    [
        (0.0, 1.0, 1, 1 / 12),  # half of them rounds to 0, half to 1
        (0.0, 1.0, 255, 1 / 12 / 255**2),
        (0.0, 0.5, 1, (1 / 12 * 0.25 + 0.25 / 3) / 2),
        (-1.0, 1.0, 2, 1 / 12),
        (0.0, 2.0, 1, 1 / 3),  # all to 0
        (0.0, 2.0, 2, 1 / 12),
    ],
)
def test_squared_error_of_a_uniform_distribution(
    low: float, high: float, levels: int, expected: float
) -> None:
    statistics = Statistics(0.0, 1.0, np.full(8, 5, np.int64), None, 40)
    assert ranges.squared_error(statistics, low, high, levels) == pytest.approx(expected)


def test_squared_error_beyond_both_ends() -> None:
    """Levels -1, 0 and 1: within a twelfth of a step squared, outside the distance to the end."""
    statistics = Statistics(-2.0, 2.0, np.full(8, 5, np.int64), None, 40)
    expected = (2 / 12 + 2 / 3) / 4
    assert ranges.squared_error(statistics, -1.0, 1.0, 2) == pytest.approx(expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_squared_error_is_that_of_the_values(shape: Callable[[], Values]) -> None:
    values = shape()
    least, most = float(values.min()), float(values.max())
    for low, high in [(least, most), (min(-1, least), 2.0), (least / 3, most / 3)]:
        low = min(low, 0.0)
        step = (high - low) / 255
        zero = round(-low / step)
        quantised = (np.clip(np.round(values / step), -zero, 255 - zero)) * step
        expected = ((quantised - values) ** 2).mean(dtype=np.float64)
        assert ranges.squared_error(described(values), low, high) == pytest.approx(
            expected, rel=0.1
        )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("symmetric", [False, True])
def test_mse_finds_the_least(shape: Callable[[], Values], symmetric: bool) -> None:
    statistics = described(shape())
    low, high = ranges.choose(statistics, "mse", symmetric=symmetric)
    found = ranges.squared_error(statistics, low, high)
    parts = np.linspace(0.05, 1, 20)
    if symmetric:
        far = max(-statistics.low, statistics.high)
        grid = [(-far * part, far * part) for part in parts]
    else:
        lows = [min(0.0, statistics.low) * part for part in parts] if statistics.low < 0 else [0.0]
        grid = [(a, statistics.high * part) for a in lows for part in parts]
    least = min(ranges.squared_error(statistics, a, b) for a, b in grid)
    assert found <= least * 1.01


# Best clipping for 8 bits in deviations and scales: 3.92 and 9.89 by Banner, Nahshan and Soudry
# (arXiv:1810.05723); half-distributions have twice the levels for their side.
@pytest.mark.parametrize(
    ("shape", "scale", "mode", "least", "most"),
    [
        (gaussian, 1.0, "mse", 3.6, 4.3),
        (laplace, 1.0, "mse", 8.5, 10.9),
        (relu, 1.0, "mse", 3.8, 4.5),
        (gaussian, 1.0, "kl_divergence", 3.3, 4.8),
        (laplace, 1.0, "kl_divergence", 7.5, 12.5),
        (relu, 1.0, "kl_divergence", 3.5, 4.8),
        (relu6, 1.0, "mse", 5.9, 6.0),
        (relu6, 1.0, "kl_divergence", 6.0, 6.0),
        (bordered, 1.0, "mse", 3.6, 4.3),
        (bordered, 1.0, "kl_divergence", 3.3, 4.8),
    ],
)
def test_known_answers(
    shape: Callable[[], Values], scale: float, mode: Mode, least: float, most: float
) -> None:
    low, high = ranges.choose(described(shape()), mode)
    assert least * scale <= high <= most * scale * (1 + 1e-6)
    assert low == 0 or -most * scale <= low <= -least * scale


@pytest.mark.parametrize("shape", [gaussian, laplace, relu, bordered])
@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("symmetric", [False, True])
def test_one_value_far_away_is_cut_except_by_max(
    shape: Callable[[], Values], side: int, symmetric: bool
) -> None:
    values = side * shape()
    values[0] = side * 1000
    drawn = described(values)
    # Of 100 million values, as a large tensor has in 50 images: in fewer, its square weighs more.
    often = np.where(drawn.histogram == 1, 1, drawn.histogram * 500)
    statistics = Statistics(drawn.low, drawn.high, often, None, int(often.sum()))
    for mode in ALL:
        low, high = ranges.choose(statistics, mode, symmetric=symmetric)
        far = max(-low, high)
        if mode == "max":
            assert far == 1000
        else:
            assert 2 < far < 25, mode


@pytest.mark.parametrize("mode", CUTTING)
def test_one_value_so_far_away_that_the_others_share_a_bin(mode: Mode) -> None:
    values = relu()
    values[0] = 1e5
    drawn = described(values)
    often = np.where(drawn.histogram == 1, 1, drawn.histogram * 100_000)
    statistics = Statistics(drawn.low, drawn.high, often, None, int(often.sum()))
    low, high = ranges.choose(statistics, mode)
    assert low == 0
    assert 4 < high < 200


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [500, 10_000, N])
def test_kl_does_not_collapse(shape: Callable[[], Values], count: int) -> None:
    values = np.random.default_rng(2).permutation(shape())[:count]
    statistics = described(values)
    low, high = ranges.choose(statistics, "kl_divergence")
    power = float((values.astype(np.float64) ** 2).mean())
    assert ranges.squared_error(statistics, low, high) < 0.03 * power
    best = ranges.choose(statistics, "mse")
    assert high - low > 0.4 * (best[1] - best[0])


@pytest.mark.parametrize("mode", ALL)
@pytest.mark.parametrize("shape", SHAPES)
def test_zero_is_inside_and_scaling_and_mirroring_change_nothing(
    mode: Mode, shape: Callable[[], Values]
) -> None:
    values = shape()
    low, high = ranges.choose(described(values), mode)
    assert low <= 0 <= high
    assert ranges.choose(described(values), mode) == (low, high)
    assert ranges.choose(described(values * 256), mode) == pytest.approx((low * 256, high * 256))
    # The search may end elsewhere on the same floor.
    assert ranges.choose(described(-values), mode) == pytest.approx((-high, -low), rel=0.1)


@pytest.mark.parametrize("mode", ALL)
def test_values_far_from_zero_keep_it(mode: Mode) -> None:
    low, high = ranges.choose(described(gaussian() + 50), mode)
    assert low == 0
    assert 52 < high < 56


@pytest.mark.parametrize("mode", ALL)
def test_two_values_alone(mode: Mode) -> None:
    # As a mask would be: both are spikes, and nothing is left between them.
    low, high = ranges.choose(described([0] * 900 + [1] * 100), mode)
    assert (low, high) == pytest.approx((0, 1), abs=0.01)


def test_kl_sees_fewer_levels() -> None:
    statistics = described(laplace())
    widths = [ranges.choose(statistics, "kl_divergence", levels=n)[1] for n in (15, 63, 255)]
    assert widths == sorted(widths)
    assert widths[0] < 0.7 * widths[2]
