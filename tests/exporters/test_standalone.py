"""Graphs that need nothing around them, on small networks whose answers are known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from atrous import cache
from atrous.engines.adapt import adapted
from atrous.engines.base import Options
from atrous.engines.meaning import Hints
from atrous.engines.onnx_model import OnnxModel
from atrous.errors import ArtifactError, ConfigError
from atrous.exporters import triton
from atrous.exporters.standalone import Standalone, Wanted, save, standalone, views
from atrous.labels import generic
from atrous.preprocess import Preprocess
from atrous.resize import Interpolation
from atrous.runtime.predictor import Predictor
from tests.builders.networks import make_small_model
from tests.builders.sketch import Sketch

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


def made_of(sketch: Sketch, *outputs: str, wanted: Wanted | None = None, **kind: int) -> Standalone:
    """The graph around a network that was written by hand."""
    model = OnnxModel(sketch.model(*outputs, rank=4, **kind), name="theirs")
    with Predictor.open(model, engine="onnxruntime", preprocess=PLAIN) as predictor:
        return standalone(model, predictor, views()[:1], wanted)


def brightest(sketch: Sketch, image: str) -> str:
    """The picture on a grid of stride 4: its channels are the scores."""
    return sketch.node("AveragePool", image, kernel_shape=[4, 4], strides=[4, 4])


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


def for_one(sketch: Sketch, image: str) -> str:
    """Scores of a network that was exported for one picture: a shape in it is a number."""
    flat = sketch.node("Reshape", image, sketch.constant([1, 3, -1], dtype=np.int64))
    shape = sketch.constant([1, 3, 64, 64], dtype=np.int64)
    return brightest(sketch, sketch.node("Reshape", flat, shape))


def of_hidden_classes(sketch: Sketch, image: str) -> str:
    """The same, where onnx does not see how many classes there are."""
    scores = for_one(sketch, image)
    sizes = sketch.node("Cast", sketch.node("Shape", scores), to=onnx.TensorProto.FLOAT)
    sizes = sketch.node("Cast", sketch.node("Floor", sizes), to=onnx.TensorProto.INT64)
    return sketch.node("Reshape", scores, sizes)


@pytest.mark.parametrize("scores_of", [for_one, of_hidden_classes])
@pytest.mark.parametrize("any_size", [False, True])
def test_a_network_for_one_picture_takes_one(
    scores_of: Callable[[Sketch, str], str], any_size: bool
) -> None:
    sketch = Sketch()
    scores = scores_of(sketch, sketch.input(1, 3, 64, 64, name="x"))
    made = made_of(sketch, scores, wanted=Wanted(any_size=any_size))
    [note] = made.notes
    assert note.startswith("theirs: takes 1 at a time: ONNX Runtime failed: ")
    sides = "height, width" if any_size else "64, 64"
    assert made.input == f"image uint8 (1, {sides}, 3)"
    assert made.agreement >= 0.999
    text = triton.config(made, "theirs")
    assert "max_batch_size: 0" in text
    assert "dynamic_batching" not in text
    assert f"dims: [ 1, {'-1, -1' if any_size else '64, 64'}, 3 ]" in text


def test_a_network_whose_pictures_see_each_other_takes_one() -> None:
    sketch = Sketch()
    scores = brightest(sketch, sketch.input("n", 3, 64, 64, name="x"))
    # Less the mean of each channel over the sky of all pictures.
    rows = (sketch.constant([value], dtype=np.int64) for value in (0, 8, 2))
    axes = sketch.constant([0, 2, 3], dtype=np.int64)
    mean = sketch.node("ReduceMean", sketch.node("Slice", scores, *rows), axes)
    made = made_of(sketch, sketch.node("Sub", scores, mean))
    assert made.notes == (
        "theirs: takes 1 at a time: two pictures at a time gave other classes than one after the "
        "other",
    )
    assert made.input == "image uint8 (1, 64, 64, 3)"
    assert "dynamic_batching" not in triton.config(made, "theirs")
    assert made.agreement == 1


def test_a_network_for_two_pictures_takes_two() -> None:
    sketch = Sketch()
    image = sketch.input(2, 3, 64, 64, name="x")
    shape = sketch.constant([2, 3, 64, 64], dtype=np.int64)
    made = made_of(sketch, brightest(sketch, sketch.node("Reshape", image, shape)))
    assert made.input == "image uint8 (2, 64, 64, 3)"
    assert made.notes[0].startswith("theirs: takes 2 at a time: ")
    picture = np.zeros((2, 64, 64, 3), np.uint8)
    picture[0, ..., 1] = picture[1, ..., 2] = 255
    [classes] = run(made, picture)
    assert (classes == np.array([1, 2]).reshape(2, 1, 1)).all()


@pytest.mark.parametrize("free", [False, True])
def test_class_ids_are_enlarged_to_the_nearest(free: bool) -> None:
    sketch = Sketch()
    image = sketch.input("n" if free else 1, 3, 64, 64, name="x")
    grid = brightest(sketch, image) if free else for_one(sketch, image)
    lit = sketch.node("Cast", sketch.node("Greater", grid, sketch.constant(0.0)), to=6)
    ids = sketch.node("ReduceSum", lit, sketch.constant([1], dtype=np.int64))
    made = made_of(sketch, ids, dtype=onnx.TensorProto.INT32)
    assert made.agreement == 1
    picture = np.zeros((1, 64, 64, 3), np.uint8)
    picture[:, :, :32] = 255
    [classes] = run(made, picture)
    assert (classes[..., :32] == 3).all()
    assert (classes[..., 32:] == 0).all()


def test_a_network_that_changes_its_mind_is_not_written() -> None:
    sketch = Sketch()
    scores = brightest(sketch, sketch.input(1, 3, 64, 64, name="x"))
    noise = sketch.node("RandomNormalLike", scores, scale=10.0)
    with pytest.raises(ArtifactError) as error:
        made_of(sketch, sketch.node("Add", scores, noise))
    said = str(error.value)
    assert said.startswith(
        "theirs: the graph that needs nothing around it has the class of Atrous on "
    )
    assert said.endswith(" of the pixels, expected 99.9900 %; nothing was written")


def test_half_stores_half_and_says_so() -> None:
    sketch = Sketch()
    weight = sketch.constant(np.eye(3).reshape(3, 3, 1, 1).repeat(9, 2).reshape(3, 3, 3, 3) / 9)
    coarse = brightest(sketch, sketch.input(1, 3, 64, 64, name="x"))
    scores = sketch.node("Conv", coarse, weight, pads=[1] * 4)
    halves = made_of(sketch, scores, wanted=Wanted(half=True))
    assert halves.metadata.precision == "fp16"
    stored = {t.data_type for t in halves.model.graph.initializer if len(t.dims) == 4}
    assert onnx.TensorProto.FLOAT16 in stored
    assert made_of(sketch, scores).metadata.precision == "fp32"


def test_a_threshold_means_nothing_to_what_was_made(tmp_path: Path) -> None:
    save(make(Wanted(scores=True)), tmp_path / "x.onnx")
    with pytest.raises(ConfigError, match=r"`threshold`: .*x\.onnx chooses between classes that"):
        Predictor.open(tmp_path / "x.onnx", options=Options(threshold=0.5))


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
