"""Every verb sees the same in a network that somebody else exported."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from atrous import artifact
from atrous.runtime.predictor import Predictor
from atrous.vastai import vdsp
from tests.builders.cases import Cases, check, class_ids, expected
from tests.builders.command import Run
from tests.builders.server import serving_models
from tests.builders.sketch import Sketch

NAMES = [
    "one_logit.onnx",
    "nhwc_256.onnx",
    "aux_out.onnx",
    "argmax_i64.onnx",
    "argmax_u8.onnx",
    "hub/snapshots/1/model.onnx",
    "multiples_32.onnx",
]
CLASSES = "a,b,c,d,e,f,g,h"


@pytest.fixture
def models(cases: Cases, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = cases("models")
    monkeypatch.chdir(folder)
    return folder


def prepared(models: Path, name: str) -> list[str]:
    found = expected(models)[name].get("vdsp")
    return ["--vdsp-params", found] if found else []


@pytest.mark.parametrize("name", [*NAMES, "hub/snapshots/1/model"])
def test_predict(name: str, atrous: Run, models: Path, tmp_path: Path) -> None:
    known = name if name.endswith(".onnx") else f"{name}.onnx"
    picture = expected(models)[known]["picture"]
    done = atrous(
        "predict", picture, "-m", name, *prepared(models, known), "-o", tmp_path, "--no-overlays"
    )
    assert done.code == 0
    check(models, known, next(tmp_path.glob("masks/*.png")))


def test_what_was_decided_is_said_with_the_flag_that_changes_it(
    atrous: Run, models: Path, tmp_path: Path
) -> None:
    done = atrous("predict", "half.png", "-m", "one_logit.onnx", "-o", tmp_path)
    assert "background" in done.out
    assert "foreground is what has a probability over 0.5 (--threshold)" in done.err
    done = atrous("predict", "cat.png", "-m", "aux_out.onnx", "-o", tmp_path, "--output-name", "x")
    assert done.code == 2
    assert "--output-name x: aux_out.onnx makes no tensor of that name; its outputs are" in done.err
    done = atrous("predict", "blocks.png", "-m", "multiples_32.onnx", "-o", tmp_path, "--size", 500)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "does not run at 500×500, but at multiples of 32: --size 512" in done.err
    done = atrous("predict", "cat.png", "-m", "left_behind/x.onnx", "-o", tmp_path)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "x.onnx.data is missing, which holds its weights; put it beside x.onnx" in done.err


def test_a_fixed_batch_is_filled_up(atrous: Run, models: Path, tmp_path: Path) -> None:
    what = expected(models)["batch_2.onnx"]
    result = tmp_path / "result.json"
    done = atrous(
        "eval", "-m", "batch_2.onnx", "--data", what["data"], "--protocol", what["protocol"],
        "--vdsp-params", what["vdsp"], "--json-file", result,
    )  # fmt: skip
    assert done.code == 0
    found = json.loads(result.read_text())
    assert found["mean_iou"] == pytest.approx(what["miou"], abs=0.01)
    assert found["pixel_accuracy"] == pytest.approx(what["pixel_accuracy"], abs=0.01)


def test_eval_names_a_protocol_that_works(atrous: Run, models: Path) -> None:
    data = ("--data", "folder:set/own.yaml:all")
    done = atrous("eval", "-m", "multiples_32.onnx", *data, "--protocol", "squash-257")
    assert done.code == 1
    assert "at multiples of 32: protocol squash-256" in done.err
    assert atrous("eval", "-m", "multiples_32.onnx", *data, "--protocol", "squash-256").code == 0


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["one_logit.onnx", "nhwc_256.onnx", "argmax_i64.onnx"])
def test_compiled_it_is_the_same(
    name: str, dtype: str, atrous: Run, models: Path, tmp_path: Path
) -> None:
    what = expected(models)[name]
    side = 64 if name == "one_logit.onnx" else 256
    steps: list[dict[str, object]] = [
        {"type": "DecodeImage"},
        {"type": "Resize", "size": [side, side]},
        {"type": "ToTensor"},
    ]
    if side == 64:
        steps.insert(2, {"type": "Normalize", "norm_type": None, "div255": True})
    config = {
        "name": "made",
        "frontend": {"type": "onnx", "checkpoint": name},
        "backend": {"dtype": dtype},
        "dataset": {"path": "set/images", "process_ops": steps},
        "workspace": {"path": str(tmp_path)},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    done = atrous("compile", tmp_path / "c.yaml")
    assert done.code == 0, done.err
    done = atrous("predict", what["picture"], "-m", tmp_path / "made", "-o", tmp_path)
    assert "note" not in done.err
    mask = next(tmp_path.glob("masks/*.png"))
    check(models, name, mask)


def bright(end: str) -> onnx.ModelProto:
    """Four layers at stride 4 that find what is bright, and say it in one channel."""
    sketch = Sketch()
    x = sketch.node("AveragePool", sketch.input(1, 3, 64, 64), kernel_shape=[4, 4], strides=[4, 4])
    for channels in (3, 8, 8):
        weight = sketch.constant(np.full((8, channels, 3, 3), 1 / (9 * channels)))
        bias = sketch.constant(np.zeros(8))
        x = sketch.node("Relu", sketch.node("Conv", x, weight, bias, pads=[1] * 4))
    mean = sketch.constant(np.full((1, 8, 1, 1), 2.5))
    x = sketch.resize(sketch.node("Conv", x, mean, sketch.constant([-8.0])), 1, 1, 64, 64)
    return sketch.model(sketch.node(end, x) if end else x)


@pytest.mark.heavy
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("end", ["", "Sigmoid"])
def test_int8_of_one_channel_keeps_its_agreement(
    engine: str, end: str, atrous: Run, models: Path, tmp_path: Path
) -> None:
    onnx.save(bright(end), tmp_path / "bright.onnx")
    steps = [
        {"type": "DecodeImage"},
        {"type": "Resize", "size": [64, 64]},
        {"type": "Normalize", "norm_type": None, "div255": True},
        {"type": "ToTensor"},
    ]
    config = {
        "name": "made",
        "frontend": {"type": "onnx", "checkpoint": str(tmp_path / "bright.onnx")},
        "backend": {"dtype": "int8", "engine": engine},
        "dataset": {"path": "set/images", "process_ops": steps},
        "workspace": {"path": str(tmp_path)},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    done = atrous("compile", tmp_path / "c.yaml", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["agreement"]["agreement"] > 0.97
    made = artifact.load(tmp_path / "made" / "mod.onnx")
    known = artifact.metadata_of(made, tmp_path)
    assert known is not None
    assert (known.labels.names, known.threshold) == (("background", "foreground"), 0.5)
    assert known.activation == "sigmoid"
    run = ("predict", "cat.png", "-m", tmp_path / "made", "--engine", engine, "--no-overlays")
    shares = []
    for threshold in (0.02, 0.5, 0.98):
        folder = tmp_path / str(threshold)
        assert atrous(*run, "-o", folder, "--threshold", threshold).code == 0
        shares.append(class_ids(next(folder.glob("masks/*.png"))).mean())
    assert shares[0] > shares[1] > shares[2]


@pytest.mark.parametrize("name", NAMES)
def test_serve(name: str, models: Path) -> None:
    what = expected(models)[name]
    preprocess = vdsp.read(models / what["vdsp"], None) if "vdsp" in what else None
    with (
        Predictor.open(name, preprocess=preprocess) as predictor,
        serving_models({"theirs": predictor}) as client,
    ):
        answer = client.post("/v1/segment", content=(models / what["picture"]).read_bytes())
        assert answer.status_code == 200
        with Image.open(BytesIO(answer.content)) as mask:
            check(models, name, np.asarray(mask))


def test_npz(atrous: Run, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "half.png").write_bytes((models / "half.png").read_bytes())
    what = [models / "one_logit.onnx", "--vdsp-params", models / "div255.json"]
    monkeypatch.chdir(tmp_path)
    made = ("--dataset_path", "images", "--target_path", "in", "--text_path", "list.txt")
    assert atrous("npz", "make", *made, "--ids", "all").code == 0
    run = ("npz", "run", "-m", *what, "--datalist", "list.txt")
    assert atrous(*run, "--path_output", "maps", "--output", "classmap").code == 0
    assert atrous(*run, "--path_output", "logits").code == 0

    def answer(folder: str) -> NDArray[np.float32]:
        with np.load(next(Path(folder).glob("*.npz"))) as found:
            return np.asarray(found["output_0"][0])

    check(models, "one_logit.onnx", answer("maps").astype(np.uint8))
    assert answer("logits").shape == (2, 64, 64)
    check(models, "one_logit.onnx", answer("logits").argmax(0).astype(np.uint8))
    # Another threshold is another network: nothing of it is kept.
    done = atrous(*run, "--path_output", "maps", "--output", "classmap", "--threshold", 0.001)
    assert "1 written" in done.out


@pytest.mark.heavy
def test_bench(atrous: Run, models: Path) -> None:
    for name in ("one_logit.onnx", "multiples_32.onnx"):
        done = atrous("bench", "-m", name, "-t", 0, "--iterations", 2, "--engine", "onnxruntime")
        assert (done.code, "images/s" in done.out) == (0, True)


def test_names_of_the_classes_are_given_by_commas(
    atrous: Run, models: Path, tmp_path: Path
) -> None:
    run = ("predict", "cat.png", "-m", "colours.onnx", "--vdsp-params", "colours.json")
    done = atrous(*run, "-o", tmp_path, "--labels", CLASSES)
    assert done.code == 0
    assert "does not name its classes" not in done.err
    done = atrous(*run, "-o", tmp_path, "--labels", "vok")
    assert "--labels: expected voc, cityscapes, or the names of all classes: a,b,c" in done.err


def test_eval_of_one_channel(atrous: Run, models: Path, tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    half = Image.open(models / "half.png").convert("RGB")
    half.save(tmp_path / "images" / "a.png")
    right = np.asarray(half)[..., 0] > 127
    Image.fromarray(right.astype(np.uint8)).save(tmp_path / "masks" / "a.png")
    (tmp_path / "own.yaml").write_text(
        "images: images\nmasks: masks\nclasses: [ground, road]\nmask_type: ids\n"
    )
    run = (
        "eval",
        "-m",
        "one_logit.onnx",
        "--vdsp-params",
        "div255.json",
        "--engine",
        "onnxruntime",
    )
    data = ("--data", f"folder:{tmp_path}/own.yaml:all", "--protocol", "squash-64")
    done = atrous(*run, *data, "--json-file", tmp_path / "found.json")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "found.json").read_text())["mean_iou"] == 100
    # What nothing reaches is background, and a class that never occurs is no good health.
    done = atrous(*run, *data, "--threshold", 0.999)
    assert (done.code, "road" in done.err) == (1, True)


@pytest.mark.parametrize("name", ["one_logit.onnx", "argmax_u8.onnx"])
def test_tiles(name: str, atrous: Run, models: Path, tmp_path: Path) -> None:
    side = 64 if name == "one_logit.onnx" else 256
    what = expected(models)[name]
    run = ("predict", what["picture"], "-m", name, *prepared(models, name), "-o", tmp_path)
    done = atrous(*run, "--tile", side, "--engine", "onnxruntime")
    assert done.code == 0
    check(models, name, next(tmp_path.glob("masks/*.png")))
