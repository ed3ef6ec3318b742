"""What happens in a run beside learning."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors import safe_open

from atrous import models
from atrous.errors import AtrousError, ConfigError
from atrous.evaluation import result as results
from atrous.labels import LabelSet
from atrous.training.checkpoint import BEST, LAST
from atrous.training.config import Recipe
from atrous.training.learner import Learner, StepResult
from atrous.training.loader import Piece
from atrous.training.loop import Run
from atrous.training.progress import RunMonitor, read_log
from atrous.training.report import PAGE
from tests.builders.html import Page

pytestmark = pytest.mark.heavy

Go = Callable[..., Run]
Make = Callable[..., Recipe]
Spoil = Callable[[int], bool]

SCORED = ("data.val=synthetic:1:6", "validation={every: 2, protocol: whole, images: 3}")


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[Spoil], None]:
    """Puts NaN into the images of some iterations."""

    def use(wanted: Spoil) -> None:
        learn = Learner.learn

        def spoilt(
            self: Learner, pieces: Sequence[Piece], iteration: int, **more: Any
        ) -> StepResult:
            if wanted(iteration):
                pieces = [one._replace(images=one.images * float("nan")) for one in pieces]
            return learn(self, pieces, iteration, **more)

        monkeypatch.setattr(Learner, "learn", spoilt)

    return use


def test_what_a_run_leaves_behind(recipe: Make, run: Go) -> None:
    one = recipe(*SCORED, "train.iterations=5", "train.ema=0.5")
    made = run(one)
    final = results.load(one.folder / "last.json")
    assert (final.stamp.images, final.stamp.protocol, final.stamp.data) == (
        6,
        "whole",
        "synthetic:1:6",
    )
    assert list(made.state.scores) == [2, 4]
    best = results.load(one.folder / "best.json")
    assert best.stamp.images == 3
    assert best.mean_iou == pytest.approx(max(made.state.scores.values()))
    entries = read_log(one.folder)
    assert [e.iteration for e in entries if e.loss is not None] == [1, 2, 3, 4, 5]
    assert [e.iteration for e in entries if e.score is not None] == [2, 4, 5]
    assert entries[-1].score == pytest.approx(final.mean_iou)
    for name in (LAST, BEST):
        network = models.load(one.folder / name)
        assert network.num_classes == 5
    with safe_open(one.folder / LAST, "pt") as file:
        known = file.metadata()
    labels = LabelSet.from_dict(json.loads(known["labels"]))
    assert labels.names[1] == "disc"
    assert json.loads(known["preprocess"])["size"] == [513, 513]
    assert json.loads(known["train"])["images"] == 12
    assert known["weights"] == "average"
    average = made.learner.average
    assert average is not None
    first = "backbone.low_level_features.0.0.weight"
    shipped = models.load(one.folder / LAST).state_dict()[first]
    torch.testing.assert_close(shipped, average.network.state_dict()[first])
    assert not torch.equal(shipped, made.learner.network.state_dict()[first])
    html = (one.folder / PAGE).read_text()
    page = Page(html).text
    assert f"{final.mean_iou:.3f} % mIoU" in page
    assert "flatters: ship the last" in page
    # Loss with mIoU, learning rate, and one chart for each of the five classes.
    assert html.count("<svg") == 2 + 5
    places = [page.index(word) for word in ("worst: ", "median: ", "best: ", "How it went")]
    assert places == sorted(places)
    assert "What it started from" in page
    assert f"atrous train {one.folder}/recipe.yaml" in page
    assert (one.folder / "evaluation" / "index.html").is_file()
    assert list((one.folder / "tensorboard").iterdir())


def test_a_bad_loss_is_skipped_and_leaves_no_trace(
    recipe: Make, run: Go, spoil: Callable[[Spoil], None]
) -> None:
    spoil(lambda iteration: iteration in (1, 2))
    one = recipe("train.iterations=4", "train.bad_losses=2", "train.ema=0.9")
    made = run(one)
    assert (made.state.skipped, made.state.bad_losses) == (2, 0)
    assert [e.loss is None for e in read_log(one.folder)] == [False, True, True, False]
    assert all(tensor.isfinite().all() for tensor in made.learner.network.state_dict().values())
    assert all(tensor.isfinite().all() for tensor in made.learner.shipped.state_dict().values())


def test_bad_losses_in_a_row_stop_the_run(
    recipe: Make, run: Go, spoil: Callable[[Spoil], None]
) -> None:
    spoil(lambda iteration: iteration > 0)
    message = r"the loss was nan for 3 steps in a row, up to iteration 4.*smaller optimizer\.lr"
    with pytest.raises(AtrousError, match=message):
        run(recipe("train.iterations=9", "train.bad_losses=2"))


def test_nothing_but_ignored_pixels(recipe: Make, run: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    learn = Learner.learn

    def blank(self: Learner, pieces: Sequence[Piece], iteration: int, **more: Any) -> StepResult:
        pieces = [one._replace(labels=torch.full_like(one.labels, 255)) for one in pieces]
        return learn(self, pieces, iteration, **more)

    monkeypatch.setattr(Learner, "learn", blank)
    made = run(recipe("optimizer.weight_decay=0"))
    assert [e.loss for e in read_log(made.folder)] == [0, 0, 0]
    assert made.state.skipped == 0


def test_the_gradient_is_clipped(recipe: Make, run: Go) -> None:
    before = run(recipe("train.iterations=1", "optimizer.lr=1e-9", output="before"))
    clipped = ("train.iterations=1", "optimizer={lr: 1, clip: 0.01, momentum: 0, weight_decay: 0}")
    after = run(recipe(*clipped, output="after"))
    first, second = (dict(one.learner.network.named_parameters()) for one in (before, after))
    moved = sum(float((first[n] - second[n]).detach().square().sum()) for n in first) ** 0.5
    assert moved == pytest.approx(0.01, rel=0.02)


def write_folder(tmp_path: Path, classes: list[str], masks: list[np.ndarray]) -> str:
    from PIL import Image

    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / kind / split).mkdir(parents=True)
        for number, mask in enumerate(masks):
            name = f"{split}{number}.png"
            noise = np.random.default_rng(number).integers(0, 255, (*mask.shape, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / "images" / split / name)
            Image.fromarray(mask).save(tmp_path / "masks" / split / name)
    text = f"images: images/{{split}}\nmasks: masks/{{split}}\nclasses: {classes}\nmask_type: ids\n"
    (tmp_path / "own.yaml").write_text(text)
    return f"folder:{tmp_path}/own.yaml"


def test_what_the_data_lacks_is_said_first(recipe: Make, tmp_path: Path) -> None:
    shown, empty = np.zeros((40, 50), np.uint8), np.full((40, 50), 255, np.uint8)
    shown[10:] = 2
    spec = write_folder(tmp_path, ["sky", "sea", "land"], [shown, shown, empty])
    settings = [f"data.train={spec}:train", "loss.class_weights=balanced", "train.iterations=1"]
    for key, message in (
        ("data.allow_ignored_labels=true", r"own:train never shows sea, .*allow_absent_classes"),
        ("data.allow_absent_classes=true", r"1 labels .* such as train2: .*allow_ignored_labels"),
    ):
        refused = recipe(*settings, key)
        with pytest.raises(ConfigError, match=message):
            Run(refused, RunMonitor(refused.folder, Console(quiet=True)))
    allowed = ("data.allow_ignored_labels=true", "data.allow_absent_classes=true")
    one = recipe(*settings, *allowed)
    with (tmp_path / "said").open("w") as file:
        monitor = RunMonitor(one.folder, Console(file=file, width=200))
        made = Run(one, monitor)
        made.go()
        monitor.close()
    said = (tmp_path / "said").read_text()
    assert "own:train never shows sea" in said
    assert "1 labels of own:train are ignored everywhere" in said
    weights = made.data.class_weights
    assert weights == pytest.approx([0.5 / 0.25, 0, 0.5 / 0.75])


def test_data_that_do_not_fit_are_refused(recipe: Make, tmp_path: Path) -> None:
    mask = np.zeros((40, 50), np.uint8)
    mask[10:] = 1
    spec = write_folder(tmp_path, ["sky", "land"], [mask, mask])
    own = f"data.train={spec}:train"
    blank = write_folder(tmp_path / "blank", ["sky", "land"], [np.full_like(mask, 255)] * 2)
    for overrides, message in (
        ((own, f"data.val={spec}:train"), "2 images of own:train, such as 'train0', are in"),
        ((own, "data.val=synthetic:0:3"), "synthetic:0:3 has the classes background, disc"),
        ((own, "loss.class_weights=[1, 2, 3]"), r"expected 2 numbers, .* found 3"),
        ((f"data.train={blank}:train",), "all pixels of all its 2 labels are ignored, so there is"),
    ):
        one = recipe(*overrides)
        with pytest.raises(ConfigError, match=message):
            Run(one, RunMonitor(one.folder, Console(quiet=True)))
