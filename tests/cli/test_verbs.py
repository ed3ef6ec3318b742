import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous import __version__, artifact, zoo
from atrous.cli.terminal import with_flags
from tests.builders.command import Run

VERBS = ("predict", "stream", "bench", "models", "export", "doctor")


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_a_sentence_and_an_example(verb: str, atrous: Run) -> None:
    done = atrous(verb, "--help")
    assert done.code == 0
    assert f"Example: atrous {verb}" in done.out


def test_version(atrous: Run) -> None:
    assert atrous("--version").out == f"atrous {__version__}\n"


def test_unknown_verb(atrous: Run) -> None:
    done = atrous("segment")
    assert done.code == 2
    assert "No such command 'segment'" in done.err


def test_models_are_one_line_each(
    atrous: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path))
    lines = atrous("models").out.splitlines()
    usable = [row for row in zoo.WEIGHTS.values() if row.kind == "segmentation"]
    assert [line.split()[0] for line in lines[1 : len(usable) + 1]] == [row.name for row in usable]
    found = {line.split()[0]: line for line in lines if line.strip()}
    assert found["default"].split()[-1] == "here"
    line = found["deeplabv3_resnet101_coco"]
    assert line.split()[:4] == [
        "deeplabv3_resnet101_coco", "deeplabv3_resnet101", "244.5", "67.4*"
    ]  # fmt: skip
    assert line.split()[-1] == "downloads"
    assert "COCO val2017" in line
    assert "BSD-3-Clause" in line
    assert found["deeplabv3_resnet50_voc"].endswith("by hand   ")
    row = zoo.weights("deeplabv3_resnet50_voc")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / row.file_name).touch()
    again = {line.split()[0]: line for line in atrous("models").out.splitlines() if line.strip()}
    assert again[row.name].split()[-1] == "here"
    assert "* claimed by its authors, not measured here" in lines


def test_models_lists_every_network_with_its_costs(atrous: Run) -> None:
    done = atrous("models", "-v")
    assert done.code == 0
    for network in zoo.VARIANTS.values():
        [line] = [
            row
            for row in done.out.splitlines()
            if row.strip().startswith(f"{network.name} ") and network.paper in row
        ]
        assert f"{network.params_m:.3f}" in line
        assert f"{network.gmacs:.2f}" in line
    assert "not measured here" in " ".join(done.out.split())


def test_models_json(atrous: Run) -> None:
    document = json.loads(atrous("models", "--json").out)
    assert {row["name"] for row in document["networks"]} == set(zoo.VARIANTS)
    assert {row["name"] for row in document["weights"]} == set(zoo.WEIGHTS)


def test_models_say_what_was_measured_on_the_files_of_the_package(atrous: Run) -> None:
    rows = {row["name"]: row for row in json.loads(atrous("models", "--json").out)["weights"]}
    for path in artifact.DEFAULT.parent.glob("*.onnx"):
        known = artifact.metadata_of(artifact.load(path), path)
        assert known is not None
        found = [(one["metric"], one["value"]) for one in rows[path.stem]["accuracy"]]
        assert found == [(one.metric, one.value) for one in known.accuracies]
        assert found
    assert rows["resnet50_imagenet"]["accuracy"][0]["value"] == 76.13


@pytest.mark.heavy
def test_doctor(atrous: Run) -> None:
    done = atrous("doctor", "--json")
    assert done.code == 0
    document = json.loads(done.out)
    works = {(row["engine"], row["device"]): row["works"] for row in document["engines"]}
    assert works["onnxruntime", "cpu"]
    assert document["kernel"] in ("c", "numpy")
    text = atrous("doctor").out
    assert "onnxruntime" in text
    assert "class-map kernel" in text


