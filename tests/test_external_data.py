"""Weights beside an ONNX file: links that stay with it open, what is missing is named."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from atrous import artifact, external_data
from atrous.errors import ArtifactError

Model = Callable[..., onnx.ModelProto]


@pytest.fixture
def beside(tmp_path: Path, small_model: Model) -> Path:
    """`store/m.onnx` with its weights in `store/m.onnx.data`."""
    folder = tmp_path / "store"
    folder.mkdir()
    path = folder / "m.onnx"
    onnx.save(
        small_model(), path, save_as_external_data=True, location="m.onnx.data", size_threshold=0
    )
    return path


def same(path: Path, small_model: Model) -> None:
    assert artifact.identity(artifact.load(path)) == artifact.identity(small_model())


def test_weights_beside_the_model(beside: Path, small_model: Model) -> None:
    same(beside, small_model)
    assert external_data.locations(onnx.load(beside, load_external_data=False)) == ["m.onnx.data"]


def test_links_of_a_hub(beside: Path, tmp_path: Path, small_model: Model) -> None:
    """Snapshots hold links into blobs, the model in a folder below."""
    hub = tmp_path / "models--theirs"
    (hub / "blobs").mkdir(parents=True)
    place = hub / "snapshots" / "1" / "onnx"
    place.mkdir(parents=True)
    for name, blob in (("m.onnx", "a1"), ("m.onnx.data", "b2")):
        (beside.parent / name).rename(hub / "blobs" / blob)
        (place / name).symlink_to(f"../../../blobs/{blob}")
    same(place / "m.onnx", small_model)


def test_a_link_to_a_model_finds_the_data_of_its_target(
    beside: Path, tmp_path: Path, small_model: Model
) -> None:
    (tmp_path / "link.onnx").symlink_to(beside)
    same(tmp_path / "link.onnx", small_model)


def test_a_linked_model_whose_data_is_linked_too(
    beside: Path, tmp_path: Path, small_model: Model
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name in ("m.onnx", "m.onnx.data"):
        (here / name).symlink_to(beside.parent / name)
    same(here / "m.onnx", small_model)


def test_hard_links(beside: Path, tmp_path: Path, small_model: Model) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name in ("m.onnx", "m.onnx.data"):
        os.link(beside.parent / name, here / name)
    same(here / "m.onnx", small_model)


def refusal(path: Path) -> str:
    with pytest.raises(ArtifactError) as error:
        artifact.load(path)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path}: ")


def test_missing_data_is_named(beside: Path) -> None:
    (beside.parent / "m.onnx.data").unlink()
    assert refusal(beside) == (
        "m.onnx.data is missing, which holds its weights; put it beside m.onnx"
    )


def test_renamed_data_is_recognised(beside: Path) -> None:
    (beside.parent / "m.onnx.data").rename(beside.parent / "weights.bin")
    assert refusal(beside).endswith(
        "weights.bin has its size: if it was renamed, call it m.onnx.data again"
    )


def test_short_data_is_named(beside: Path) -> None:
    data = beside.parent / "m.onnx.data"
    data.write_bytes(data.read_bytes()[:8])
    assert "m.onnx.data has 8 bytes, and the model reads up to byte" in refusal(beside)
    assert refusal(beside).endswith("it was cut short or belongs to another model; copy it again")
    data.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    if "m.onnx.data has" in refusal(beside):
        assert "git lfs pull" in refusal(beside)


def test_a_model_that_git_lfs_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "it is a pointer of Git LFS" in refusal(path)


def test_a_link_that_leads_nowhere_is_named(beside: Path) -> None:
    data = beside.parent / "m.onnx.data"
    data.unlink()
    data.symlink_to("gone")
    assert "the link of that name leads nowhere" in refusal(beside)


def test_a_link_out_of_the_folder_is_refused(beside: Path, tmp_path: Path) -> None:
    data = beside.parent / "m.onnx.data"
    data.rename(tmp_path / "elsewhere.bin")
    data.symlink_to(tmp_path / "elsewhere.bin")
    assert "is a link to" in refusal(beside)
    assert refusal(beside).endswith("copy the file itself beside m.onnx")


@pytest.mark.parametrize("location", ["../m.bin", "/etc/passwd", "a/../../m.bin", "C:\\m.bin", ""])
def test_paths_that_climb_out_are_refused(location: str, beside: Path) -> None:
    model = onnx.load(beside, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    beside.write_bytes(model.SerializeToString())
    (beside.parent.parent / "m.bin").write_bytes(bytes(4096))
    assert "outside of its folder; nothing is read there" in refusal(beside)


def test_a_folder_is_no_data(beside: Path) -> None:
    data = beside.parent / "m.onnx.data"
    data.unlink()
    data.mkdir()
    assert "which is not a regular file" in refusal(beside)


def said_to_lie(path: Path, **said: str) -> None:
    """Let a model say something else of where its weights lie."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = said.get(entry.key, entry.value)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("said", ["", "x", "1.5", "-4"])
def test_an_offset_that_is_no_number_of_bytes(said: str, beside: Path) -> None:
    said_to_lie(beside, offset=said)
    assert refusal(beside) == (
        "says no number of bytes where its weights lie in m.onnx.data; save the model again with "
        "its data beside it"
    )


@pytest.mark.parametrize("location", ["data/weights.bin", "data\\weights.bin"])
def test_data_in_a_folder_beside_the_model(location: str, beside: Path, small_model: Model) -> None:
    said_to_lie(beside, location=location)
    data = beside.parent / "m.onnx.data"
    assert refusal(beside) == (
        "data/weights.bin is missing, which holds its weights; m.onnx.data has its size: if it was "
        "renamed, call it data/weights.bin again"
    )
    content = data.read_bytes()
    data.write_bytes(b"")
    assert refusal(beside) == (
        "data/weights.bin is missing, which holds its weights; put it into data beside m.onnx"
    )
    (beside.parent / "data").mkdir()
    (beside.parent / "data" / "weights.bin").write_bytes(content)
    same(beside, small_model)


def test_weights_in_a_node_lie_beside_the_model_too(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(2, 4), "w")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width])
        for name, width in (("x", 2), ("y", 4))
    ]
    nodes = [
        helper.make_node("Constant", [], ["w"], value=weights),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]))
    expected, path = artifact.identity(model), tmp_path / "m.onnx"
    onnx.save(
        model, path, save_as_external_data=True, location="m.data", size_threshold=0,
        convert_attribute=True,
    )  # fmt: skip
    assert external_data.locations(onnx.load(path, load_external_data=False)) == ["m.data"]
    assert artifact.identity(artifact.load(path)) == expected
