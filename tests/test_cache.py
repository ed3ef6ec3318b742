"""One way from the name of a model to its file, for every verb."""

import dataclasses
from pathlib import Path

import pytest

from atrous import cache, zoo
from atrous.errors import ArtifactError
from atrous.files import sha256

NAME = "deeplabv3_resnet50"
FILE = f"best_{NAME}_voc_os16.pth"


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the cache."""
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "weights").mkdir(parents=True)
    return tmp_path / "cache" / "weights"


@pytest.mark.parametrize("ending", [".onnx", ".safetensors"])
def test_files_folders_and_prefixes(ending: str, tmp_path: Path) -> None:
    folder = tmp_path / "deploy_weights" / "net"
    folder.mkdir(parents=True)
    path = folder / f"mod{ending}"
    path.touch()
    names = [path, folder / "mod", str(folder / "mod")]
    if ending == ".onnx":
        names += [folder, str(folder)]
    for name in names:
        assert cache.resolve(name) == cache.given(name) == path
    assert cache.given(tmp_path / "nothing") is None


@pytest.mark.parametrize("name", [f"{NAME}_voc", NAME, FILE])
def test_rows_of_the_zoo(name: str, weights: Path) -> None:
    (weights / FILE).touch()
    assert cache.resolve(name) == weights / FILE
    assert cache.resolve(name, kind=None) == weights / FILE
    with pytest.raises(ArtifactError, match=rf"^{name}: not a file, .*zoo \(mobilenet_v2_imagenet"):
        cache.resolve(name, "backbone")


def test_models_of_the_package() -> None:
    assert cache.resolve("default") == cache.PACKAGE / "default.onnx"
    assert cache.resolve("fast-int8.onnx") == cache.PACKAGE / "fast-int8.onnx"


def test_a_file_comes_before_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").touch()
    assert cache.resolve("default") == Path("default")


def test_which_row_a_file_is_of(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = zoo.WEIGHTS[f"{NAME}_voc"]
    (weights / FILE).write_bytes(b"weights")
    assert cache.row_of(weights / FILE) == row
    elsewhere = tmp_path / FILE
    elsewhere.write_bytes(b"weights")
    assert cache.row_of(elsewhere) is None
    published = dataclasses.replace(row, sha256=sha256(elsewhere)[:8])
    monkeypatch.setitem(zoo.WEIGHTS, row.name, published)
    assert cache.row_of(elsewhere) == published
    elsewhere.write_bytes(b"other weights")
    assert cache.row_of(elsewhere) is None


def test_a_variable_that_is_not_set_is_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mod.onnx").write_bytes(b"")
    with pytest.raises(ArtifactError, match="the name of the model is empty"):
        cache.resolve("")


def test_a_name_that_is_nearly_right_is_recognised() -> None:
    with pytest.raises(ArtifactError, match=r"not a name of the zoo; did you mean default\?$"):
        cache.resolve("defualt")
    with pytest.raises(ArtifactError, match=r"not a name of the zoo \(default, "):
        cache.resolve("somewhere/weights.pth")


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m.onnx").touch()
    assert cache.given("~/m") == tmp_path / "m.onnx"
