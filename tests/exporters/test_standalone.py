"""Graphs that need nothing around them, on small networks whose answers are known."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from atrous import cache
from atrous.engines.adapt import adapted
from atrous.engines.meaning import Hints
from atrous.engines.onnx_model import OnnxModel
from atrous.errors import ConfigError
from atrous.exporters import triton
from atrous.exporters.standalone import Standalone, Wanted, save, standalone, views
from atrous.labels import generic
from atrous.preprocess import Preprocess
from atrous.resize import Interpolation
from atrous.runtime.predictor import Predictor
from tests.builders.networks import make_small_model

PLAIN = Preprocess(size=(64, 64))


def make(
    wanted: Wanted | None = None,
    preprocess: Preprocess = PLAIN,
    size: int | str = 64,
    rule: str = "half_pixel",
    opset: int = 18,
) -> Standalone:
    graph = make_small_model(size, rule=rule)
    graph.opset_import[0].version = opset
    model = OnnxModel(graph, name="small")
    with Predictor.open(
        model, engine="onnxruntime", preprocess=preprocess, labels=generic(3)
    ) as predictor:
        return standalone(model, predictor, views(), wanted)


def run(made: Standalone, batch: np.ndarray) -> list[np.ndarray]:
    return list(ort.InferenceSession(made.model.SerializeToString()).run(None, {"image": batch}))


@pytest.mark.parametrize("normalisation", ["div255-mean-std", "div255", "none"])
def test_bytes_become_classes(normalisation: str) -> None:
    made = make(preprocess=PLAIN.model_copy(update={"normalisation": normalisation}))
    picture = np.zeros((2, 64, 64, 3), np.uint8)
    picture[0, :, :32, 1] = picture[0, :, 32:, 2] = picture[1, ..., 0] = 255
    [classes] = run(made, picture)
    assert classes.dtype == np.uint8
    assert classes.shape == (2, 64, 64)
    assert (classes[0, :, :28] == 1).all()
    assert (classes[0, :, 36:] == 2).all()
    assert (classes[1] == 0).all()
    assert made.agreement == 1


def test_blue_first_is_turned_inside() -> None:
    made = make(preprocess=PLAIN.model_copy(update={"colour": "bgr"}))
    red = np.zeros((1, 64, 64, 3), np.uint8)
    red[..., 0] = 255
    assert (run(made, red)[0] == 2).all()
    assert made.metadata.preprocess.colour == "rgb"


@pytest.mark.parametrize(
    "kernel", ["opencv-bilinear", "opencv-bicubic", "pillow-bilinear", "pillow-bicubic"]
)
def test_any_size_resizes_with_the_kernel_of_the_model(kernel: Interpolation) -> None:
    made = make(Wanted(any_size=True), PLAIN.model_copy(update={"interpolation": kernel}))
    assert made.agreement >= (1 if kernel == "opencv-bilinear" else 0.9995)
    [classes] = run(made, np.zeros((1, 30, 17, 3), np.uint8))
    assert classes.shape == (1, 30, 17)


@pytest.mark.parametrize("rule", ["half_pixel", "pytorch_half_pixel", "align_corners"])
@pytest.mark.parametrize("any_size", [False, True])
def test_every_rule_of_the_last_resize(rule: str, any_size: bool) -> None:
    assert make(Wanted(any_size=any_size), rule=rule).agreement >= 0.999


def test_a_free_network_is_fixed_at_the_size_it_is_used_at() -> None:
    assert make(size="size").input == "image uint8 (batch, 64, 64, 3)"


def test_scores_beside_the_classes() -> None:
    made = make(Wanted(scores=True))
    classes, scores = run(made, np.zeros((1, 64, 64, 3), np.uint8))
    assert scores.shape == (1, 3, 64, 64)
    assert (scores.argmax(1) == classes).all()


@pytest.mark.parametrize(("opset", "any_size"), [(19, True), (21, False)])
def test_the_operator_set_can_be_chosen(opset: int, any_size: bool) -> None:
    made = make(Wanted(opset=opset, any_size=any_size))
    assert made.opset == opset
    assert {entry.domain for entry in made.model.opset_import} <= {"", "ai.onnx"}
    onnx.checker.check_model(made.model)


@pytest.mark.parametrize("any_size", [False, True])
def test_an_old_network_keeps_its_operators(any_size: bool) -> None:
    proto = make_small_model(64)
    proto.opset_import[0].version = 11
    for name in ("roi", "scales"):
        proto.graph.initializer.append(numpy_helper.from_array(np.zeros(0, np.float32), name))
    proto.graph.node[-1].input[1:3] = ["roi", "scales"]
    model = OnnxModel(proto, name="old")
    with Predictor.open(
        model, engine="onnxruntime", preprocess=PLAIN, labels=generic(3)
    ) as predictor:
        made = standalone(model, predictor, views(), Wanted(any_size=any_size))
    assert (made.opset, made.agreement) == (11, 1)


@pytest.mark.parametrize("wanted", [Wanted(), Wanted(any_size=True), Wanted(scores=True)])
def test_atrous_runs_what_it_made_and_normalises_once(wanted: Wanted, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    save(make(wanted), path)
    small = OnnxModel(make_small_model(64), name="small")
    for engine in ("onnxruntime", "openvino"):
        with (
            Predictor.open(
                small, engine="onnxruntime", preprocess=PLAIN, labels=generic(3)
            ) as plain,
            Predictor.open(path, engine=engine) as whole,
        ):
            assert whole.preprocess.normalisation == "none"
            for view in views():
                same = plain(view).class_map() == whole(view).class_map()
                assert same.mean() >= 0.9999


def test_the_scores_of_a_threshold_keep_their_meaning(tmp_path: Path) -> None:
    model = OnnxModel(make_small_model(64), name="small")
    with_floor = adapted(model, Hints(threshold=0.5))
    with Predictor.open(with_floor, engine="onnxruntime", preprocess=PLAIN) as predictor:
        made = standalone(with_floor, predictor, views())
    save(made, tmp_path / "x.onnx")
    with Predictor.open(tmp_path / "x.onnx") as whole:
        assert whole.engine.signature.meaning.activation == "sigmoid"
        assert whole.labels.num_classes == 4


@pytest.mark.heavy
def test_weights_that_saturate_on_old_processors_are_said() -> None:
    assert make().notes == ()
    model = OnnxModel.read(cache.resolve("fast-int8"))
    with Predictor.open(model, engine="onnxruntime") as predictor:
        [note] = standalone(model, predictor, views()[:1]).notes
    assert 'session.x64quantprecision is "1"' in note


def test_what_cannot_be_made_says_what_can() -> None:
    with pytest.raises(ConfigError, match=r"fit letterbox.*without `any_size`.*64×64"):
        make(Wanted(any_size=True), PLAIN.model_copy(update={"fit": "letterbox"}))
    with pytest.raises(
        ConfigError, match=r"18, which cannot be brought to 11.*it stays, or export"
    ):
        make(Wanted(opset=11))
    with pytest.raises(ConfigError, match="opset: expected 11 or newer, got 9"):
        make(Wanted(opset=9))
    with pytest.raises(ConfigError, match=r"pillow-bilinear.*`opset` 18 or newer, found 17"):
        make(
            Wanted(any_size=True),
            PLAIN.model_copy(update={"interpolation": "pillow-bilinear"}),
            opset=17,
        )


def test_other_fits_take_what_was_fitted_before() -> None:
    assert make(preprocess=PLAIN.model_copy(update={"fit": "letterbox"})).agreement == 1


def test_a_repository_of_triton_is_read_by_its_own_messages(tmp_path: Path) -> None:
    config = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")

    folder = triton.write(make(Wanted(scores=True)), tmp_path, "small", instances=2)
    read = text_format.Parse((folder / "config.pbtxt").read_text(), config.ModelConfig())
    assert (read.name, read.backend, read.max_batch_size) == ("small", "onnxruntime", 8)
    assert read.HasField("dynamic_batching")
    assert read.instance_group[0].count == 2
    assert list(read.input[0].dims) == [64, 64, 3]
    assert read.input[0].data_type == config.TYPE_UINT8
    assert [(o.name, list(o.dims)) for o in read.output] == [
        ("classes", [64, 64]),
        ("scores", [3, 64, 64]),
    ]
    assert (folder / "labels.txt").read_text().splitlines() == ["class 0", "class 1", "class 2"]
    assert onnx.load(folder / "1" / "model.onnx").graph.input[0].name == "image"
    (folder / "notes.md").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds notes.md"):
        triton.write(make(), tmp_path, "small")
    with pytest.raises(ConfigError, match="letters, digits"):
        triton.write(make(), tmp_path, "a/b")
