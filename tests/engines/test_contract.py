"""What every engine promises, run on each that is installed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from atrous import engines
from atrous.engines.base import Engine, Options, TensorSpec
from atrous.engines.fake import FakeEngine
from atrous.errors import ArtifactError, ConfigError, EngineError, InputError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from atrous import models

    path = tmp_path_factory.mktemp("checkpoint") / "tiny_os16.safetensors"
    network = models.build("deeplabv3plus_mobilenet", num_classes=3)
    models.save_safetensors(network, path)
    return path


@pytest.fixture(params=["fake", "onnxruntime", "torch"])
def engine(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    checkpoint: Path,
    small_model: Callable[..., onnx.ModelProto],
) -> Iterator[Engine]:
    opened: Engine
    if request.param == "fake":
        opened = FakeEngine(lambda x: x[:, :, ::4, ::4] * 2, num_classes=3)
    elif request.param == "onnxruntime":
        onnx.save(small_model(), tmp_path / "m.onnx")
        opened = engines.open_engine(tmp_path / "m.onnx")
    else:
        opened = engines.open_engine(checkpoint)
    yield opened
    opened.close()


def batch(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 3, 32, 32)).astype(np.float32)


def test_runs(engine: Engine) -> None:
    logits = engine.run(batch())
    assert logits.dtype == np.float32
    assert logits.shape == (1, 3, 8, 8)
    assert engine.output.shape[1] == 3


def test_says_the_same_twice_and_different_things_of_different_images(engine: Engine) -> None:
    first = engine.run(batch()).copy()
    second = engine.run(batch(1)).copy()
    np.testing.assert_array_equal(engine.run(batch()), first)
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 3, 32, 32), np.uint8),
        np.zeros((3, 32, 32), np.float32),
        np.zeros((1, 4, 32, 32), np.float32),
    ],
)
def test_rejects_other_inputs(engine: Engine, wrong: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"input: expected float32 \(.*\), got "):
        engine.run(wrong)


def test_closes_twice(engine: Engine) -> None:
    with engine:
        pass
    engine.close()
    if engine.name != "fake":
        with pytest.raises(EngineError, match="this engine is closed"):
            engine.run(batch())


@pytest.mark.parametrize("model", [None, "default", "default.onnx"])
def test_the_default_model(model: str | None) -> None:
    with engines.open_engine(model) as opened:
        assert opened.metadata is not None
        assert opened.output.shape == (1, 21, 128, 128)


def test_zoo_name_without_weights_says_where_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path))
    with pytest.raises(ArtifactError, match=r"best_deeplabv3_resnet50_voc_os16\.pth.*github"):
        engines.find_model("deeplabv3_resnet50")
    (tmp_path / "weights").mkdir()
    put = tmp_path / "weights" / "best_deeplabv3_resnet50_voc_os16.pth"
    put.touch()
    assert engines.find_model("deeplabv3_resnet50") == put


def test_unknown_names(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nothing: not a file, no folder with mod\.onnx, no"):
        engines.open_engine("nothing")
    with pytest.raises(ConfigError, match="no engine is called 'tvm'; known: auto, onnxruntime"):
        engines.open_engine(engine="tvm")
    with pytest.raises(ConfigError, match="engine torch reads checkpoints"):
        engines.open_engine(engine="torch")
    with pytest.raises(ConfigError, match="engine onnxruntime reads ONNX files"):
        engines.open_engine(checkpoint, engine="onnxruntime")


@pytest.mark.parametrize("engine_name", ["onnxruntime", "torch"])
def test_a_device_that_is_not_there(engine_name: str, checkpoint: Path) -> None:
    model = checkpoint if engine_name == "torch" else None
    if engine_name == "torch":
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a CUDA device")
    with pytest.raises(EngineError, match=r"CUDA device|not on cuda|fell back"):
        engines.open_engine(model, options=Options(device="cuda"))
    with pytest.raises(EngineError, match="tensorrt"):
        engines.open_engine(model, options=Options(device="tensorrt"))


def test_options_are_checked() -> None:
    with pytest.raises(InputError, match="threads: expected 0"):
        Options(threads=-1)


def test_spec_of_free_sizes() -> None:
    spec = TensorSpec("x", (None, 3), "float32")
    spec.check(np.zeros((7, 3), np.float32))
    with pytest.raises(InputError):
        spec.check(np.zeros((7, 4), np.float32))


def test_a_network_that_is_no_segmentation(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    def write(nodes: list[onnx.NodeProto], output: onnx.ValueInfoProto) -> Path:
        image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])
        graph = helper.make_graph(nodes, "g", [image], [output])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.save(model, tmp_path / "m.onnx")
        return tmp_path / "m.onnx"

    argmax = write(
        [helper.make_node("ArgMax", ["input"], ["y"], axis=1)],
        helper.make_tensor_value_info("y", TensorProto.INT64, [1, 1, 8, 8]),
    )
    with pytest.raises(ArtifactError, match="export the network without its argmax"):
        engines.open_engine(argmax)
    classifier = write(
        [helper.make_node("Flatten", ["input"], ["y"])],
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 192]),
    )
    with pytest.raises(ArtifactError, match=r"expected float32 logits \(N, C, H, W\)"):
        engines.open_engine(classifier)


def test_every_engine_is_checked_by_the_doctor() -> None:
    from atrous.engines.check import check_engines

    checks = {(check.engine, check.device): check for check in check_engines()}
    assert checks["onnxruntime", "cpu"].works
    assert {engine for engine, _ in checks} == set(engines.ENGINES)
    for check in checks.values():
        assert check.works == (not check.reason)
