"""A network at work on many images: what fails, hangs or is interrupted costs nothing else."""

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.artifact import Metadata, save
from atrous.engines.base import Options
from atrous.engines.fake import FakeEngine
from atrous.errors import AtrousError, ConfigError, EngineError, InputError, StreamError
from atrous.labels import generic
from atrous.preprocess import Preprocess
from atrous.runtime.prediction import Prediction
from atrous.runtime.predictor import Predictor
from atrous.runtime.stream import Stream, StreamResult
from tests.builders.threads import threads

pytestmark = pytest.mark.usefixtures("guard")

Pixels = NDArray[np.uint8]
Logits = NDArray[np.float32]

ENGINE_FAILS, SCORES_NO_NUMBERS, ENGINE_HANGS = 250, 251, 252
"""Values of a grey image that the network of these tests dislikes."""


class Network(FakeEngine):
    """The class of a pixel is its brightest channel; images of some values go wrong."""

    def __init__(self, batch: int | None = None, streams: int = 1, pause: float = 0.0) -> None:
        super().__init__(self._look, num_classes=3, dtype="uint8", batch=batch)
        self.streams, self.pause = streams, pause
        self.sizes: list[int] = []
        self.hanging, self.released = threading.Event(), threading.Event()
        self.closed = 0

    def _look(self, batch: Pixels) -> Logits:
        self.sizes.append(len(batch))
        time.sleep(self.pause)
        logits = batch.astype(np.float32)
        for image, scores in zip(batch, logits, strict=True):
            match int(image[0, 0, 0]):
                case value if value == ENGINE_FAILS:
                    raise EngineError("the device is gone")
                case value if value == SCORES_NO_NUMBERS:
                    scores[1] = np.nan
                case value if value == ENGINE_HANGS:
                    self.hanging.set()
                    self.released.wait(30)
        return logits

    def close(self) -> None:
        self.closed += 1


def segmenter(engine: Network | None = None) -> Predictor:
    preprocess = Preprocess(size=(8, 8), normalisation="none")
    return Predictor(engine or Network(), preprocess, generic(3))


def grey(value: int) -> Pixels:
    return np.full((8, 8, 3), value, np.uint8)


@pytest.fixture
def model(tmp_path: Path, small_model: Callable[..., onnx.ModelProto]) -> Path:
    settings = Preprocess(size=(32, 32), normalisation="div255")
    path = tmp_path / "m.onnx"
    save(small_model(), Metadata(name="m", labels=generic(3), preprocess=settings), path)
    return path


def reasons(results: list[StreamResult]) -> dict[int, str]:
    return {result.index: str(result.error) for result in results if result.error}


# What comes out


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("streams", [1, 2])
def test_class_maps_are_those_of_the_predictor(batch: int, streams: int, tmp_path: Path) -> None:
    chance = np.random.default_rng(batch)
    images: list[Any] = [
        chance.integers(0, 200, (*chance.integers(1, 40, 2), 3), np.uint8) for _ in range(20)
    ]
    Image.fromarray(images[4]).save(tmp_path / "four.png")
    Image.fromarray(images[5]).save(tmp_path / "five.png")
    mixed = [*images[:4], tmp_path / "four.png", str(tmp_path / "five.png"), *images[6:]]
    with Stream(segmenter(Network(streams=streams)), batch=batch, helpers=2) as stream:
        results = list(stream.run_batch(mixed))
    assert [result.index for result in results] == list(range(20))
    assert not reasons(results)
    for result, source, image in zip(results, mixed, images, strict=True):
        assert result.source is source
        assert result.class_map is not None
        np.testing.assert_array_equal(result.class_map, segmenter()(image).class_map())
        assert set(result.seconds) == {"queue", "decode", "preprocess", "infer", "postprocess"}
        assert result.outputs == {}


def test_what_is_tapped_is_in_the_results(image: Pixels) -> None:
    with Stream(segmenter(), taps=["decode", "infer"]) as stream:
        result = stream.run(image)
    assert result.outputs["decode"] is image
    assert isinstance(result.outputs["infer"], Prediction)
    assert result.outputs["infer"].grid.shape == (3, 8, 8)
    assert list(result.outputs) == ["decode", "infer"]


def test_a_network_of_fixed_batch_is_filled_up() -> None:
    engine = Network(batch=4)
    with Stream(segmenter(engine), capacity=4, wait=0.01) as stream:
        results = list(stream.run_batch(grey(value) for value in range(6)))
        assert stream.run(grey(6)).class_map is not None
    assert not reasons(results)
    assert set(engine.sizes) == {4}


def test_images_in_one_thread_and_results_in_another() -> None:
    with Stream(segmenter(), capacity=3) as stream, ThreadPoolExecutor(1) as other:
        taken = other.submit(lambda: list(stream.results()))
        assert [stream.submit(grey(value)) for value in range(50)] == list(range(50))
        stream.close()
        assert [result.source[0, 0, 0] for result in taken.result()] == list(range(50))


