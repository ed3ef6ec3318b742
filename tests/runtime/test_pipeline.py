"""Nothing lost, nothing twice, nothing out of order, nothing stuck: whatever the steps do."""

import gc
import itertools
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from atrous.errors import InputError, StreamError
from atrous.runtime.pipeline import Pipeline
from atrous.runtime.worker import SKIP, Item, Stage
from tests.builders.threads import threads

pytestmark = pytest.mark.usefixtures("guard")


class Value:
    """A number that knows what was done to it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.done: list[str] = []


def step(name: str, *, wrong: Callable[[int], bool] | None = None) -> Callable[[Any], None]:
    """A step that leaves its name on a value or on several, and fails for some."""

    def work(values: Any) -> None:
        for value in values if isinstance(values, list) else [values]:
            if wrong is not None and wrong(value.number):
                raise ValueError(f"{name} {value.number}")
            value.done.append(name)

    return work


def nothing(_: object) -> None:
    pass


def indices(items: list[Item[Any]]) -> list[int]:
    return [item.index for item in items]


class Gate:
    """A step that waits until it is let go, and says when it is entered."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self, value: object) -> None:
        if not self.numbers or value in self.numbers:
            self.entered.set()
            self.open.wait(30)


# Order, errors, batches


def test_order_is_kept_where_later_values_are_done_first() -> None:
    finished = []

    def slow_first(number: int) -> None:
        time.sleep(0.02 if number % 4 == 0 else 0)
        finished.append(number)

    with Pipeline([Stage({"sleep": slow_first}, workers=4)]) as pipeline:
        items = list(pipeline.map(range(40)))
    assert indices(items) == [item.value for item in items] == list(range(40))
    assert finished != sorted(finished)


def test_steps_are_done_in_turn_and_timed() -> None:
    stages = [Stage({"a": step("a"), "b": step("b")}), Stage({"c": step("c")}, workers=2)]
    with Pipeline(stages) as pipeline:
        items = list(pipeline.map(map(Value, range(20))))
        busy = pipeline.busy
    assert all(item.value.done == ["a", "b", "c"] for item in items)
    assert all(set(item.seconds) == {"queue", "a", "b", "c"} for item in items)
    assert all(0 < item.submitted <= item.finished for item in items)
    for name in "abc":
        assert busy[name] == pytest.approx(sum(item.seconds[name] for item in items))


def test_a_value_that_fails_says_why_and_the_others_go_on() -> None:
    stages = [
        Stage({"a": step("a", wrong=lambda n: n == 3), "b": step("b")}),
        Stage({"c": step("c", wrong=lambda n: n == 5)}),
        Stage({"d": step("d")}),
    ]
    with Pipeline(stages) as pipeline:
        items = list(pipeline.map(map(Value, range(8))))
    assert {item.index: str(item.error) for item in items if item.error} == {3: "a 3", 5: "c 5"}
    assert [len(item.value.done) for item in items] == [4, 4, 4, 0, 4, 2, 4, 4]


def test_a_step_may_skip_the_rest() -> None:
    def skip_odd(value: Value) -> object:
        return SKIP if value.number % 2 else None

    stages = [Stage({"a": skip_odd, "b": step("b")}), Stage({"c": step("c")})]
    with Pipeline(stages) as pipeline:
        items = list(pipeline.map(map(Value, range(10))))
    assert indices(items) == list(range(10))
    assert [item.value.done for item in items] == [["b", "c"], []] * 5
    assert not any(item.error for item in items)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("kind", [MemoryError, StreamError, SystemExit, KeyboardInterrupt])
def test_no_exception_ends_a_thread(kind: type[BaseException], batch: int) -> None:
    def fail(values: Any) -> None:
        if 2 in (values if isinstance(values, list) else [values]):
            raise kind("of 2")

    with Pipeline([Stage({"work": fail}, batch=batch, wait=0.01)]) as pipeline:
        items = list(pipeline.map(range(6)))
    errors = [item.error for item in items]
    assert [error is not None for error in errors] == [False, False, True, False, False, False]
    if issubclass(kind, Exception):
        assert type(errors[2]) is kind
    else:
        assert str(errors[2]) == f"work: raised {kind.__name__}('of 2')"
        assert isinstance(errors[2], StreamError)


