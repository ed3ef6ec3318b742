"""Exports agree with PyTorch: every network, from checkpoints in the reference's own layout."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

from atrous import artifact, models, zoo
from atrous.agreement import compare, pairs_of
from atrous.artifact import Metadata
from atrous.engines.torch import describe
from atrous.errors import ArtifactError, ConfigError
from atrous.exporters.onnx import DEFAULT_OPSET, FreeAxis, export_onnx
from atrous.exporters.torchscript import export_torchscript
from atrous.files import sha256
from atrous.image import photograph
from atrous.labels import VOC, generic
from atrous.preprocess import Preprocess
from tests.builders.shallow import make_shallow

pytestmark = pytest.mark.heavy

SIZE = (97, 129)


def trained(variant: str, num_classes: int = 21) -> models.DeepLab:
    """A network whose batch norms have statistics as after training."""
    torch.manual_seed(0)
    network = models.build(variant, num_classes)
    network.train()
    with torch.no_grad():
        network(torch.randn(2, 3, 97, 97))
    return network.eval()


def checkpoint(path: Path, variant: str, num_classes: int = 21) -> Path:
    """A checkpoint as the reference saves it."""
    state, best = trained(variant, num_classes).state_dict(), np.float64(0.64)
    torch.save({"model_state": state, "cur_itrs": 1, "best_score": best}, path)
    return path


def loaded(path: Path, **changes: object) -> tuple[models.DeepLab, Metadata]:
    network = models.load(path)
    metadata = describe(network, path, generic(network.num_classes))
    preprocess = metadata.preprocess.with_size(*SIZE)
    return network, metadata.model_copy(update={"preprocess": preprocess, **changes})


@pytest.fixture(autouse=True)
def _shallow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("slow") is None:
        make_shallow(monkeypatch)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "small.pth"
    with pytest.MonkeyPatch.context() as patch:
        make_shallow(patch)
        return checkpoint(path, "deeplabv3plus_mobilenet", num_classes=4)


@pytest.fixture(scope="module")
def exported(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network as it is exported where nothing else is asked for."""
    path = tmp_path_factory.mktemp("exported") / "m.onnx"
    with pytest.MonkeyPatch.context() as patch:
        make_shallow(patch)
        network, metadata = loaded(small)
        export_onnx(network, path, metadata=metadata, pixels=photograph())
    return path


# At its full depth each takes minutes and gigabytes; the graph of one and its shallow form have the
# same operators in the same surroundings. These differ from others in depth and width alone, or
# join a backbone of one with the head of another:
ALIKE = ("deeplabv3_resnet101", "deeplabv3cascade_resnet101", "deeplabv3plus_resnet101",
         "deeplabv3plus_hrnetv2_48", "deeplabv3_mobilenet_v3_large", "smp_deeplabv3_mobilenet_v2",
         "smp_deeplabv3_resnet50", "smp_deeplabv3_resnet101",
         "smp_deeplabv3plus_resnet50", "smp_deeplabv3plus_resnet101")  # fmt: skip


# The newer exporter takes ten times as long as the older one, and these have all operators of the
# others, but for the nearest pixel by which HRNet enlarges: that is in `Pooled` below.
NEWER = ("deeplabv3_resnet50", "lraspp_mobilenet_v3_large", "hf_deeplabv3_mobilenet_v2_tf")


@pytest.mark.parametrize("variant", [name for name in zoo.VARIANTS if name not in ALIKE])
def test_every_kind_of_network(variant: str, tmp_path: Path) -> None:
    check(variant, tmp_path, DEFAULT_OPSET if variant in NEWER else 17)


@pytest.mark.slow
@pytest.mark.parametrize("variant", zoo.VARIANTS)
def test_every_network(variant: str, tmp_path: Path) -> None:
    check(variant, tmp_path, DEFAULT_OPSET)


