"""What each scenario does to a model, counted on a fake one."""

import threading
import time
from typing import Any

import numpy as np
import pytest

from atrous.bench import load_generator
from atrous.bench.load_generator import Flow, Load, Loops, arrivals, generator_for
from atrous.bench.plan import Plan
from atrous.errors import EngineError
from tests.builders.bench import loaded, logits


class Counting:
    """Counts its calls, and how many run side by side."""

    def __init__(self, seconds: float = 0.002) -> None:
        self.seconds, self.calls, self.now, self.most = seconds, 0, 0, 0
        self.batches: list[int] = []
        self.inputs: dict[int, set[float]] = {}
        self._lock = threading.Lock()

    def __call__(self, batch: Any) -> Any:
        with self._lock:
            self.calls += 1
            self.now += 1
            self.most = max(self.most, self.now)
            self.batches.append(len(batch))
            self.inputs.setdefault(threading.get_ident(), set()).add(float(batch[0, 0, 0, 0]))
        time.sleep(self.seconds)
        with self._lock:
            self.now -= 1
        return logits(batch)


def run(plan: Plan, load: Load, model: Any, **how: Any) -> load_generator.Recording:
    one = generator_for(plan, loaded(model, plan, **how))
    try:
        return one.run(load)
    finally:
        one.close()


def test_pure_inference_is_a_loop() -> None:
    model = Counting()
    plan = Plan(instances=3)
    one = generator_for(plan, loaded(model, plan, batch=2))
    assert isinstance(one, Loops)
    found = one.run(Load(0, queries=30))
    assert model.calls == len(found.ends) == 30
    assert (model.most, found.samples, set(model.batches)) == (3, 2, {2})
    one.run(Load(0, queries=3))
    one.close()
    assert len(model.inputs) == 3  # the same threads both times
    assert set.union(*model.inputs.values()) == {0.0, 1.0, 2.0}
    assert (found.ends > found.begins).all()
    assert found.busy["infer"] == pytest.approx((found.ends - found.begins).sum())
    assert found.crews == (load_generator.ThreadGroup(("infer",), 3),)


def test_between_two_calls_is_nothing() -> None:
    found = run(Plan(), Load(0, queries=50), Counting(0))
    np.testing.assert_array_equal(found.begins[1:], found.ends[:-1])


@pytest.mark.parametrize("feed", ["tensors", "pixels"])
def test_until_both_time_and_number_are_reached(feed: Any) -> None:
    plan = Plan(feed=feed)
    model = Counting(0.005)
    assert len(run(plan, Load(0.3, queries=2), model).ends) > 2
    assert len(run(plan, Load(0.0, queries=40), model).ends) == 40


def test_single_stream_is_one_at_a_time() -> None:
    for feed in ("tensors", "pixels"):
        model = Counting()
        plan = Plan(scenario="single-stream", feed=feed)  # type: ignore[arg-type]
        found = run(plan, Load(0, queries=10), model)
        assert (model.calls, model.most, len(found.ends)) == (10, 1, 10)
        assert (found.begins[1:] >= found.ends[:-1]).all()


def test_multi_stream_waits_for_the_whole_query() -> None:
    model = Counting()
    found = run(Plan(scenario="multi-stream", instances=3), Load(0, queries=5), model)
    assert (model.calls, model.most, found.samples, len(found.ends)) == (15, 3, 3, 5)
    assert (found.begins[1:] >= found.ends[:-1]).all()


def test_multi_stream_in_batches() -> None:
    model = Counting()
    plan = Plan(scenario="multi-stream", instances=2, batch=4)
    found = run(plan, Load(0, queries=3), model, batch=4)
    assert (sum(model.batches), found.samples) == (24, 8)
    assert max(model.batches) == 4


def test_offline_overlaps_the_steps() -> None:
    found = run(Plan(feed="pixels"), Load(0, queries=20), Counting())
    assert [crew.steps for crew in found.crews] == [("preprocess",), ("infer",), ("postprocess",)]
    assert set(found.spent) == {"preprocess", "infer", "postprocess", "queue"}
    assert found.spent["infer"] >= 0.002
    assert found.busy["infer"] == pytest.approx(20 * found.spent["infer"], rel=1e-6)
    # Others wait while one is in the network, so latency is more than the work.
    assert found.latencies.mean() > found.spent["infer"] + found.spent["preprocess"]
    assert found.spent["queue"] > 0.002


