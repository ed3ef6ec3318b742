"""What is PyTorch's own: networks of one class, headers of checkpoints, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from atrous import models
from atrous.engines.base import Options
from atrous.engines.torch import TorchEngine, recorded_size
from atrous.errors import ArtifactError, ConfigError, EngineError
from atrous.geometry import CoordinateRule
from atrous.preprocess import Preprocess
from tests.builders.shallow import make_shallow


class Grid(nn.Module):
    """Scores of every second pixel: each is the sum of the picture's channels in a window."""

    coordinates: CoordinateRule = "half_pixel"

    def __init__(self, num_classes: int, window: int = 2) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.head = nn.Conv2d(3, num_classes, window, stride=2)
        nn.init.ones_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def logits_grid(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images)  # type: ignore[no-any-return]


def filled(value: float) -> np.ndarray:
    return np.full((1, 3, 8, 8), value, np.float32)


def test_one_score_is_foreground_from_a_threshold_on() -> None:
    usual = TorchEngine(Grid(1))
    assert usual.signature.classes == 2
    assert usual.signature.meaning.names == ("background", "foreground")
    assert usual.run(filled(0.01)).shape == (1, 2, 4, 4)
    assert (usual.run(filled(0.01)).argmax(1) == 1).all()
    assert (usual.run(filled(-0.01)).argmax(1) == 0).all()
    sure = TorchEngine(Grid(1), Options(threshold=0.9))
    assert (sure.run(filled(0.01)).argmax(1) == 0).all()
    assert (sure.run(filled(0.2)).argmax(1) == 1).all()  # a score of 2.4 is a probability of 0.917
    assert sure.signature.meaning.threshold == 0.9
    # Results of one are not those of the other.
    assert sure.identity == f"{usual.identity}-0.9"


def test_a_threshold_means_nothing_to_several_classes() -> None:
    with pytest.raises(ConfigError, match="`threshold`: the network chooses between classes that"):
        TorchEngine(Grid(3), Options(threshold=0.5))


def test_a_checkpoint_has_no_tensors_to_choose_from() -> None:
    with pytest.raises(ConfigError, match="`output_name` aux: a checkpoint gives its scores and "):
        TorchEngine(Grid(3), Options(output_name="aux"))


def test_a_picture_that_it_does_not_take_is_an_error_of_the_engine() -> None:
    with pytest.raises(EngineError, match=r"PyTorch failed: .*[Kk]ernel size"):
        TorchEngine(Grid(3, window=9)).run(filled(0))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> models.DeepLab:
    make_shallow(monkeypatch)
    return models.build("deeplabv3plus_mobilenet", num_classes=1)


def saved(network: models.DeepLab, path: Path, **header: str) -> Path:
    models.save_safetensors(network, path, header)
    return path


def test_a_checkpoint_of_one_class_has_a_background(
    network: models.DeepLab, tmp_path: Path
) -> None:
    opened = TorchEngine(saved(network, tmp_path / "one.safetensors"))
    assert opened.metadata is not None
    assert opened.metadata.labels.names == ("background", "foreground")


@pytest.mark.parametrize(
    "header",
    [
        {"labels": "{"},
        {"preprocess": "[]"},
        {"preprocess": json.dumps({"size": [0, 8]})},
        {"labels": json.dumps({"name": "x", "names": [], "colours": []})},
    ],
    ids=["no_json", "no_object", "no_size", "no_names"],
)
def test_a_damaged_header(header: dict[str, str], network: models.DeepLab, tmp_path: Path) -> None:
    path = saved(network, tmp_path / "spoilt.safetensors", **header)
    with pytest.raises(ArtifactError) as error:
        TorchEngine(path)
    assert str(error.value).startswith(f"{path}: its header is damaged: ")
    assert str(error.value).endswith("; get it again")


def test_the_size_that_a_checkpoint_was_trained_at(network: models.DeepLab, tmp_path: Path) -> None:
    trained = json.dumps(Preprocess(size=(64, 96)).to_dict())
    path = tmp_path / "one.safetensors"
    assert recorded_size(saved(network, path, preprocess=trained)) == (64, 96)
    assert recorded_size(saved(network, path)) is None
    with pytest.raises(ArtifactError, match=r"one\.safetensors: its header is damaged: .*again"):
        recorded_size(saved(network, path, preprocess="{"))