def test_batches_fill_while_values_wait_and_end_short() -> None:
    sizes = []
    gate = Gate()

    def count(values: list[int]) -> None:
        gate(None)
        sizes.append(len(values))

    with Pipeline([Stage({"count": count}, batch=4, wait=0.0)], capacity=20) as pipeline:
        pipeline.submit(0)
        gate.entered.wait(10)
        for number in range(1, 11):
            pipeline.submit(number)
        gate.open.set()
        pipeline.close()
        assert indices(list(pipeline.results())) == list(range(11))
    assert sizes == [1, 4, 4, 2]


def test_a_batch_waits_for_more() -> None:
    """With an hour to wait it is full, whatever the pace of the source."""
    sizes = []

    def source() -> Iterator[int]:
        for number in range(8):
            time.sleep(0.005)
            yield number

    stage = Stage({"count": lambda values: sizes.append(len(values))}, batch=4, wait=3600)
    with Pipeline([stage], capacity=4) as pipeline:
        assert indices(list(pipeline.map(source()))) == list(range(8))
    assert sizes == [4, 4]


def test_a_batch_that_fails_fails_only_whose_fault_it_was() -> None:
    calls = []

    def infer(values: list[int]) -> None:
        calls.append(list(values))
        if 2 in values:
            raise ValueError("2 is wrong")

    with Pipeline([Stage({"infer": infer}, batch=4, wait=10)], capacity=4) as pipeline:
        items = list(pipeline.map(range(4)))
    assert calls == [[0, 1, 2, 3], [0], [1], [2], [3]]
    assert [str(item.error or "") for item in items] == ["", "", "2 is wrong", ""]


def test_a_batch_waits_from_when_its_first_value_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that a value spent behind another batch is not waited a second time."""
    gate, now = Gate(), time.perf_counter
    with Pipeline([Stage({"gate": gate}, batch=2, wait=3600)]) as pipeline:
        for number in range(3):
            pipeline.submit(number)
        gate.entered.wait(10)
        monkeypatch.setattr(time, "perf_counter", lambda: now() + 3600)
        gate.open.set()
        assert indices(list(itertools.islice(pipeline.results(), 3))) == [0, 1, 2]


def test_failed_values_do_not_wait_for_the_garbage_collector() -> None:
    """An error knows the frames it passed, and these must not know the error's item."""
    alive: list[weakref.ref[Value]] = []

    def source() -> Iterator[Value]:
        for number in range(20):
            value = Value(number)
            alive.append(weakref.ref(value))
            yield value

    everything = step("fail", wrong=lambda _: True)
    stages = [Stage({"a": step("a")}), Stage({"fail": everything}, batch=3)]
    gc.collect()
    gc.disable()
    try:
        for work in (stages, [Stage({"fail": everything}, workers=2)]):
            with Pipeline(work, capacity=4) as pipeline:
                assert sum(item.error is not None for item in pipeline.map(source())) == 20
            assert sum(value() is not None for value in alive) == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("seed", range(60))
def test_any_pipeline_gives_every_value_once_in_order_with_its_error(seed: int) -> None:
    chance = random.Random(seed)
    count = chance.choice([0, 1, 7, 60])
    stages: list[Stage[Value]] = []
    names = iter("abcdefghijkl")
    fate = {number: ("end", "") for number in range(count)}
    plan: list[tuple[str, dict[int, str]]] = []
    for _ in range(chance.randint(1, 4)):
        batch = chance.choice([1, 1, 2, 5])
        steps: dict[str, Callable[[Any], object]] = {}
        for name in itertools.islice(names, 1 if batch > 1 else chance.randint(1, 3)):
            kinds = ["fail"] if batch > 1 else ["fail", "skip", "exit"]
            odd = {n: chance.choice(kinds) for n in range(count) if chance.random() < 0.1}
            plan.append((name, odd))
            steps[name] = _odd_step(name, odd, chance.choice([0, 0, 0.001]))
        wait = chance.choice([0.0, 0.003])
        stages.append(Stage(steps, workers=chance.randint(1, 4), batch=batch, wait=wait))
    for number in range(count):
        for name, odd in plan:
            if number in odd:
                fate[number] = (odd[number], name)
                break
    capacity = max(stage.batch for stage in stages) + chance.randint(0, 10)
    timeout = chance.choice([None, 30.0])
    values = [Value(number) for number in range(count)]
    # The pipeline ends first: the other thread would wait for its results, after a deadlock too.
    with (
        ThreadPoolExecutor(1) as other,
        Pipeline(stages, capacity=capacity, timeout=timeout) as pipeline,
    ):
        if chance.random() < 0.5:
            items = list(pipeline.map(values))
        else:
            taken = other.submit(lambda: list(pipeline.results()))
            assert [pipeline.submit(value) for value in values] == list(range(count))
            pipeline.close()
            items = taken.result()
    assert [item.value for item in items] == values
    assert indices(items) == list(range(count))
    order = [name for name, _ in plan]
    for item in items:
        what, where = fate[item.index]
        expected = {"fail": f"{where} failed", "exit": f"{where}: raised SystemExit({where!r})"}
        assert str(item.error or "") == expected.get(what, "")
        assert item.value.done == (order if what == "end" else order[: order.index(where)])


