from pathlib import Path
from typing import Any

import pytest

from atrous.bench.plan import Plan
from atrous.errors import ConfigError


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"instances": 0}, "`instances`: expected 1 or more, got 0"),
        ({"processes": 0}, "`processes`: expected 1 or more, got 0"),
        ({"batch": 0}, "`batch`: expected 1 or more, got 0"),
        ({"threads": -1}, "`threads`: expected 0 or more, got -1"),
        ({"queries": 0}, "`queries`: expected 1 or more, got 0"),
        ({"seconds": -1}, "`seconds`: expected 0 or more, got -1"),
        ({"scenario": "server", "rate": 0.0}, "`rate`: expected more than 0, got 0"),
        ({"scenario": "server", "bound": -5.0}, "`bound`: expected more than 0, got -5"),
        ({"scenario": "server"}, "expected `rate`, images per second, or `bound`, milliseconds"),
        ({"rate": 5.0}, "belong to `scenario` server"),
        (
            {"scenario": "single-stream", "instances": 2},
            "expected `instances` 1, `processes` 1 and `batch` 1, got 2, 1, 1",
        ),
        ({"scenario": "single-stream", "batch": 2}, "one image at a time"),
        ({"scenario": "burst"}, "no scenario 'burst'"),
        ({"feed": "images"}, "expected `images`, a folder"),
        ({"feed": "pixels", "synchronous": True, "batch": 2}, "expected `batch` 1, got 2"),
    ],
)
def test_refusals(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Plan(**wrong)
    assert message in str(refused.value)


def test_what_goes_together() -> None:
    Plan(scenario="server", rate=5.0, bound=100.0)
    Plan(feed="images", images=Path("folder"), synchronous=True)
    Plan(synchronous=True, batch=4)


@pytest.mark.parametrize(
    ("threads", "processes", "own"), [(0, 1, 0), (0, 2, 3), (0, 9, 1), (5, 2, 5)]
)
def test_processes_share_the_cores(
    threads: int, processes: int, own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atrous.bench.plan.cores", lambda: 6)
    assert Plan(threads=threads, processes=processes).own_threads == own
