"""`atrous compile` as a user sees it."""

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import openvino as ov
import pytest
import yaml
from PIL import Image

from atrous import artifact
from atrous.cli import compile as compile_cli
from atrous.compiler.progress import Progress
from atrous.image import photograph
from tests.builders.command import Run

SEED = """
name: official_deeplab_v3_int8
frontend:
  shape:
    input: [1, 3, 32, 32]
  type: onnx
  checkpoint: {model}
  dtype: fp32
backend:
  type: tvm_vacc
  dtype: int8
  compile:
    data_transport_mode: 1
  quantize:
    calibrate_mode: kl_divergence
    quantize_per_channel: true
dataset:
  type: tvm
  path: /path/to/VOC2012/JPEGImages_val
  sampler: {{suffix: jpg, get_data_num: 50}}
  process_ops:
    - type: DecodeImage
    - type: Resize
      size: [32, 32]
    - type: Normalize
      mean: [0.485, 0.456, 0.406]
      std: [0.229, 0.224, 0.225]
    - type: ToTensor
workspace:
  path: {folder}
"""


@pytest.fixture
def file(tmp_path: Path, small_model: Callable[..., onnx.ModelProto]) -> Path:
    model = tmp_path / "small.onnx"
    onnx.save(small_model(classes=21), model)
    path = tmp_path / "compile.yaml"
    path.write_text(SEED.format(model=model, folder=tmp_path / "out"))
    return path


@pytest.mark.heavy
def test_compiles_and_says_what_it_did(atrous: Run, file: Path, tmp_path: Path) -> None:
    done = atrous("compile", file, "backend.dtype=fp16", "name=half")
    assert done.code == 0
    folder = tmp_path / "out" / "half"
    assert (folder / "mod.onnx").is_file()
    unchanged = "commute-enlargement: its pattern is not in this network"
    for words in ("half: fp16", unchanged, "agreement with the input model:"):
        assert words in done.out
    assert f"written: {folder}/mod.onnx" in done.out
    assert "backend.compile.data_transport_mode" in done.out
    assert "taken as label set voc" in done.err
    again = atrous("compile", file, "backend.dtype=fp16", "name=half")
    assert again.code == 2
    assert f"error: {folder} exists; --force replaces what an earlier compile made" in again.err

    image = tmp_path / "image.png"
    Image.fromarray(photograph()).save(image)
    used = atrous("predict", image, "-m", folder / "mod", "-o", tmp_path / "masks")
    assert used.code == 0


@pytest.mark.heavy
def test_json_is_the_report(atrous: Run, file: Path, tmp_path: Path) -> None:
    done = atrous("compile", file, "backend.dtype=fp32", "--json", "--no-rewrite", "decoder")
    assert done.code == 0
    content = json.loads(done.out)
    stored = json.loads((tmp_path / "out/official_deeplab_v3_int8/report.json").read_text())
    assert content["rewrites"] == stored["rewrites"]
    assert [one["name"] for one in content["rewrites"] if one["skipped"]] == ["commute-enlargement"]


