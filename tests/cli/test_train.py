import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from atrous.data.synthetic import draw
from atrous.evaluation import result as results
from atrous.training import config
from tests.builders.command import Run
from tests.builders.shallow import make_exports_quick, make_shallow

CLASSES = ["ground", "road"]
SIZE = (48, 64)
SECTION = "Train on your own masks"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)


@pytest.fixture
def own() -> None:
    """Masks of one's own in the current folder: a bright road, narrow in `val`, on dark ground."""
    make_own(SIZE)


def make_own(size: tuple[int, int], train: int = 8, val: int = 3) -> None:
    height, width = size
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for kind in ("images", "masks"):
            Path(kind, split).mkdir(parents=True)
        for number in range(count):
            mask = np.zeros(size, np.uint8)
            left = int(random.integers(0, 40)) * width // 64
            mask[:, left : left + width * 20 // 64] = 1
            image = random.normal(60, 20, (height, width, 3)) + 110 * mask[:, :, None]
            name = f"{split}{number}.png"
            Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(
                Path("images", split, name)
            )
            Image.fromarray(mask).save(Path("masks", split, name))
    described = {"images": "images/{split}", "masks": "masks/{split}", "classes": CLASSES}
    Path("own.yaml").write_text(yaml.safe_dump(described | {"mask_type": "ids"}))


def blocks(heading: str, language: str) -> list[str]:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.mark.heavy
def test_the_readme_goes_from_masks_to_predictions(
    atrous: Run, own: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command as it stands there, but on little: pixels, layers, steps."""
    make_shallow(monkeypatch)
    make_exports_quick(monkeypatch)
    [described] = blocks(SECTION, "yaml")
    assert yaml.safe_load(described) == yaml.safe_load(Path("own.yaml").read_text())
    [commands] = blocks(SECTION, "sh")
    short = ["start=scratch", "train.iterations=25", "train.batch=4", "data.workers=0"]
    fast = ["optimizer.lr=0.005", "train.batch_norm=train", "train.backbone_momentum=0.3"]
    shown = {}
    for line in commands.splitlines():
        _, verb, *arguments = line.split()
        if (verb, *arguments) == ("train", "road.yaml"):
            arguments += [*short, *fast, "optimizer.backbone_lr=0.005"]
        done = atrous(verb, *arguments)
        assert done.code == 0, (line, done.out, done.err)
        shown[verb] = done.out
        if "--init" in arguments:
            recipe = config.load(Path("road.yaml"))
            assert recipe.data.val == "folder:own.yaml:val"
            assert recipe.augment.crop == 65
            assert (recipe.start, recipe.train.batch_norm) == ("default", "frozen")
            text = Path("road.yaml").read_text()
            assert text.startswith("# atrous train road.yaml\n")
            assert "# road: 8 images, 31.25% of the pixels" in text
            assert "100 iterations take about " in done.out
            assert done.out.splitlines()[-3:] == commands.splitlines()[2:5]
    assert "trained: runs/road/last.safetensors" in shown["train"]
    scored = results.load(Path("runs/road/last.json"))
    assert scored.mean_iou > 60
    assert scored.stamp.protocol == "squash-65"
    assert "protocol squash-65" in shown["eval"]  # of the run, which nobody repeats
    found = float(re.findall(r"mIoU ([0-9.]+) %", shown["eval"])[-1])
    assert found == pytest.approx(scored.mean_iou, abs=3)
    data = ("--data", "folder:own.yaml:val")
    for model in ("runs/road/last.safetensors", "deploy_weights/road"):
        other = atrous("eval", "-m", model, *data, "--protocol", "pad-65")
        assert "was trained to be scored by squash-65 at 65×65 pixels; pad-65 gives" in other.err
    smaller = ("frontend.shape={input: [1, 3, 33, 33]}", "name=small", "backend.dtype=fp32")
    other = atrous("compile", "compile.yaml", *smaller)
    assert "was trained to see 65×65 pixels" in other.out + other.err
    assert "frontend.shape says 33×33" in other.out + other.err
    small = atrous("eval", "-m", "deploy_weights/small", *data)
    assert "protocol squash-33" in small.out
    for number in range(3):
        seen, truth = (
            np.asarray(Image.open(f"{folder}/val{number}.png"))
            for folder in ("out/masks", "masks/val")
        )
        assert (seen == truth).mean() > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("side", [128, 512, 2000])
def test_no_figure_of_the_readme_contradicts_another(atrous: Run, side: int) -> None:
    """The block as it stands there, with the real network, on few pictures and for few steps."""
    torch.set_num_threads(2)
    make_own((side, side), train=12, val=4)
    [commands] = blocks(SECTION, "sh")
    figures = {}
    for line in commands.splitlines():
        _, verb, *arguments = line.split()
        steps = ["train.iterations=30", "train.batch=4"] if arguments == ["road.yaml"] else []
        done = atrous(verb, *arguments, *steps)
        assert done.code == 0, (line, done.out, done.err)
        assert "was trained" not in done.out + done.err, line
        figures[verb] = re.findall(r"mIoU ([0-9.]+) %", done.out)
    trained = results.load(Path("runs/road/last.json")).mean_iou
    assert trained > 80
    assert float(figures["eval"][-1]) == pytest.approx(trained, abs=0.5)
    for path in Path("masks/val").iterdir():
        seen, truth = (
            np.asarray(Image.open(folder / path.name))
            for folder in (Path("out/masks"), path.parent)
        )
        assert (seen == truth).mean() > 0.8


@pytest.mark.slow
def test_the_synthetic_recipe_learns() -> None:
    """In under two minutes on two cores."""
    recipe = Path(__file__).parents[2] / "recipes" / "synthetic.yaml"
    command = [sys.executable, "-m", "atrous", "train", str(recipe), "data.workers=0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    scored = results.load(Path("runs/synthetic/last.json"))
    assert scored.mean_iou > 90


@pytest.mark.heavy
def test_the_synthetic_pictures_to_score_on_are_others() -> None:
    learnt = {draw(0, number)[0].tobytes() for number in range(800)}
    assert not learnt & {draw(1, number)[0].tobytes() for number in range(40)}


@pytest.mark.heavy
def test_the_first_steps_of_the_synthetic_recipe(
    atrous: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_shallow(monkeypatch)
    recipe = Path(__file__).parents[2] / "recipes" / "synthetic.yaml"
    little = ("train.iterations=2", "train.batch=2", "validation.protocol=center-crop-65")
    done = atrous("train", recipe, "data.workers=0", *little)
    assert "trained: runs/synthetic/last.safetensors" in done.out, done.err
    scored = results.load(Path("runs/synthetic/last.json"))
    assert (scored.stamp.data, scored.stamp.images) == ("synthetic:1:40", 40)
    board = EventAccumulator("runs/synthetic/tensorboard")
    board.Reload()
    for name in (f"validation/{number:05d}" for number in (0, 13, 26, 39)):
        assert [(image.step, image.width) for image in board.Images(name)] == [(2, 3 * 65)]
    assert [event.value for event in board.Scalars("train/score")] == [
        pytest.approx(scored.mean_iou)
    ]


def test_init_refuses_data_with_errors(atrous: Run, own: None) -> None:
    Image.fromarray(np.full(SIZE, 7, np.uint8)).save("masks/train/train0.png")
    done = atrous("train", "--init", "folder:own.yaml:train", "-o", "recipe.yaml")
    assert done.code == 2
    assert "own:train has errors, the first one: ids outside the classes (1" in done.err
    assert not Path("recipe.yaml").exists()


@pytest.mark.heavy
def test_init_weighs_rare_classes(atrous: Run, own: None, monkeypatch: pytest.MonkeyPatch) -> None:
    make_shallow(monkeypatch)
    for number in range(8):
        mask = np.zeros(SIZE, np.uint8)
        mask[:5, :6] = 1
        Image.fromarray(mask).save(f"masks/train/train{number}.png")
    done = atrous("train", "--init", "folder:own.yaml:train", "-o", "recipe.yaml")
    assert done.code == 0, done.err
    weights = config.load(Path("recipe.yaml")).loss.class_weights
    assert weights is not None
    # 1 % of the pixels: by median frequency 51 for the road, which is cut.
    assert weights == pytest.approx((0.505, 10.0), abs=0.001)
    again = atrous("train", "--init", "folder:own.yaml:train", "-o", "recipe.yaml")
    assert again.code == 2
    assert "recipe.yaml: exists" in again.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected RECIPE.yaml, or --init DATA -o RECIPE.yaml"),
        (("--init", "synthetic:0:4"), "--init: expected -o RECIPE.yaml"),
        (("--init", "synthetic:0:4", "-o", "x", "--restart"), "--init takes DATA and -o"),
        (("x.yaml", "-o", "runs"), "-o belongs to --init"),
        (("x.yaml",), "x.yaml: no such file"),
        (("recipe.yaml", "train.bach=1"), "train.bach: unknown key; did you mean batch?"),
        (("recipe.yaml", "data.train=voc:nowhere:train"), "nowhere: expected VOC2012"),
    ],
)
def test_wrong_commands(atrous: Run, arguments: tuple[str, ...], message: str) -> None:
    Path("recipe.yaml").write_text(
        "network: deeplabv3_mobilenet\noutput: runs/x\nstart: scratch\ndata: {train: synthetic:0:4}"
    )
    done = atrous("train", *arguments)
    assert done.code == 2
    assert message in done.err


def test_dry_run_prints_the_whole_recipe(atrous: Run) -> None:
    Path("recipe.yaml").write_text(
        "network: deeplabv3_mobilenet\noutput: runs/x\ndata: {train: synthetic:0:4}"
    )
    done = atrous("train", "recipe.yaml", "train.batch=4", "--dry-run")
    assert done.code == 0
    content = yaml.safe_load(done.out)
    assert content["train"]["batch"] == 4
    assert content["schedule"]["power"] == 0.9
    assert not Path("runs").exists()