def test_a_live_source_drops_and_never_waits() -> None:
    engine = Network(pause=0.002)
    with (
        Stream(segmenter(engine), capacity=2, overflow="drop") as stream,
        ThreadPoolExecutor(1) as other,
    ):
        taken = other.submit(lambda: [result.source for result in stream.results()])
        for number in range(200):
            stream.submit(grey(number))
        stream.close()
        sources = taken.result()
    assert stream.dropped == 200 - len(sources)
    assert stream.dropped > 0
    values = [int(source[0, 0, 0]) for source in sources]
    assert values == sorted(set(values))


# What goes wrong


@pytest.mark.parametrize("batch", [1, 4])
def test_what_is_wrong_with_an_image_is_in_its_result(batch: int, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    images: list[Any] = [
        grey(0),
        tmp_path / "broken.jpg",
        tmp_path / "nowhere.jpg",
        grey(1),
        np.zeros((4, 4), np.uint8),
        grey(ENGINE_FAILS),
        grey(2),
        grey(SCORES_NO_NUMBERS),
        None,
        grey(3),
    ]
    with Stream(segmenter(), batch=batch, wait=0.2) as stream:
        results = list(stream.run_batch(images))
        assert stream.run(grey(4)).class_map is not None
    found = reasons(results)
    assert sorted(found) == [1, 2, 4, 5, 7, 8]
    assert "broken.jpg" in found[1]
    assert "nowhere.jpg" in found[2]
    assert "image: expected uint8 (height, width, 3), got uint8 (4, 4)" in found[4]
    assert found[5] == "the device is gone"
    assert "not all numbers (NaN or infinite)" in found[7]
    assert all((result.class_map is None) == (result.index in found) for result in results)


def test_run_raises_what_went_wrong() -> None:
    with Stream(segmenter()) as stream:
        with pytest.raises(EngineError, match="the device is gone"):
            stream.run(grey(ENGINE_FAILS))
        assert stream.run(grey(7)).index == 1


@pytest.mark.heavy
@pytest.mark.parametrize("batch", [1, 8])
def test_ten_thousand_images_with_one_in_a_hundred_broken(batch: int) -> None:
    def read(number: int) -> Pixels:
        if number % 400 == 17:
            raise InputError(f"image {number} is damaged")
        broken = {217: ENGINE_FAILS, 317: SCORES_NO_NUMBERS, 117: ENGINE_FAILS}
        return grey(broken.get(number % 400, number % 200))

    with Stream(segmenter(), read=read, batch=batch, timeout=60) as stream:
        found: dict[int, str] = {}
        for expected, result in enumerate(stream.run_batch(range(10_000))):
            assert result.index == result.source == expected
            if result.error is not None:
                found[expected] = str(result.error)
            else:
                assert result.class_map is not None
    assert list(found) == list(range(17, 10_000, 100))
    assert all(found[n] == f"image {n} is damaged" for n in range(17, 10_000, 400))
    assert {found[n] for n in (*range(117, 10_000, 400), *range(217, 10_000, 400))} == {
        "the device is gone"
    }
    assert all("not all numbers" in found[n] for n in range(317, 10_000, 400))


@pytest.mark.parametrize("batch", [1, 2])
def test_an_engine_that_hangs(batch: int) -> None:
    engine = Network()
    values = [1, 2, 3, 4, ENGINE_HANGS, *range(5, 50)]
    results = []
    with Stream(segmenter(engine), batch=batch, timeout=0.3) as stream:
        with pytest.raises(StreamError, match=r"infer: stuck, no answer within 0\.3 s"):
            results.extend(stream.run_batch(grey(value) for value in values))
        with pytest.raises(StreamError, match="infer: stuck"):
            stream.run(grey(0))
    assert [result.index for result in results] == list(range(len(results)))
    assert [result.source[0, 0, 0] for result in results] == values[: len(results)]
    failed = list(reasons(results))
    assert failed == list(range(failed[0], len(results)))
    assert failed[0] in (3, 4)
    assert threads() == ["atrous infer"]
    engine.released.set()


@pytest.mark.parametrize("slow", ["reader", "engine"])
def test_a_reader_and_an_engine_of_different_pace(slow: str) -> None:
    def read(number: int) -> Pixels:
        time.sleep(0.004 * (slow == "reader"))
        return grey(number)

    engine = Network(pause=0.004 * (slow == "engine"))
    with Stream(segmenter(engine), read=read, batch=2, wait=0.002, timeout=5) as stream:
        results = list(stream.run_batch(range(60)))
    assert [result.source for result in results] == list(range(60))
    assert not reasons(results)


def test_what_the_source_raises_comes_after_the_results() -> None:
    def images() -> Iterator[Pixels]:
        yield from map(grey, range(5))
        raise InputError("the list ends in the middle of a name")

    seen = []
    with Stream(segmenter()) as stream:
        with pytest.raises(InputError, match="in the middle of a name"):
            seen.extend(stream.run_batch(images()))
        assert [result.index for result in seen] == list(range(5))
        assert stream.run(grey(9)).index == 5


# The end


def test_a_loop_left_half_way() -> None:
    with Stream(segmenter(), capacity=4) as stream:
        for result in stream.run_batch(map(grey, range(100))):
            if result.index == 2:
                break
        assert stream.run(grey(77)).source[0, 0, 0] == 77
        loop = stream.run_batch(map(grey, range(5)))
        next(loop)
        with pytest.raises(StreamError, match="another loop takes this stream's results"):
            stream.run(grey(0))
        assert [result.source[0, 0, 0] for result in loop] == [1, 2, 3, 4]


def test_a_stream_is_used_once() -> None:
    stream = Stream(segmenter())
    with stream:
        stream.submit(grey(0))
    assert [result.index for result in stream.results()] == [0]
    with stream, pytest.raises(StreamError, match="the stream is closed; open another one"):
        stream.run(grey(1))
    with pytest.raises(StreamError, match="the stream is closed"):
        stream.submit(grey(1))


def test_an_interruption_of_the_consumer() -> None:
    engine = Network()

    def take() -> None:
        with Stream(segmenter(engine)) as stream:
            for result in stream.run_batch(map(grey, itertools.cycle(range(200)))):
                if result.index == 20:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take()
    assert not threads()
    assert len(engine.sizes) < 60


def test_two_streams_share_a_predictor(image: Pixels) -> None:
    engine = Network()
    predictor = segmenter(engine)
    with Stream(predictor) as one, Stream(predictor, batch=2) as other:
        pairs = list(
            zip(one.run_batch([image] * 20), other.run_batch([image[::2]] * 20), strict=True)
        )
    assert engine.closed == 0
    for first, second in pairs:
        assert first.class_map is not None
        assert second.class_map is not None
        assert (first.class_map.shape, second.class_map.shape) == ((40, 60), (20, 60))


@pytest.mark.parametrize("end", ["close", "cancel"])
def test_it_closes_the_predictor_that_it_opened(
    end: str, model: Path, image: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    monkeypatch.setattr(Predictor, "close", lambda self: closed.append(self))
    stream = Stream.open(model, engine="onnxruntime", instances=2, options=Options(threads=1))
    assert stream.predictor.engine.streams == 2
    result = stream.run(image)
    assert result.class_map is not None
    assert result.class_map[20, [10, 50]].tolist() == [0, 1]
    assert closed == []
    getattr(stream, end)()
    assert closed == [stream.predictor]
    with Predictor.open(model, engine="onnxruntime") as mine:
        with Stream(mine) as borrowed:
            borrowed.run(image)
        assert closed == [stream.predictor]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"batch": 4}, ConfigError, "`batch` 4: the network takes 1 image at a time"),
        ({"taps": ["argmax"]}, InputError, "tap 'argmax': no such step"),
        ({"capacity": 0}, InputError, "capacity 0, batch 1"),
        ({"timeout": 0}, InputError, "timeout: expected seconds over 0, or None, got 0"),
        ({"overflow": "wait"}, InputError, "overflow: expected block or drop, got 'wait'"),
    ],
)
def test_settings_that_do_not_fit_leave_nothing_open(
    settings: dict[str, Any],
    error: type[AtrousError],
    message: str,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = []
    monkeypatch.setattr(Predictor, "close", lambda self: closed.append(self))
    with pytest.raises(error, match=message):
        Stream.open(model, engine="onnxruntime", **settings)
    assert len(closed) == 1


def test_an_interruption_while_it_closes_still_closes_the_predictor(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    monkeypatch.setattr(Predictor, "close", lambda self: closed.append(self))
    stream = Stream.open(model, engine="onnxruntime")

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stream._pipeline, "close", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stream.close()
    assert closed == [stream.predictor]
    stream.cancel()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_closed_while_it_works(engine: str, model: Path, image: Pixels) -> None:
    """What it still answers is right, the rest says why, and nothing is lost."""
    if engine == "openvino":
        pytest.importorskip("openvino")
    predictor = Predictor.open(model, engine=engine)
    expected = predictor(image).class_map()
    with Stream(predictor, capacity=8) as stream:
        results = []
        for result in stream.run_batch([image] * 60):
            results.append(result)
            if result.index == 20:
                predictor.close()
    assert len(results) == 60
    assert reasons(results)[59] == "this engine is closed"
    for result in results:
        assert (result.error is None) == (result.class_map is not None)
        if result.class_map is not None:
            np.testing.assert_array_equal(result.class_map, expected)


@pytest.mark.heavy
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_program_may_end_while_an_engine_runs(engine: str) -> None:
    """An engine that comes back to a thread which Python has ended aborts the process."""
    if engine == "openvino":
        pytest.importorskip("openvino")
    code = f"""
import numpy as np
from atrous.runtime.stream import Stream
stream = Stream.open(engine={engine!r})
for _ in range(4):
    stream.submit(np.zeros((64, 64, 3), np.uint8))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], timeout=50, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
