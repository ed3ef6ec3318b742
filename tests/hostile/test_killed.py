"""kill -9 at moments all over a run: what stands is whole, and the next run ends like any other."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import yaml
from safetensors.torch import load

from atrous.artifact import Metadata, save
from atrous.labels import generic
from atrous.preprocess import Preprocess
from tests.builders.networks import make_small_model
from tests.builders.server import halves, png
from tests.builders.voc import IDS, make_voc

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KILLS = 10
PICTURES = 60

# A network that takes its time, so that moments spread over a run are moments of its work.
SLOW = """
import time
from atrous.cli import main
from atrous.engines.base import Engine

run = Engine.run

def slow(self, batch):
    time.sleep(0.03)
    return run(self, batch)

Engine.run = slow
main()
"""
COMPILE = """
name: x
frontend: {type: onnx, checkpoint: mod.onnx, shape: {input: [1, 3, 32, 32]}}
backend: {dtype: int8, quantize: {calibrate_mode: kl_divergence}}
dataset:
  path: VOC2012/JPEGImages
  sampler: {suffix: jpg, get_data_num: 8}
  process_ops: [{type: DecodeImage}, {type: Resize, size: [32, 32]}, {type: ToTensor}]
workspace: {path: work}
"""
TRAIN = {
    "network": "deeplabv3plus_mobilenet",
    "start": "scratch",
    "output": "run",
    "log_every": 1,
    "save_every": 1,
    "data": {"train": "synthetic:0:12", "workers": 0},
    "augment": {"crop": 49},
    "train": {"iterations": 12, "batch": 2, "ema": 0.9},
}
COMMON = ("-m", "mod.onnx", "--vdsp-params", "vdsp.json", "--engine", "onnxruntime")


@dataclass(frozen=True)
class Trial:
    """A verb, and which of its files are the same each time.

    Attributes:
        arguments: of the command line.
        outputs: folders or files in which all that a run leaves is known.
        same: endings of the files there that are the same byte for byte.
        module: run in place of the slow network.
    """

    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    same: tuple[str, ...]
    module: str = ""
    again: tuple[str, ...] = field(default=())

    def start(self, folder: Path, *more: str) -> "subprocess.Popen[str]":
        told = ["-m", self.module] if self.module else ["-c", SLOW]
        environment = {
            **os.environ,
            "ATROUS_CACHE": "cache",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        }
        return subprocess.Popen(
            [sys.executable, *told, *self.arguments, *more],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def left(self, folder: Path) -> dict[str, bytes]:
        """What lies in its outputs."""
        found = {}
        for output in self.outputs:
            path = folder / output
            files = [path] if path.is_file() else path.rglob("*")
            found |= {str(p.relative_to(folder)): p.read_bytes() for p in files if p.is_file()}
        # TensorBoard's are called after the process.
        return {file: content for file, content in found.items() if "tfevents" not in file}


TRIALS = {
    "predict": Trial(
        ("predict", "many", "-o", "out", *COMMON, "--labels", "voc"), ("out",), (".png", ".jpg")
    ),
    "eval": Trial(
        ("eval", "--data", "voc:VOC2012:val", "--protocol", "squash-32", *COMMON,
         "--json-file", "r.json"),
        ("r.json",),
        ("r.json",),
    ),
    "npz": Trial(
        ("npz", "run", "--datalist", "list.txt", "--path_output", "out", *COMMON),
        ("out",),
        (".npz",),
    ),
    "compile": Trial(
        ("compile", "c.yaml"), ("work",), ("mod.onnx", "resolved.yaml"), again=("--force",)
    ),
    "train": Trial(
        ("train", "recipe.yaml"),
        ("run",),
        ("last.safetensors",),
        module="tests.builders.shallow",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the verbs work on."""
    folder = tmp_path_factory.mktemp("work")
    voc = make_voc(folder)
    (folder / "many").mkdir()
    names = [f"{IDS[number % len(IDS)]}_{number:03}" for number in range(PICTURES)]
    for name in names:
        for place, ending in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
            shutil.copy(voc / place / f"{name[:-4]}.{ending}", voc / place / f"{name}.{ending}")
        shutil.copy(voc / "JPEGImages" / f"{name}.jpg", folder / "many")
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(names))
    (folder / "c.yaml").write_text(COMPILE)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(TRAIN))
    told = ("npz", "make", "--dataset_path", "many", "--target_path", "in", "--text_path",
            "list.txt", "--ids", "all")  # fmt: skip
    done = Trial(told, (), ()).start(folder)
    said, _ = done.communicate()
    assert done.returncode == 0, said
    return folder


def ended(process: "subprocess.Popen[str]") -> str:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


@pytest.mark.parametrize("name", TRIALS)
def test_killed_at_any_moment(name: str, workspace: Path, tmp_path: Path) -> None:
    trial, chance = TRIALS[name], random.Random(name)
    folder = tmp_path / "whole"
    shutil.copytree(workspace, folder)
    began = time.monotonic()
    ended(trial.start(folder))
    seconds = time.monotonic() - began
    whole = trial.left(folder)
    assert any(file.endswith(trial.same) for file in whole)
    killed = 0
    for number in range(KILLS):
        folder = tmp_path / str(number)
        shutil.copytree(workspace, folder)
        process = trial.start(folder)
        time.sleep((number + chance.random()) / KILLS * seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        for file, content in trial.left(folder).items():
            if Path(file).name.startswith("."):  # not finished, and nothing says that it is
                continue
            if name == "train" and file.endswith(".safetensors"):
                assert load(content)
            elif file in whole and file.endswith(trial.same):
                assert content == whole[file], f"{file}, killed at {number}"
        ended(trial.start(folder, *trial.again))
        left = trial.left(folder)
        assert left.keys() == whole.keys(), f"killed at {number}"
        for file, content in whole.items():
            if file.endswith(trial.same):
                assert left[file] == content, f"{file}, killed at {number}"
        shutil.rmtree(folder)
    assert killed > 0


def test_a_server_whose_log_finds_no_room_is_killed_and_started_again(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    settings = Preprocess(size=(32, 32), normalisation="div255")
    save(make_small_model(), Metadata(name="m", labels=generic(3), preprocess=settings), model)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url, picture, chance = f"http://127.0.0.1:{port}", png(halves(200, 300)), random.Random("serve")
    answers: set[bytes] = set()

    def start() -> "subprocess.Popen[bytes]":
        told = ["serve", "-m", str(model), "--port", str(port), "--engine", "onnxruntime"]
        with Path("/dev/full").open("w") as full:
            process = subprocess.Popen(
                [sys.executable, "-m", "atrous", *told], stdout=full, stderr=full
            )
        for _ in range(6000):
            assert process.poll() is None
            try:
                httpx.get(f"{url}/v2/health/ready").raise_for_status()
            except httpx.HTTPError:
                time.sleep(0.01)
            else:
                return process
        raise AssertionError("it does not listen")

    for _ in range(KILLS):
        process = start()
        moment = time.monotonic() + chance.random()
        with httpx.Client(base_url=url) as client:
            while time.monotonic() < moment:
                answer = client.post("/v1/segment", content=picture)
                assert answer.status_code == 200
                answers.add(answer.content)
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = start()
    assert httpx.post(f"{url}/v1/segment", content=picture).content in answers
    assert len(answers) == 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
