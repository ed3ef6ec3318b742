"""Recipes small enough for a test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from rich.console import Console

from atrous.training.config import Recipe, load
from atrous.training.loop import Run
from atrous.training.progress import RunMonitor
from tests.builders.shallow import make_shallow

Make = Callable[..., Recipe]

SMALL: dict[str, Any] = {
    "network": "deeplabv3plus_mobilenet",
    "start": "scratch",
    "log_every": 1,
    "save_every": 1,
    "data": {"train": "synthetic:0:12", "workers": 0},
    "augment": {"crop": 49},
    "train": {"iterations": 3, "batch": 2},
}


@pytest.fixture(autouse=True)
def _little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))
    make_shallow(monkeypatch)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small networks, and a machine that others use too
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(threads)


@pytest.fixture
def recipe(tmp_path: Path) -> Make:
    """Makes a recipe of small images, changed as `key=value` says."""

    def make(*overrides: str, output: str = "run") -> Recipe:
        path = tmp_path / f"{output}.yaml"
        path.write_text(yaml.safe_dump(SMALL | {"output": str(tmp_path / output)}))
        return load(path, overrides)

    return make


@pytest.fixture
def run() -> Callable[..., Run]:
    """Runs a recipe to its end in this process."""

    def go(recipe: Recipe, *, restart: bool = False) -> Run:
        with Path("/dev/null").open("w") as nowhere:
            monitor = RunMonitor(recipe.folder, Console(file=nowhere))
            try:
                made = Run(recipe, monitor, restart=restart)
                made.go()
            finally:
                monitor.close()
        return made

    return go
