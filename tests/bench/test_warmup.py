"""The rule on made-up series: it reads times and never measures any."""

from itertools import count

import pytest

from atrous.bench.warmup import LIMIT, WITHIN, WarmUp, settled, warm_up


@pytest.fixture(autouse=True)
def _as_for_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atrous.bench.warmup.LIMIT", LIMIT)
    monkeypatch.setattr("atrous.bench.warmup.WITHIN", WITHIN)


@pytest.mark.parametrize(
    ("medians", "stable"),
    [
        ([10, 10, 10], True),
        ([10, 10], False),
        ([10, 10.5, 10.2], True),
        ([10, 10.6, 10.2], False),
        ([30, 20, 12, 10, 10, 10], True),
        ([10, 10, 10, 20], False),
        ([], False),
    ],
)
def test_settled(medians: list[float], stable: bool) -> None:
    assert settled(medians) is stable


def test_it_ends_when_three_blocks_agree() -> None:
    series = iter([[90.0, 50.0, 50.0], [20.0], [11.0, 11.0], [10.9], [11.1, 99.0, 11.1], [1.0]])
    found = warm_up(lambda: next(series), clock=lambda: 0.0)
    assert found == WarmUp(queries=3 + 1 + 2 + 1 + 3, seconds=0.0, stable=True)
    assert next(series) == [1.0]


def test_it_gives_up_when_time_is_over() -> None:
    ticks, values = count(), count(1)
    found = warm_up(lambda: [2.0 ** next(values)], clock=lambda: float(next(ticks)))
    assert not found.stable
    assert LIMIT <= found.seconds <= LIMIT + 1
    assert found.queries == LIMIT


def test_one_block_is_run_in_any_case() -> None:
    assert warm_up(lambda: [1.0], limit=0).queries == 1


def test_of_several_processes() -> None:
    parts = [WarmUp(10, 2.0, stable=True), WarmUp(20, 3.0, stable=False)]
    assert WarmUp.of_all(parts) == WarmUp(30, 3.0, stable=False)
