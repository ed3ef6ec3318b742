import re
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from atrous import artifact
from atrous.artifact import Accuracy, Metadata
from atrous.errors import ArtifactError
from atrous.labels import VOC
from atrous.preprocess import Preprocess

Model = Callable[..., onnx.ModelProto]


def metadata() -> Metadata:
    return Metadata(
        name="small",
        labels=VOC,
        preprocess=Preprocess(size=(32, 32)),
        accuracies=(
            Accuracy(metric="mIoU", value=64.0, protocol="squash-513", data="voc:val", images=725),
        ),
    )


def test_round_trip(small_model: Model, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    artifact.save(small_model(), metadata(), path)
    assert artifact.metadata_of(artifact.load(path), path) == metadata()


def test_other_tools_metadata_stays(small_model: Model, tmp_path: Path) -> None:
    model = small_model()
    model.metadata_props.add(key="author", value="somebody")
    artifact.save(model, metadata(), tmp_path / "m.onnx")
    artifact.save(model, metadata(), tmp_path / "m.onnx")
    entries = artifact.load(tmp_path / "m.onnx").metadata_props
    assert [entry.key for entry in entries] == ["author", "atrous"]


def test_identity_covers_weights_and_not_metadata(small_model: Model, tmp_path: Path) -> None:
    model = small_model()
    before = artifact.identity(model)
    artifact.save(model, metadata(), tmp_path / "m.onnx")
    assert artifact.identity(artifact.load(tmp_path / "m.onnx")) == before
    changed = model.graph.initializer[0].raw_data
    model.graph.initializer[0].raw_data = b"\x01" + changed[1:]
    assert artifact.identity(model) != before


def test_somebody_elses_model_has_none(small_model: Model) -> None:
    assert artifact.metadata_of(small_model(), Path("x.onnx")) is None


@pytest.mark.parametrize("value", ["{", '{"format": 2}', '{"format": 1, "name": "x"}'])
def test_damaged_metadata_is_named(value: str, small_model: Model) -> None:
    model = small_model()
    model.metadata_props.add(key="atrous", value=value)
    with pytest.raises(ArtifactError, match=r"x\.onnx: its atrous metadata does not fit format 1"):
        artifact.metadata_of(model, Path("x.onnx"))


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08"])
def test_damaged_files_are_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"m\.onnx: not a valid ONNX model"):
        artifact.load(path)


def test_locate(tmp_path: Path) -> None:
    folder = tmp_path / "deploy_weights" / "net"
    folder.mkdir(parents=True)
    path = folder / "mod.onnx"
    path.touch()
    for name in (path, folder, folder / "mod", str(folder)):
        assert artifact.locate(name) == path
    assert artifact.locate(tmp_path / "nothing") is None


def test_the_default_model_describes_itself() -> None:
    found = artifact.metadata_of(artifact.load(artifact.DEFAULT), artifact.DEFAULT)
    assert found is not None
    assert found.labels == VOC
    assert found.preprocess == Preprocess()
    assert found.precision == "fp16"
    assert artifact.DEFAULT.stat().st_size < 12e6


@pytest.mark.parametrize("path", [artifact.DEFAULT, artifact.DEFAULT_INT8], ids=["fp16", "int8"])
def test_the_readme_shows_what_the_default_models_carry(path: Path) -> None:
    found = artifact.metadata_of(artifact.load(path), path)
    assert found is not None
    assert found.name == path.stem
    assert {one.images for one in found.accuracies} == {725}
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    section = readme.split("## The model in the package")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|([^|]*)\|([^|]*)\|([^|]*)\|", section, re.MULTILINE)

    columns = (("fp16", "onnxruntime"), ("int8", "onnxruntime"), ("int8", "openvino"))
    shown = {
        (protocol, engine, float(cell))
        for protocol, *cells in rows
        for (precision, engine), cell in zip(columns, cells, strict=True)
        if precision == found.precision and cell.strip()
    }
    carried = {(one.protocol, one.note.split()[0], one.value) for one in found.accuracies}
    assert shown == carried


def test_the_int8_default_loses_no_more_than_a_tenth_of_a_point() -> None:
    def measured(path: Path) -> dict[str, list[float]]:
        found = artifact.metadata_of(artifact.load(path), path)
        assert found is not None
        protocols = {one.protocol for one in found.accuracies}
        return {p: [o.value for o in found.accuracies if o.protocol == p] for p in protocols}

    before, after = measured(artifact.DEFAULT), measured(artifact.DEFAULT_INT8)
    assert {protocol: len(values) for protocol, values in after.items()} == {
        "squash-513": 2,
        "center-crop-513": 2,
    }
    for protocol, values in after.items():
        assert min(values) > before[protocol][0] - 0.1


def test_the_int8_default_is_calibrated_on_training_images() -> None:
    found = artifact.metadata_of(artifact.load(artifact.DEFAULT_INT8), artifact.DEFAULT_INT8)
    assert found is not None
    assert found.precision == "int8"
    assert found.calibration is not None
    assert found.calibration.method == "kl_divergence"
    assert len(found.calibration.images) == 50
    evaluated = (Path(__file__).parents[1] / "benchmarks" / "voc2012-val-725.txt").read_text()
    assert not set(found.calibration.images) & set(evaluated.split())
    assert artifact.DEFAULT_INT8.stat().st_size < 7e6
