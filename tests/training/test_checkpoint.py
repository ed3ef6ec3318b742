"""What is said of the state of a run that cannot go on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from atrous.errors import ArtifactError, ConfigError
from atrous.training import checkpoint
from atrous.training.checkpoint import SplitRecord, State
from atrous.training.config import Recipe

Make = Callable[..., Recipe]

SPLIT = {"name": "own:train", "images": 2, "ids": "abc"}
SAID = {"atrous": "9.1", "recipe": {}, "train": SPLIT}


def kept(folder: Path, metadata: dict[str, str] | None) -> Path:
    path = folder / checkpoint.STATE
    save_file({"network/a": torch.ones(1)}, path, metadata)
    return path


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        (None, "its header has no entry 'atrous'"),
        ({"format": "pt"}, "its header has no entry 'atrous'"),
        ({"atrous": json.dumps(SAID | {"queue": [1]})}, "queue: Extra inputs are not permitted"),
        ({"atrous": json.dumps(SAID | {"iteration": "x"})}, "iteration: Input should be a valid"),
        ({"atrous": "{"}, "Invalid JSON"),
    ],
)
def test_what_is_no_state_is_named_with_the_reason(
    tmp_path: Path, metadata: dict[str, str] | None, why: str
) -> None:
    path = kept(tmp_path, metadata)
    with pytest.raises(ArtifactError) as caught:
        checkpoint.read_state(tmp_path)
    begins = f"{path}: not a state that this version of atrous train wrote ({why}"
    assert str(caught.value).startswith(begins)
    assert str(caught.value).endswith("; name another output, or begin again with `restart`")


def test_a_later_format_names_who_wrote_it_whatever_else_is_new(tmp_path: Path) -> None:
    path = kept(tmp_path, {"atrous": json.dumps(SAID | {"format": 2, "queue": [1]})})
    with pytest.raises(ArtifactError) as caught:
        checkpoint.read_state(tmp_path)
    assert str(caught.value) == (
        f"{path}: format 2, expected 1; continue with the atrous that wrote it (9.1)"
    )


def state(recipe: dict[str, Any], ids: str = "abc", val: SplitRecord | None = None) -> State:
    train = SplitRecord.model_validate(SPLIT | {"ids": ids})
    return State(atrous="0", recipe=recipe, train=train, val=val)


def test_a_run_goes_on_with_the_images_that_it_began_with(tmp_path: Path, recipe: Make) -> None:
    own = recipe().values()
    checkpoint.check_same(tmp_path, state(own), state(own))
    with pytest.raises(
        ConfigError, match=r"another recipe: data\.train holds other images than it"
    ):
        checkpoint.check_same(tmp_path, state(own), state(own, ids="abd"))
    with pytest.raises(ConfigError, match=r"another recipe: data\.val holds other images than it"):
        checkpoint.check_same(
            tmp_path, state(own), state(own, val=SplitRecord.model_validate(SPLIT))
        )


def test_a_run_goes_on_with_the_classes_that_it_began_with(tmp_path: Path, recipe: Make) -> None:
    def named(*classes: str) -> State:
        train = SplitRecord.model_validate(SPLIT | {"ids": "abc", "classes": classes})
        return State(atrous="0", recipe=recipe().values(), train=train)

    before = named("ground", "road")
    checkpoint.check_same(tmp_path, before, before)
    checkpoint.check_same(tmp_path, named(), before)  # an earlier version kept none
    wanted = r"data\.train had the classes \[ground, road\] and has \[road, ground\]; go on with"
    with pytest.raises(ConfigError, match=wanted):
        checkpoint.check_same(tmp_path, before, named("road", "ground"))


def test_a_setting_that_is_no_more_is_named(tmp_path: Path, recipe: Make) -> None:
    own = recipe().values()
    with pytest.raises(ConfigError, match="of another recipe: forgotten was 3 and is None; go on"):
        checkpoint.check_same(tmp_path, state(own | {"forgotten": 3}), state(own))
