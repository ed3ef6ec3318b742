"""What a run starts from, and what it says of it."""

from pathlib import Path

import pytest
import torch
from torch import nn

from atrous.cache import PACKAGE
from atrous.errors import ArtifactError, ConfigError
from atrous.files import sha256
from atrous.models import DeepLab, build, save_safetensors
from atrous.training.start import fill

pytestmark = pytest.mark.heavy

V3, V3PLUS = "deeplabv3_mobilenet", "deeplabv3plus_mobilenet"


def made(variant: str, seed: int, classes: int = 3) -> DeepLab:
    torch.manual_seed(seed)
    return build(variant, classes)


def equal(one: DeepLab, other: DeepLab, prefix: str) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    names = [name for name in ours if name.startswith(prefix)]
    assert names
    return all(torch.equal(ours[name], theirs[name]) for name in names)


@pytest.fixture
def deep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of their full depth, which the models in the package have."""
    monkeypatch.undo()


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """A checkpoint as the reference's training writes it, of three classes."""
    path = tmp_path / "reference.pth"
    torch.save({"cur_itrs": 7, "model_state": made(V3PLUS, 1).state_dict()}, path)
    return path


def test_a_checkpoint_of_the_reference(reference: Path) -> None:
    network = made(V3PLUS, 0)
    start = fill(network, str(reference))
    assert equal(network, made(V3PLUS, 1), "")
    assert (start.new, start.left_out, start.renewed) == ((), (), ())
    [line] = start.lines()
    assert line.startswith(f"start: {len(start.loaded)} tensors loaded from {reference} (sha256 ")


def test_another_number_of_classes_renews_the_last_layer_alone(reference: Path) -> None:
    network, before = made(V3PLUS, 0, classes=5), made(V3PLUS, 0, classes=5)
    start = fill(network, str(reference))
    assert start.renewed == ("classifier.classifier.3.weight", "classifier.classifier.3.bias")
    assert "another number of classes: classifier.classifier.3.weight" in start.lines()[-1]
    assert equal(network, before, "classifier.classifier.3.")
    assert equal(network, made(V3PLUS, 1), "classifier.aspp.")
    assert equal(network, made(V3PLUS, 1), "backbone.")


def test_the_other_head_gives_backbone_and_aspp(reference: Path, tmp_path: Path) -> None:
    network = made(V3, 0)
    start = fill(network, str(reference))
    source = made(V3PLUS, 1)
    assert equal(network, source, "backbone.")
    assert torch.equal(
        network.state_dict()["classifier.classifier.0.project.0.weight"],
        source.state_dict()["classifier.aspp.project.0.weight"],
    )
    assert "classifier.classifier.1.weight" in start.new
    assert any("of the other head" in name for name in start.left_out)
    back = tmp_path / "back.safetensors"
    save_safetensors(network, back)
    again = made(V3PLUS, 3)
    fill(again, str(back))
    assert equal(again, source, "classifier.aspp.")


def test_a_backbone_in_torchvisions_names(tmp_path: Path) -> None:
    backbone = made(V3, 1).backbone.state_dict()
    path = tmp_path / "backbone.pth"
    torch.save(
        {n.replace("low_level_", "").replace("high_level_", ""): t for n, t in backbone.items()},
        path,
    )
    network, before = made(V3PLUS, 0), made(V3PLUS, 0)
    start = fill(network, str(path))
    assert equal(network, made(V3, 1), "backbone.")
    assert equal(network, before, "classifier.")
    assert len(start.loaded) == len(backbone)
    assert all(name.startswith("classifier.") for name in start.new)


def test_scratch_takes_nothing() -> None:
    network, before = made(V3, 0), made(V3, 0)
    assert fill(network, "scratch").lines() == ["start: all weights are random"]
    assert equal(network, before, "")


def test_weights_of_another_network_are_refused(reference: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot start from it.*missing from the backbone"):
        fill(build("deeplabv3plus_resnet50", 3), str(reference))
    state = made(V3PLUS, 1).state_dict()
    state["backbone.low_level_features.0.0.weight"] = torch.zeros(1, 3, 3, 3)
    path = tmp_path / "odd.pth"
    torch.save(state, path)
    with pytest.raises(ArtifactError, match=r"of another shape: backbone.*found \(1, 3, 3, 3\)"):
        fill(made(V3PLUS, 0), str(path))
    state = made(V3PLUS, 1).state_dict()
    nn.init.constant_(state["classifier.aspp.project.0.weight"], float("nan"))
    torch.save(state, path)
    with pytest.raises(ArtifactError, match=r"holding NaN or infinity: classifier\.aspp\.project"):
        fill(made(V3PLUS, 0), str(path))
    with pytest.raises(ArtifactError, match="not a file"):
        fill(made(V3PLUS, 0), "nowhere.pth")


@pytest.mark.usefixtures("deep")
@pytest.mark.parametrize(("name", "variant"), [("default", V3PLUS), ("fast", V3)])
def test_the_models_in_the_package(name: str, variant: str) -> None:
    network, before = made(variant, 0, classes=5), made(variant, 0, classes=5)
    start = fill(network, name, frozen=True)
    assert start.new == start.left_out == ()
    assert [one.rpartition(".")[2] for one in start.renewed] == ["weight", "bias"]
    assert sha256(PACKAGE / f"{name}.onnx") in start.lines()[0]
    assert not equal(network, before, "backbone.high_level_features.17.")
    with pytest.raises(ConfigError, match=r"folded.*set train\.batch_norm=frozen"):
        fill(network, name)


@pytest.mark.usefixtures("deep")
def test_default_gives_the_other_head_what_fits() -> None:
    start = fill(made(V3, 0), "default", frozen=True)
    assert "classifier.classifier.1.weight" in start.new
    assert "classifier.classifier.0.project.0.weight" in start.loaded


@pytest.mark.usefixtures("deep")
def test_compiled_files_are_refused_by_name() -> None:
    with pytest.raises(ArtifactError, match=r"default-int8\.onnx: cannot be trained further"):
        fill(made(V3PLUS, 0), "default-int8", frozen=True)
    with pytest.raises(ArtifactError, match="missing from the backbone"):
        fill(build("deeplabv3plus_resnet50", 3), "default", frozen=True)


def test_imagenet_without_a_network_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ArtifactError("https://example.org/x.pth: cannot be downloaded")

    monkeypatch.setattr("atrous.training.start.load_backbone", refuse)
    with pytest.raises(ArtifactError, match=r"downloaded\. Without it: start=default train\."):
        fill(made(V3PLUS, 0), "imagenet")
    with pytest.raises(ArtifactError, match=r"Without it: start=FILE with weights"):
        fill(build("deeplabv3plus_resnet50", 3), "imagenet")
