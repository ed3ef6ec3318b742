"""Inputs of every kind become one graph of fixed shape that computes the same."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from atrous import artifact, models
from atrous.artifact import Accuracy, Metadata
from atrous.compiler.config import CompileConfig
from atrous.compiler.frontend import InputModel, read
from atrous.compiler.graph import opset
from atrous.errors import ArtifactError, ConfigError, EngineError
from atrous.exporters.torchscript import export_torchscript
from atrous.files import sha256
from atrous.image import photograph
from atrous.labels import CITYSCAPES, VOC, generic
from atrous.preprocess import Preprocess
from tests.builders.networks import make_joining
from tests.builders.shallow import make_shallow

SIZE = (64, 96)


class Net(nn.Module):
    """What a DeepLab does to operators, in small: pooling branch, resizes by size, activation."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, classes, 1)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x = functional.hardtanh(self.norm(self.stem(input)), 0.0, 6.0)
        pooled = functional.adaptive_avg_pool2d(x, 1)
        pooled = functional.interpolate(pooled, size=x.shape[-2:], mode="bilinear")
        return functional.interpolate(self.head(x + pooled), size=input.shape[-2:], mode="bilinear")


def net(classes: int = 5) -> Net:
    torch.manual_seed(0)
    return Net(classes).eval()


def exported(folder: Path, version: int = 17, free: bool = False, **options: Any) -> Path:
    """`Net` as the older exporter of torch writes it."""
    path = folder / "net.onnx"
    axes = {"input": {0: "n", 2: "h", 3: "w"}, "output": {0: "n", 2: "h", 3: "w"}} if free else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net(),
            (torch.zeros(1, 3, *SIZE),),
            str(path),
            dynamo=False,
            opset_version=version,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes=axes,
            **options,
        )
    return path


def configured(path: Path | None, **sections: Any) -> CompileConfig:
    """A configuration whose `frontend` is `path` and what `frontend=` says."""
    frontend = {"checkpoint": str(path) if path else None, **sections.pop("frontend", {})}
    return CompileConfig.model_validate({"name": "made", "frontend": frontend, **sections})


def shaped(height: int, width: int, batch: int = 1) -> dict[str, Any]:
    return {"shape": {"input": [batch, 3, height, width]}}


def run(model: onnx.ModelProto, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    [logits] = session.run(None, {session.get_inputs()[0].name: batch})
    return np.asarray(logits)


def images(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def sizes(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def saved(model: onnx.ModelProto, folder: Path, metadata: Metadata | None = None) -> Path:
    path = folder / "m.onnx"
    if metadata is None:
        onnx.save(model, path)
    else:
        artifact.save(model, metadata, path)
    return path


def check(source: InputModel, shape: tuple[int, int, int, int], classes: int) -> None:
    """What holds for every source."""
    assert opset.version(source.model) >= 13
    assert sizes(source.model.graph.input[0]) == shape
    assert sizes(source.model.graph.output[0]) == (shape[0], classes, *shape[2:])
    known = {
        value.name
        for value in source.model.graph.value_info
        if all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)
    }
    made = {name for node in source.model.graph.node for name in node.output}
    assert made <= known | {source.model.graph.output[0].name}
    assert source.metadata.name == "made"
    assert source.metadata.preprocess.size == shape[2:]
    assert source.metadata.labels.num_classes == classes


# ONNX


@pytest.mark.heavy
@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("version", [11, 12, 13, 17])
def test_old_operator_sets_compute_the_same(version: int, free: bool, tmp_path: Path) -> None:
    path = exported(tmp_path, version, free)
    source = read(configured(path, frontend=shaped(*SIZE)))
    check(source, (1, 3, *SIZE), 5)
    batch = images(1, 3, *SIZE)
    np.testing.assert_allclose(run(source.model, batch), run(onnx.load(path), batch), atol=1e-6)
    said = [note for note in source.notes if "operator set" in note]
    assert len(said) == (version < 13)
    assert all(f"from operator set {version} to 13" in note for note in said)


@pytest.mark.heavy
@pytest.mark.parametrize("shape", [(1, 3, 32, 160), (2, 3, *SIZE)])
def test_free_shapes_are_fixed(shape: tuple[int, int, int, int], tmp_path: Path) -> None:
    path = exported(tmp_path, 11, free=True)
    source = read(configured(path, frontend={"shape": {"input": list(shape)}}))
    check(source, shape, 5)
    batch = images(*shape)
    with torch.inference_mode():
        expected = net()(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(run(source.model, batch), expected, atol=1e-5)


def resizing(kind: str, version: int, mode: str, factor: float) -> onnx.ModelProto:
    """Operator sets before 11 place pixels asymmetrically without saying so."""
    scales = np.array([1, 1, factor, factor], np.float32)
    node = helper.make_node(kind, ["input", "scales"], ["output"], mode=mode)
    graph = helper.make_graph(
        [node],
        "old",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 20, 30])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3, None, None])],
        [numpy_helper.from_array(scales, "scales")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=4)


