"""Ctrl-C in the middle of the verbs that work through many images."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.builders.command import Done, Run
from tests.builders.voc import IDS

pytestmark = pytest.mark.heavy

COUNT = 200

# A network so slow that the signal comes in the middle; it says when it has begun.
SLOW = """
import pathlib, signal, sys, time
from atrous.cli import main
from atrous.engines.base import Engine

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
run, calls = Engine.run, []

def slow(self, batch):
    calls.append(1)
    if len(calls) == 8:
        pathlib.Path("begun").touch()
    time.sleep(0.03)
    return run(self, batch)

Engine.run = slow
main()
"""

# One that never answers; the interpreter would wait for it.
STUCK = SLOW.replace("time.sleep(0.03)", "len(calls) < 8 or time.sleep(1000)").replace(
    "\nrun,", "\nfrom atrous.runtime import worker\nworker._AT_EXIT = 1000\nrun,"
)

VERBS = {
    "predict": ("predict", "many", "-o", "out"),
    "stream": (
        *("stream", "--file_path", "many", "--gt_path", "VOC2012/SegmentationClass"),
        *("--save_dir", "out", "--overlays"),
    ),
    "npz run": ("npz", "run", "--datalist", "list.txt", "--path_output", "out"),
    "eval": (
        "eval",
        "--data",
        "voc:VOC2012:val",
        "--protocol",
        "squash-32",
        "--json-file",
        "r.json",
    ),
}


@pytest.fixture
def many(voc: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pictures of `voc` many times over, for every verb."""
    monkeypatch.setenv("ATROUS_CACHE", str(voc.parent / "cache"))
    pictures = voc.parent / "many"
    pictures.mkdir()
    names = [f"{IDS[number % len(IDS)]}_{number:03}" for number in range(COUNT)]
    for name in names:
        first = name[:-4]
        shutil.copy(voc / "JPEGImages" / f"{first}.jpg", pictures / f"{name}.jpg")
        shutil.copy(voc / "JPEGImages" / f"{first}.jpg", voc / "JPEGImages" / f"{name}.jpg")
        truth = voc / "SegmentationClass"
        shutil.copy(truth / f"{first}.png", truth / f"{name}.png")
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(names))
    return voc.parent


def interrupt(arguments: tuple[str, ...], folder: Path, code: str = SLOW) -> Done:
    """Run a verb, send the signal once it is at work, and see it end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while process.poll() is None and not (folder / "begun").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    return Done(process.returncode, out, err)


def whole(path: Path) -> bool:
    if path.suffix == ".npz":
        with np.load(path) as answer:
            return bool(answer["output_0"].shape == (1, 21, 32, 32))
    with Image.open(path) as picture:
        picture.load()
        return picture.size[0] == 128


@pytest.mark.parametrize("verb", VERBS)
def test_what_was_finished_is_kept(verb: str, many: Path, atrous: Run) -> None:
    common = ("-m", "mod", "--vdsp-params", "vdsp.json", "--engine", "onnxruntime")
    arguments = (*VERBS[verb], *common, *(("--labels", "voc") if verb != "eval" else ()))
    if verb == "npz run":
        atrous("npz", "make", "--dataset_path", "many", "--target_path", "in",
               "--text_path", "list.txt", "--ids", "all")  # fmt: skip
    before = {path for path in many.rglob("*") if path.is_file()}
    done = interrupt(arguments, many)
    assert done.code == 130, done.err
    assert done.err.splitlines()[-1] == "interrupted; what was finished is kept"
    assert "Traceback" not in done.err
    made = {path for path in many.rglob("*") if path.is_file()} - before - {many / "begun"}
    made = {path for path in made if many / "cache" / "tried" not in path.parents}
    assert made
    assert not [path for path in made if path.suffix == ".part"]
    if verb == "eval":
        [state] = made
        assert state.parent == many / "cache" / "evaluations"
        with np.load(state) as tally:
            assert 1 <= len(tally["scores"]) < COUNT
        assert atrous(*arguments).code == 0
        resumed = json.loads(Path("r.json").read_text())
        assert atrous(*arguments, "--restart").code == 0
        assert json.loads(Path("r.json").read_text()) == resumed
        return
    pictures = [path for path in made if path.is_relative_to(many / "out")]
    assert 1 <= len(pictures) < COUNT
    assert all(whole(path) for path in pictures)
    if verb != "stream":
        finished = [path for path in pictures if path.suffix != ".jpg"]
        assert f"{COUNT - len(finished)} written" in atrous(*arguments).out


def test_a_network_that_is_stuck_does_not_hold_up_the_end(many: Path) -> None:
    common = ("-m", "mod", "--vdsp-params", "vdsp.json", "--engine", "onnxruntime")
    done = interrupt((*VERBS["predict"], *common), many, STUCK)
    assert (done.code, done.err.splitlines()[-1]) == (130, "interrupted; what was finished is kept")
    finished = list((many / "out" / "masks").iterdir())
    assert 1 <= len(finished) < 8
    assert all(whole(path) for path in finished)