def test_export_of_what_cannot_be_exported(atrous: Run, tmp_path: Path) -> None:
    output = tmp_path / "m.onnx"
    for arguments, code, message in (
        (("default", "-o", output), 2, "is an ONNX file already"),
        (("missing.pth", "-o", output), 2, "missing.pth: not a file"),
        (("x.pth", "-o", output, "--format", "torchscript", "--opset", "11"), 2, "belong to"),
        (("x.pth",), 2, "expected -o FILE, or --triton REPOSITORY"),
        (("x.pth", "-o", output, "--triton", tmp_path), 2, "expected -o FILE, or --triton"),
        (("x.pth", "-o", output, "--instances", 2), 2, "--instances belongs to --triton"),
        (("x.pth", "-o", output, "--scores"), 2, "--scores belong to --standalone"),
        (("x.pth", "-o", output, "--standalone", "--dynamic", "batch"), 2, "--dynamic belongs to"),
        (("x.pth", "-o", output, "--vdsp_params", "x.json"), 2, "--vdsp_params belongs to"),
    ):
        done = atrous("export", *arguments)
        assert (done.code, message in done.err) == (code, True), done.err
    assert not output.exists()


@pytest.mark.heavy
def test_export_then_predict(atrous: Run, tmp_path: Path) -> None:
    from atrous import models

    checkpoint = tmp_path / "net_os8.safetensors"
    network = models.build("deeplabv3_mobilenet", num_classes=5, output_stride=8)
    models.save_safetensors(network, checkpoint)
    exported = tmp_path / "net.onnx"
    done = atrous("export", checkpoint, "-o", exported, "--size", "97,129", "--opset", "17")
    assert done.code == 0, done.err
    assert "deeplabv3_mobilenet, 5 classes (generic), 97×129, output stride 8, fp32" in done.out
    assert "compared with PyTorch: same class on 100 % of the pixels of 1 image" in done.out
    assert "taking them as label set 'generic'" in done.err
    photograph = Path(__file__).parents[2] / "src" / "atrous" / "assets" / "photograph.jpg"
    masks = []
    for name, model, more in (("a", exported, ()), ("b", checkpoint, ("--size", "97,129"))):
        done = atrous("predict", photograph, "-o", tmp_path / name, "-m", model, *more)
        assert done.code == 0, done.err
        with Image.open(tmp_path / name / "masks" / "photograph.png") as mask:
            masks.append(np.asarray(mask))
    np.testing.assert_array_equal(*masks)


@pytest.mark.heavy
def test_checkpoints_without_torch_say_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "net.pth").touch()
    block = "import sys; sys.modules['torch'] = None\n"
    code = block + (
        "import importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda n, p=None: None if n == 'torch' else real(n, p)\n"
        "from atrous.cli import main; main()"
    )
    for verb in (["predict", "net.pth", "-m", "net.pth"], ["export", "net.pth"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *verb, "-o", "out"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 1
        assert "pip install 'atrous[torch]'" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.heavy
def test_the_reference_is_the_help(tmp_path: Path) -> None:
    written = tmp_path / "cli.md"
    subprocess.run(
        [
            sys.executable, "-m", "typer", "atrous.cli", "utils", "docs", "--name", "atrous",
            "--output", str(written),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    committed = Path(__file__).parents[2] / "docs" / "cli.md"
    assert written.read_text() == committed.read_text(), "run `make docs`"


@pytest.mark.heavy
def test_nothing_is_reported_to_anybody(tmp_path: Path) -> None:
    """ONNX Runtime keeps a queue of usage events in the home directory unless it is told not to."""
    photograph = Path(__file__).parents[2] / "src" / "atrous" / "assets" / "photograph.jpg"
    command = [sys.executable, "-m", "atrous", "predict", str(photograph), "-o", "out"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "XDG_"))}
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(command, check=True, cwd=tmp_path, env=environment | {"HOME": str(home)})
    assert list(home.iterdir()) == []


def test_every_engine_can_be_asked_for() -> None:
    from typing import get_args

    from atrous.cli.options import EngineOption
    from atrous.engines import ENGINES

    assert set(get_args(get_args(EngineOption)[0])) == {"auto", *ENGINES}


def test_fields_in_messages_are_flags_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "`instances` 2 with `kind` classmap, `no_such` and `output`"
    monkeypatch.setattr(sys, "argv", ["atrous", "npz", "run", "eval"])
    assert with_flags(message) == "-i 2 with --output classmap, `no_such` and -o"
    monkeypatch.setattr(sys, "argv", ["atrous", "bench"])
    assert with_flags(message) == "-i 2 with --output classmap, `no_such` and --path_output"
