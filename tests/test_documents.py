"""Every block of code in the README and the documents runs, or is named here with the reason."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import typer.main
import yaml
from numpy.typing import NDArray
from PIL import Image

from atrous import Predictor, models
from atrous.cli import app
from atrous.compiler import config as compile_file
from atrous.data import open_dataset
from atrous.image import photograph
from atrous.training import config as recipe
from tests.builders.command import Run
from tests.builders.documents import PAGES, ROOT, Block, blocks, commands, words
from tests.builders.shallow import make_shallow

LANGUAGES = {"sh", "python", "yaml", "json", "text", "mermaid"}

# Page and beginning of a command or file → why it does not run here. Empty ones stand for all.
NOT_HERE = {
    ("", "pip install"): "installs; tests/test_wheel.py does so with the wheel",
    ("", "python3 -m venv"): "makes an environment, as tests/test_wheel.py does",
    ("", ". .venv/bin/activate"): "belongs to the environment",
    ("", "torchrun"): "several processes; tests/training/test_distributed.py",
    ("", "ray start"): "several machines; tests/jobs/cluster",
    ("", "serve deploy"): "needs a cluster; tests/serve/test_ray.py has the application on one",
    (
        "",
        "docker build",
    ): "needs Docker; tests/serve/test_deploy.py reads the Dockerfile",
    ("", "kubectl"): "needs Kubernetes; tests/serve/test_deploy.py reads the file",
    ("", "optimum-cli"): "needs the hub",
    ("", "python -m tf2onnx.convert"): "needs TensorFlow",
    ("", "python recipes/"): "needs Google's weights, VOC 2012 and hours",
    ("", "atrous predict s3://"): "needs a bucket; tests/jobs/cluster has one in a folder",
    ("", "atrous predict photographs -m deeplabv3_resnet101_coco"): "downloads 245 MB",
    ("", "atrous predict photographs -m deeplabv3_mobilenet_v2_1.0_513"): "needs the hub",
    ("", "atrous predict photographs -m end2end.onnx"): "needs mmdeploy",
    ("", "atrous predict photographs -m model.onnx"): "needs TensorFlow",
    ("README.md", "atrous doctor --data"): "run by tests/cli/test_train.py, on small pictures",
    ("README.md", "atrous serve"): "docs/serve.md starts a server",
    ("README.md", "atrous train"): "the same",
    ("README.md", "atrous compile compile.yaml"): "the same",
    ("README.md", "atrous eval -m deploy_weights/road"): "the same",
    ("README.md", "atrous predict images/val"): "the same",
    ("data.md", ""): "run by tests/data/test_documented.py, with what five tools write",
    (
        "deploy.md",
        "atrous export default --triton",
    ): "see tests/exporters/test_standalone.py",
    ("train.md", "atrous train --init"): "the README's, run by tests/cli/test_train.py",
    ("train.md", "atrous doctor --data folder:CamVid"): "needs CamVid",
    ("train.md", "atrous eval -m runs/"): "needs what hours of training make",
    ("train.md", "cd VOCdevkit"): "needs VOC 2012",
    ("train.md", "grep -vxFf"): "needs VOC 2012",
    ("train.md", "atrous train recipes/default.yaml data.train="): "CHANGES is a placeholder",
    (
        "vastmodelzoo.md",
        "atrous ",
    ): "run by tests/cli (stream, npz, bench, compile) on a small model",
    ("from-elsewhere.md", "atrous predict photographs -m segformer-b0"): "needs the hub",
    ("from-elsewhere.md", "atrous compile compile.yaml"): "the same",
    ("from-elsewhere.md", "atrous eval -m deploy_weights/segformer"): "the same",
    ("from-elsewhere.md", "atrous eval -m deeplab.onnx"): "the weights here are random",
}
# Beginning of a command → what is added to it here, so that it ends soon.
SHORTER = {
    "atrous bench": ["-t", "0.05", "--engine", "onnxruntime"],
    "atrous train recipes/": ["--dry-run"],
}
SLOW = {
    "tutorial.md": "it compiles a real network to int8",
    "from-elsewhere.md": "it exports two networks for their own sizes",
}


def reason(page: str, command: str) -> str:
    """Why a command does not run here, empty if it does."""
    for (where, start), why in NOT_HERE.items():
        if where in ("", page) and command.startswith(start):
            return why
    return ""


def runs(page: Path) -> bool:
    """Whether something on a page does."""
    return any(block.language == "python" for block in blocks(page)) or any(
        not reason(page.name, command)
        for block in blocks(page)
        if block.language == "sh"
        for command in commands(block.text)
    )


def all_commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in blocks(page):
            if block.language == "sh":
                for command in commands(block.text):
                    yield page.name, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_names_its_language(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES


def test_no_reason_is_left_over() -> None:
    for (where, start), why in NOT_HERE.items():
        found = [
            command
            for page, command in all_commands()
            if where in ("", page) and command.startswith(start)
        ]
        assert found, (where, start, why)


def test_commands_have_the_options_that_they_use() -> None:
    """Also those that do not run here."""
    ours: Any = typer.main.get_command(app)
    checked = 0
    for page, text in all_commands():
        name, *rest = words(text)
        if name == "atrous":
            command = ours
            while hasattr(command, "commands"):
                command = command.commands[rest.pop(0)]
            try:
                command.make_context(text, rest)
            except Exception as error:
                pytest.fail(f"{page}: {text}: {error}")
            checked += 1
    assert checked > 30


@pytest.mark.parametrize(
    "block",
    [
        block
        for page in PAGES
        for block in blocks(page)
        if block.language in ("yaml", "json") and not reason(block.page, block.text)
    ],
    ids=lambda block: f"{block.page}-{block.text[:20].strip()}",
)
def test_files_fit_what_reads_them(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "block.yaml"
    path.write_text(block.text)
    if block.language == "json":
        json.loads(block.text)
        return
    content = yaml.safe_load(block.text)
    if "frontend" in content:
        compile_file.load(path)
    elif "masks" in content:
        own_data(tmp_path)
        for split in ("train", "val"):
            assert open_dataset(f"folder:{path}:{split}").labels.names == tuple(content["classes"])
    else:
        recipe.load(path)


def own_data(folder: Path) -> None:
    """Photographs and masks of two classes in `images` and `masks`."""
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        mask = np.zeros((48, 64), np.uint8)
        mask[:, 20 : 40 + len(split)] = 1
        Image.fromarray(mask).save(folder / "masks" / split / f"{split}.png")
        Image.fromarray(mask * 150).convert("RGB").save(folder / "images" / split / f"{split}.png")


@pytest.fixture(scope="module")
def seen() -> NDArray[np.uint8]:
    """What `default` sees in the photograph of the package."""
    with Predictor.open("default") as predictor:
        return predictor(photograph()).class_map()


@pytest.fixture
def stage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_model: Callable[..., onnx.ModelProto],
    seen: NDArray[np.uint8],
) -> Path:
    """A folder with what the documents take for granted: photographs, models, a data set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name in ("examples", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "photographs").mkdir()
    (tmp_path / "scenes").mkdir()
    voc = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / name).mkdir(parents=True)
    Image.fromarray(photograph()).save(tmp_path / "photograph.jpg", quality=95)
    shutil.copy(tmp_path / "photograph.jpg", tmp_path / "photographs" / "cat.jpg")
    shutil.copy(tmp_path / "photograph.jpg", voc / "JPEGImages" / "2007_000001.jpg")
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000001\n")
    Image.fromarray(seen).save(voc / "SegmentationClass" / "2007_000001.png")  # all is right
    onnx.save(small_model(classes=21), tmp_path / "my_model.onnx")
    return tmp_path


