"""Disks that are full or read-only, and names that cannot be: one line, exit code 1, no traceback.

Tests may run as root, whom no rights keep out: places are in /proc, below a file, or of long names.
"""

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, TextIO

import pytest
import yaml
from accelerate.state import AcceleratorState

from atrous import artifact, locks
from atrous.labels import VOC
from atrous.preprocess import Preprocess
from tests.builders.command import Done, Run
from tests.builders.networks import make_small_model
from tests.builders.shallow import make_shallow
from tests.builders.voc import EVAL, IDS, MAKE, RUN, make_voc

ROOM = "make room there, and give the same command again: what was finished is kept"
PLACES = {"proc": "/proc/x", "file": "a-file/x", "device": "/dev/null/x", "long": "x" * 300}
MODEL = ("-m", "model.onnx", "--engine", "onnxruntime")
DATA = ("--data", "voc:VOC2012:val", "--protocol", "squash-32")
QUICK = ("-t", "0.01", "--engine", "onnxruntime")

VERBS: dict[str, Callable[[str], tuple[object, ...]]] = {
    "predict": lambda place: ("predict", "VOC2012/JPEGImages", "-o", place, *MODEL),
    "predict a file": lambda place: ("predict", "one.jpg", "-o", f"{place}/m.png", *MODEL),
    "stream": lambda place: (
        "stream", "--file_path", "VOC2012/JPEGImages", "--save_dir", place, *MODEL,
    ),
    "npz make": lambda place: ("npz", "make", *MAKE[:2], "--target_path", place),
    "npz make --text_path": lambda place: ("npz", "make", *MAKE[:4], "--text_path", place),
    "npz run": lambda place: ("npz", "run", *RUN, "-o", place),
    "npz eval": lambda place: ("npz", "eval", *EVAL, "--draw_dir", place),
    "eval --json-file": lambda place: ("eval", *DATA, *MODEL, "--json-file", place),
    "eval --report": lambda place: ("eval", *DATA, *MODEL, "--report", place),
    "bench --json-file": lambda place: ("bench", "-m", "model.onnx", *QUICK, "--json-file", place),
    "bench --plot": lambda place: ("bench", *MODEL[:2], "--sweep", "--plot", f"{place}.png"),
    "export": lambda place: ("export", "net.pth", "-o", place),
    "export --standalone": lambda place: ("export", "model.onnx", "--standalone", "-o", place),
    "export --triton": lambda place: ("export", "model.onnx", "--name", "m", "--triton", place),
    "compile": lambda place: ("compile", "compile.yaml", f"workspace.path={place}"),
    "train": lambda place: ("train", "recipe.yaml", f"output={place}"),
    "train --init": lambda place: ("train", "--init", "synthetic:0:4", "-o", place),
    "doctor --write": lambda place: ("doctor", "--data", "own", "--write", place),
    "doctor --report": lambda place: ("doctor", "--data", "voc:VOC2012:val", "--report", place),
    "data masks": lambda place: ("data", "masks", "coco.json", "-o", place),
}  # fmt: skip