def _odd_step(name: str, odd: dict[int, str], pause: float) -> Callable[[Any], object]:
    def work(given: Any) -> object:
        time.sleep(pause)
        values = given if isinstance(given, list) else [given]
        whats = {odd[value.number] for value in values if value.number in odd}
        if "fail" in whats:
            raise ValueError(f"{name} failed")
        if "exit" in whats:
            raise SystemExit(name)
        if "skip" in whats:
            return SKIP
        for value in values:
            value.done.append(name)
        return None

    return work


# Handing in and taking out


@pytest.mark.parametrize("pause", ["reader", "steps", "taker"])
def test_whoever_is_slow_no_more_is_under_way_than_there_is_room(pause: str) -> None:
    handed, most, seen = 0, 0, 0

    def source() -> Iterator[int]:
        nonlocal handed
        for number in range(60):
            time.sleep(0.001 * (pause == "reader"))
            handed += 1
            yield number

    work = Stage({"sleep": lambda _: time.sleep(0.001 * (pause == "steps"))})
    with Pipeline([work, Stage({"b": nothing})], capacity=5) as pipeline:
        for item in pipeline.map(source()):
            assert item.index == seen
            most = max(most, handed - seen)
            seen += 1
            time.sleep(0.001 * (pause == "taker"))
    assert seen == 60
    assert most <= 5


def test_many_threads_hand_in_and_one_takes_out() -> None:
    with (
        Pipeline([Stage({"a": nothing}, workers=2)], capacity=3) as pipeline,
        ThreadPoolExecutor(5) as pool,
    ):
        taken = pool.submit(lambda: list(pipeline.results()))
        sent = [
            pool.submit(lambda who=who: [pipeline.submit((who, n)) for n in range(200)])
            for who in range(4)
        ]
        given = [index for future in sent for index in future.result()]
        pipeline.close()
        items = taken.result()
    assert indices(items) == list(range(800)) == sorted(given)
    for who in range(4):
        assert [item.value[1] for item in items if item.value[0] == who] == list(range(200))


def test_by_default_there_is_room_for_twice_what_is_worked_on() -> None:
    stages = [Stage({"a": nothing}, workers=2), Stage({"b": nothing}, workers=3, batch=4)]
    with Pipeline(stages) as pipeline:
        assert pipeline.capacity == 2 * (2 + 3 * 4)


def test_what_the_source_raises_comes_after_the_results() -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        raise OSError("the camera is gone")

    seen = []
    with Pipeline([Stage({"a": nothing})]) as pipeline:
        with pytest.raises(OSError, match="the camera is gone"):
            seen.extend(pipeline.map(source()))
        assert indices(seen) == list(range(5))
        assert indices(list(pipeline.map("ab"))) == [5, 6]


def test_a_loop_left_half_way_gives_up_its_results() -> None:
    with Pipeline([Stage({"a": nothing}), Stage({"b": nothing}, workers=2)]) as pipeline:
        for item in pipeline.map(range(100)):
            if item.value == 3:
                break
        assert [item.value for item in pipeline.map("xyz")] == ["x", "y", "z"]
        for _ in pipeline.map(range(100)):
            break
        pipeline.submit("left")
        pipeline.close()
        assert [item.value for item in pipeline.results()] == ["left"]


def test_a_loop_over_results_may_stop_and_go_on() -> None:
    with Pipeline([Stage({"a": nothing})], capacity=10) as pipeline:
        for number in range(10):
            pipeline.submit(number)
        first = [item.value for item in itertools.islice(pipeline.results(), 4)]
        pipeline.close()
        assert first + [item.value for item in pipeline.results()] == list(range(10))


def test_one_loop_at_a_time() -> None:
    with Pipeline([Stage({"a": nothing})]) as pipeline:
        loop = pipeline.map(range(50))
        next(loop)
        for other in (pipeline.map("x"), pipeline.results()):
            with pytest.raises(StreamError, match="another loop takes this stream's results"):
                next(other)
        assert [item.value for item in loop] == list(range(1, 50))
        pipeline.submit(50)
        with pytest.raises(StreamError, match="have not been taken; take them first"):
            next(pipeline.map("x"))
        assert next(pipeline.results()).value == 50


