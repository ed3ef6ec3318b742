"""A file that is no TorchScript is said to be none."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from atrous.errors import ArtifactError
from atrous.exporters.scripted import script_to_onnx
from atrous.preprocess import Preprocess


@pytest.mark.parametrize("kind", ["text", "archive", "weights"])
def test_a_file_of_another_kind(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    if kind == "text":
        path.write_text("nothing of the kind")
    elif kind == "archive":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "a")
    else:
        torch.save({"weight": torch.zeros(3)}, path)
    picture = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ArtifactError) as error:
        script_to_onnx(path, 1, Preprocess(size=(8, 8)), picture)
    assert str(error.value).startswith(f"{path}: not a TorchScript file: ")
    assert "\n" not in str(error.value)
