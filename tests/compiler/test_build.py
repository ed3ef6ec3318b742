"""Whole compiles of small networks: what lies in the folder, and what does not after an error."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from atrous import artifact, cache
from atrous.artifact import Calibration
from atrous.compiler import build as builder
from atrous.compiler import config as configs
from atrous.compiler.build import build
from atrous.compiler.int8 import noise, plan
from atrous.compiler.report.report import CompileReport
from atrous.compiler.rewrites import Outcome
from atrous.compiler.rewrites.winograd import rewrite as winograd
from atrous.compiler.sections import Backend
from atrous.data.synthetic import draw
from atrous.engines import processor
from atrous.errors import ArtifactError, AtrousError, ConfigError, EngineError
from atrous.image import photograph
from atrous.runtime.predictor import Predictor
from tests.builders.sketch import Sketch
from tests.builders.told import Told

Make = Callable[..., Path]
SIDE = 33


def decoder_model(path: Path) -> Path:
    """A network with the decoder of DeepLabV3+, random weights, 4 classes, for 33×33 pixels."""
    draft = Sketch()
    x = draft.input(1, 3, SIDE, SIDE, name="input")
    low = draft.node("Relu", draft.conv(x, 3, 6, strides=[4, 4], pads=[0] * 4))
    high = draft.node("Relu", draft.conv(low, 6, 12, size=3, strides=[4, 4]))
    large = draft.resize(high, 1, 12, 9, 9)
    both = draft.node("Concat", low, large, axis=1)
    mixed = draft.node("Relu", draft.conv(both, 18, 12, size=3))
    output = draft.resize(draft.conv(mixed, 12, 4), 1, 4, SIDE, SIDE, name="output")
    onnx.save(draft.model(output, rank=4), path)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., configs.CompileConfig]:
    """A compile file for `decoder_model`, with overrides."""
    model = decoder_model(tmp_path / "decoder.onnx")

    def make(*overrides: str) -> configs.CompileConfig:
        content = {
            "name": "net",
            "frontend": {"type": "onnx", "checkpoint": str(model)},
            "backend": {"engine": "onnxruntime"},
            "workspace": {"path": str(tmp_path / "out")},
        }
        file = tmp_path / "compile.yaml"
        file.write_text(yaml.safe_dump(content))
        return configs.load(file, overrides)

    return make


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def maps(path: Path) -> NDArray[np.uint8]:
    with Predictor.open(path, engine="onnxruntime") as predictor:
        return predictor(photograph()).class_map()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_compiles_to_a_folder_addressed_by_its_prefix(
    config: Callable[..., configs.CompileConfig], tmp_path: Path, engine: str, dtype: str
) -> None:
    pytest.importorskip(engine)
    done = config(f"backend.engine={engine}", f"backend.dtype={dtype}")
    report = build(done, profiled=False)

    folder = tmp_path / "out" / "net"
    assert files(folder.parent) == [
        f"net/{name}" for name in ("mod.onnx", "report.html", "report.json", "resolved.yaml")
    ]
    assert CompileReport.load(folder) == report
    assert cache.given(folder / "mod") == folder / "mod.onnx"
    known = artifact.metadata_of(artifact.load(folder / "mod.onnx"), folder)
    assert known is not None
    assert (known.name, known.precision, known.preprocess.size) == ("net", dtype, (SIDE, SIDE))
    assert configs.load(folder / "resolved.yaml") == done
    assert report.gmacs_after < report.gmacs_before
    assert {one.name for one in report.rewrites if one.places} == {"commute-enlargement"}
    assert report.agreement is not None
    assert report.agreement.agreement > (0.9999 if dtype == "fp32" else 0.98)
    same = (maps(folder) == maps(tmp_path / "decoder.onnx")).mean()
    assert same > (0.9999 if dtype == "fp32" else 0.98)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six pictures; their ids are those of the synthetic data set."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(draw(0, number)[0]).save(folder / f"{number:05}.png")
    return folder


@pytest.mark.parametrize("uint8", [False, True])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "tensorrt"])
def test_int8(
    config: Callable[..., configs.CompileConfig],
    tmp_path: Path,
    images: Path,
    engine: str,
    uint8: bool,
) -> None:
    pytest.importorskip("openvino" if engine == "openvino" else "onnxruntime")
    done = config(
        "backend.dtype=int8",
        f"backend.engine={engine}",
        f"backend.uint8_input={str(uint8).lower()}",
        f"dataset={{path: '{images}', sampler: {{get_data_num: 3}}}}",
    )
    said = Told()
    report = build(done, profiled=False, tell=said)
    folder = tmp_path / "out" / "net"
    assert configs.load(folder / "resolved.yaml") == done
    assert CompileReport.load(folder) == report
    known = artifact.metadata_of(artifact.load(folder / "mod.onnx"), folder)
    assert known is not None
    assert known.precision == report.precision == "int8"
    assert known.calibration == Calibration(method="percentile", images=("00001", "00003", "00005"))
    assert report.engine == ("onnxruntime" if engine == "tensorrt" else engine)
    assert report.int8 is not None
    assert report.int8.images == 3
    assert report.int8.processor == processor.instructions()
    saturates = processor.saturates() and engine == "openvino"
    assert report.int8.weight_bits == (7 if saturates else 8)
    assert report.int8.layers >= 3
    last = [plan.LAST] if engine == "onnxruntime" else []
    assert list(report.int8.kept.values()) == [plan.FIRST, *last]
    assert "writing int8" in said
    assert any(line.startswith("int8: ") for line in report.lines())
    assert report.agreement is not None
    assert report.agreement.agreement > 0.9
    assert (maps(folder) == maps(tmp_path / "decoder.onnx")).mean() > 0.9


def test_int8_that_disagrees_is_refused(
    config: Callable[..., configs.CompileConfig],
    tmp_path: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(noise, "LOUD", -np.inf)  # layers would return to float
    narrow = "{calibrate_mode: percentile, calibrate_range: 0.51}"
    done = config(
        "backend.dtype=int8", f"backend.quantize={narrow}", f"dataset={{path: '{images}'}}"
    )
    message = r"net: int8 agrees with the input model on [\d.]+% of the pixels, under 90%; nothing"
    with pytest.raises(ArtifactError, match=message):
        build(done, profiled=False)
    assert files(tmp_path / "out") == []


def test_an_accuracy_on_calibrated_images_is_marked(
    config: Callable[..., configs.CompileConfig],
    tmp_path: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))
    done = config(
        "backend.dtype=int8",
        f"dataset={{path: '{images}', sampler: {{get_data_num: 3}}}}",
        f"evaluate={{data: 'synthetic:0:6', protocol: squash-{SIDE}}}",
        "frontend.checkpoint=" + str(classes_of_synthetic(tmp_path)),
    )
    report = build(done, profiled=False)
    page = (done.folder / "report.html").read_text()
    assert f"--explain {tmp_path}/synthetic.onnx {tmp_path}/out/net/mod --images" in page
    assert [stage.name for stage in report.stages] == ["input", "rewritten", "fp16", "int8"]
    assert any(
        "3 " in warning and "calibrat" in warning for warning in report.accuracies[0].warnings
    )


def test_what_is_evaluated_does_not_calibrate(
    config: Callable[..., configs.CompileConfig],
    tmp_path: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))
    done = config(
        "backend.dtype=int8",
        f"dataset={{path: '{images}', sampler: {{get_data_num: 3}}}}",
        f"evaluate={{data: 'synthetic:0:4', protocol: squash-{SIDE}}}",
        "frontend.checkpoint=" + str(classes_of_synthetic(tmp_path)),
    )
    said = Told()
    report = build(done, profiled=False, tell=said)
    assert "left out: 4 images that are evaluated on" in said
    path = done.folder / "mod.onnx"
    metadata = artifact.metadata_of(artifact.load(path), path)
    assert metadata is not None
    assert metadata.calibration is not None
    assert metadata.calibration.images == ("00004", "00005")
    assert not any("calibrat" in warning for warning in report.accuracies[0].warnings)


def test_rewrites_can_be_left_out(config: Callable[..., configs.CompileConfig]) -> None:
    report = build(config("backend.no_rewrite=[decoder]"), profiled=False)
    assert [one.name for one in report.rewrites if one.skipped] == ["commute-enlargement"]
    assert report.gmacs_after == report.gmacs_before
    with pytest.raises(ConfigError, match=r"no rewrite is called decodr; known: fold-constants"):
        build(config("backend.no_rewrite=[decodr]"), profiled=False, force=True)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_fewer_products_of_3x3_in_fp32(
    config: Callable[..., configs.CompileConfig],
    tmp_path: Path,
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip(engine)
    monkeypatch.setattr(winograd, "WORTH", float("-inf"))  # the network is small
    report = build(config(f"backend.engine={engine}"), profiled=False)
    [change] = [one for one in report.rewrites if one.name == "winograd"]
    assert len(change.places) == 1  # the other 3×3 has strides
    assert report.agreement is not None
    assert report.agreement.agreement > 0.9999
    assert (maps(tmp_path / "out" / "net") == maps(tmp_path / "decoder.onnx")).mean() > 0.9999


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        (Backend(), None),
        (Backend(uint8_input=True, standalone=True), None),
        (Backend(dtype="fp16"), "made for fp32, whose digits it needs, not for fp16"),
        (Backend(dtype="int8"), "made for fp32, whose digits it needs, not for int8"),
        (Backend(precision="bf16"), "made for fp32, whose digits it needs, not for bf16"),
        (Backend(engine="tensorrt"), "TensorRT does that itself"),
    ],
)
def test_where_fewer_products_are_of_no_use(backend: Backend, reason: str | None) -> None:
    assert backend.unfit == ({} if reason is None else {"winograd": reason})


def test_uint8_input_gives_the_same_classes(
    config: Callable[..., configs.CompileConfig], tmp_path: Path
) -> None:
    report = build(config("backend.uint8_input=true"), profiled=False)
    assert report.input_dtype == "uint8"
    assert report.rewrites[-1].name == "uint8-input"
    assert "folded into the first convolution" in report.rewrites[-1].places[0]
    folder = tmp_path / "out" / "net"
    with Predictor.open(folder, engine="onnxruntime") as predictor:
        assert predictor.engine.signature.dtype == "uint8"
        assert predictor.preprocess.padding == (124, 116, 104)
    assert (maps(folder) == maps(tmp_path / "decoder.onnx")).mean() > 0.9999


@pytest.mark.parametrize("uint8", ["true", "false"])
def test_a_standalone_graph_beside_it(
    config: Callable[..., configs.CompileConfig], tmp_path: Path, uint8: str
) -> None:
    folder = tmp_path / "out" / "net"
    overrides = ("backend.standalone=true", f"backend.uint8_input={uint8}")
    report = build(config(*overrides), profiled=False)
    assert report.standalone == 1
    assert "standalone.onnx: same class as Atrous on 100 % of the pixels" in report.lines()
    [image] = onnx.load(folder / "standalone.onnx").graph.input
    assert (image.name, image.type.tensor_type.elem_type) == ("image", TensorProto.UINT8)
    assert (maps(folder / "standalone.onnx") == maps(folder / "mod.onnx")).mean() >= 0.9999
    build(config(), profiled=False, force=True)
    assert "standalone.onnx" not in files(folder)


def test_an_existing_folder_is_replaced_only_by_force(
    config: Callable[..., configs.CompileConfig], tmp_path: Path
) -> None:
    build(config(), profiled=False)
    first = (tmp_path / "out/net/mod.onnx").read_bytes()
    with pytest.raises(ConfigError, match=r"out/net exists; `force` replaces what an earlier"):
        build(config("backend.dtype=fp16"), profiled=False)
    assert (tmp_path / "out/net/mod.onnx").read_bytes() == first
    (tmp_path / "out/net/explain.html").write_text("written beside it by an explanation")
    build(config("backend.dtype=fp16"), profiled=False, force=True)
    assert (tmp_path / "out/net/mod.onnx").read_bytes() != first
    assert "net/explain.html" not in files(tmp_path / "out")


def test_force_replaces_nothing_but_a_compile(
    config: Callable[..., configs.CompileConfig], tmp_path: Path
) -> None:
    (tmp_path / "out/net").mkdir(parents=True)
    (tmp_path / "out/net/main.py").write_text("mine")
    with pytest.raises(ConfigError, match=r"out/net holds main.py, which no compile writes"):
        build(config(), profiled=False, force=True)
    assert files(tmp_path / "out") == ["net/main.py"]


def test_an_old_result_survives_a_failed_compile(
    config: Callable[..., configs.CompileConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(config(), profiled=False)
    before = {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")}

    def fail(*arguments: Any, **options: Any) -> None:
        raise EngineError("broken")

    monkeypatch.setattr(builder, "_compare", fail)
    with pytest.raises(EngineError, match="broken"):
        build(config("backend.dtype=fp16"), profiled=False, force=True)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in before} == before
    assert files(tmp_path / "out") == list(before)


def test_a_rewrite_that_changes_the_network_is_caught(
    config: Callable[..., configs.CompileConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(graph: Any, layout: str) -> Outcome:
        conv = [node for node in graph.nodes if node.op_type == "Conv"][-1]
        conv.input[1] = graph.add_constant(1.5 * graph.constant(conv.input[1]), "wrong")
        return Outcome(("everything",))

    monkeypatch.setitem(builder.rewrites.REWRITES, "batch-norm", (wrong, "Do harm."))
    with pytest.raises(ArtifactError, match=r"differs from the input model by .*nothing was writ"):
        build(config(), profiled=False)
    assert files(tmp_path / "out") == []


def test_profiles_and_accuracies_are_measured_on_request(
    config: Callable[..., configs.CompileConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))
    ids = tmp_path / "ids.txt"
    ids.write_text("00002\n00000\n")
    said = Told()
    done = config(
        f"evaluate={{data: 'synthetic:0:4', protocol: squash-{SIDE}, ids: {ids}}}",
        "frontend.checkpoint=" + str(classes_of_synthetic(tmp_path)),
    )
    report = build(done, tell=said)
    assert report.before is not None
    assert report.after is not None
    assert {layer.operator for layer in report.after.layers} >= {"Conv"}
    [accuracy] = report.accuracies
    assert (accuracy.images, accuracy.protocol) == (2, f"squash-{SIDE}")
    assert abs(accuracy.mean_iou_points) < 0.01
    assert said[0] == "reading"
    assert any("evaluating rewritten: 2 of 2" in step for step in said)


def classes_of_synthetic(folder: Path) -> Path:
    """A network of as many classes as the synthetic data set has."""
    from atrous.data import open_dataset

    classes = open_dataset("synthetic:0:4").labels.num_classes
    draft = Sketch()
    x = draft.input(1, 3, SIDE, SIDE, name="input")
    x = draft.node("Relu", draft.conv(x, 3, 8, strides=[4, 4], pads=[0] * 4))
    grid = draft.conv(draft.node("Relu", draft.conv(x, 8, 8)), 8, classes)
    output = draft.resize(grid, 1, classes, SIDE, SIDE, name="output")
    path = folder / "synthetic.onnx"
    onnx.save(draft.model(output, rank=4), path)
    return path


def custom_operator(path: Path) -> Path:
    nodes = [
        helper.make_node("FancyAttention", ["input"], ["a"], domain="com.example"),
        helper.make_node("Conv", ["a", "w"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "custom",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 4, 8, 8])],
        [numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.example", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["backend.dtype=int8"], "dataset.path: missing; int8 needs images to calibrate on, as"),
        (["backend.dtype=int8", "dataset.path=nowhere"], "dataset.path: expected a folder"),
        (["backend.dtype=int8", "dataset.path=EMPTY"], "dataset.path: no image in"),
        (["backend.dtype=int8", "dataset.path=DAMAGED"], "none of the 1 images can be read"),
        (
            ["backend.dtype=int8", "backend.quantize.max_drop=0.1"],
            "backend.quantize.max_drop: needs evaluate, to measure the drop on",
        ),
        (["frontend.checkpoint=nowhere.onnx"], "expected a file, found none at nowhere.onnx"),
        (["frontend.shape={input: [1, 3, 65, 65]}"], "fixed at 1×3×33×33; make them agree"),
        (["frontend.checkpoint=CUSTOM"], "FancyAttention"),
        (["evaluate={data: 'voc:nowhere:val'}"], "nowhere"),
        (["evaluate={data: 'synthetic:0:4', ids: nowhere.txt}"], "evaluate.ids: nowhere.txt"),
        (["evaluate={data: 'synthetic:0:4', ids: STRANGE}"], "1 of 1 ids are not in synthetic"),
        (["evaluate={data: 'synthetic:0:4', ids: BLANK}"], "blank.txt: holds no id"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    config: Callable[..., configs.CompileConfig],
    tmp_path: Path,
    overrides: list[str],
    message: str,
) -> None:
    (tmp_path / "strange.txt").write_text("strange\n")
    (tmp_path / "blank.txt").write_text(" \n\n")
    for name in ("empty", "damaged"):
        (tmp_path / name).mkdir()
    (tmp_path / "damaged/a.png").write_bytes(b"no image")
    named = {
        "EMPTY": str(tmp_path / "empty"),
        "DAMAGED": str(tmp_path / "damaged"),
        "CUSTOM": str(custom_operator(tmp_path / "custom.onnx")),
        "STRANGE": str(tmp_path / "strange.txt"),
        "BLANK": str(tmp_path / "blank.txt"),
    }
    for word, path in named.items():
        overrides = [entry.replace(word, path) for entry in overrides]
    with pytest.raises(AtrousError) as caught:
        build(config(*overrides), profiled=False)
    assert message in str(caught.value)
    assert "input.onnx" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files(tmp_path / "out") == []


def test_another_architecture_compiles_untouched(
    config: Callable[..., configs.CompileConfig], tmp_path: Path
) -> None:
    draft = Sketch()
    x = draft.input(1, 3, 32, 32, name="input")
    down = draft.node("Relu", draft.conv(x, 3, 4, size=3, strides=[2, 2]))
    up = draft.node("ConvTranspose", down, draft.weight(4, 4, 2, 2), strides=[2, 2])
    output = draft.conv(draft.node("Concat", x, up, axis=1), 7, 5, size=3)
    path = tmp_path / "unet.onnx"
    onnx.save(draft.model(output, rank=4), path)
    report = build(config(f"frontend.checkpoint={path}"), profiled=False)
    assert [one.places for one in report.rewrites] == [()] * len(report.rewrites)
    assert report.gmacs_after == report.gmacs_before
    text = "\n".join(report.lines())
    assert "commute-enlargement: its pattern is not in this network" in text


def test_the_report_is_json_without_gaps(config: Callable[..., configs.CompileConfig]) -> None:
    report = build(config(), profiled=False)
    content = json.loads((config().folder / "report.json").read_text())
    assert content["precision"] == "fp32"
    assert "before" not in content
    assert "accuracies" not in content
    assert report.bytes_after == (config().folder / "mod.onnx").stat().st_size