@pytest.mark.parametrize("before", [0, 1, 2])
def test_dropping_keeps_the_newest(before: int) -> None:
    """Whichever stage it is that they wait for."""
    gate = Gate()
    stages = [*[Stage({"quick": nothing})] * before, Stage({"gate": gate}), Stage({"b": nothing})]
    with Pipeline(stages, capacity=3, overflow="drop") as pipeline:
        assert pipeline.submit(0) == 0
        gate.entered.wait(10)
        for number in range(1, 8):
            assert pipeline.submit(number) == number
            while len(pipeline._queues[before]) < min(number, 2):
                time.sleep(0.001)
        assert pipeline.dropped == 5
        gate.open.set()
        pipeline.close()
        assert [item.value for item in pipeline.results()] == [0, 6, 7]


def test_the_new_one_is_dropped_where_none_waits() -> None:
    gate = Gate()
    with Pipeline([Stage({"gate": gate})], capacity=1, overflow="drop") as pipeline:
        pipeline.submit(0)
        gate.entered.wait(10)
        assert pipeline.submit(1) is None
        gate.open.set()
        pipeline.close()
        assert pipeline.dropped == 1
        assert [item.value for item in pipeline.results()] == [0]


@pytest.mark.parametrize("capacity", [1, 4])
def test_dropping_beside_a_thread_that_takes(capacity: int) -> None:
    """Fast enough that dropping, finishing and taking meet at the same value."""
    with (
        Pipeline([Stage({"a": nothing})], capacity=capacity, overflow="drop") as pipeline,
        ThreadPoolExecutor(1) as other,
    ):
        taken = other.submit(lambda: [item.value for item in pipeline.results()])
        for number in range(10_000):
            pipeline.submit(number)
        pipeline.close()
        values = taken.result()
    assert values == sorted(set(values))
    assert len(values) + pipeline.dropped == 10_000
    assert 0 < pipeline.dropped < 10_000


# The end


def test_close_finishes_and_keeps_the_results() -> None:
    stages = [Stage({"a": step("a")}), Stage({"b": step("b")})]
    pipeline: Pipeline[Value] = Pipeline(stages, capacity=10)
    for number in range(10):
        pipeline.submit(Value(number))
    pipeline.close()
    pipeline.close()
    assert not any(worker.thread.is_alive() for worker in pipeline._workers)
    with pytest.raises(StreamError, match="the stream is closed; open another one"):
        pipeline.submit(Value(10))
    items = list(pipeline.results())
    assert [item.value.done for item in items] == [["a", "b"]] * 10
    with pytest.raises(StreamError, match="the stream is closed; open another one"):
        list(pipeline.map([Value(11)]))
    pipeline.cancel()


def test_closed_by_another_thread_a_loop_gives_all_that_was_handed_in() -> None:
    seen, handed = [], itertools.count()
    with Pipeline([Stage({"a": lambda _: time.sleep(0.001)})]) as pipeline:
        closer = threading.Timer(0.1, pipeline.close)
        closer.start()
        with pytest.raises(StreamError, match="the stream is closed"):
            seen.extend(pipeline.map(handed))
        closer.join()
    # One more was read from the source, but refused.
    assert [item.value for item in seen] == list(range(next(handed) - 1))


def test_one_that_waits_for_room_hears_of_the_end() -> None:
    gate = Gate()
    with Pipeline([Stage({"gate": gate})], capacity=1) as pipeline:
        pipeline.submit(0)
        with ThreadPoolExecutor(2) as pool:
            waiting = pool.submit(pipeline.submit, 1)
            closing = pool.submit(pipeline.close)
            with pytest.raises(StreamError, match="the stream is closed"):
                waiting.result()
            gate.open.set()
            closing.result()
        assert [item.value for item in pipeline.results()] == [0]


def test_cancel_begins_nothing_more() -> None:
    gate = Gate()
    begun = []

    def note(value: int) -> None:
        begun.append(value)
        gate(value)

    pipeline = Pipeline([Stage({"note": note}), Stage({"b": nothing}, workers=3)], capacity=10)
    for number in range(10):
        pipeline.submit(number)
    gate.entered.wait(10)
    with ThreadPoolExecutor(1) as other:
        taken = other.submit(lambda: list(pipeline.results()))
        pipeline.cancel()
        assert taken.result() == []
    gate.open.set()
    assert begun == [0]
    with pytest.raises(StreamError, match="the stream is closed; open another one"):
        list(pipeline.map([10]))