COMPILE = {
    "name": "small",
    "frontend": {"type": "onnx", "checkpoint": "model.onnx"},
    "backend": {"dtype": "fp16", "engine": "onnxruntime"},
    "workspace": {"path": "out"},
}
RECIPE = {
    "network": "deeplabv3plus_mobilenet",
    "start": "scratch",
    "save_every": 1,
    "data": {"train": "synthetic:0:4", "workers": 0},
    "augment": {"crop": 49},
    "train": {"iterations": 2, "batch": 2},
}
SHAPE = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 9, 0, 9, 9]]}
COCO = {
    "images": [{"id": 1, "file_name": "one.jpg", "width": 128, "height": 64}],
    "annotations": [SHAPE | {"bbox": [0, 0, 9, 9], "area": 40, "iscrowd": 0}],
    "categories": [{"id": 1, "name": "road"}],
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What every verb works on, in the current folder."""
    monkeypatch.chdir(tmp_path)
    root = make_voc(tmp_path)
    known = artifact.Metadata(name="small", labels=VOC, preprocess=Preprocess(size=(32, 32)))
    artifact.save(make_small_model(size=32, classes=21), known, tmp_path / "model.onnx")
    Path("a-file").touch()
    Path("net.pth").touch()
    Path("one.jpg").write_bytes((root / "JPEGImages" / "2007_a.jpg").read_bytes())
    (root / "JPEGImages").joinpath("2007_not_in_val.jpg").unlink()
    Path("own").mkdir()
    for name, kind in (("images", "JPEGImages"), ("masks", "SegmentationClass")):
        Path("own", name).symlink_to(root / kind)
    Path("compile.yaml").write_text(yaml.safe_dump(COMPILE))
    Path("recipe.yaml").write_text(yaml.safe_dump(RECIPE | {"output": "run"}))
    Path("coco.json").write_text(json.dumps(COCO))


def refused(done: Done) -> str:
    """The one line that a failure is."""
    assert "Traceback" not in done.err, done.err
    said = [line for line in done.err.splitlines() if line.startswith(("error: ", "failed: "))]
    assert said, done.err
    assert (done.code, len(set(said))) == (1, len(said)), done.err
    return said[-1]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("verb", VERBS)
def test_a_place_that_cannot_be_is_named_in_one_line(atrous: Run, verb: str, place: str) -> None:
    if verb.startswith("npz"):
        atrous("npz", "make", *MAKE)
        atrous("npz", "run", *RUN, "-o", "out", "--output", "classmap")
    before = {path for path in Path().rglob("*")}
    line = refused(atrous(*VERBS[verb](PLACES[place])))
    assert PLACES[place] in line
    made = {path for path in Path().rglob("*")} - before
    assert not [path for path in made if path.name.startswith(".")]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",),
        ("predict", "--help"),
        ("models",),
        ("models", "--json"),
        ("predict", "one.jpg", "-o", "out", *MODEL),
        ("predict", "one.jpg", "-o", "out", *MODEL, "--json"),
        ("eval", *DATA, *MODEL, "--json-file", "r.json"),
        ("bench", "-m", "model.onnx", *QUICK, "--json-file", "r.json"),
        ("doctor", "--data", "voc:VOC2012:val"),
        ("compile", "compile.yaml", "--dry-run"),
        ("train", "recipe.yaml", "--dry-run"),
        ("npz", "make", *MAKE),
    ],
    ids=lambda arguments: " ".join(map(str, arguments[:2])),
)
def test_standard_output_that_is_full_is_named(
    atrous: Run, arguments: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with full() as output, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", output)
        done = atrous(*arguments)
    line = refused(done)
    assert line == f"error: standard output: No space left on device; {ROOM}"
    if "r.json" in arguments:
        assert Path("r.json").is_file()
    if "out" in arguments:
        assert Path("out/masks/one.png").is_file()


@contextmanager
def full() -> Iterator[TextIO]:
    """A file on a disk that is full, which Python closes without a word all the same."""
    with suppress(OSError), Path("/dev/full").open("w") as file:
        yield file


@pytest.mark.parametrize("verb", ["eval --json-file", "bench --json-file", "npz make --text_path"])
def test_a_file_that_is_full_loses_no_result(atrous: Run, verb: str) -> None:
    done = atrous(*VERBS[verb]("/dev/full"))
    assert "/dev/full" in refused(done)
    assert "No space left on device" in done.err
    said = {"eval --json-file": "mIoU 63.889 %", "bench --json-file": "images/s"}
    assert said.get(verb, "") in done.out


def test_eval_goes_on_when_its_page_has_room_again(
    atrous: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("eval", *DATA, *MODEL, "--report", "page")
    with monkeypatch.context() as patch:
        patch.setattr("atrous.evaluation.report.write_whole", no_room)
        assert "page/index.html: No space left" in refused(atrous(*command))
    seen: list[object] = []
    monkeypatch.setattr("atrous.evaluation.run._add", lambda *looked: seen.append(looked))
    atrous(*command)
    assert Path("page/index.html").is_file()
    assert not seen


def no_room(path: Path, *more: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """No file may grow over a size, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.heavy
def test_a_disk_that_fills_up_while_a_compile_writes_leaves_the_earlier_one(atrous: Run) -> None:
    assert atrous("compile", "compile.yaml").code == 0
    before = contents()
    with small_files(1000):
        line = refused(atrous("compile", "compile.yaml", "--force"))
    assert "out/small: File too large; raise the limit" in line
    assert contents() == before


@pytest.mark.heavy
def test_a_disk_that_fills_up_while_a_network_is_exported_leaves_the_earlier_one(
    atrous: Run,
) -> None:
    Path("made.onnx").write_text("earlier")
    before = contents()
    with small_files(1000):
        line = refused(atrous("export", "model.onnx", "--standalone", "-o", "made.onnx"))
    assert line.startswith("error: made.onnx: File too large")
    assert contents() == before


@pytest.mark.heavy
def test_a_disk_that_fills_up_while_a_network_learns_costs_no_step_that_was_kept(
    atrous: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_shallow(monkeypatch)
    AcceleratorState._reset_state(reset_partial_state=True)
    with small_files(100_000):
        assert "safetensors: File too large" in refused(atrous("train", "recipe.yaml"))
    AcceleratorState._reset_state(reset_partial_state=True)
    done = atrous("train", "recipe.yaml")
    assert done.code == 0, done.err
    assert not list(Path("run").glob(".*.part"))


def test_npz_run_goes_on_with_the_other_inputs(
    atrous: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atrous.vastai import npz

    atrous("npz", "make", *MAKE)
    written = npz.write_atomic

    def full_for_one(path: Path, write: Callable[[IO[bytes]], object]) -> None:
        if path.stem == IDS[1]:
            no_room(path)
        written(path, write)

    monkeypatch.setattr("atrous.vastai.npz.write_atomic", full_for_one)
    done = atrous("npz", "run", *RUN, "-o", "out")
    assert f"out/{IDS[1]}.npz: cannot be written: No space left on device" in refused(done)
    assert len(list(Path("out").glob("*.npz"))) == len(IDS) - 1
    assert f"{len(IDS) - 1} written, 1 failed" in done.out


@pytest.mark.heavy
def test_nothing_is_said_twice_when_the_interpreter_ends() -> None:
    with Path("/dev/full").open("w") as output:
        done = subprocess.run(
            [sys.executable, "-m", "atrous", "models", "--json"],
            stdout=output, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"error: standard output: No space left on device; {ROOM}\n"


@pytest.mark.heavy
def test_a_log_that_is_full_stops_no_work() -> None:
    with Path("/dev/full").open("w") as errors:
        done = subprocess.run(
            [sys.executable, "-m", "atrous", "predict", "one.jpg", "no.jpg", "-o", "out", *MODEL],
            stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    assert done.returncode == 1  # no.jpg is not there
    assert Path("out/masks/one.png").is_file()


@pytest.mark.parametrize(("verb", "hold"), [("train", locks.inside), ("compile", locks.beside)])
def test_two_runs_of_one_folder(
    atrous: Run, verb: str, hold: Callable[[Path], AbstractContextManager[bool]]
) -> None:
    folder, words = {
        "train": (Path("run"), ("recipe.yaml",)),
        "compile": (Path("out/small").absolute(), ("compile.yaml",)),
    }[verb]
    with hold(folder):
        line = refused(atrous(verb, *words))
    assert line.startswith(f"error: {folder}: process {os.getpid()} on ")
    assert not folder.exists()


def test_what_killed_runs_left_in_the_folder_of_a_run() -> None:
    from atrous.training import checkpoint

    run = Path("run")
    kept = [".tmp", ".tmp-notes", ".saving-mine", "notes.txt"]
    for name in (*kept, ".tmpAb12_3"):
        run.mkdir(exist_ok=True)
        (run / name).touch()
    (run / ".saving-abcd" / "x").mkdir(parents=True)
    checkpoint.clean(run)
    assert sorted(path.name for path in run.iterdir()) == sorted(kept)