@pytest.mark.parametrize(
    ("kind", "version", "mode", "factor"),
    [
        ("Upsample", 9, "linear", 2.5),
        ("Upsample", 9, "nearest", 2.5),
        ("Resize", 10, "linear", 2.5),
        ("Resize", 10, "nearest", 2.5),
        ("Resize", 10, "linear", 0.6),
        ("Resize", 10, "nearest", 0.6),
    ],
)
def test_old_resizes_keep_their_coordinates(
    kind: str, version: int, mode: str, factor: float, tmp_path: Path
) -> None:
    model = resizing(kind, version, mode, factor)
    source = read(configured(saved(model, tmp_path)))
    batch = images(1, 3, 20, 30)
    np.testing.assert_array_equal(run(source.model, batch), run(model, batch))


def test_an_upgrade_that_changes_the_numbers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(resizing("Upsample", 9, "linear", 2.5), tmp_path)
    monkeypatch.setattr(opset, "_keep_coordinates", lambda model: None)
    with pytest.raises(ArtifactError, match="from operator set 9 to 13 it computes something else"):
        read(configured(path))


def test_what_the_upgrade_does_not_know_is_refused_with_what_helps(tmp_path: Path) -> None:
    """Batch norms of before operator set 9 could have values for every pixel."""
    values = [numpy_helper.from_array(np.ones((3, 8, 8), np.float32), name) for name in "abcd"]
    node = helper.make_node("BatchNormalization", ["input", *"abcd"], ["output"], spatial=0)
    model = graph([node], [1, 3, 8, 8], [1, 3, 8, 8])
    model.graph.initializer.extend(values)
    model.opset_import[0].version = 8
    expected = (
        r"m.onnx: operator set 8 could not be brought to 13 \(.*spatial must have value 1\); "
        "export it with opset_version=13 or newer$"
    )
    with pytest.raises(ArtifactError, match=expected):
        read(configured(saved(model, tmp_path)))


@pytest.mark.heavy
def test_weights_listed_as_inputs(tmp_path: Path) -> None:
    path = exported(tmp_path, 11, keep_initializers_as_inputs=True)
    model = onnx.load(path)
    assert len(model.graph.input) > 1
    model.ir_version = 3
    onnx.save(model, path)
    batch = images(1, 3, *SIZE)
    source = read(configured(path))
    check(source, (1, 3, *SIZE), 5)
    np.testing.assert_allclose(run(source.model, batch), run(onnx.load(path), batch), atol=1e-6)


def test_what_a_foreign_file_leaves_open_is_assumed_and_said(
    small_model: Callable[..., onnx.ModelProto], tmp_path: Path
) -> None:
    path = saved(small_model(), tmp_path)
    source = read(configured(path, frontend={"shape": {"images": [1, 3, 32, 32]}}))
    check(source, (1, 3, 32, 32), 3)
    assert source.metadata.preprocess == Preprocess(size=(32, 32))
    assert source.metadata.labels == generic(3)
    assert source.metadata.weights_sha256 == sha256(path)
    joined = "\n".join(source.notes)
    for said in (
        "the input is called input, not images",
        "does not name its 3 classes: taken as label set generic",
        "does not say how its images were prepared",
    ):
        assert said in joined


@pytest.mark.heavy
def test_weights_beside_the_file_count_for_its_hash(tmp_path: Path) -> None:
    hashes = []
    for bias in (0, 1):
        model = onnx.load(exported(tmp_path, 17))
        head = next(tensor for tensor in model.graph.initializer if tensor.name == "head.bias")
        head.CopyFrom(numpy_helper.from_array(np.full(5, bias, np.float32), head.name))
        path = tmp_path / f"{bias}" / "beside.onnx"
        path.parent.mkdir()
        onnx.save(model, path, save_as_external_data=True, location="w", size_threshold=0)
        source = read(configured(path))
        check(source, (1, 3, *SIZE), 5)
        hashes.append(source.metadata.weights_sha256)
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize(("classes", "labels"), [(21, VOC), (19, CITYSCAPES), (4, generic(4))])
def test_labels_by_number(
    classes: int, labels: object, small_model: Callable[..., onnx.ModelProto], tmp_path: Path
) -> None:
    source = read(configured(saved(small_model(classes=classes), tmp_path)))
    assert source.metadata.labels == labels