def test_cancelled_by_another_thread_a_loop_says_so() -> None:
    gate = Gate(5)
    with Pipeline([Stage({"gate": gate})], capacity=4) as pipeline:
        seen = []

        def cancel() -> None:
            gate.entered.wait(10)
            pipeline.cancel()

        other = threading.Thread(target=cancel)
        other.start()
        with pytest.raises(StreamError, match="cancelled; what was under way is lost"):
            seen.extend(pipeline.map(range(6)))
        other.join()
        assert indices(seen) == list(range(5))
        gate.open.set()


def test_cancel_while_a_batch_waits() -> None:
    begun = []
    pipeline = Pipeline([Stage({"a": begun.append}, batch=4, wait=3600)])
    pipeline.submit(0)
    while len(pipeline._in):
        time.sleep(0.001)
    pipeline.cancel()
    assert begun == []
    assert list(pipeline.results()) == []


@pytest.mark.parametrize("where", ["source", "taker"])
def test_an_interruption_ends_all(where: str) -> None:
    done = []

    def source() -> Iterator[int]:
        for number in itertools.count():
            if where == "source" and number == 10:
                raise KeyboardInterrupt
            yield number

    def take() -> None:
        with Pipeline([Stage({"a": done.append})]) as pipeline:
            for item in pipeline.map(source()):
                if where == "taker" and item.index == 10:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take()
    assert not threads()
    assert done == list(range(len(done)))


@pytest.mark.parametrize("waits_in", ["map", "results", "submit", "close"])
def test_ctrl_c_reaches_a_thread_that_waits(waits_in: str) -> None:
    gate = Gate()

    def interrupt() -> None:
        gate.entered.wait(10)
        time.sleep(0.05)
        signal.raise_signal(signal.SIGINT)

    with Pipeline([Stage({"gate": gate})], capacity=1) as pipeline:
        if waits_in != "map":
            pipeline.submit(0)
        other = threading.Thread(target=interrupt)
        other.start()
        wait: Callable[[], object] = {
            "map": lambda: list(pipeline.map("ab")),
            "results": lambda: list(pipeline.results()),
            "submit": lambda: pipeline.submit(1),
            "close": pipeline.close,
        }[waits_in]
        with pytest.raises(KeyboardInterrupt):
            wait()
        other.join()
        gate.open.set()


def test_an_interruption_while_it_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, done = Gate(), []
    pipeline = Pipeline([Stage({"gate": gate, "done": done.append})], timeout=30)
    pipeline.submit(0)
    pipeline.submit(1)
    gate.entered.wait(10)

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_watch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pipeline.close()
    gate.open.set()
    pipeline._workers[0].thread.join()
    assert done == [0]


# A step that is stuck


def test_a_stuck_step_fails_all_that_is_under_way() -> None:
    gate = Gate(10)
    stages = [Stage({"a": nothing}), Stage({"gate": gate}, workers=2), Stage({"c": nothing})]
    seen = []
    with Pipeline(stages, capacity=6, timeout=0.3) as pipeline:
        with pytest.raises(StreamError, match=r"gate: stuck, no answer within 0\.3 s; what was"):
            seen.extend(pipeline.map(range(100)))
        with pytest.raises(StreamError, match="gate: stuck"):
            pipeline.submit(0)
    assert indices(seen) == [item.value for item in seen] == list(range(16))
    # The others were done long before, and waited only for their turn.
    assert [item.index for item in seen if item.error is not None] == [10]
    # Only the thread that is stuck is left.
    assert [w.step for w in pipeline._workers if w.thread.is_alive()] == ["gate"]
    gate.open.set()


def test_a_stuck_step_and_all_that_waits_for_it() -> None:
    gate = Gate()
    with (
        Pipeline([Stage({"gate": gate})], capacity=4, timeout=0.1) as pipeline,
        ThreadPoolExecutor(1) as other,
    ):
        taken = other.submit(lambda: list(pipeline.results()))
        with pytest.raises(StreamError, match="gate: stuck"):
            deque(map(pipeline.submit, range(100)), maxlen=0)
        items = taken.result()
        assert indices(items) == list(range(4))
        assert all("stuck" in str(item.error) for item in items)
        gate.open.set()


