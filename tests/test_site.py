"""The documentation builds without a broken link, and the notebooks run."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
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


@pytest.mark.parametrize("name", ["segment_and_look"])
def test_notebooks_run_from_top_to_bottom(name: str, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "examples" / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(
        cell.get("outputs") for cell in notebook.cells
    )  # small, and nothing of a machine
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in outputs)
