"""What every engine promises, run on each that is installed."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from atrous import engines
from atrous.engines.base import Engine, Options
from atrous.engines.fake import FakeEngine
from atrous.engines.onnx_model import OnnxModel
from atrous.engines.signature import TensorSpec
from atrous.errors import ArtifactError, ConfigError, EngineError, InputError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from atrous import models

    path = tmp_path_factory.mktemp("checkpoint") / "tiny_os16.safetensors"
    network = models.build("deeplabv3plus_mobilenet", num_classes=3)
    models.save_safetensors(network, path)
    return path


ONNX_ENGINES = ["onnxruntime", "openvino"]


@pytest.fixture
def threads_of_torch() -> Iterator[None]:
    """An engine on torch sets the threads of the whole process."""
    import torch

    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def need(engine: str) -> None:
    if reason := engines.missing(engine):
        pytest.skip(reason)


@pytest.fixture(params=["fake", *ONNX_ENGINES, "torch"])
def engine(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    checkpoint: Path,
    small_model: Callable[..., onnx.ModelProto],
) -> Iterator[Engine]:
    opened: Engine
    if request.param != "fake":
        need(request.param)
    if request.param == "fake":
        opened = FakeEngine(lambda x: x[:, :, ::4, ::4] * 2, num_classes=3)
    elif request.param == "torch":
        opened = engines.open_engine(checkpoint)
    else:
        onnx.save(small_model(), tmp_path / "m.onnx")
        opened = engines.open_engine(tmp_path / "m.onnx", engine=request.param)
    yield opened
    opened.close()


def batch(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 3, 32, 32)).astype(np.float32)


def test_runs(engine: Engine) -> None:
    logits = engine.run(batch())
    assert logits.dtype == np.float32
    assert logits.shape == (1, 3, 8, 8)
    assert engine.signature.classes == 3
    assert engine.signature.dtype == "float32"


def test_leaves_the_batch_alone(engine: Engine) -> None:
    given = batch()
    engine.run(given)
    np.testing.assert_array_equal(given, batch())


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


@pytest.mark.heavy
@pytest.mark.parametrize("model", [None, "default", "default.onnx"])
def test_the_default_model(model: str | None) -> None:
    with engines.open_engine(model) as opened:
        assert opened.metadata is not None
        assert opened.signature.output.shape == (1, 21, 128, 128)


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
    with pytest.raises(ConfigError, match="there is no engine 'tvm'; expected one of auto, onnx"):
        engines.open_engine(engine="tvm")
    with pytest.raises(ConfigError, match="engine torch reads checkpoints"):
        engines.open_engine(engine="torch")
    with pytest.raises(ConfigError, match="engine onnxruntime reads ONNX files"):
        engines.open_engine(checkpoint, engine="onnxruntime")


@pytest.fixture(params=["fake", *ONNX_ENGINES])
def uint8_engine(
    request: pytest.FixtureRequest, tmp_path: Path, small_model: Callable[..., onnx.ModelProto]
) -> Iterator[Engine]:
    opened: Engine
    if request.param == "fake":
        opened = FakeEngine(lambda x: x.astype(np.float32), num_classes=3, dtype="uint8")
    else:
        need(request.param)
        onnx.save(small_model(dtype="uint8"), tmp_path / "m.onnx")
        opened = engines.open_engine(tmp_path / "m.onnx", engine=request.param)
    yield opened
    opened.close()


def test_takes_uint8_where_the_graph_normalises(uint8_engine: Engine) -> None:
    assert uint8_engine.signature.dtype == "uint8"
    image = np.zeros((1, 3, 32, 32), np.uint8)
    image[:, 1] = 200
    logits = uint8_engine.run(image)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits[0].mean((1, 2)), [0, 200, 0])
    with pytest.raises(InputError, match=r"input: expected uint8 \(.*\), got float32"):
        uint8_engine.run(image.astype(np.float32))


@pytest.mark.parametrize("engine_name", ONNX_ENGINES)
def test_threads_free_sizes_and_somebody_elses_file(
    engine_name: str, tmp_path: Path, small_model: Callable[..., onnx.ModelProto]
) -> None:
    need(engine_name)
    onnx.save(small_model(size="side"), tmp_path / "m.onnx")
    options = Options(threads=1)
    with engines.open_engine(tmp_path / "m.onnx", engine=engine_name, options=options) as opened:
        assert opened.metadata is None
        assert len(opened.identity) == 64
        assert opened.signature.input == TensorSpec("input", (1, 3, None, None), "float32")
        for height, width in ((16, 24), (32, 8), (16, 24)):
            image = np.ones((1, 3, height, width), np.float32)
            assert opened.run(image)[0, 0].mean() == pytest.approx(1)


@pytest.mark.parametrize("engine_name", ONNX_ENGINES)
def test_a_network_in_memory_runs_as_its_file_does(
    engine_name: str, tmp_path: Path, small_model: Callable[..., onnx.ModelProto]
) -> None:
    need(engine_name)
    model = small_model()
    before = model.SerializeToString()
    onnx.save(model, tmp_path / "m.onnx")
    with (
        engines.open_engine(tmp_path / "m.onnx", engine=engine_name) as file,
        engines.open_engine(OnnxModel(model), engine=engine_name) as memory,
    ):
        assert memory.identity == file.identity
        assert memory.signature == file.signature
        np.testing.assert_array_equal(memory.run(batch()), file.run(batch()))
    assert model.SerializeToString() == before


@pytest.mark.parametrize("engine_name", ONNX_ENGINES)
def test_weights_in_a_file_beside_the_graph(
    engine_name: str, tmp_path: Path, small_model: Callable[..., onnx.ModelProto]
) -> None:
    need(engine_name)
    with engines.open_engine(OnnxModel(small_model()), engine=engine_name) as whole:
        expected = whole.run(batch()).copy()
    outside = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0}
    onnx.save(small_model(), tmp_path / "m.onnx", **outside)
    assert (tmp_path / "w.bin").stat().st_size
    with engines.open_engine(tmp_path / "m.onnx", engine=engine_name) as opened:
        np.testing.assert_array_equal(opened.run(batch()), expected)


@pytest.mark.parametrize("engine_name", ONNX_ENGINES)
def test_a_refused_network_in_memory_is_named(engine_name: str) -> None:
    need(engine_name)
    image, logits = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 8, 8])
        for name in ("x", "y")
    )
    node = onnx.helper.make_node("Unheard", ["x"], ["y"], domain="of")
    graph = onnx.helper.make_graph([node], "g", [image], [logits])
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("of", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    with pytest.raises(EngineError, match=r"left: .* refuses it"):
        engines.open_engine(OnnxModel(model, name="left"), engine=engine_name)


@pytest.mark.heavy
def test_torch_runs_a_network_where_and_as_it_is(checkpoint: Path) -> None:
    from atrous import models
    from atrous.engines.torch import TorchEngine

    network = models.load(checkpoint)
    before = network.backbone.low_level_features[0][0].weight.stride()
    with engines.open_engine(checkpoint) as file, TorchEngine(network) as memory:
        assert memory.metadata is None
        assert (len(memory.identity), memory.identity != file.identity) == (64, True)
        assert memory.signature == file.signature
        expected = file.run(batch()).copy()
        np.testing.assert_allclose(memory.run(batch()), expected, atol=1e-5 * np.ptp(expected))
    assert network.backbone.low_level_features[0][0].weight.stride() == before


@pytest.mark.parametrize("engine_name", ONNX_ENGINES)
def test_a_damaged_file(engine_name: str, tmp_path: Path) -> None:
    need(engine_name)
    (tmp_path / "m.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ArtifactError, match=r"m\.onnx: not a valid ONNX model"):
        engines.open_engine(tmp_path / "m.onnx", engine=engine_name)


@pytest.mark.heavy
@pytest.mark.parametrize("engine_name", [*ONNX_ENGINES, "torch"])
def test_threads_in_streams_get_what_one_after_the_other_gets(
    engine_name: str,
    tmp_path: Path,
    checkpoint: Path,
    small_model: Callable[..., onnx.ModelProto],
    threads_of_torch: None,
) -> None:
    need(engine_name)
    path = checkpoint
    if engine_name != "torch":
        path = tmp_path / "m.onnx"
        onnx.save(small_model(), path)
    options = Options(threads=2, streams=2)
    with (
        engines.open_engine(path, engine=engine_name, options=options) as opened,
        ThreadPoolExecutor(3) as pool,
    ):
        assert opened.streams == 2
        expected = [opened.run(batch(seed)).copy() for seed in range(30)]
        found = list(pool.map(lambda seed: opened.run(batch(seed)).copy(), range(30)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.ptp(expected))
    assert len(np.unique(expected, axis=0)) == 30


@pytest.mark.heavy
@pytest.mark.parametrize("engine_name", ONNX_ENGINES)
def test_streams_of_a_whole_network(engine_name: str) -> None:
    need(engine_name)

    def photograph(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).normal(size=(1, 3, 513, 513)).astype(np.float32)

    with (
        engines.open_engine(engine=engine_name, options=Options(streams=2)) as opened,
        ThreadPoolExecutor(2) as pool,
    ):
        expected = [opened.run(photograph(seed)).copy() for seed in range(4)]
        found = list(pool.map(lambda seed: opened.run(photograph(seed)).copy(), range(4)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.ptp(expected))


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


def test_tensorrt_keeps_its_builds_in_a_folder_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    asked: dict[str, dict[str, object]] = {}

    def refuse(*_: object, providers: list[tuple[str, dict[str, object]]], **__: object) -> None:
        asked.update(providers)
        raise RuntimeError("no GPU in this test")

    built = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: built)
    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(EngineError, match="no GPU in this test"):
        engines.open_engine(options=Options("tensorrt", cache=tmp_path))
    [folder] = tmp_path.iterdir()
    assert folder.name.startswith("tensorrt-")
    settings = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(folder)}
    assert asked == {built[0]: settings, built[1]: {}, built[2]: {}}


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="threads: expected 0"):
        Options(threads=-1)
    with pytest.raises(ConfigError, match="streams: expected 1 or more, got 0"):
        Options(streams=0)
    with pytest.raises(
        ConfigError, match="device: expected cpu, cuda or tensorrt, got 'cuda:1'; w"
    ):
        Options(device="cuda:1")  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cache: expected a folder, found a file"):
        Options(cache=tmp_path / "file")


def test_spec_of_free_sizes() -> None:
    spec = TensorSpec("x", (None, 3), "float32")
    spec.check(np.zeros((7, 3), np.float32))
    with pytest.raises(InputError):
        spec.check(np.zeros((7, 4), np.float32))


@pytest.mark.parametrize("engine_name", ONNX_ENGINES)
def test_a_network_that_is_no_segmentation(engine_name: str, tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    need(engine_name)

    def write(nodes: list[onnx.NodeProto], output: onnx.ValueInfoProto) -> Path:
        image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])
        graph = helper.make_graph(nodes, "g", [image], [output])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.save(model, tmp_path / "m.onnx")
        return tmp_path / "m.onnx"

    classifier = write(
        [helper.make_node("Flatten", ["input"], ["y"])],
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 192]),
    )
    with pytest.raises(ArtifactError, match="one score a class for the whole picture"):
        engines.open_engine(classifier, engine=engine_name)


@pytest.mark.parametrize("engine_name", ONNX_ENGINES)
def test_a_network_of_half_precision_takes_and_gives_float32(
    engine_name: str, tmp_path: Path, small_model: Callable[..., onnx.ModelProto]
) -> None:
    need(engine_name)
    onnx.save(small_model(dtype="float16"), tmp_path / "m.onnx")
    with engines.open_engine(tmp_path / "m.onnx", engine=engine_name) as opened:
        assert opened.signature.dtype == "float32"
        assert opened.run(batch()).shape == (1, 3, 8, 8)


@pytest.mark.heavy
def test_every_engine_is_checked_by_the_doctor() -> None:
    from atrous.engines.check import check_engines

    checks = {(check.engine, check.device): check for check in check_engines()}
    assert checks["onnxruntime", "cpu"].works
    assert checks["openvino", "cpu"].works == (not engines.missing("openvino"))
    assert {engine for engine, _ in checks} == set(engines.ENGINES)
    for check in checks.values():
        assert check.works == (not check.reason)
