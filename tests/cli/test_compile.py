"""`atrous compile` as a user sees it."""

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from PIL import Image

from atrous.image import photograph

from .conftest import Done

Run = Callable[..., Done]

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


def test_compiles_and_says_what_it_did(atrous: Run, file: Path, tmp_path: Path) -> None:
    done = atrous("compile", file, "backend.dtype=fp16", "name=half")
    assert done.code == 0
    folder = tmp_path / "out" / "half"
    assert (folder / "mod.onnx").is_file()
    for words in ("half: fp16", "decoder: its pattern is not in this network", "agreement:"):
        assert words in done.out
    assert f"written: {folder}/mod.onnx" in done.out
    assert "backend.compile.data_transport_mode" in done.out
    assert "taken as label set voc" in done.err

    image = tmp_path / "image.png"
    Image.fromarray(photograph()).save(image)
    used = atrous("predict", image, "-m", folder / "mod", "-o", tmp_path / "masks")
    assert used.code == 0


def test_json_is_the_report(atrous: Run, file: Path, tmp_path: Path) -> None:
    done = atrous("compile", file, "backend.dtype=fp32", "--json", "--no-rewrite", "decoder")
    assert done.code == 0
    content = json.loads(done.out)
    stored = json.loads((tmp_path / "out/official_deeplab_v3_int8/report.json").read_text())
    assert content["rewrites"] == stored["rewrites"]
    assert [one["name"] for one in content["rewrites"] if one["skipped"]] == ["decoder"]


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
    [line] = [line for line in done.err.splitlines() if line.strip()]
    assert line.startswith("error: ")
    assert message in line
    assert not list((tmp_path / "out").rglob("*"))
