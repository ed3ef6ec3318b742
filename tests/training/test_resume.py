"""A run may be killed at any moment and ends with the same weights, bit for bit."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from atrous.errors import ArtifactError, AtrousError, ConfigError
from atrous.training import checkpoint
from atrous.training.config import Recipe
from atrous.training.learner import Learner, StepResult
from atrous.training.loader import Piece
from atrous.training.loop import Interrupted, Run
from atrous.training.progress import RunMonitor, read_log

pytestmark = pytest.mark.heavy

Go = Callable[..., Run]
Make = Callable[..., Recipe]

ROOT = Path(__file__).parents[2]
ALL_OF_IT = (
    "train.iterations=6",
    "train.ema=0.9",
    "train.dropout=0.3",
    "save_every=2",
    "log_every=3",
    "augment={crop: 49, rotation: 10, brightness: 0.3, hue: 0.1}",
    "data.balance=0.5",
    "schedule.warmup=2",
)


def weights(recipe: Recipe, name: str = checkpoint.STATE) -> dict[str, torch.Tensor]:
    return load_file(recipe.folder / name)


def assert_equal(one: Recipe, other: Recipe) -> None:
    for name in (checkpoint.STATE, checkpoint.LAST):
        first, second = weights(one, name), weights(other, name)
        assert first.keys() == second.keys()
        for key, tensor in first.items():
            assert torch.equal(tensor, second[key]), key
    for mine, theirs in zip(read_log(one.folder), read_log(other.folder), strict=True):
        assert (mine.iteration, mine.loss) == (theirs.iteration, theirs.loss)


def start(recipe: Recipe) -> "subprocess.Popen[bytes]":
    file = recipe.folder.with_suffix(".yaml")
    file.write_text(recipe.to_yaml())
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.builders.shallow", "train", str(file)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)


def wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.005)


def test_killed_and_gone_on_with_equals_never_killed(recipe: Make, run: Go) -> None:
    killed, whole = recipe(*ALL_OF_IT, output="killed"), recipe(*ALL_OF_IT, output="whole")
    process = start(killed)
    wait_for(killed.folder / checkpoint.STATE, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    state = checkpoint.read_state(killed.folder)
    assert state is not None
    assert 0 < state.iteration < 6
    run(killed)
    run(whole)
    assert_equal(killed, whole)


def test_a_signal_saves_and_says_how_to_go_on(recipe: Make, run: Go) -> None:
    changed = ("train.iterations=400", "save_every=1000", "log_every=1")
    stopped = recipe(*changed, output="stopped")
    process = start(stopped)
    wait_for(stopped.folder / "log.jsonl", process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"atrous train {stopped.folder}/recipe.yaml" in said.decode()
    state = checkpoint.read_state(stopped.folder)
    assert state is not None
    assert 0 < state.iteration < 400


def test_stopped_in_every_phase(recipe: Make, run: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between steps, during a validation, and after all but the last score."""
    scored = ("data.val=synthetic:1:3", "validation={every: 2, protocol: whole}")
    broken = recipe(*ALL_OF_IT, *scored, output="broken")
    whole = recipe(*ALL_OF_IT, *scored, output="whole")
    run(whole)
    scoring = Run._scoring
    for _ in range(20):
        seen = []

        def stop(self: Run, images: int, done: int, score: float, seen: list[int] = seen) -> None:
            seen.append(done)
            scoring(self, images, done, score)
            if len(seen) == 4:
                raise Interrupted

        monkeypatch.setattr(Run, "_scoring", stop)
        try:
            run(broken)
            break
        except Interrupted:
            continue
    assert_equal(broken, whole)
    one, other = (checkpoint.read_state(each.folder) for each in (broken, whole))
    assert one is not None
    assert other is not None
    assert one.scores == other.scores
    assert list(one.scores) == [2, 4]


def test_what_is_scored_is_not_scored_again(
    recipe: Make, run: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = "validation={every: 2, protocol: whole, images: 1}"
    one = recipe("data.val=synthetic:1:2", some, "save_every=9")
    scored: list[int] = []
    progress: list[tuple[int, int, int]] = []
    measure, learn = Run._measure_live, Learner.learn

    def counted(self: Run) -> float:
        scored.append(self.state.iteration)
        return measure(self)

    def killed(self: Learner, pieces: Sequence[Piece], iteration: int, **more: Any) -> StepResult:
        if iteration == 2:
            raise Interrupted
        return learn(self, pieces, iteration, **more)

    def shown(self: Run, images: int, done: int, score: float) -> None:
        progress.append((self.state.iteration, done, images))

    monkeypatch.setattr(Run, "_scoring", shown)
    monkeypatch.setattr(Run, "_measure_live", counted)
    monkeypatch.setattr(Learner, "learn", killed)
    with pytest.raises(Interrupted):
        run(one)
    monkeypatch.setattr(Learner, "learn", learn)
    assert run(one).state.iteration == 3
    assert scored == [2]
    assert progress == [(2, 1, 1), (3, 1, 2), (3, 2, 2)]


def test_another_recipe_is_refused(recipe: Make, run: Go) -> None:
    run(recipe())
    with pytest.raises(ConfigError, match=r"run of another recipe: train\.batch was 2 and is 4"):
        run(recipe("train.batch=4"))
    run(recipe("data.workers=1", "save_every=7"))
    state = run(recipe("train.batch=4"), restart=True).state
    assert state.recipe["train"]["batch"] == 4
    # Killed before its first state, a run that was begun again must not go on with the old one.
    again = recipe("train.batch=4")
    Run(again, RunMonitor(again.folder, Console(quiet=True)), restart=True)._begin()
    assert not (again.folder / checkpoint.STATE).exists()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_what_cannot_begin_again_leaves_the_run_that_is_there(recipe: Make, run: Go) -> None:
    """A start that is misspelt, or that lies in the folder itself, costs no finished run."""
    one = recipe("data.val=synthetic:1:2", "validation.every=2")
    run(one)
    before = files(one.folder)
    assert {checkpoint.STATE, checkpoint.BEST, "best.json"} <= before.keys()
    with pytest.raises(AtrousError, match="gone"):
        run(recipe("data.val=synthetic:1:2", "start=gone.safetensors"), restart=True)
    assert files(one.folder) == before
    best = one.folder / checkpoint.BEST
    further = recipe("data.val=synthetic:1:2", f"start={best}")
    assert run(further, restart=True).state.iteration == 3


def test_a_score_does_not_outlive_the_weights_that_it_is_of(recipe: Make, run: Go) -> None:
    scored = recipe("data.val=synthetic:1:2", "validation.every=2")
    run(scored)
    run(recipe(), restart=True)
    left = files(scored.folder)
    assert checkpoint.LAST in left
    assert not {checkpoint.BEST, "best.json", "last.json"} & left.keys()


def test_weights_whose_state_was_removed_are_not_replaced(recipe: Make, run: Go) -> None:
    one = recipe()
    run(one)
    (one.folder / checkpoint.STATE).unlink()
    before = files(one.folder)
    with pytest.raises(ConfigError, match=r"holds last\.safetensors without the state\.safe"):
        run(one)
    assert files(one.folder) == before
    assert run(one, restart=True).state.iteration == 3


def test_a_damaged_state_is_named(recipe: Make, run: Go) -> None:
    one = recipe()
    run(one)
    path = one.folder / checkpoint.STATE
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ArtifactError, match=r"state\.safetensors: not a state that this version"):
        run(one)
