"""The steps from a picture to its class map, one by one, and how they are put into stages."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.engines.fake import FakeEngine
from atrous.errors import ConfigError, EngineError, InputError
from atrous.labels import generic
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from atrous.runtime.stages import STEPS, Frame, Steps, helper_threads, stages

Pixels = NDArray[np.uint8]
Logits = NDArray[np.float32]


def predictor(batch: int | None = None, run: Callable[[Logits], Logits] = np.copy) -> Predictor:
    """The class of a pixel is its brightest channel; `batch` as that of the network."""
    engine = FakeEngine(run, num_classes=3, batch=batch)
    return Predictor(engine, Preprocess(size=(16, 16), normalisation="div255"), generic(3))


def test_each_step_makes_its_output_and_frees_what_is_no_longer_needed(image: Pixels) -> None:
    steps, frame = Steps(predictor(), taps=STEPS), Frame(image)
    steps.decode(frame)
    assert frame.pixels is image
    steps.preprocess(frame)
    assert frame.tensor is not None
    assert frame.tensor.shape == (3, 16, 16)
    steps.infer(frame)
    assert frame.tensor is None
    steps.postprocess(frame)
    assert frame.prediction is None
    assert frame.class_map is not None
    np.testing.assert_array_equal(frame.class_map, predictor()(image).class_map())
    assert list(frame.outputs) == list(STEPS)
    assert frame.outputs["decode"] is image
    assert frame.outputs["preprocess"].shape == (3, 16, 16)
    np.testing.assert_array_equal(frame.outputs["infer"].class_map(), frame.class_map)
    assert frame.outputs["postprocess"] is frame.class_map


def test_nothing_is_kept_that_was_not_tapped(image: Pixels) -> None:
    steps, frame = Steps(predictor(), taps=["infer"]), Frame(image)
    for name in STEPS:
        getattr(steps, name)(frame)
    assert list(frame.outputs) == ["infer"]


def test_a_tap_must_be_a_step() -> None:
    with pytest.raises(InputError, match="tap 'logits': no such step; there are decode, prep"):
        Steps(predictor(), taps=["infer", "logits"])


def test_files_are_decoded_and_a_reader_may_take_anything(tmp_path: Path, image: Pixels) -> None:
    Image.fromarray(image).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png")):
        frame = Frame(source)
        Steps(predictor()).decode(frame)
        np.testing.assert_array_equal(frame.pixels, image)
    frame = Frame(7)
    Steps(predictor(), read=lambda number: np.full((2, 2, 3), number, np.uint8)).decode(frame)
    assert frame.pixels is not None
    assert frame.pixels.max() == 7


def test_frames_go_through_the_network_together(image: Pixels) -> None:
    seen = []

    def run(batch: Logits) -> Logits:
        seen.append(len(batch))
        return batch.copy()

    steps = Steps(predictor(run=run))
    frames = [Frame(image), Frame(np.ascontiguousarray(image[:, ::-1])), Frame(image[:9])]
    for frame in frames:
        steps.decode(frame)
        steps.preprocess(frame)
    steps.infer_batch(frames)
    assert seen == [3]
    for frame in frames:
        steps.postprocess(frame)
        assert frame.class_map is not None
        expected = steps.predictor(frame.source).class_map()
        np.testing.assert_array_equal(frame.class_map, expected)


def test_a_batch_that_fails_leaves_its_frames_as_they_were(image: Pixels) -> None:
    """So that each can be tried alone: one with scores that are no numbers spoils no other."""

    def run(batch: Logits) -> Logits:
        logits = batch.copy()
        logits[batch.max((1, 2, 3)) == 0] = np.nan
        return logits

    steps = Steps(predictor(run=run))
    frames = [Frame(image), Frame(np.zeros_like(image)), Frame(image)]
    for frame in frames:
        steps.decode(frame)
        steps.preprocess(frame)
    with pytest.raises(EngineError, match="scores are not all numbers"):
        steps.infer_batch(frames)
    steps.infer(frames[0])
    with pytest.raises(EngineError, match="scores are not all numbers"):
        steps.infer(frames[1])
    steps.infer(frames[2])
    assert [frame.prediction is not None for frame in frames] == [True, False, True]


def test_three_stages() -> None:
    def note(_: Frame) -> None:
        pass

    network = predictor()
    network.engine.streams = 3
    first, second, third = stages(
        Steps(network), before={"check": note}, after={"write": note}, helpers=2
    )
    assert [*first.steps, *second.steps, *third.steps] == ["check", *STEPS, "write"]
    assert list(second.steps) == ["infer"]
    assert (first.workers, second.workers, third.workers) == (2, 3, 2)
    assert {stage.workers for stage in stages(Steps(network))} == {3, helper_threads()}
    with pytest.raises(InputError, match="stage decode, preprocess: expected workers"):
        stages(Steps(network), helpers=0)


@pytest.mark.parametrize("batch", [1, 2])
def test_all_steps_in_one_stage(batch: int, image: Pixels) -> None:
    network = predictor(batch)
    network.engine.streams = 3
    [alone] = stages(Steps(network), after={"write": lambda frame: None}).in_one()
    assert [*alone.steps] == [*STEPS, "write"]
    assert (alone.workers, alone.batch) == (3, 1)
    frame = Frame(image)
    for step in alone.steps.values():
        step(frame)
    np.testing.assert_array_equal(frame.class_map, predictor()(image).class_map())


def test_the_same_threads_with_other_steps() -> None:
    def note(_: Frame) -> None:
        pass

    work = stages(Steps(predictor()), batch=2, wait=0.5, helpers=3)
    other = work.doing(prepare={"read": note}, finish={"write": note})
    assert [list(stage.steps) for stage in other] == [["read"], ["infer"], ["write"]]
    assert other.network == work.network
    assert [stage.workers for stage in other] == [3, 1, 3]


@pytest.mark.parametrize(
    ("own", "asked", "expected"), [(None, None, 1), (None, 4, 4), (4, None, 4), (4, 4, 4)]
)
def test_the_batch_is_the_network_s_own(own: int | None, asked: int | None, expected: int) -> None:
    assert stages(Steps(predictor(own)), batch=asked).network.batch == expected


@pytest.mark.parametrize(
    ("own", "asked", "error", "message"),
    [
        (
            1,
            2,
            ConfigError,
            "`batch` 2: the network takes 1 image at a time; export it with",
        ),
        (4, 1, ConfigError, "`batch` 1: the network takes 4 images at a time"),
        (1, 0, ConfigError, "`batch` 0: the network takes 1 image at a time"),
        (None, 0, InputError, "stage infer: expected workers and batch of 1 or more"),
    ],
)
def test_a_batch_that_does_not_fit(
    own: int | None, asked: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        stages(Steps(predictor(own)), batch=asked)
