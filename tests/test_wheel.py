"""The wheel, installed outside of the checkout."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "atrous"
DATA = [
    PACKAGE / "py.typed",
    *PACKAGE.glob("assets/*"),
    *PACKAGE.glob("pages/templates/*"),
    *PACKAGE.glob("serve/alone/*"),
    *(file for file in PACKAGE.glob("serve/page/**/*") if file.is_file()),
]


@dataclass
class Installed:
    wheel: Path
    folder: Path

    def run(self, *command: object, **variables: str) -> str:
        """Run a program of the environment, away from the checkout."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        bin = self.folder / "venv" / "bin"
        done = subprocess.run(
            [*map(str, command)],
            cwd=self.folder,
            env={**kept, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}", **variables},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built from a copy, because setuptools takes in what earlier builds left behind."""
    pytest.importorskip("setuptools", "77", reason="builds without the network need setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    source, environment = folder / "source", folder / "venv"
    unbuilt = shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "src", source / "src", ignore=unbuilt)
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    offline = ["--no-deps", "--no-index"]
    build = [*pip, "wheel", *offline, "--no-build-isolation", "-w", folder, source]
    subprocess.run([*map(str, build)], check=True)
    [wheel] = folder.glob("*.whl")
    venv.create(environment)
    into = [*pip, f"--python={environment / 'bin' / 'python'}", "install", *offline, wheel]
    subprocess.run([*map(str, into)], check=True)
    # The dependencies are those of this environment; its editable atrous is not seen through this.
    [site] = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return Installed(wheel, folder)


def test_the_wheel_holds_the_models_the_pages_and_the_kernel(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        held = {entry.filename: entry.file_size for entry in archive.infolist()}
    assert len(DATA) > 8
    for file in DATA:
        assert held[file.relative_to(PACKAGE.parent).as_posix()] == file.stat().st_size
    code = {file.relative_to(PACKAGE.parent).as_posix() for file in PACKAGE.rglob("*.py")}
    assert code <= set(held)
    if shutil.which("cc"):
        assert any(re.fullmatch(r"atrous/_upsample\.abi3\..*", name) for name in held)
    assert not [name for name in held if not name.startswith(("atrous/", "atrous-"))]


def test_it_runs_from_where_it_was_installed(installed: Installed) -> None:
    assert installed.run("python", "-m", "atrous", "--version").startswith("atrous 0.")
    where = installed.run("python", "-c", "import atrous; print(atrous.__file__)").strip()
    assert Path(where).is_relative_to(installed.folder / "venv")


def test_it_segments_a_photograph(installed: Installed) -> None:
    photograph = PACKAGE / "assets" / "photograph.jpg"
    installed.run("atrous", "predict", photograph, "-o", "out")
    masks = [*(installed.folder / "out").rglob("photograph.png")]
    assert masks
    with Image.open(photograph) as image:
        size = image.size
    for path in masks:
        with Image.open(path) as mask:
            assert mask.size == size


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_bash_completes(installed: Installed) -> None:
    """As `atrous --install-completion` sets it up in a bash."""
    script = 'eval "$(atrous --show-completion; true)"; complete -p atrous'
    assert "_atrous_completion" in installed.run("bash", "-c", script)
    asked = {"_ATROUS_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    assert installed.run("atrous", COMP_WORDS="atrous pre", **asked).split() == ["predict"]
