"""Two results side by side, what may not stand side by side, and why int8 is slower."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from atrous.bench import compare, report
from atrous.bench.compare import Growth
from atrous.bench.machine import Machine
from atrous.bench.measurement import Measurement, ServerFigures
from atrous.bench.plan import Plan
from atrous.bench.statistics import Throughput
from atrous.bench.warmup import WarmUp
from atrous.engines.profile import Layer, Profile
from atrous.errors import ConfigError, EngineError
from tests.builders.bench import FACTS, result, text

NAMES = ("a.json", "b.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"plan": Plan(scenario="single-stream")},
            "the scenario is offline in the one and single-stream in the other",
        ),
        (
            {"facts": replace(FACTS, shape=(1, 3, 9, 8))},
            "the shape is [3,8,8] in the one and [3,9,8] in the other",
        ),
        ({"facts": replace(FACTS, shape=(2, 3, 8, 8))}, "the batch is 1 in the one and 2"),
        ({"plan": Plan(feed="pixels")}, "what is fed is tensors in the one and pixels (noise; )"),
        ({"plan": Plan(synchronous=True)}, "the forward mode is 0 in the one and 1 (synchronous)"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compare.check(NAMES, (result(), result(**changes)))
    assert message in str(refused.value)
    assert str(refused.value).startswith("a.json and b.json cannot be compared: ")
    assert str(refused.value).endswith("measure both the same way")


def test_other_images_are_refused_where_they_matter() -> None:
    facts = [replace(FACTS, fed="5 images of a folder", ids=ids) for ids in ("1", "2")]
    for feed, refused in (("tensors", False), ("pixels", True)):
        plan = Plan(feed=feed)  # type: ignore[arg-type]
        pair = tuple(result(plan=plan, facts=one) for one in facts)
        if refused:
            with pytest.raises(ConfigError, match="what is fed"):
                compare.check(NAMES, pair)  # type: ignore[arg-type]
        else:
            compare.check(NAMES, pair)  # type: ignore[arg-type]


def test_rates_of_a_server() -> None:
    given = [
        result(plan=Plan(scenario="server", rate=rate), server=ServerFigures(rate=rate))
        for rate in (5.0, 6.0)
    ]
    with pytest.raises(ConfigError, match="server, 5 images/s in the one and server, 6 images/s"):
        compare.check(NAMES, (given[0], given[1]))
    bound = Plan(scenario="server", bound=50.0)
    found = [
        result(plan=bound, server=ServerFigures(rate=rate, searched=True)) for rate in (5.0, 6.0)
    ]
    assert compare.check(NAMES, (found[0], found[1])) == []


def test_what_is_said_of_other_circumstances() -> None:
    other = result(
        machine=Machine("another", 2, "Linux x86_64"),
        facts=replace(FACTS, version="2.0"),
        noise=("it was loud",),
        plan=Plan(instances=4, processes=2),
    )
    assert compare.check(NAMES, (result(), other)) == [
        "different machines: a processor (4 cores), and another (2 cores)",
        "different versions: onnxruntime 1.0, and onnxruntime 2.0",
        "b.json: it was loud",
    ]
    another = replace(FACTS, engine="openvino", version="9")
    assert compare.check(NAMES, (result(), result(facts=another))) == []


def test_the_table() -> None:
    pair = (result(100, 1.0, 10.0), result(150, 3.0, 8.0, memory=50 * 2**20))
    shown = [line.split() for line in text(report.compared(NAMES, pair)).splitlines()]
    assert ["model", "m", "m"] in shown
    assert ["images/s", "100.0", "150.0", "1.500", "±", "0.034"] in shown
    assert ["latency", "p99", "ms", "10.00", "8.00", "0.800"] in shown
    assert ["peak", "memory", "MiB", "100", "50", "0.500"] in shown


@pytest.mark.parametrize(
    ("rates", "half", "said"),
    [
        ((100, 110), 1.0, "m (b.json) processes 10.0% (± 1.5%) more images per sec"),
        ((100, 80), 1.0, "m (b.json) processes 20.0% (± 1.3%) fewer images per sec"),
        (
            (100, 101),
            1.0,
            "These measurements show no difference in throughput between m (a",
        ),
        (
            (100, 200),
            None,
            "No conclusion about m (a.json) and m (b.json): there are too",
        ),
    ],
)
def test_the_sentence(rates: tuple[float, float], half: float | None, said: str) -> None:
    assert report.difference(NAMES, (result(rates[0], half), result(rates[1], half))).startswith(
        said
    )


@pytest.mark.parametrize(
    "doubt",
    [
        {"others": 0.4},
        {"throughput": Throughput(mean=107, half=1.0, spread=0.2)},
        {"warm_up": WarmUp(30, 1.5, stable=False)},
        {"machine": Machine("another", 2, "Linux x86_64")},
    ],
    ids=lambda doubt: next(iter(doubt)),
)
def test_nothing_is_concluded_from_what_the_notes_call_in_doubt(doubt: dict[str, Any]) -> None:
    """The model is the same: what differs is what else the machine had to do."""
    pair = (result(100), result(**({"rate": 107} | doubt)))
    for one, other in (pair, pair[::-1]):
        said = report.difference(NAMES, (one, other))
        assert said.startswith("No conclusion about m (a.json) and m (b.json): for the reasons")
        int8 = other.model_copy(update={"facts": replace(FACTS, precision="int8")})
        assert compare.int8_is_slower((one, int8)) is None


def test_few_queries_alone_call_no_throughput_in_doubt() -> None:
    few = result(110, queries=40, noise=("40 queries: p99 is hardly more than the largest",))
    assert "10.0%" in report.difference(NAMES, (result(100), few))


def precise(precision: str, rate: float, **facts: Any) -> Measurement:
    return result(rate, facts=replace(FACTS, precision=precision, **facts))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("one", "other", "slower"),
    [
        (precise("fp32", 100), precise("int8", 90), True),
        (precise("fp16", 100), precise("int8", 90), True),
        (precise("fp32", 100), precise("int8", 110), False),
        (precise("fp32", 100), precise("int8", 99), False),  # within the interval
        (precise("fp32", 100), precise("fp16", 50), False),
        (precise("", 100), precise("int8", 50), False),
        (precise("fp32", 100), precise("int8", 50, engine="openvino"), False),
        (precise("fp32", 100, arithmetic="bf16"), precise("int8", 50), False),
        (precise("fp32", 100, arithmetic="bf16"), precise("int8", 50, arithmetic="bf16"), True),
    ],
)
def test_when_int8_is_slower(
    one: Measurement, other: Measurement, slower: bool, turned: bool
) -> None:
    found = compare.int8_is_slower((other, one) if turned else (one, other))
    assert found == ((one, other) if slower else None)


def profile(*layers: tuple[str, str, float]) -> Profile:
    made = [Layer(name=n, operator=o, milliseconds=t, share=0.1) for n, o, t in layers]
    return Profile(
        engine="e",
        version="1",
        threads=1,
        runs=1,
        milliseconds=9,
        spread=(9, 9),
        layers=tuple(made),
    )


def test_layers_that_grew() -> None:
    before = profile(
        ("a.0", "Conv", 5.0), ("b.1", "Conv", 3.0), ("b.11", "Conv", 1.0), ("head", "Resize", 9.0)
    )
    after = profile(
        ("a.0_DequantizeLinear_Output", "QLinearConv", 2.0),
        ("b.1_fine_DequantizeLinear_Output", "QLinearConv", 2.5),
        ("b.1_wide", "MatMul", 1.5),
        ("x → b.1_fine_DequantizeLinear_Output", "Reorder", 1.0),
        ("b.11", "QLinearConv", 1.25),
        ("Transpose", "Transpose", 0.5),
        ("Transpose", "Transpose", 0.5),
    )
    assert compare.growth(before, after) == [
        Growth("b.1", 3.0, 5.0, "QLinearConv, MatMul, Reorder"),
        Growth("Transpose", 0.0, 1.0, "Transpose"),
        Growth("b.11", 1.0, 1.25, "QLinearConv"),
    ]
    shown = text(report.grown(compare.growth(before, after)))
    assert "+2.00" in shown
    assert "none" in shown


@pytest.mark.heavy
def test_layers_of_real_files(tmp_path: Path, small_model: Callable[..., onnx.ModelProto]) -> None:
    """The second network has a layer more; as files they need not be int8."""
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    model = small_model()
    onnx.save(model, before)
    more = onnx.helper.make_node("Erf", ["logits"], ["more"], name="more")
    model.graph.node.insert(2, more)
    model.graph.node[3].input[0] = "more"
    onnx.save(model, after)
    pair = [precise("fp32", 1, file=str(path)) for path in (before, after)]
    names = [one.layer for one in compare.slower_layers(pair[0], pair[1], most=99)]
    assert "more" in names
    before.unlink()
    with pytest.raises(EngineError, match=r"before\.onnx: gone"):
        compare.slower_layers(pair[0], pair[1])
