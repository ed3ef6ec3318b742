"""`atrous bench` as VastModelZOO's documents call its tool, and as ours do."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from atrous.cli.options import parse_size
from tests.builders.command import Run

VDSP = {
    "OpType": "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR",
    "OpConfig": {"NormaType": "DIV255", "OimageWidth": 32, "OimageHeight": 32},
}
QUICK = ("-t", "0.1", "--engine", "onnxruntime")


@pytest.fixture(autouse=True)
def folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_model: Callable[..., onnx.ModelProto]
) -> Path:
    """A deployed network of 32×32, its vdsp file, a list of three npz files, and photographs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deploy_weights" / "NAME").mkdir(parents=True)
    onnx.save(small_model(classes=21), tmp_path / "deploy_weights" / "NAME" / "mod.onnx")
    (tmp_path / "vdsp.json").write_text(json.dumps(VDSP))
    (tmp_path / "photographs").mkdir()
    (tmp_path / "empty").mkdir()
    lines = []
    for number, name in enumerate("abc"):
        pixels = np.zeros((3, 40, 64), np.uint8)
        pixels[number] = 200
        np.savez(tmp_path / f"{name}.npz", input_0=pixels)
        lines.append(f"{tmp_path}/{name}.npz\n")
        Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "photographs" / f"{name}.jpg")
    (tmp_path / "npz_datalist.txt").write_text("".join(lines))
    return tmp_path


def kept(path: str = "a.json") -> Any:
    return json.loads(Path(path).read_text())


MODEL = ("-m", "deploy_weights/NAME/mod")


