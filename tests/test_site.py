"""The documentation builds without a broken link, and the notebooks run."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import atrous
from atrous.compiler import config as compile_file
from atrous.data import open_dataset
from atrous.training import config as recipe

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
pytestmark = pytest.mark.heavy


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="needs pip install 'atrous[docs]'")
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    front = (tmp_path / "index.html").read_text()
    assert "before_and_after.jpg" in front
    assert "../" not in front.split("<article")[1].split("</article>")[0]
    assert 'id="atrous.Predictor.open"' in (tmp_path / "api.html").read_text()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    """They are small then, and hold nothing of a machine."""
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)


def test_what_the_notebook_about_training_hands_over_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files are read, and nothing is trained: the test below runs it as it stands."""
    monkeypatch.chdir(tmp_path)
    called = []

    def stand_in(name: str, read: Callable[[Any], Any], result: Any) -> None:
        taken = inspect.signature(getattr(atrous, name))

        def call(*arguments: Any, **options: Any) -> Any:
            taken.bind(*arguments, **options)
            read(arguments)
            called.append(name)
            return result

        monkeypatch.setattr(atrous, name, call, raising=False)

    stamp = SimpleNamespace(precision="int8", engine="openvino")
    stand_in("train", lambda given: recipe.load(Path(given[0])), SimpleNamespace(iou={"disc": 1.0}))
    lines = SimpleNamespace(lines=lambda: ["smaller"])
    stand_in("compile", lambda given: compile_file.load(Path(given[0])), lines)
    scored = SimpleNamespace(mean_iou=1.0, stamp=stamp)
    stand_in("evaluate", lambda given: open_dataset(given[1]), scored)
    cells = json.loads((ROOT / "examples" / "train_and_serve.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    before_serving = code.partition("import subprocess")[0]
    exec(compile(before_serving, "train_and_serve.ipynb", "exec"), {"__name__": "__main__"})
    assert called == ["train", "compile", "evaluate", "evaluate"]
    assert "1.0 % mIoU, int8 on openvino" in capsys.readouterr().out


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.slow] * ("train" in path.stem), id=path.stem)
        for path in NOTEBOOKS
    ],
)
def test_notebooks_run_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in outputs)
