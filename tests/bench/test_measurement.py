from pathlib import Path

import pytest

from atrous.bench import measurement, report
from atrous.bench.measurement import Measurement, ServerFigures
from atrous.bench.plan import Plan
from atrous.bench.warmup import WarmUp
from atrous.errors import ConfigError
from tests.builders.bench import result as made


def test_what_is_kept_is_what_was_found(tmp_path: Path) -> None:
    plan = Plan(scenario="server", rate=5.0, images=Path("a"), feed="images", size=(8, 9))
    found = made(
        plan=plan, server=ServerFigures(rate=5.0, holds=True), noise=("a",), advice=("b", "c")
    )
    measurement.save(found, tmp_path / "folder" / "a.json")
    assert measurement.load(tmp_path / "folder" / "a.json") == found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("{", "Expecting"),
        ("[]", "valid dictionary"),
        ('{"mean_iou": 3}', "plan: Field required"),
    ],
)
def test_other_files(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message) as refused:
        measurement.load(path)
    assert "x.json: not a result of atrous bench --json-file" in str(refused.value)


def page(found: Measurement) -> str:
    return "\n".join([*report.heading(found), *report.lines(found), *report.verdict(found)])


def test_the_report() -> None:
    shown = page(made(noise=("it was loud",), advice=("more cores",)))
    for part in (
        "m.onnx (fp32) on onnxruntime 1.0, cpu, 4 threads",
        "scenario offline, fed with noise; -i 1 -p 1 -b 1 -s [3,8,8] float32",
        "warm-up 30 queries, 1.5 s, until 3 blocks agreed within 5%; measured 1000 queries, 10.0 s",
        "throughput 100.0 images/s (± 1.00, 95 % confidence by batch means)",
        "mean 10.00  min 10.00  max 10.00  p50 10.00  p90 10.00  p95 10.00  p99 10.00",
        "CPU 95% of 4 cores, others 0%; peak memory 100 MiB",
        "bottleneck: infer",
        "would help: more cores",
        "noisy: it was loud",
    ):
        assert part in shown


@pytest.mark.parametrize(
    ("server", "bound", "part"),
    [
        (ServerFigures(rate=50), None, "arrivals 50.00 images/s (Poisson)\n"),
        (
            ServerFigures(rate=50, searched=True, holds=True),
            20.0,
            "the highest rate found; p99 10.00 ms holds the bound of 20 ms",
        ),
        (
            ServerFigures(rate=50, searched=True, holds=False),
            5.0,
            "no rate was found that holds; p99 10.00 ms breaks the bound of 5 ms",
        ),
        (
            ServerFigures(rate=50, unserved=7),
            None,
            "7 queries found no room: the rate is more than is",
        ),
    ],
)
def test_a_server(server: ServerFigures, bound: float | None, part: str) -> None:
    plan = Plan(scenario="server", rate=50.0, bound=bound)
    assert part in page(made(plan=plan, server=server))


def test_what_else_may_be_said() -> None:
    unstable = made(half=None, samples=4, bottleneck="", warm_up=WarmUp(3, 20.0, stable=False))
    shown = page(unstable)
    assert "and still not stable" in shown
    assert "no confidence interval" in shown
    assert "latency of a query of 4 images" in shown
    assert "bottleneck: none stands out" in shown


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.03312, "0.0331"), (1.234, "1.23"), (56.789, "56.79"), (123.45, "123.5"), (12345, "12,345")],
)
def test_numbers(value: float, text: str) -> None:
    assert report.number(value) == text
