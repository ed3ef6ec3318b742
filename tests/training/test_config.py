"""Recipes are read strictly, and say in one line what is wrong."""

from pathlib import Path

import pytest
import yaml

from atrous import zoo
from atrous.errors import ConfigError
from atrous.training.config import load

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
SMALLEST = {
    "network": "deeplabv3_mobilenet",
    "output": "runs/x",
    "data": {"train": "synthetic:0:4"},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(SMALLEST))
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_complete_for_every_network(path: Path) -> None:
    text = path.read_text()
    header = text.split("\n\n")[0]
    for said in (f"# atrous train recipes/{path.name}\n", "Hardware: ", "Hours: ", "Expected: "):
        assert said in header
    for network in zoo.VARIANTS:
        assert load(path, [f"network={network}"]).network == network


def test_written_out_it_reads_as_the_same(file: Path) -> None:
    first = load(file, ["train.ema=0.99", "loss={class_weights: [1, 2]}", "optimizer.lr=1e-3"])
    assert first.optimizer.lr == 0.001
    file.write_text(first.to_yaml())
    assert load(file) == first


def test_an_empty_section_has_its_defaults(file: Path) -> None:
    file.write_text(file.read_text() + "loss:\ntrain:\n")
    assert load(file).train.batch == 16


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.bach=8", "train.bach: unknown key; did you mean batch?"),
        ("netwrok=x", "netwrok: unknown key; did you mean network?"),
        ("network=deeplabv3_mobilnet", "unknown network .*; did you mean deeplabv3_mobilenet?"),
        ("train.batch=0", "train.batch: expected greater than or equal to 1, found 0"),
        ("train.batch='2'", "batch: expected a whole number, found the text '2'; take its quotes "),
        ("data.skip_unreadable='true'", "expected true or false, found the text 'true'; take its"),
        ("train.batch=two", "train.batch: expected a whole number, found two$"),
        ("loss.class_weights='1,2'", "class_weights: expected 'balanced' or a list, found 1,2"),
        ("train.batch=2.5", "train.batch: expected a whole number, found 2.5"),
        ("loss.class_weights=[1, -2]", r"loss.class_weights\[1\]: expected .* 0, found -2"),
        ("loss.type=focl", "loss.type: expected .*found focl; did you mean focal?"),
        ("output_stride=32", "output_stride: expected 4, 8 or 16, found 32"),
        ("augment.scale=[2, 1]", "augment.scale: expected the smaller scale first"),
        ("loss={type: dice, dice: 1}", "type is dice already"),
        ("loss={type: focal, label_smoothing: 0.1}", "label_smoothing belongs to cross_entropy"),
        ("optimizer={type: adamw, nesterov: true}", "nesterov belongs to sgd"),
        ("schedule.type=step", "steps belongs to type step, which needs it"),
        ("schedule.steps=[5]", "steps belongs to type step"),
        ("validation.protocol=squash", "validation.protocol: protocol 'squash': expected center"),
        ("data=null", "data: missing; add it"),
        ("train", "expected key=value"),
    ],
)
def test_what_is_wrong_is_named(file: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        load(file, [override])


def test_a_file_that_is_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    with pytest.raises(ConfigError, match="no such file"):
        load(path)
    path.write_text("- 1")
    with pytest.raises(ConfigError, match="expected keys such as network and data, found a list"):
        load(path)
    path.write_text("network: a\nnetwork: b\n")
    with pytest.raises(ConfigError, match="the key 'network' occurs twice"):
        load(path)
