import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from atrous import artifact, cache
from atrous.artifact import Accuracy, Metadata
from atrous.errors import ArtifactError
from atrous.evaluation import result as results
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


def test_a_name_that_is_no_text_is_found_when_the_file_is_read(
    small_model: Model, tmp_path: Path
) -> None:
    model = small_model()
    model.graph.node[0].doc_string = "explained"
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString().replace(b"explained", b"exp\xffained"))
    with pytest.raises(ArtifactError, match=r"m\.onnx: not a valid ONNX model: 'utf-8' codec"):
        artifact.load(path)


@pytest.mark.parametrize("change", [lambda raw: raw + bytes(4), lambda raw: raw + bytes(1)])
def test_a_tensor_whose_bytes_are_not_its_shape_is_found_when_the_file_is_read(
    change: Callable[[bytes], bytes], small_model: Model, tmp_path: Path
) -> None:
    model = small_model()
    tensor = model.graph.initializer[0]
    assert tensor.raw_data
    tensor.raw_data = change(tensor.raw_data)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ArtifactError, match=r"not a valid ONNX model: tensor '.+': "):
        artifact.load(tmp_path / "m.onnx")


def test_the_default_model_describes_itself() -> None:
    found = artifact.metadata_of(artifact.load(artifact.DEFAULT), artifact.DEFAULT)
    assert found is not None
    assert found.labels == VOC
    assert found.preprocess == Preprocess()
    assert found.precision == "fp16"
    assert artifact.DEFAULT.stat().st_size < 12e6


ROOT = Path(__file__).parents[1]
COLUMNS = (
    ("fp32", "torch"),
    ("fp16", "onnxruntime"),
    ("int8", "onnxruntime"),
    ("int8", "openvino"),
)
"""Precision and engine of the README's columns."""

PACKAGED = pytest.mark.parametrize("name", ["default", "fast"])


def described(path: Path) -> Metadata:
    found = artifact.metadata_of(artifact.load(path), path)
    assert found is not None
    return found


def measured(name: str) -> dict[tuple[str, str, str], float]:
    """mIoU by protocol, precision and engine, from the files in the package."""
    values = {}
    for path in (cache.packaged(f"{name}.onnx"), cache.packaged(f"{name}-int8.onnx")):
        assert path is not None
        found = described(path)
        assert found.name == path.stem
        for one in found.accuracies:
            assert one.images == 725
            values[one.protocol, found.precision, one.note.split()[0]] = one.value
    return values


@PACKAGED
def test_the_readme_shows_what_the_packaged_models_carry(name: str) -> None:
    carried = {key: value for key, value in measured(name).items() if "-513" in key[0]}
    for path in (ROOT / "recipes" / "results").glob(f"{name}-fp32-*.json"):
        result = results.load(path)
        assert result.stamp.images == 725
        carried[result.stamp.protocol, "fp32", "torch"] = result.mean_iou
    rows = re.findall(
        rf"^\| `{name}` \| `([a-z0-9-]+)` \|(.*)\|$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert [protocol for protocol, _ in rows] == ["center-crop-513", "squash-513"]
    for protocol, cells in rows:
        for column, cell in zip(COLUMNS, cells.split("|"), strict=True):
            assert float(cell) == round(carried[protocol, *column], 3)


@PACKAGED
def test_int8_in_the_package_loses_no_more_than_three_tenths_of_a_point(name: str) -> None:
    values = measured(name)
    quantised = {key: value for key, value in values.items() if key[1] == "int8"}
    assert len(quantised) == 4
    for (protocol, _, _), value in quantised.items():
        assert value > values[protocol, "fp16", "onnxruntime"] - 0.3


@PACKAGED
def test_int8_in_the_package_is_calibrated_on_training_images(name: str) -> None:
    path = cache.packaged(f"{name}-int8.onnx")
    assert path is not None
    found = described(path)
    assert found.precision == "int8"
    assert found.calibration is not None
    assert found.calibration.method == "kl_divergence"
    assert len(found.calibration.images) == 50
    evaluated = (ROOT / "benchmarks" / "voc2012-val-725.txt").read_text()
    assert not set(found.calibration.images) & set(evaluated.split())
    assert path.stat().st_size < 9e6


@pytest.mark.heavy
def test_the_card_is_written_from_the_results() -> None:
    command = [sys.executable, "recipes/release.py", "--card", "-"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert made == (ROOT / "docs" / "models.md").read_text()