STEPS = [
    {"type": "DecodeImage"},
    {"type": "Resize", "size": [32, 32], "backend": "pillow"},
    {"type": "Normalize", "mean": 127.5, "std": 127.5},
    {"type": "ToTensor"},
]


def test_the_compile_file_names_labels_and_preprocessing(
    small_model: Callable[..., onnx.ModelProto], tmp_path: Path
) -> None:
    path = saved(small_model(size="n", classes=21), tmp_path)
    source = read(configured(path, frontend={"labels": "voc"}, dataset={"process_ops": STEPS}))
    check(source, (1, 3, 32, 32), 21)
    assert source.metadata.preprocess.interpolation == "pillow-bilinear"
    assert source.metadata.preprocess.normalisation == "mean-std"
    [note] = source.notes
    assert "units of 0–255" in note


OWN = Metadata(
    name="theirs",
    variant="deeplabv3_mobilenet",
    labels=generic(3),
    preprocess=Preprocess(size=(32, 32), fit="letterbox"),
    weights_sha256="abc",
    accuracies=(Accuracy(metric="mIoU", value=1, protocol="p", data="d", images=1),),
)


def test_an_artefact_says_it_itself(
    small_model: Callable[..., onnx.ModelProto], tmp_path: Path
) -> None:
    path = saved(small_model(), tmp_path, OWN)
    source = read(configured(path))
    assert source.metadata == OWN.model_copy(update={"name": "made"})
    assert source.notes == ()
    assert read(configured(tmp_path / "m")).metadata == source.metadata


def test_the_compile_file_wins_over_the_artefact_and_it_is_said(
    small_model: Callable[..., onnx.ModelProto], tmp_path: Path
) -> None:
    path = saved(small_model(), tmp_path, OWN)
    source = read(configured(path, dataset={"process_ops": STEPS}))
    assert source.metadata.preprocess.fit == "squash"
    expected = "in fit, interpolation, normalisation, mean, std; dataset.process_ops holds"
    assert expected in source.notes[-1]


def test_an_artefact_of_free_size_is_prepared_for_the_size_it_gets(
    small_model: Callable[..., onnx.ModelProto], tmp_path: Path
) -> None:
    path = saved(small_model(size="n"), tmp_path, OWN)
    source = read(configured(path, frontend=shaped(64, 96)))
    check(source, (1, 3, 64, 96), 3)
    assert source.metadata.preprocess.fit == "letterbox"


@pytest.mark.parametrize("shape", [[1, 3, 32, 32], ["n", 3, "h", "w"]], ids=["fixed", "free"])
def test_unknown_output_shapes_are_measured(shape: list[Any], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gelu", ["input"], ["x"], domain="com.microsoft"),
        helper.make_node("AveragePool", ["x"], ["output"], kernel_shape=[4, 4], strides=[4, 4]),
    ]
    model = graph(nodes, shape, [None] * 4)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    source = read(configured(saved(model, tmp_path), frontend=shaped(32, 32)))
    assert sizes(source.model.graph.output[0]) == (1, 3, 8, 8)


def graph(
    nodes: list[onnx.NodeProto],
    shape: list[Any],
    made: list[Any],
    kind: int = TensorProto.FLOAT,
    result: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    inner = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", kind, shape)],
        [helper.make_tensor_value_info("output", result, made)],
    )
    return helper.make_model(inner, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def relu(shape: list[Any], **kinds: int) -> onnx.ModelProto:
    return graph([helper.make_node("Relu", ["input"], ["output"])], shape, shape, **kinds)


def argmax() -> onnx.ModelProto:
    node = helper.make_node("ArgMax", ["input"], ["output"], axis=1, keepdims=0)
    return graph([node], [1, 3, 8, 8], [1, 8, 8], result=TensorProto.INT64)


def two_inputs() -> onnx.ModelProto:
    model = graph(
        [helper.make_node("Add", ["input", "other"], ["output"])], [1, 3, 8, 8], [1, 3, 8, 8]
    )
    model.graph.input.append(helper.make_tensor_value_info("other", 1, [1, 3, 8, 8]))
    return model


def two_outputs() -> onnx.ModelProto:
    model = relu([1, 3, 8, 8])
    model.graph.node.append(helper.make_node("Abs", ["input"], ["aux"]))
    model.graph.output.append(helper.make_tensor_value_info("aux", 1, [1, 3, 8, 8]))
    return model


def of_bytes() -> onnx.ModelProto:
    node = helper.make_node("Cast", ["input"], ["output"], to=TensorProto.FLOAT)
    return graph([node], [1, 3, 8, 8], [1, 3, 8, 8], kind=TensorProto.UINT8)


def baked() -> onnx.ModelProto:
    """Free as its input may look, it works at 8×8 alone."""
    model = graph(
        [helper.make_node("Reshape", ["input", "to"], ["output"])], [1, 3, "h", "w"], [1, 3, 64, 1]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 3, 64, 1]), "to"))
    return model