def check(variant: str, folder: Path, version: int) -> None:
    network = trained(variant)
    metadata = Metadata(name=variant, labels=VOC, preprocess=Preprocess(size=SIZE))
    output = folder / "net.onnx"
    difference = export_onnx(network, output, metadata=metadata, pixels=photograph(), opset=version)
    assert difference.relative < 1e-4
    model = artifact.load(output)
    assert opset(model) == version
    assert [value.name for value in model.graph.input] == ["input"]
    assert [value.name for value in model.graph.output] == ["output"]
    assert shape(model.graph.input[0]) == [1, 3, *SIZE]
    assert shape(model.graph.output[0]) == [1, 21, *SIZE]
    assert artifact.metadata_of(model, output) == metadata


def shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]


def opset(model: onnx.ModelProto) -> int:
    return next(entry.version for entry in model.opset_import if entry.domain == "")


def test_what_an_export_is_where_nothing_is_asked_for(exported: Path) -> None:
    model = artifact.load(exported)
    assert opset(model) == 18
    assert shape(model.graph.output[0]) == [1, 4, *SIZE]
    content = exported.read_bytes()
    assert b"site-packages" not in content  # nothing of this machine
    assert str(Path(models.__file__).parent).encode() not in content


@pytest.mark.parametrize("version", [11, 13, 17, 20])
def test_opsets(version: int, small: Path, tmp_path: Path) -> None:
    network, metadata = loaded(small)
    export_onnx(network, tmp_path / "m.onnx", metadata=metadata, pixels=photograph(), opset=version)
    model = artifact.load(tmp_path / "m.onnx")
    assert opset(model) == version
    assert shape(model.graph.output[0]) == [1, 4, *SIZE]


class Pooled(nn.Module):
    """What is hard about free sizes in a DeepLab, and nothing else, which soon is exported."""

    num_classes = 4

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x = self.stem(input)
        coarse = functional.avg_pool2d(x, 2)
        x = x + functional.interpolate(coarse, size=x.shape[-2:], mode="nearest")
        pooled = functional.adaptive_avg_pool2d(x, 1)
        pooled = functional.interpolate(pooled, size=x.shape[-2:], mode="bilinear")
        x = self.head(torch.cat([x, pooled], 1))
        return functional.interpolate(x, size=input.shape[-2:], mode="bilinear")


@pytest.mark.parametrize("dynamic", [("batch",), ("batch", "height", "width")])
def test_free_axes_of_the_newer_exporter(
    dynamic: tuple[FreeAxis, ...], small: Path, tmp_path: Path
) -> None:
    check_free_axes(Pooled().eval(), loaded(small)[1], dynamic, 18, tmp_path)


