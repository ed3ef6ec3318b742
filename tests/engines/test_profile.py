"""Where the time goes, on every engine that reads ONNX files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from atrous import artifact, engines
from atrous.engines import profile as module
from atrous.engines.base import Options
from atrous.engines.layer_names import LayerNames
from atrous.engines.profile import Layer, Profile, profile, profile_both
from atrous.engines.signature import TensorSpec
from atrous.errors import ArtifactError, ConfigError, EngineError, InputError

Model = Callable[..., onnx.ModelProto]


@pytest.fixture(params=["onnxruntime", "openvino"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "openvino":
        pytest.importorskip("openvino", reason="needs openvino: pip install 'atrous[openvino]'")
    return str(request.param)


@pytest.fixture
def model(tmp_path: Path, small_model: Model) -> Path:
    onnx.save(small_model(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def operators(found: Profile) -> str:
    return " ".join(layer.operator for layer in found.layers)


def test_what_it_says(engine: str, model: Path) -> None:
    found = profile(model, engine=engine, options=Options(threads=1), runs=5)
    assert (found.engine, found.threads, found.runs) == (engine, 1, 5)
    assert found.version == engines.version(engine) != ""
    assert 0 < found.spread[0] <= found.milliseconds <= found.spread[1]
    assert {"p", "logits"} <= {layer.name for layer in found.layers}
    times = [layer.milliseconds for layer in found.layers]
    assert times == sorted(times, reverse=True)
    assert sum(layer.share for layer in found.layers) == pytest.approx(1, abs=1e-3)
    assert Profile.model_validate_json(found.model_dump_json()) == found


def test_the_last_resize_is_not_timed(engine: str, model: Path) -> None:
    names = {"onnxruntime": ("Resize", "Upsample"), "openvino": ("Interpolate",)}[engine]
    assert onnx.load(model).graph.node[-1].op_type == "Resize"
    assert not any(name in operators(profile(model, engine=engine, runs=1)) for name in names)


def test_two_in_turn(engine: str, model: Path) -> None:
    before, after = profile_both(model, model, engine=engine, runs=2)
    assert len(before.layers) == len(after.layers) > 0


@pytest.mark.parametrize("how", [{"dtype": "uint8"}, {"size": "s"}])
def test_other_inputs(engine: str, how: dict[str, str], tmp_path: Path, small_model: Model) -> None:
    onnx.save(small_model(**how), tmp_path / "m.onnx")
    assert profile(tmp_path / "m.onnx", engine=engine, runs=1).layers


@pytest.mark.parametrize(
    ("spec", "shape", "values"),
    [
        (TensorSpec("x", (None, 3, None, None), "float32"), (1, 3, 513, 513), None),
        (TensorSpec("x", (2, 3, 8, 4), "float32"), (2, 3, 8, 4), None),
        (TensorSpec("x", (1, None, 8, None), "uint8"), (1, 3, 8, 513), [128]),
    ],
)
def test_the_input(spec: TensorSpec, shape: tuple[int, ...], values: list[int] | None) -> None:
    batch = module._noise(spec)
    spec.check(batch)
    assert batch.shape == shape
    np.testing.assert_array_equal(batch, module._noise(spec))
    if values is None:
        assert abs(batch.mean()) < 0.3
        assert batch.std() == pytest.approx(1, abs=0.2)
    else:
        assert np.unique(batch).tolist() == values


def test_nothing_is_left_behind(
    engine: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    profile(model, engine=engine, options=Options(cache=tmp_path / "cache"), runs=1)
    assert sorted(tmp_path.iterdir()) == there


@pytest.mark.heavy
def test_layers_bear_the_names_of_modules(engine: str) -> None:
    found = profile(artifact.DEFAULT, engine=engine, runs=1)
    convolutions = [layer for layer in found.layers if "Conv" in layer.operator]
    assert len(convolutions) > 50
    assert {layer.name.split(".")[0] for layer in convolutions} == {"backbone", "classifier"}


def test_refusals(model: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="profiles ONNX files, and engine torch runs checkpoints"):
        profile(model, engine="torch")
    with pytest.raises(ConfigError, match="there is no engine 'mnn'; expected one of onnxruntime"):
        profile(model, engine="mnn")
    with pytest.raises(InputError, match="runs: expected 1 or more, got 0"):
        profile(model, engine="onnxruntime", runs=0)
    with pytest.raises(ArtifactError, match="no such file"):
        profile(tmp_path / "absent.onnx", engine="onnxruntime")


def test_openvino_has_one_device(model: Path) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(EngineError, match="openvino runs on cpu, not on cuda"):
        profile(model, engine="openvino", options=Options("cuda"))


def test_an_engine_that_is_not_there(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "missing", lambda engine: f"{engine} is missing")
    with pytest.raises(EngineError, match=r"m\.onnx: openvino is missing"):
        profile(model, engine="openvino")


def test_a_trace_of_onnx_runtime(tmp_path: Path) -> None:
    """Three runs, of which two warm up; a layer in a loop counts as often as it runs."""

    def node(ts: int, dur: int, name: str = "a_kernel_time") -> dict[str, object]:
        args = {"op_name": "Conv", "node_index": "4"}
        return {"cat": "Node", "name": name, "ts": ts, "dur": dur, "args": args}

    runs = [{"cat": "Session", "name": "model_run", "ts": ts, "dur": 90} for ts in (100, 200, 300)]
    events = [*runs, node(110, 50), node(310, 20), node(210, 30), node(340, 5)]
    events.append(node(345, 99, "a_fence_before"))
    (tmp_path / "t.json").write_text(json.dumps(events))
    assert module._read_trace(tmp_path / "t.json") == {
        module._Kernel("a", "Conv", "", 4): [pytest.approx(0.025)]
    }


def test_by_operator() -> None:
    layers = [("a", "Conv", 3.0), ("b", "Add", 4.0), ("c", "Conv", 2.0)]
    found = Profile(
        engine="e",
        version="1",
        threads=0,
        runs=1,
        milliseconds=9,
        spread=(9, 9),
        layers=tuple(Layer(name=n, operator=o, milliseconds=t, share=t / 9) for n, o, t in layers),
    )
    assert list(found.by_operator().items()) == [("Conv", 5.0), ("Add", 4.0)]


def taken_apart() -> onnx.ModelProto:
    """A layer of two parts as rewrites leave them, batch norm and ReLU after a plain one."""
    weight = np.ones((3, 3, 1, 1), np.float32)
    names = ["a.0.weight", "b.weight_value_fine", "b.weight_value_wide", "onnx::Conv_7"]
    nodes = [
        helper.make_node("Conv", ["input", "a.0.weight"], ["c"], "node_Conv_1"),
        helper.make_node("Relu", ["c"], ["relu"], "node_relu"),
        helper.make_node("Conv", ["relu", "b.weight_value_fine"], ["t_fine"]),
        helper.make_node("Transpose", ["relu"], ["t_wide_0"], perm=[0, 1, 2, 3]),
        helper.make_node("Conv", ["t_wide_0", "b.weight_value_wide"], ["t_wide"]),
        helper.make_node("Add", ["t_fine", "t_wide"], ["t"]),
        helper.make_node("Conv", ["t", "a.0.weight"], ["again"]),
        helper.make_node("Conv", ["again", "onnx::Conv_7"], ["output"], "/head/Conv"),
    ]
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 4, 4])
    logits = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3, 4, 4])
    weights = [numpy_helper.from_array(weight, name) for name in names]
    return helper.make_model(helper.make_graph(nodes, "g", [image], [logits], weights))


def test_nodes_are_named_after_their_weights() -> None:
    model = taken_apart()
    untouched = model.SerializeToString()
    names = LayerNames(model)
    assert model.SerializeToString() == untouched
    assert [node.name for node in names.model.graph.node] == [
        "a.0",
        "node_relu",
        "b_fine",
        "b_wide_0",
        "b_wide",
        "b_add",
        "a.0 (again)",
        "head/Conv",
    ]


@pytest.mark.parametrize(
    ("called", "operator", "name"),
    [
        ("a.0", "Conv", "a.0"),
        ("relu_nchwc", "Conv", "a.0"),
        ("relu_nchwc_token_12", "Conv", "a.0"),
        ("t_wide_nchwc", "Conv", "b_wide"),
        ("elsewhere_nchwc", "Conv", "elsewhere"),
        ("fused b_fine", "FusedConv", "b_fine"),
        ("ReorderOutput_token_127", "ReorderOutput", "ReorderOutput"),
        ("a.0/WithoutBiases", "Convolution", "a.0"),
        ("input_abcd_acdb_a.0/WithoutBiases", "Reorder", "input → a.0"),
        ("a.0_aBcd16b_ABcd16b16a_b_fine", "Reorder", "a.0 → b_fine"),
        ("head/Conv_acdb_abcd_output/sink_port_0", "Reorder", "head/Conv → output"),
    ],
)
def test_names_that_engines_give(called: str, operator: str, name: str) -> None:
    assert LayerNames(taken_apart()).of(called, operator) == name