@pytest.mark.heavy
def test_the_documents_command_for_performance(atrous: Run) -> None:
    done = atrous(
        "bench", *MODEL, "--vdsp_params", "vdsp.json",
        "-i", 1, "p", 1, "-b", 1, "-s", "[3,32,32]", *QUICK, "--json-file", "a.json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "note: p 1: taken as -p 1" in done.err
    assert "random network inputs need no preprocessing" in done.err
    assert "fed with random tensors; -i 1 -p 1 -b 1 -s [3,32,32] float32" in done.out
    for word in ("throughput", "latency of a query", "infer", "CPU", "bottleneck", "written: a.js"):
        assert word in done.out
    found = kept()
    assert found["facts"]["shape"] == [1, 3, 32, 32]
    assert found["plan"]["vdsp"] == "vdsp.json"
    assert found["seconds"] >= 0.1


@pytest.mark.heavy
def test_the_documents_command_for_accuracy(atrous: Run) -> None:
    command = (
        "bench", *MODEL, "--vdsp_params", "vdsp.json", "-i", 1, "p", 1, "-b", 1, "-s", "[3,32,32]",
        "--datalist", "npz_datalist.txt", "--path_output", "npz_output", *QUICK,
    )  # fmt: skip
    done = atrous(*command)
    assert done.code == 0, done.err
    assert "3 written in " in done.out
    assert "images/s with reading and writing; see npz_output" in done.out
    assert "fed with pixels: 3 of npz_datalist.txt, in memory" in done.out
    assert "throughput" in done.out
    for number, name in enumerate("abc"):
        with np.load(f"npz_output/{name}.npz") as answer:
            logits = answer["output_0"]
        assert (logits.dtype, logits.shape) == ("float16", (1, 21, 32, 32))
        assert (logits[0].argmax(0) == number).all()
    assert "3 kept in " in atrous(*command).out
    assert "3 written in " in atrous(*command, "--force").out


def test_an_image_that_fails_is_reported_after_all(atrous: Run) -> None:
    Path("b.npz").write_bytes(b"PK")
    Path("npz_datalist.txt").write_text("a.npz\nb.npz\n")
    more = ("--path_output", "out", "--from", "tensors", *QUICK)
    done = atrous("bench", *MODEL, "--datalist", "npz_datalist.txt", *more)
    assert done.code == 1
    assert "1 written, 1 failed" in done.out
    assert "b.npz: not an npz file that can be read" in done.err
    assert "Traceback" not in done.err


def test_hyphens_do_as_well(atrous: Run) -> None:
    done = atrous(
        "bench", *MODEL, "--vdsp-params", "vdsp.json", "--forward-mode", 1, "--datalist",
        "npz_datalist.txt", "--path-output", "out", *QUICK,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "scenario offline, synchronous" in done.out


@pytest.mark.parametrize("size", ["32", "32,32", "[3,32,32]", "3,32,32", "32x32", "[3, 32, 32]"])
def test_shapes(size: str) -> None:
    assert parse_size(size) == (32, 32)


def test_the_shape_is_said_as_vastmodelzoo_writes_it(atrous: Run) -> None:
    done = atrous("bench", *MODEL, "-s", "32x32", *QUICK)
    assert "-s [3,32,32]" in done.out, done.err


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("scenario", "names"),
    [
        ((), ["decode", "preprocess", "infer", "postprocess", "queue"]),
        (("--scenario", "single-stream"), ["decode", "preprocess", "infer", "postprocess"]),
        (("--from", "pixels"), ["preprocess", "infer", "postprocess", "queue"]),
        (("--from", "tensors"), ["infer"]),
        (("--scenario", "multi-stream", "-i", 2), ["decode", "preprocess", "infer"]),
        (("--scenario", "server", "--rate", 50), ["decode", "preprocess", "infer"]),
        (("--scenario", "server", "--latency-bound", 5000), ["decode", "preprocess", "infer"]),
    ],
)
def test_scenarios_on_real_images(scenario: tuple[Any, ...], names: list[str], atrous: Run) -> None:
    done = atrous(
        "bench", *MODEL, "--images", "photographs", *scenario, *QUICK, "--iterations", 20,
        "--json-file", "a.json",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = kept()
    assert [step["name"] for step in found["steps"]][: len(names)] == names
    assert found["queries"] >= 20
    assert "photographs" in found["facts"]["fed"]


def test_iterations_take_the_place_of_time(atrous: Run) -> None:
    atrous("bench", *MODEL, "--engine", "onnxruntime", "--iterations", 7, "--json-file", "a.json")
    assert (kept()["queries"], kept()["plan"]["seconds"]) == (7, 0)


def test_a_number_for_a_device(atrous: Run) -> None:
    done = atrous("bench", *MODEL, "-d", 0, *QUICK)
    assert done.code == 0, done.err
    assert (
        "note: device 0 is a card of VastModelZOO's; this runs on the CPU (-d cuda:0 takes a GPU)"
        in done.err
    )


@pytest.mark.heavy
def test_processes(atrous: Run) -> None:
    done = atrous("bench", *MODEL, "-i", 1, "p", 2, *QUICK, "--json-file", "a.json")
    assert done.code == 0, done.err
    assert "-i 1 -p 2 -b 1" in done.out
    assert kept()["steps"][0]["threads"] == 2


@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        (("-i", 0), 2, "-i: expected 1 or more, got '0'"),
        (("-i", "1,2"), 2, "-i 1,2: expected one number; --sweep takes several"),
        (("-b", "x"), 2, "-b: expected 1 or more, got 'x'"),
        (("-b", "²"), 2, "-b: expected 1 or more, got '²'"),
        (("-s", "64,²"), 2, "-s: expected N, HEIGHT,WIDTH or [3,HEIGHT,WIDTH], got '64,²'"),
        (("-t", "nan"), 2, "-t: expected 0 or more, got nan"),
        (
            ("--datalist", "a.txt", "--path_output", "o", "--from", "images"),
            2,
            "--datalist lists decoded pixels: expected no --images, --from images",
        ),
        (("-b", 2), 2, "-b 2: the network takes 1 image at a time; export or compile it"),
        (("-s", "[3,64,64]"), 2, "-s 64,64: the network takes 32,32; leave -s out"),
        (("-s", "[1,3,64]"), 2, "-s: expected N, HEIGHT,WIDTH or [3,HEIGHT,WIDTH]"),
        (("-d", "npu"), 2, "-d: expected cpu, cuda, tensorrt or the number of a card, got 'npu'"),
        (("q", 1), 2, "expected options alone, got 'q 1'"),
        (("-p", 1, "p", 1), 2, "expected options alone, got 'p 1'"),
        (("--images", "empty"), 2, "empty: no images in it"),
        (("--from", "images"), 2, "--from images decodes files: expected --images, a folder"),
        (("--datalist", "no.txt", "--path_output", "out"), 2, "no.txt: No such file"),
        (("--datalist", "npz_datalist.txt"), 2, "--datalist LIST and --path_output FOLDER belong"),
        (("--plot", "x.png"), 2, "--plot draws what --sweep finds"),
        (("--sweep", "--plot", "x.pdf"), 2, "--plot x.pdf: expected a name that ends in .png"),
        (
            ("--scenario", "server"),
            2,
            "expected --rate, images per second, or --latency-bound, milli",
        ),
        (("--compare", "a.json", "b.json"), 2, "--compare A.json B.json measures nothing"),
        (("-m", "absent"), 2, "absent: not a file"),
    ],
)
def test_one_clear_message(wrong: tuple[Any, ...], code: int, message: str, atrous: Run) -> None:
    done = atrous("bench", *MODEL, *QUICK, *wrong)
    assert (done.code, message in done.err) == (code, True), done.err
    assert done.err.count("error: ") == 1
    assert "Traceback" not in done.err
    assert not Path("out").exists()