def test_a_step_that_was_taken_for_stuck_and_ends_changes_nothing() -> None:
    gate = Gate(0)
    stages = [Stage({"gate": gate}), Stage({"b": nothing})]
    with Pipeline(stages, capacity=8, timeout=0.1) as pipeline:
        for number in range(8):
            pipeline.submit(number)
        results = pipeline.results()
        items = [next(results)]
        gate.open.set()
        pipeline.close()
        items += results
    assert indices(items) == list(range(8))
    assert all("gate: stuck" in str(item.error) for item in items)


def test_close_gives_up_a_stuck_step() -> None:
    gate = Gate(1)
    with Pipeline([Stage({"gate": gate})], capacity=3, timeout=0.1) as pipeline:
        for number in range(3):
            pipeline.submit(number)
    assert [item.error is None for item in pipeline.results()] == [True, False, False]
    gate.open.set()


def test_waiting_is_not_being_stuck() -> None:
    """Neither for the next value, nor for a batch to fill, nor for results to be taken."""
    stages = [Stage({"a": nothing}), Stage({"b": nothing}, batch=2, wait=0.3)]
    with Pipeline(stages, capacity=2, timeout=0.05) as pipeline:
        seen = []
        for item in pipeline.map(range(3)):
            seen.append(item.error)
            time.sleep(0.1)
        time.sleep(0.2)
        seen += [item.error for item in pipeline.map([3])]
    assert seen == [None] * 4


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("begun", "patience", "expected"),
    [("time.sleep(0.5)", 30, "begun ended "), ("threading.Event().wait()", 0.2, "begun ")],
)
def test_the_interpreter_exits_after_what_has_begun_but_not_after_what_is_stuck(
    begun: str, patience: float, expected: str
) -> None:
    code = f"""
import threading, time
from atrous.runtime import worker
from atrous.runtime.pipeline import Pipeline, Stage
worker._AT_EXIT = {patience}
entered = threading.Event()
def work(number):
    print("begun", end=" ", flush=True)
    entered.set()
    {begun}
    print("ended", end=" ", flush=True)
pipeline = Pipeline([Stage({{"work": work}}), Stage({{"b": work}})])
pipeline.submit(0)
pipeline.submit(1)
entered.wait()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], timeout=50, check=True, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == (expected, "")


# Arguments


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Pipeline([]), "got 0 stages"),
        (lambda: Pipeline([Stage({"a": nothing}, batch=4)], capacity=3), "capacity 3, batch 4"),
        (lambda: Pipeline([Stage({"a": nothing})], capacity=0), "capacity 0, batch 1"),
        (
            lambda: Pipeline([Stage({"a": nothing})], overflow="Drop"),  # type: ignore[arg-type]
            "overflow: expected block or drop, got 'Drop'",
        ),
        (lambda: Pipeline([Stage({"a": nothing})], timeout=0), "timeout: .* over 0, or None"),
        (lambda: Stage({"a": nothing}, workers=0), "stage a: .* got 0, 1, 0"),
        (lambda: Stage({"a": nothing}, batch=0), "stage a: .* got 1, 0, 0"),
        (lambda: Stage({"a": nothing}, wait=-1), "stage a: .* got 1, 1, -1"),
        (lambda: Stage({"a": nothing}, wait=float("inf")), "stage a: .* got 1, 1, inf"),
        (lambda: Stage({"a": nothing}, wait=float("nan")), "stage a: .* got 1, 1, nan"),
        (lambda: Stage({"a": nothing, "b": nothing}, batch=2), "one step, got a, b"),
    ],
)
def test_arguments_are_checked(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrong()


# Many


@pytest.mark.parametrize("count", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_small_values_take_no_memory(count: int) -> None:
    """Every 100th fails, so that errors are among what must not stay."""
    bad = step("fail", wrong=lambda number: number % 100 == 7)
    stages = [
        Stage({"a": step("a")}, workers=2),
        Stage({"fail": bad}, batch=4),
        Stage({"c": step("c")}),
    ]
    process, before, failed = psutil.Process(), 0, []
    with Pipeline(stages, capacity=32, timeout=60) as pipeline:
        for expected, item in enumerate(pipeline.map(map(Value, range(count)))):
            assert item.index == item.value.number == expected
            if item.error is not None:
                failed.append(item.index)
            if expected == 1000:
                before = process.memory_info().rss
        assert len(pipeline._early) <= pipeline.capacity
    assert failed == list(range(7, count, 100))
    assert process.memory_info().rss - before < 50e6