@contextmanager
def serving(command: list[str]) -> Iterator[str]:
    """A server that a command starts, on a port that is free, and where it listens."""
    told = [sys.executable, "-m", *command, "--port", "0"]
    with subprocess.Popen(told, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        said = []
        for line in running.stderr:
            said.append(line)
            if found := re.search(r"listening on (http://\S+)", line):
                break
        assert found, said
        reader = threading.Thread(target=running.stderr.read)
        reader.start()
        try:
            yield found[1]
        finally:
            running.terminate()
            assert running.wait() == 0
            reader.join()


def run_command(command: str, url: str, atrous: Run) -> None:
    """Run a command of a document, in this process if it is one of ours."""
    found = words(command)
    if found[0] == "atrous":
        more = [added for start, added in SHORTER.items() if command.startswith(start)]
        done = atrous(*found[1:], *chain(*more))
        assert done.code == 0, (command, done.out, done.err)
        return
    assert found[0] in ("python", "curl"), f"{command}: name it in NOT_HERE, or let it run"
    said = command.replace("http://127.0.0.1:8000", url)
    if found[0] == "curl":
        said = said.replace("curl", "curl --silent --show-error --fail", 1)
    done_there = subprocess.run(["bash", "-c", said], capture_output=True, text=True, check=False)
    assert done_there.returncode == 0, (command, done_there.stderr)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] * (page.name in SLOW), id=page.name)
        for page in PAGES
        if runs(page)
    ],
)
def test_blocks_run(
    page: Path,
    stage: Path,
    atrous: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One after the other, in one folder: a later block may use what an earlier one made."""
    if page.name == "from-elsewhere.md":
        make_shallow(monkeypatch)
        torch.save(models.build("deeplabv3plus_mobilenet").state_dict(), "weights.pth")
    names: dict[str, object] = {"__name__": "__main__"}
    url = ""
    for block in blocks(page):
        if named := re.match(r"# (\S+\.yaml)\n", block.text):
            (stage / named[1]).write_text(block.text)
    with ExitStack() as servers:
        for block in blocks(page):
            if block.language == "python":
                capsys.readouterr()
                exec(compile(block.text, page.name, "exec"), names)
                assert capsys.readouterr().out == block.printed
            elif block.language == "sh":
                for command in commands(block.text):
                    if reason(page.name, command):
                        continue
                    if command.startswith("atrous serve"):
                        url = servers.enter_context(serving(words(command)))
                    else:
                        run_command(command, url, atrous)