def filtered(classes: int, channels: int = 3) -> onnx.ModelProto:
    """A 1×1 convolution over pictures of any size."""
    node = helper.make_node("Conv", ["input", "weight"], ["output"])
    model = graph([node], [1, 3, "h", "w"], [1, classes, "h", "w"])
    weight = np.ones((classes, channels, 1, 1), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "weight"))
    return model


@pytest.mark.parametrize(
    ("model", "frontend", "expected"),
    [
        (two_inputs, {}, r"takes more than a picture: other float32 \(1, 3, 8, 8\)"),
        (lambda: relu([1, 3]), {}, r"an input of pictures .* found input float32 \(1, 3\)"),
        (lambda: relu([1, 4, 8, 8]), {}, "expected 3 channels or 1"),
        (
            lambda: relu([1, 3, 8, 8]),
            shaped(8, 9),
            "frontend.shape: 1×3×8×9, but the input of .* is fixed at 1×3×8×8; make them agree",
        ),
        (
            lambda: relu([2, 3, "h", 8]),
            shaped(9, 8),
            "frontend.shape: 1×3×9×8, but the input of .* is fixed at 2×3×[?]×8",
        ),
        (
            lambda: relu(["n", 3, "h", "w"]),
            {},
            r"frontend.shape: missing, and .* leaves it open: input float32 \(n, 3, h, w\); "
            r"add it, as \{input: \[1, 3, 513, 513\]",
        ),
        (baked, shaped(9, 9), "the shape 1×3×64×1, which is not a map of scores"),
        (
            lambda: make_joining(3),
            shaped(33, 50),
            r"does not work with an input of 1×3×33×50, but at multiples of 8: frontend.shape, as "
            r"\{image: \[1, 3, 32, 48\]\}",
        ),
        (lambda: filtered(300), shaped(9, 9), "m.onnx: expected 1 to 256 classes, found 300$"),
        (
            lambda: filtered(5, channels=4),
            shaped(9, 9),
            "m.onnx, with an input of 1×3×9×9: ONNX Runtime failed: .* kernel channels: 4",
        ),
        (lambda: relu([1, 3, 8, 8]), {"labels": "voc"}, "3 classes, but 21 in the label set voc"),
        (lambda: relu([1, 3, 8, 8]), {"output_stride": 8}, "output_stride: is for checkpoints"),
        (lambda: relu([1, 3, 8, 8]), {"type": "pytorch"}, "is an ONNX file; set it to onnx"),
    ],
)
def test_graphs_that_do_not_fit(
    model: Callable[[], onnx.ModelProto], frontend: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    path = saved(model(), tmp_path)
    with pytest.raises((ArtifactError, ConfigError), match=expected) as caught:
        read(configured(path, frontend=frontend))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "classes", "said"),
    [
        (two_outputs, 3, "its output output is used, not aux"),
        (argmax, 3, "it ends in an argmax: cut at input before it"),
        (lambda: relu([1, 3, 8, 8], kind=10, result=10), 3, "its pictures are float16: converted"),
        (lambda: relu([1, 1, 8, 8]), 2, "it sees grey pictures (one channel)"),
        (lambda: relu([1, 8, 8, 3]), 3, "its pictures are channels-last: transposed inside"),
        (of_bytes, 3, "0–255 as uint8"),
    ],
)
def test_graphs_of_other_forms_are_brought_to_ours(
    model: Callable[[], onnx.ModelProto], classes: int, said: str, tmp_path: Path
) -> None:
    source = read(configured(saved(model(), tmp_path)))
    check(source, (1, 3, 8, 8), classes)
    assert said in "\n".join(source.notes)
    assert source.model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT


def test_one_class_becomes_two_and_the_artefact_says_by_what(tmp_path: Path) -> None:
    path = saved(relu([1, 1, 8, 8]), tmp_path)
    source = read(configured(path, frontend={"threshold": 0.25, "labels": "ground,road"}))
    assert source.metadata.labels.names == ("ground", "road")
    assert (source.metadata.activation, source.metadata.threshold) == ("sigmoid", 0.25)
    assert source.metadata.preprocess.normalisation == "div255"
    assert read(configured(path)).metadata.labels.names == ("background", "foreground")


def test_grey_pictures_have_no_order_of_channels(tmp_path: Path) -> None:
    steps = [STEPS[0], {"type": "CvtColor", "code": "COLOR_RGB2BGR"}, *STEPS[1:]]
    for channels, order in ((3, "bgr"), (1, "rgb")):
        path = saved(relu([1, channels, 32, 32]), tmp_path)
        source = read(configured(path, dataset={"process_ops": steps}))
        assert source.metadata.preprocess.colour == order


@pytest.mark.parametrize("named", [{"type": "default"}, {"type": "onnx", "checkpoint": "default"}])
def test_the_models_in_the_package_by_name(named: dict[str, str]) -> None:
    config = CompileConfig.model_validate({"name": "x", "frontend": named})
    assert read(config).metadata.labels == VOC


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"frontend\.checkpoint: expected a file, found none at"):
        read(configured(tmp_path / "none.onnx"))
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(ArtifactError, match="not a valid ONNX model"):
        read(configured(tmp_path / "x.onnx"))
    torch.save({}, tmp_path / "x.pth")
    with pytest.raises(ConfigError, match="is a PyTorch file; set it to pytorch"):
        read(configured(tmp_path / "x.pth"))
    with pytest.raises(ArtifactError, match="expected tensors, found none"):
        read(configured(tmp_path / "x.pth", frontend={"type": "pytorch", **shaped(*SIZE)}))


def test_an_operator_set_that_cannot_be_upgraded(tmp_path: Path) -> None:
    model = relu([1, 3, 8, 8])
    model.opset_import[0].version = 12
    model.graph.node[0].op_type = "Unknown"
    with pytest.raises(ArtifactError, match="not a valid ONNX model: No Op registered"):
        read(configured(saved(model, tmp_path)))


# Checkpoints


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_shallow(monkeypatch)
    torch.manual_seed(0)
    network = models.build("deeplabv3plus_mobilenet", 4)
    network.train()
    with torch.no_grad():
        network(torch.randn(2, 3, 65, 65))
    path = tmp_path / "net_os16.pth"
    torch.save({"model_state": network.state_dict(), "best_score": np.float64(1)}, path)
    return path


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("kind", "stride", "batch"),
    [
        ("deeplabv3plus_mobilenet", 8, 1),
        pytest.param("pytorch", None, 2, marks=pytest.mark.slow),
    ],
)
def test_checkpoint(kind: str, stride: int | None, batch: int, checkpoint: Path) -> None:
    frontend = {"type": kind, "output_stride": stride, **shaped(*SIZE, batch)}
    source = read(configured(checkpoint, frontend=frontend))
    check(source, (batch, 3, *SIZE), 4)
    assert source.metadata.variant == "deeplabv3plus_mobilenet"
    assert source.metadata.output_stride == (stride or 16)
    assert source.metadata.weights_sha256 == sha256(checkpoint)
    assert "exported to ONNX: same class on " in source.notes[-1]
    x = images(batch, 3, *SIZE)
    with torch.inference_mode():
        expected = models.load(checkpoint, output_stride=stride)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run(source.model, x), expected, atol=1e-4 * np.ptp(expected))


def test_checkpoints_that_do_not_fit(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"frontend\.shape: missing, and .* runs at any size"):
        read(configured(checkpoint, frontend={"type": "pytorch"}))
    other = {"type": "deeplabv3_resnet50", **shaped(*SIZE)}
    with pytest.raises(ConfigError, match=r"but .* holds deeplabv3plus_mobilenet; make them agree"):
        read(configured(checkpoint, frontend=other))
    monkeypatch.setattr("atrous.engines.missing", lambda engine: "no torch here")
    with pytest.raises(EngineError, match="no torch here; or export it to ONNX where torch is"):
        read(configured(checkpoint, frontend={"type": "pytorch"}))