def test_synchronous_callers_queue_nothing() -> None:
    model = Counting(0.02)
    plan = Plan(feed="pixels", instances=2, synchronous=True)
    found = run(plan, Load(0, queries=20), model)
    assert found.spent["queue"] < 0.01
    assert found.crews == (load_generator.ThreadGroup(("preprocess", "infer", "postprocess"), 2),)
    assert model.most == 2


@pytest.mark.heavy
def test_a_server_counts_from_the_arrival() -> None:
    """Arrivals every 2 ms on average, served in 20 ms: what waits outside waits as well."""
    model = Counting(0.02)
    plan = Plan(scenario="server", rate=500)
    one = generator_for(plan, loaded(model, plan))
    assert isinstance(one, Flow)
    found = one.run(Load(0.3, rate=500))
    one.close()
    due = len(arrivals(Load(0.3, rate=500)))
    assert len(found.ends) + len(found.waited) == due
    assert len(found.waited) > 20
    assert model.calls == len(found.ends)
    # No query waits longer than since the start, none that got in late waits less than before.
    assert found.latencies.max() <= found.ended - found.began
    assert np.percentile(found.latencies, 90) > 0.2


def test_a_server_that_keeps_up() -> None:
    model = Counting(0.001)
    found = run(Plan(scenario="server", rate=100), Load(0.5, rate=100), model)
    moments = arrivals(Load(0.5, rate=100))
    assert not found.waited.size
    np.testing.assert_allclose(found.begins - found.began, moments, atol=1e-9)


def test_arrivals_are_a_poisson_process() -> None:
    load = Load(1000, rate=20, seed=3)
    moments = arrivals(load)
    np.testing.assert_array_equal(moments, arrivals(load))
    assert not np.array_equal(moments[:9], arrivals(Load(1000, rate=20, seed=4))[:9])
    assert len(moments) == pytest.approx(20_000, rel=0.03)
    assert moments[-1] < 1000
    gaps = np.diff(moments)
    # Exponential: mean and deviation are alike, and a gap above the mean has a chance of 1/e.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert (gaps > gaps.mean()).mean() == pytest.approx(np.exp(-1), abs=0.01)
    # Independent: a long gap says nothing of the next.
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 0.03


def test_there_are_as_many_arrivals_as_are_asked_for() -> None:
    assert len(arrivals(Load(0, queries=7, rate=1))) == 7
    assert len(arrivals(Load(0.001, rate=1))) == 1


@pytest.mark.parametrize(
    "plan",
    [
        Plan(instances=2),
        Plan(feed="pixels"),
        Plan(scenario="single-stream", feed="pixels"),
        Plan(scenario="multi-stream", instances=2),
        Plan(scenario="server", rate=100),
    ],
    ids=lambda plan: f"{plan.scenario} {plan.feed}",
)
def test_a_model_that_fails_ends_the_measurement(plan: Plan) -> None:
    def fails(batch: Any) -> Any:
        raise EngineError("broken")

    with pytest.raises(EngineError, match="broken"):
        run(plan, Load(5 if plan.feed == "pixels" else 0.2, rate=plan.rate), fails)


def test_one_that_fails_stops_the_others() -> None:
    def fails(batch: Any) -> Any:
        if batch[0, 0, 0, 0] == 1:
            raise EngineError("broken")
        time.sleep(0.01)
        return logits(batch)

    with pytest.raises(EngineError, match="broken"):
        run(Plan(instances=2), Load(3600), fails)


def test_no_thread_is_left() -> None:
    before = set(threading.enumerate())  # of which some may end meanwhile
    for plan in (Plan(instances=2), Plan(feed="pixels"), Plan(scenario="server", rate=100)):
        run(plan, Load(0.05, rate=plan.rate), Counting())
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before
