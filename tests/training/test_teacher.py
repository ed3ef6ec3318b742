"""A finished network that is imitated beside the labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch

from atrous.artifact import Metadata, save
from atrous.errors import ConfigError
from atrous.labels import LabelSet, generic
from atrous.preprocess import Preprocess
from atrous.training.config import Recipe, TeacherSettings
from atrous.training.loop import Run
from atrous.training.progress import read_log
from atrous.training.teacher import NetworkTeacher

Make = Callable[..., Recipe]
CPU = torch.device("cpu")
NONE = torch.zeros(2, 0, 32, 32, dtype=torch.uint8)


@pytest.fixture
def model(tmp_path: Path, small_model: Callable[..., onnx.ModelProto]) -> Callable[..., str]:
    """Writes a network whose class is the brightest channel."""

    def make(**changes: Any) -> str:
        onnx.save(small_model(**changes), tmp_path / "teacher.onnx")
        return str(tmp_path / "teacher.onnx")

    return make


def opened(model: str, labels: LabelSet, crop: int = 32, **settings: Any) -> NetworkTeacher:
    return NetworkTeacher(TeacherSettings(model=model, **settings), labels, crop, CPU)


def images(count: int = 2, side: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rule", ["half_pixel", "align_corners"])
def test_its_answers_are_those_of_its_file(model: Callable[..., str], rule: str) -> None:
    file = model(rule=rule)
    teacher = opened(file, generic(3))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    [expected] = session.run(None, {"input": images(1).numpy()})
    torch.testing.assert_close(teacher(images(1)), torch.from_numpy(expected), atol=1e-5, rtol=0)


def test_one_image_at_a_time_where_the_batch_is_fixed(model: Callable[..., str]) -> None:
    teacher = opened(model(), generic(3))
    both = teacher(images())
    torch.testing.assert_close(both, torch.cat([teacher(images()[:1]), teacher(images()[1:])]))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_distance(model: Callable[..., str], temperature: float) -> None:
    teacher = opened(model(), generic(3), temperature=temperature)
    own = teacher(images())
    assert float(teacher.distance(own + 5, images(), NONE)) == pytest.approx(0, abs=1e-6)
    logits = torch.zeros_like(own, requires_grad=True)
    likely = (own / temperature).softmax(1)
    expected = temperature**2 * (likely * (likely * 3).log()).sum(1).mean()
    found = teacher.distance(logits, images(), NONE)
    assert float(found.detach()) == pytest.approx(float(expected), rel=1e-5)
    found.backward()
    assert logits.grad is not None
    pixels = own.numel() / own.shape[1]
    torch.testing.assert_close(logits.grad, temperature * (1 / 3 - likely) / pixels)


@pytest.mark.parametrize(
    ("changes", "labels", "crop", "message"),
    [
        ({}, generic(4), 32, "has 3 classes, the data 4"),
        ({}, generic(3), 48, "pixels, the crops have 48; take one of atrous export --dynamic"),
    ],
)
def test_what_does_not_fit(
    model: Callable[..., str], changes: dict[str, Any], labels: LabelSet, crop: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(model(**changes), labels, crop)


@pytest.mark.parametrize(
    ("labels", "preprocess", "message"),
    [
        (generic(3), Preprocess(size=(32, 32), mean=(0, 0, 0)), "normalises its images otherwise"),
        (
            LabelSet("other", ("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2))),
            Preprocess(size=(32, 32)),
            "has other classes than the data: other",
        ),
    ],
)
def test_what_it_says_of_itself_has_to_fit(
    tmp_path: Path,
    small_model: Callable[..., onnx.ModelProto],
    labels: LabelSet,
    preprocess: Preprocess,
    message: str,
) -> None:
    path = tmp_path / "teacher.onnx"
    save(small_model(), Metadata(name="t", labels=labels, preprocess=preprocess), path)
    with pytest.raises(ConfigError, match=message):
        opened(str(path), generic(3))


@pytest.mark.heavy
def test_a_run_with_a_teacher(
    recipe: Make, run: Callable[..., Run], model: Callable[..., str]
) -> None:
    file = model(size=49, classes=5)
    losses = {}
    for name, weight in (("labels", 0.0), ("half", 0.5), ("teacher", 1.0)):
        one = recipe(
            f"teacher={{model: '{file}', weight: {weight}}}", "train.iterations=1", output=name
        )
        run(one)
        losses[name] = read_log(one.folder)[0].loss
    plain = recipe("train.iterations=1", output="plain")
    run(plain)
    assert losses["labels"] == pytest.approx(read_log(plain.folder)[0].loss)
    assert losses["half"] == pytest.approx((losses["labels"] + losses["teacher"]) / 2)
    assert losses["teacher"] != pytest.approx(losses["labels"])


@pytest.mark.heavy
def test_pieces_change_nothing(
    recipe: Make, run: Callable[..., Run], model: Callable[..., str]
) -> None:
    file = model(size=49, classes=5)
    found = []
    for pieces in (1, 2):
        one = recipe(
            f"teacher={{model: '{file}', weight: 1.0}}",
            "train={iterations: 1, batch: 2, batch_norm: frozen, dropout: 0}",
            f"train.accumulate={pieces}",
            output=f"pieces{pieces}",
        )
        run(one)
        found.append(read_log(one.folder)[0].loss)
    assert found[0] == pytest.approx(found[1], rel=1e-5)
