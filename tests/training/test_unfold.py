"""The networks in the package, rebuilt from their ONNX files for training."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from atrous import artifact
from atrous.artifact import Metadata
from atrous.cache import PACKAGE
from atrous.errors import ArtifactError
from atrous.image import photograph
from atrous.labels import generic
from atrous.models import build
from atrous.models.weights import fill
from atrous.preprocess import Preprocess
from atrous.training.unfold import unfold
from tests.builders.networks import make_small_model
from tests.builders.sketch import Sketch

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize("name", ["default", "fast"])
def test_the_rebuilt_network_gives_what_the_artefact_gives(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the network at its full depth
    path = PACKAGE / f"{name}.onnx"
    known, state = unfold(path)
    assert known.variant
    network = build(known.variant, known.labels.num_classes, known.output_stride or 16).eval()
    fill(network, state)
    x = Preprocess()(photograph())
    with torch.no_grad():
        found = network(torch.from_numpy(x)[None]).numpy()
    [wanted] = onnxruntime.InferenceSession(str(path)).run(None, {"input": x[None]})
    assert np.abs(found - wanted).max() < 1e-4 * np.ptp(wanted)
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.99999


def test_a_network_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    """An artefact of Atrous, compiled from somebody else's graph."""
    labels, preprocess = generic(3), Preprocess(size=(32, 32))
    metadata = Metadata(name="theirs", labels=labels, preprocess=preprocess)
    artifact.save(make_small_model(), metadata, tmp_path / "theirs.onnx")
    with pytest.raises(ArtifactError, match="only ONNX files that atrous export wrote say which"):
        unfold(tmp_path / "theirs.onnx")


def test_somebody_elses_file_is_refused(tmp_path: Path) -> None:
    sketch, path = Sketch(), tmp_path / "theirs.onnx"
    x = sketch.input(1, 3, 8, 8)
    onnx.save(sketch.model(sketch.node("Relu", x)), path)
    with pytest.raises(ArtifactError, match="only ONNX files that atrous export wrote say which"):
        unfold(path)