def test_a_dry_run_prints_the_file_and_writes_nothing(
    atrous: Run, file: Path, tmp_path: Path
) -> None:
    done = atrous("compile", file, "--dry-run")
    assert done.code == 0
    assert "dtype: int8" in done.out
    assert "note: backend.type: no effect here" in done.err
    assert not (tmp_path / "out").exists()
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(done.out)
    assert atrous("compile", resolved, "--dry-run").out == done.out
    assert json.loads(atrous("compile", file, "--dry-run", "--json").out) == yaml.safe_load(
        done.out
    )
    assert "multiply-accumulates: 0.000 → 0.000 GMAC" in done.err
    assert "batch-norm: its pattern is not in this network" in done.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("calibrate_mode", "alibrate_mode"), "did you mean calibrate_mode?"),
        (("small.onnx", "large.onnx"), "frontend.checkpoint: expected a file, found none at"),
        (("[1, 3, 32, 32]", "[1, 3, 64, 64]"), "expects 64×64"),
        (("dtype: int8", "dtype: int4"), "backend.dtype"),
    ],
)
def test_a_wrong_file_is_one_error_and_nothing_is_written(
    atrous: Run, file: Path, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    file.write_text(file.read_text().replace(*change))
    done = atrous("compile", file, *[] if "int4" in change[1] else ["backend.dtype=fp32"])
    assert done.code == 2
    [line] = [line for line in done.err.splitlines() if line.strip() and line != "reading"]
    assert line.startswith("error: ")
    assert message in line
    assert not list((tmp_path / "out").rglob("*"))


@pytest.mark.skipif(
    "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    reason="this processor has no bf16",
)
def test_compiled_to_bf16(atrous: Run, file: Path, tmp_path: Path) -> None:
    done = atrous("compile", file, "backend.dtype=fp32", "--precision", "bf16", "--json")
    assert done.code == 0
    report = json.loads(done.out)
    assert (report["precision"], report["arithmetic"], report["engine"]) == (
        "fp32", "bf16", "openvino",
    )  # fmt: skip
    assert report["agreement"]["largest_difference"] > 0
    [model] = (tmp_path / "out").rglob("mod.onnx")
    described = artifact.metadata_of(artifact.load(model), model)
    assert described is not None
    assert described.arithmetic == "bf16"
    picture = tmp_path / "p.png"
    Image.fromarray(photograph()).save(picture)
    shown = atrous("predict", picture, "-o", tmp_path / "p", "-m", model)
    assert "on openvino in bf16" in shown.out
    refused = atrous("predict", picture, "-o", tmp_path / "q", "-m", model, "--engine=onnxruntime")
    assert (refused.code, "--precision fp32 computes this model" in refused.err) == (1, True)


def test_steps_are_told_once_each(atrous: Run, file: Path) -> None:
    done = atrous("compile", file, "backend.dtype=fp16", "backend.engine=onnxruntime")
    steps = ["reading", "rewriting", "comparing", "timing"]
    lines = [line for line in done.err.splitlines() if not line.startswith("note: ")]
    assert lines == steps


@pytest.mark.heavy
def test_a_terminal_shows_one_line_that_changes(
    atrous: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = atrous("compile", file, "backend.dtype=fp16")
    assert done.code == 0
    assert "\x1b[" in done.err
    assert "reading" not in done.err.splitlines()


@pytest.fixture
def pair(atrous: Run, file: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A model compiled to fp32 and to fp16."""
    for dtype in ("fp32", "fp16"):
        assert atrous("compile", file, f"backend.dtype={dtype}", f"name={dtype}").code == 0
    return tmp_path / "out/fp32/mod", tmp_path / "out/fp16/mod"


@pytest.mark.heavy
def test_explains_a_pair(atrous: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "photographs" / "below"
    folder.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.fromarray(photograph()).save(folder / name)
    done = atrous("compile", "--explain", *pair, "--images", folder.parent, "-o", tmp_path / "why")
    assert done.code == 0
    assert "of the pixels of 2 images" in done.out
    assert "no layer falls below 40 dB" in done.out
    assert done.out.endswith(f"written: {tmp_path}/why/explain.html\n")
    assert done.err.splitlines() == ["reading", "comparing class maps", "measuring layers"]
    assert sorted(p.name for p in (tmp_path / "why").iterdir()) == ["explain.html", "explain.json"]


@pytest.mark.heavy
def test_explains_beside_the_second_on_the_engine_asked_for(
    atrous: Run, pair: tuple[Path, Path]
) -> None:
    done = atrous("compile", "backend.engine=onnxruntime", "--explain", *pair, "--json")
    assert done.code == 0
    content = json.loads(done.out)
    assert content == json.loads((pair[1].parent / "explain.json").read_text())
    assert content["engine"] == "onnxruntime"
    assert [one["image"] for one in content["images"]] == ["photograph.jpg"]


@pytest.mark.heavy
def test_what_no_path_names_is_explained_in_the_current_folder(
    atrous: Run, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models of the zoo lie in a cache or in the package, which are no places for reports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("atrous.engines.find_model", lambda *_: Path(f"{pair[0]}.onnx"))
    done = atrous("compile", "--explain", pair[0], "name-of-the-zoo", "backend.engine=onnxruntime")
    assert done.code == 0
    assert done.out.endswith("written: explain.html\n")
    assert (tmp_path / "explain.html").is_file()
    assert not (pair[0].parent / "explain.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected CONFIG.yaml, or --explain BEFORE AFTER"),
        (("FILE", "--images", "x"), "--images and --output belong to --explain"),
        (("FILE", "-o", "x"), "--images and --output belong to --explain"),
        (("FILE", "--explain", "a", "b"), "--explain takes backend.engine=NAME and no file"),
        (("name=x", "--explain", "a", "b"), "no file, found 'name=x'"),
        (("--explain", "a", "b", "--force"), "--explain compiles nothing"),
        (("--explain", "BEFORE", "AFTER", "backend.engine=tvm"), "there is no engine 'tvm'"),
    ],
)
def test_wrong_command_lines(atrous: Run, file: Path, words: tuple[str, ...], message: str) -> None:
    model = file.with_name("small.onnx")
    meant = {"FILE": file, "BEFORE": model, "AFTER": model}
    done = atrous("compile", *(meant.get(word, word) for word in words))
    assert done.code == 2
    assert message in done.err
    assert not model.with_name("explain.html").exists()


@pytest.mark.heavy
def test_a_pair_that_is_not_there(atrous: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    done = atrous("compile", "--explain", pair[0], tmp_path / "none")
    assert done.code == 2
    assert f"error: {tmp_path}/none: not a file" in done.err
    done = atrous("compile", "--explain", *pair, "--images", tmp_path / "none")
    assert done.code == 2
    assert "none: no such file or folder" in done.err


def test_a_long_step_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter((0.0, 1.0, 11.0, 12.0, 13.0, 20.0))
    monkeypatch.setattr(compile_cli.time, "monotonic", lambda: next(now))
    with compile_cli._progress() as tell:
        for number in (1, 2, 3, 4):
            tell(Progress("calibrating", number, 50, "ranges"))
        tell(Progress("measuring", 1, 4))
        tell(Progress("measuring", 2, 4))
    assert capsys.readouterr().err.splitlines() == [
        "calibrating", "calibrating: 3 of 50, ranges", "measuring"
    ]  # fmt: skip