def test_a_checkpoint_of_one_class_has_names_for_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_shallow(monkeypatch)
    path = tmp_path / "one.pth"
    torch.save(models.build("deeplabv3plus_mobilenet", 1).state_dict(), path)
    frontend = {"type": "pytorch", "labels": "ground,road,sky", **shaped(*SIZE)}
    with pytest.raises(
        ConfigError, match=r"one\.pth: 2 classes, but 3 in the label set named of f"
    ):
        read(configured(path, frontend=frontend))


def test_a_snapshot_of_a_checkpoint_knows_its_size(checkpoint: Path) -> None:
    """Where it does not say how its pictures are prepared, it is asked for like any other."""
    folder = checkpoint.parent / "snapshot"
    folder.mkdir()
    checkpoint.rename(folder / "pytorch_model.bin")
    names = {str(index): f"class {index}" for index in range(4)}
    config = {"architectures": ["DeepLabV3Plus"], "id2label": names}
    (folder / "config.json").write_text(json.dumps(config))
    wanted = configured(folder, frontend={"type": "huggingface", "labels": "voc"})
    with pytest.raises(ConfigError, match=r"frontend\.shape: missing, and .* runs at any size"):
        read(wanted)
    size = {"height": 32, "width": 64}
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": size}))
    with pytest.raises(ConfigError, match="4 classes, but 21 in the label set voc"):
        read(wanted)


def test_names_of_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = read(configured(None, frontend={"type": "default"}))
    assert source.metadata.labels == VOC
    assert source.metadata.precision == "fp16"
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ArtifactError, match=r"deeplabv3_resnet50_voc: expected .* found nothing"):
        read(configured(None, frontend={"type": "deeplabv3_resnet50", **shaped(*SIZE)}))


# TorchScript


def scripted(module: nn.Module, folder: Path) -> Path:
    path = folder / "net.torchscript.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, (torch.zeros(1, 3, *SIZE),), strict=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path)
    return path


@pytest.mark.heavy
def test_torchscript(tmp_path: Path) -> None:
    path = scripted(net(), tmp_path)
    source = read(configured(path, frontend={"type": "pytorch", **shaped(*SIZE)}))
    check(source, (1, 3, *SIZE), 5)
    assert source.model.graph.input[0].name == "input"
    assert source.metadata.weights_sha256 == sha256(path)
    x = images(1, 3, *SIZE)
    with torch.inference_mode():
        expected = net()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run(source.model, x), expected, atol=1e-5)


@pytest.mark.heavy
def test_torchscript_of_ours_knows_itself(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "ours.pt"
    metadata = OWN.model_copy(update={"labels": generic(4)})
    export_torchscript(models.load(checkpoint), path, metadata=metadata, pixels=photograph())
    source = read(configured(path, frontend={"type": "pytorch", **shaped(32, 32)}))
    assert source.metadata == metadata.model_copy(update={"name": "made"})


class Listed(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x + 1


class Reshaped(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, 3, *SIZE) + 1


@pytest.mark.heavy
def test_torchscript_that_does_not_fit(tmp_path: Path) -> None:
    path = scripted(Listed(), tmp_path)
    frontend = {"type": "pytorch", **shaped(*SIZE)}
    with pytest.raises(ArtifactError, match=r"expected logits \(N, classes, h, w\), found tuple"):
        read(configured(path, frontend=frontend))
    path = scripted(Reshaped(), tmp_path)
    with pytest.raises(ArtifactError, match="does not run with an input of 1×3×8×8: RuntimeError"):
        read(configured(path, frontend={"type": "pytorch", **shaped(8, 8)}))
    stride = {**frontend, "output_stride": 8}
    with pytest.raises(ConfigError, match="output_stride: is for checkpoints"):
        read(configured(path, frontend=stride))
    with pytest.raises(ConfigError, match="is a PyTorch file; set it to pytorch"):
        read(configured(path))


def test_a_range_of_stored_values_goes_into_the_artefact(
    small_model: Callable[..., onnx.ModelProto], tmp_path: Path
) -> None:
    path = saved(small_model(), tmp_path, OWN)
    source = read(configured(path, dataset={"range": [0, 4095]}))
    assert source.metadata.preprocess.value_range == (0, 4095)
    assert source.metadata.preprocess.fit == "letterbox"
    with pytest.raises(ConfigError, match="value_range must be low and high"):
        read(configured(path, dataset={"range": [5, 5]}))
