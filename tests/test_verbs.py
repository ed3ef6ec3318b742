"""The verbs as functions of Python."""

import importlib
import inspect
import pkgutil
import pydoc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from PIL import Image

import atrous
from atrous import artifact
from atrous.artifact import Metadata
from atrous.errors import ConfigError
from atrous.labels import generic
from atrous.preprocess import Preprocess
from tests.builders.shallow import make_shallow

RECIPES = Path(__file__).parents[1] / "recipes"
VERBS = ("compile", "evaluate", "export", "train")


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)


@pytest.fixture
def squares(tmp_path: Path) -> str:
    """Four pictures whose classes are their brightest channels."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(4):
        mask = np.zeros((32, 32), np.uint8)
        mask[:, 8 * number :] = 1 + number % 2
        pixels = np.eye(3, dtype=np.uint8)[mask] * 200
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    described = {"images": "images", "masks": "masks", "mask_type": "ids"}
    names = list(generic(3).names)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(described | {"classes": names}))
    return f"folder:{tmp_path}/own.yaml:all"


@pytest.fixture
def model(tmp_path: Path, small_model: Callable[..., onnx.ModelProto]) -> Path:
    known = Metadata(
        name="small",
        labels=generic(3),
        preprocess=Preprocess(size=(32, 32), normalisation="div255"),
    )
    artifact.save(small_model(), known, tmp_path / "small.onnx")
    return tmp_path / "small.onnx"


@pytest.mark.heavy
def test_all_four_work_after_every_module_is_imported(
    tmp_path: Path, model: Path, squares: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module called like a verb would take its place in the package."""
    for found in pkgutil.walk_packages(atrous.__path__, "atrous."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)

    seen: list[tuple[int, int]] = []
    scored = atrous.evaluate(
        model,
        squares,
        "squash-32",
        engine="onnxruntime",
        threads=1,
        report=tmp_path / "page",
        progress=lambda done, total, miou: seen.append((done, total)),
    )
    assert scored.pixel_accuracy > 90
    assert seen[-1] == (4, 4)
    assert list((tmp_path / "page").glob("*.html"))

    (tmp_path / "compile.yaml").write_text(
        f"name: small\nfrontend: {{type: onnx, checkpoint: {model}}}\n"
        f"workspace: {{path: {tmp_path / 'out'}}}\n"
    )
    report = atrous.compile(tmp_path / "compile.yaml", {"backend.dtype": "fp16"})
    assert report.precision == "fp16"
    assert (tmp_path / "out" / "small" / "mod.onnx").is_file()

    make_shallow(monkeypatch)
    changes = {
        "output": str(tmp_path / "run"),
        "data.workers": 0,
        "train.iterations": 2,
        "train.batch": 2,
        "augment.crop": 65,
        "validation.protocol": "squash-65",
    }
    score = atrous.train(RECIPES / "synthetic.yaml", changes)
    assert score is not None

    made = atrous.export(
        tmp_path / "run" / "last.safetensors", tmp_path / "x.onnx", size=(65, 65), name="mine"
    )
    assert made.path.is_file()
    assert made.metadata.name == "mine"
    assert made.metadata.preprocess.size == (65, 65)
    with atrous.Predictor.open(made.path, threads=1, engine="onnxruntime") as predictor:
        assert predictor(np.zeros((65, 65, 3), np.uint8)).class_map().shape == (65, 65)


def test_help_shows_what_there_is() -> None:
    assert set(atrous.__all__) <= set(dir(atrous))
    page = pydoc.plain(pydoc.render_doc(atrous))
    for name in atrous.__all__:
        assert name in page
    for name in VERBS:
        assert f"{name}(" in page
        parameters = inspect.signature(getattr(atrous, name)).parameters
        described = str(inspect.getdoc(getattr(atrous, name)))
        assert not [one for one in parameters if f"    {one}: " not in described], name


def test_what_does_not_go_together(tmp_path: Path, model: Path) -> None:
    for call, said in (
        (lambda: atrous.evaluate(model), "`data` is missing"),
        (lambda: atrous.export(model, tmp_path / "x.onnx"), "is an ONNX file already"),
        (
            lambda: atrous.export("x.pth", "x.pt", file_format="torchscript", opset=17),
            "`dynamic`, `opset` and `precision` belong",
        ),
        (lambda: atrous.compile(tmp_path / "no.yaml"), "no.yaml"),
        (lambda: atrous.train(tmp_path / "no.yaml", "train.batch=8"), "got the text"),
        (
            lambda: atrous.train(tmp_path / "no.yaml", [("train.batch", 8)]),  # type: ignore[list-item]
            r"expected texts as 'train\.batch=8', or a dictionary, got \('train\.batch', 8\)",
        ),
        (
            lambda: atrous.export("x.pth", tmp_path / "x", file_format="tflite"),  # type: ignore[arg-type]
            "`file_format`: expected onnx or torchscript, got 'tflite'",
        ),
    ):
        with pytest.raises(atrous.AtrousError, match=said):
            call()


def test_changes_belong_to_a_file() -> None:
    from atrous.training import config

    recipe = config.load(RECIPES / "synthetic.yaml")
    with pytest.raises(ConfigError, match="`changes` are for a file, not for a `Recipe`"):
        atrous.train(recipe, {"train.batch": 8})


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("train.batch", np.int64(-4), "found -4"),
        ("optimizer.lr", np.float32(-0.5), "found -0.5"),
        ("optimizer.lr", np.array([0.5]), r"found \[0\.5\]"),
        ("train.batch", np.bool_(True), "expected a whole number, found true"),
    ],
)
def test_a_change_may_be_a_number_of_numpy(key: str, value: object, found: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}: .*{found}$") as caught:
        atrous.train(RECIPES / "synthetic.yaml", {key: value})
    assert "quotes" not in str(caught.value)
