"""Soft labels that are imitated beside the labels."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from atrous.data import open_dataset
from atrous.data.soft_labels import CELL, SoftLabel
from atrous.errors import ConfigError, InputError
from atrous.training import checkpoint
from atrous.training.config import Recipe, TeacherSettings
from atrous.training.learner import Learner, StepResult
from atrous.training.loader import Piece
from atrous.training.loop import Interrupted, Run
from atrous.training.progress import read_log
from atrous.training.teacher import SoftLabelTeacher

Make = Callable[..., Recipe]
Go = Callable[..., Run]
DATA = open_dataset("synthetic:0:12")


@pytest.fixture
def soft(tmp_path: Path) -> Path:
    """Soft labels for the pictures of the recipe that say what their masks say."""
    for sample in DATA.samples:
        label = DATA.read_label(sample)[CELL // 2 :: CELL, CELL // 2 :: CELL]
        likely = np.stack([label == index for index in range(5)]).astype(np.float32) + 0.01
        SoftLabel.of(likely / likely.sum(0)).save(tmp_path / "soft", sample.id)
    return tmp_path / "soft"


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_distance(temperature: float) -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, generator=random, requires_grad=True)
    chances = torch.tensor([[51, 204, 0], [255, 0, 0], [85, 85, 85]], dtype=torch.uint8)
    soft = chances[torch.randint(0, 3, (2, 8, 8), generator=random)].movedim(-1, 1)
    soft[0, :, 5:] = 0  # beyond the image
    images = torch.zeros(2, 3, 8, 8)
    teacher = SoftLabelTeacher(TeacherSettings(labels="soft", temperature=temperature))
    assert teacher.pixels(images, soft) == 2 * 64 - 3 * 8
    wanted = (soft / 255) ** (1 / temperature)
    wanted = wanted / wanted.sum(1, keepdim=True).clamp(min=1e-9)
    found = (logits / temperature).log_softmax(1)
    expected = -(temperature**2) * (wanted * found).sum() / (2 * 64 - 3 * 8)
    distance = teacher.distance(logits, images, soft)
    torch.testing.assert_close(distance, expected)
    distance.backward()
    assert logits.grad is not None
    assert not logits.grad[0, :, 5:].any()


def test_without_any_pixel() -> None:
    teacher = SoftLabelTeacher(TeacherSettings(labels="soft"))
    logits, none = torch.randn(1, 3, 4, 4), torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    assert float(teacher.distance(logits, torch.zeros(1, 3, 4, 4), none)) == 0


@pytest.mark.parametrize("teacher", ["{weight: 0.5}", "{model: default, labels: soft}"])
def test_one_of_the_two(recipe: Make, teacher: str) -> None:
    with pytest.raises(ConfigError, match="teacher: expected either model, a network, or labels"):
        recipe(f"teacher={teacher}")


def test_all_images_have_some(recipe: Make, run: Go, soft: Path) -> None:
    for name in ("00003", "00007"):
        SoftLabel.path(soft, name).unlink()
    with pytest.raises(
        ConfigError, match=r"no soft labels for 2 of the 12 images of \S+, such as 00003\.npz; make"
    ):
        run(recipe(f"teacher={{labels: '{soft}'}}"))


@pytest.mark.heavy
def test_those_of_another_image_are_refused(recipe: Make, run: Go, soft: Path) -> None:
    for sample in DATA.samples:
        SoftLabel.of(np.ones((5, 9, 9), np.float32)).save(soft, sample.id)
    with pytest.raises(InputError, match=r"soft labels for \(9, 9\) cells, its image has"):
        run(recipe(f"teacher={{labels: '{soft}'}}"))


@pytest.mark.heavy
def test_crops_take_theirs_along(recipe: Make, run: Go, soft: Path) -> None:
    made = run(recipe(f"teacher={{labels: '{soft}'}}", "train.iterations=1"))
    for position in range(12):
        crop = made.data.crops[position]
        assert crop.soft.shape == (5, 49, 49)
        assert torch.equal(crop.soft.amax(0) > 0, _inside(crop))
        sure = (crop.soft.amax(0) > 200) & (crop.labels != 255)
        same = crop.soft.argmax(0) == crop.labels
        assert same[sure].float().mean() > 0.95


def _inside(crop: Piece) -> torch.Tensor:
    """Where the image is: a rectangle, within which masks have ignored outlines."""
    known = crop.labels != 255
    rows, columns = known.any(1), known.any(0)
    return rows[:, None] & columns[None, :]


@pytest.mark.heavy
def test_they_are_learnt(recipe: Make, run: Go, soft: Path) -> None:
    """What they say, where the labels say something else."""
    third = np.zeros((5, 30, 40), np.float32)
    third[3] = 1
    for sample in DATA.samples:
        SoftLabel.of(third).save(soft, sample.id)
    one = recipe(
        f"teacher={{labels: '{soft}', weight: 1.0}}",
        "train={iterations: 12, batch: 2, seed: 1}",
        "optimizer={type: adamw, lr: 0.01}",
    )
    made = run(one)
    losses = [entry.loss for entry in read_log(one.folder)]
    assert losses[-1] < losses[0] / 4
    network = made.learner.trainee.eval()
    with torch.no_grad():
        found = network(torch.stack([made.data.crops[n].images for n in range(4)])).argmax(1)
    assert (found == 3).float().mean() > 0.95


@pytest.mark.heavy
def test_pieces_change_nothing(recipe: Make, run: Go, soft: Path) -> None:
    """Though crops show more or less of their images."""
    found = []
    for pieces in (1, 4):
        one = recipe(
            f"teacher={{labels: '{soft}', weight: 1.0}}",
            "train={iterations: 1, batch: 4, batch_norm: frozen, dropout: 0}",
            "augment={crop: 129}",
            f"train.accumulate={pieces}",
            output=f"pieces{pieces}",
        )
        run(one)
        found.append(read_log(one.folder)[0].loss)
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.heavy
def test_a_killed_run_goes_on(
    recipe: Make, run: Go, soft: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (f"teacher={{labels: '{soft}', weight: 0.7, temperature: 2}}", "train.ema=0.9")
    whole, broken = (recipe(*settings, output=name) for name in ("whole", "broken"))
    run(whole)
    learn = Learner.learn

    def killed(self: Learner, pieces: Sequence[Piece], iteration: int, **more: Any) -> StepResult:
        if iteration == 2:
            raise Interrupted
        return learn(self, pieces, iteration, **more)

    monkeypatch.setattr(Learner, "learn", killed)
    with pytest.raises(Interrupted):
        run(broken)
    monkeypatch.setattr(Learner, "learn", learn)
    run(broken)
    first, second = (load_file(one.folder / checkpoint.STATE) for one in (whole, broken))
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    with pytest.raises(ConfigError, match=r"teacher\.labels was \S+soft and is \S+soft/\.\./soft"):
        run(recipe(f"teacher={{labels: '{soft}/../soft', weight: 0.7, temperature: 2}}",
                   "train.ema=0.9", output="whole"))  # fmt: skip