@pytest.mark.heavy
def test_json_is_alone_on_standard_output(atrous: Run) -> None:
    done = atrous("bench", *MODEL, *QUICK, "--json", "--json-file", "a.json")
    assert json.loads(done.out) == kept()
    assert "throughput" in done.err
    done = atrous("bench", *MODEL, *QUICK, "--json", "--sweep", "-i", "1,2", "-p", "1")
    assert len(json.loads(done.out)["results"]) == 2
    assert "best throughput" in done.err


@pytest.mark.heavy
def test_compare(atrous: Run) -> None:
    for name, more in (("a", ()), ("b", ("-i", 2)), ("c", ("--from", "pixels"))):
        done = atrous(
            "bench", *MODEL, *QUICK, "--iterations", 40, *more, "--json-file", f"{name}.json"
        )
        assert done.code == 0, done.err
    done = atrous("bench", "--compare", "a.json", "b.json")
    assert done.code == 0, done.err
    assert "images/s" in done.out
    assert "ratio" in done.out
    done = atrous("bench", "--compare", "a.json", "c.json")
    assert (done.code, done.out) == (2, "")
    assert "what is fed is tensors in the one and pixels" in done.err


@pytest.mark.heavy
def test_compare_says_which_layers_make_int8_slower(atrous: Run) -> None:
    """A result is turned into that of a fast float model, so that ours is the slower int8."""
    atrous("bench", *MODEL, *QUICK, "--iterations", 40, "--json-file", "int8.json")
    found = kept("int8.json")
    found["facts"]["precision"] = "int8"
    found |= {"others": 0.0, "warm_up": found["warm_up"] | {"stable": True}}
    found["throughput"]["spread"] = 0.01
    Path("int8.json").write_text(json.dumps(found))
    found["facts"]["precision"] = "fp32"
    found["throughput"]["mean"] *= 100
    Path("float.json").write_text(json.dumps(found))
    done = atrous("bench", "--compare", "float.json", "int8.json")
    assert done.code == 0, done.err
    assert "int8 is slower than float here; timing the layers of both:" in done.out
    assert "float ms" in done.out
    Path("deploy_weights/NAME/mod.onnx").unlink()
    done = atrous("bench", "--compare", "int8.json", "float.json")
    assert done.code == 0
    assert "the layers cannot be timed: deploy_weights/NAME/mod.onnx: gone" in done.err


@pytest.mark.heavy
def test_sweep(atrous: Run) -> None:
    pytest.importorskip("matplotlib")
    more = ("--sweep", "-i", "1,2", "-p", "1", "--json-file", "s.json", "--plot", "s.png")
    done = atrous("bench", *MODEL, *QUICK, *more)
    assert done.code == 0, done.err
    assert done.out.count("best throughput") == done.out.count("best latency") == 1
    assert [one["plan"]["instances"] for one in kept("s.json")["results"]] == [1, 2]
    with Image.open("s.png") as picture:
        assert picture.size[0] > 1000


@pytest.mark.heavy
def test_a_sweep_without_matplotlib(atrous: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = atrous("bench", *MODEL, *QUICK, "--sweep", "-i", "1", "-p", "1", "--plot", "t.png")
    assert done.code == 1
    assert "best throughput" in done.out
    assert "pip install 'atrous[report]'" in done.err


@pytest.mark.heavy
def test_a_sweep_that_does_not_fit(atrous: Run) -> None:
    done = atrous("bench", *MODEL, *QUICK, "--sweep", "-i", "1", "-p", "1", "-b", "1,2")
    assert done.code == 2
    assert "-i 1 -p 1 -b 2: -b 2: the network takes 1 image at a time" in done.err


@pytest.mark.heavy
@pytest.mark.parametrize("more", [(), ("-p", "2"), ("--from", "pixels")])
def test_ctrl_c(more: tuple[str, ...], folder: Path) -> None:
    """Of a measurement of an hour, which is interrupted as soon as it measures."""
    command = [sys.executable, "-m", "atrous", "bench", *MODEL, "-t", "3600", *more]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert running.stderr is not None
    try:
        while "measuring" not in (line := running.stderr.readline()):
            assert line, "it ended before it measured"
        os.killpg(running.pid, signal.SIGINT)
        _, rest = running.communicate(timeout=30)
    finally:
        with suppress(ProcessLookupError):  # an hour of measuring would slow down everything else
            os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 130
    assert "Traceback" not in rest
