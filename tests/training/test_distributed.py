"""Two processes learn what one process learns from the same batch."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from atrous.errors import ConfigError
from atrous.training.config import Recipe
from atrous.training.loop import Run
from atrous.training.progress import read_log

pytestmark = pytest.mark.heavy

Go = Callable[..., Run]
Make = Callable[..., Recipe]

ROOT = Path(__file__).parents[2]
SAME = (
    "train.iterations=4",
    "train.batch=4",
    "train.batch_norm=frozen",
    "train.dropout=0",
    "optimizer.lr=0.05",
    "save_every=10",
)


def test_two_processes_equal_one(recipe: Make, run: Go) -> None:
    one, two = recipe(*SAME, output="one"), recipe(*SAME, output="two")
    file = two.folder.with_suffix(".yaml")
    file.write_text(two.to_yaml())
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", "-m", "tests.builders.shallow", "train", str(file)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained:") == 1
    run(one)
    losses = [[entry.loss for entry in read_log(each.folder)] for each in (one, two)]
    assert len(losses[0]) == 4
    assert losses[0][0] != losses[0][3]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    ours, theirs = (load_file(each.folder / "last.safetensors") for each in (one, two))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-4, msg=name)


def test_pieces_equal_the_whole_batch(recipe: Make, run: Go) -> None:
    whole, pieces = recipe(*SAME, output="whole"), recipe(*SAME, "train.accumulate=2", output="p")
    run(whole)
    run(pieces)
    losses = [[entry.loss for entry in read_log(each.folder)] for each in (whole, pieces)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_uneven_shares_are_refused(recipe: Make, run: Go) -> None:
    with pytest.raises(ConfigError, match=r"4 images cannot be shared evenly by 1 processes in 3"):
        run(recipe(*SAME, "train.accumulate=3"))