@pytest.mark.parametrize(
    ("dynamic", "version"),
    [
        (("batch",), 11),
        (("batch", "height", "width"), 11),
        pytest.param(("batch", "height", "width"), 18, marks=pytest.mark.slow),
    ],
)
def test_free_axes(
    dynamic: tuple[FreeAxis, ...],
    version: int,
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_shallow(monkeypatch)
    check_free_axes(*loaded(small), dynamic, version, tmp_path)


def check_free_axes(
    network: nn.Module,
    metadata: Metadata,
    dynamic: tuple[FreeAxis, ...],
    version: int,
    folder: Path,
) -> None:
    path = folder / "m.onnx"
    export_onnx(
        network,  # type: ignore[arg-type]
        path,
        metadata=metadata,
        pixels=photograph(),
        dynamic=dynamic,
        opset=version,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    size = (161, 113) if "height" in dynamic else SIZE
    batch = np.random.default_rng(0).normal(size=(3, 3, *size)).astype(np.float32)
    [logits] = session.run(["output"], {"input": batch})
    with torch.inference_mode():
        expected = network(torch.from_numpy(batch)).numpy()
    assert compare(pairs_of(expected, logits)).relative < 1e-4


def test_half_stores_half_and_computes_in_float(
    small: Path, exported: Path, tmp_path: Path
) -> None:
    network, half = loaded(small, precision="fp16")
    path = tmp_path / "fp16.onnx"
    difference = export_onnx(network, path, metadata=half, pixels=photograph())
    sizes = [file.stat().st_size for file in (path, exported)]
    assert sizes[0] < 0.55 * sizes[1]
    assert 0 < difference.relative < 0.02
    model = artifact.load(path)
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    stored = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    assert {node.input[0] for node in casts} == stored


def test_torchscript(small: Path, tmp_path: Path) -> None:
    network, metadata = loaded(small)
    path = tmp_path / "m.pt"
    difference = export_torchscript(network, path, metadata=metadata, pixels=photograph())
    assert difference.relative < 1e-4
    extra = {"atrous": ""}
    batch = torch.randn(1, 3, *SIZE)
    with pytest.warns(DeprecationWarning, match="deprecated"):
        scripted = torch.jit.load(path, _extra_files=extra)  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        torch.testing.assert_close(scripted(batch), network(batch))
    assert Metadata.model_validate_json(extra["atrous"]) == metadata


def test_a_wrong_export_is_not_written(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, metadata = loaded(small)

    def wrong(model: onnx.ModelProto) -> onnx.ModelProto:
        last = [node.input[1] for node in model.graph.node if node.op_type == "Conv"][-1]
        [weight] = [tensor for tensor in model.graph.initializer if tensor.name == last]
        weight.raw_data = bytes(len(weight.raw_data))
        return model

    metadata = metadata.model_copy(update={"precision": "fp16"})
    monkeypatch.setattr("atrous.exporters.onnx.store_half", wrong)
    with pytest.raises(ArtifactError, match="the ONNX export disagrees with the original"):
        export_onnx(network, tmp_path / "m.onnx", metadata=metadata, pixels=photograph(), opset=17)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opset": 10}, r"opset: expected 11\.\.23, got 10"),
        ({"dynamic": ("depth",)}, "dynamic: expected batch, height, width, got depth"),
    ],
)
def test_bad_options_are_named(
    options: dict,
    message: str,
    small: Path,
    tmp_path: Path,  # type: ignore[type-arg]
) -> None:
    network, metadata = loaded(small)
    with pytest.raises(ConfigError, match=message):
        export_onnx(network, tmp_path / "m.onnx", metadata=metadata, pixels=photograph(), **options)


def test_labels_of_a_checkpoint_are_said_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = checkpoint(tmp_path / "net.pth", "deeplabv3plus_mobilenet")
    assert describe(models.load(path), path).labels == VOC
    assert "does not name its 21 classes: taking them as label set 'voc'" in caplog.text


def test_a_checkpoint_of_the_zoo_means_what_its_row_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path))
    wanted = zoo.Preprocessing((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), (65, 97))
    row = dataclasses.replace(zoo.WEIGHTS["deeplabv3_mobilenet_voc"], preprocessing=wanted)
    monkeypatch.setitem(zoo.WEIGHTS, row.name, row)
    (tmp_path / "weights").mkdir()
    path = checkpoint(tmp_path / "weights" / row.file_name, "deeplabv3_mobilenet")
    found = describe(models.load(path), path)
    assert found.labels == VOC
    assert found.preprocess == Preprocess(size=wanted.size, mean=wanted.mean, std=wanted.std)
    assert not caplog.text
    elsewhere = path.rename(tmp_path / row.file_name)
    assert describe(models.load(elsewhere), elsewhere).preprocess == Preprocess()
    # What a file says of itself comes first.
    recorded = {"preprocess": json.dumps(Preprocess(size=(33, 33)).to_dict())}
    models.save_safetensors(models.load(elsewhere), tmp_path / "own.safetensors", recorded)
    own = tmp_path / "own.safetensors"
    named = dataclasses.replace(row, sha256=sha256(own))
    monkeypatch.setitem(zoo.WEIGHTS, row.name, named)
    assert describe(models.load(own), own).preprocess.size == (33, 33)
