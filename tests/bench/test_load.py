"""What is opened and fed, and refusals of what does not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.bench import load as module
from atrous.bench.load import load, with_share
from atrous.bench.plan import Plan
from atrous.errors import ConfigError, InputError

Model = Callable[..., onnx.ModelProto]


@pytest.fixture
def model(tmp_path: Path, small_model: Model) -> str:
    onnx.save(small_model(), tmp_path / "m.onnx")
    return str(tmp_path / "m.onnx")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(5):
        Image.new("RGB", (30, 20), (50 * number, 0, 0)).save(folder / f"{number}.png")
    return folder


def opened(**settings: Any) -> tuple[Any, Any]:
    found = load(Plan(engine="onnxruntime", **settings))
    found.engine.close()
    return found, found.facts


def test_random_tensors(model: str) -> None:
    found, facts = opened(model=model, instances=3)
    assert found.predictor is None
    assert [one.shape for one in found.inputs] == [(1, 3, 32, 32)] * 3
    assert not np.array_equal(found.inputs[0], found.inputs[1])
    assert (facts.fed, facts.ids, facts.shape) == ("random tensors", "", (1, 3, 32, 32))
    assert (facts.engine, facts.dtype, facts.file) == ("onnxruntime", "float32", model)
    assert facts.identity
    assert facts.version


def test_random_tensors_of_a_network_that_normalises(tmp_path: Path, small_model: Model) -> None:
    onnx.save(small_model(dtype="uint8"), tmp_path / "m.onnx")
    found, facts = opened(model=str(tmp_path / "m.onnx"))
    assert facts.dtype == found.inputs[0].dtype == "uint8"
    assert found.inputs[0].max() > 200


def test_random_pixels(model: str) -> None:
    found, facts = opened(model=model, feed="pixels")
    assert facts.fed == "random pixels, 375×500"
    assert {(one.shape, str(one.dtype)) for one in found.inputs} == {((375, 500, 3), "uint8")}
    assert found.predictor.preprocess.size == (32, 32)


def test_real_images(model: str, photographs: Path) -> None:
    files, facts = opened(model=model, feed="images", images=photographs)
    assert facts.fed == f"5 images of {photographs}"
    assert [path.name for path in files.inputs] == [f"{number}.png" for number in range(5)]
    pixels, of_pixels = opened(model=model, feed="pixels", images=photographs)
    assert [int(one[0, 0, 0]) for one in pixels.inputs] == [0, 50, 100, 150, 200]
    assert of_pixels.ids == facts.ids != ""
    tensors, of_tensors = opened(model=model, feed="tensors", images=photographs, instances=2)
    assert [one.shape for one in tensors.inputs] == [(1, 3, 32, 32)] * 5
    assert tensors.predictor is None
    assert of_tensors.fed == f"tensors: 5 of {photographs}, in memory"


def test_no_more_than_fit_in_memory(
    model: str, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    pixels, facts = opened(model=model, feed="pixels", images=photographs)
    assert (len(pixels.inputs), "the first 3 of" in facts.fed) == (3, True)
    assert len(opened(model=model, feed="images", images=photographs)[0].inputs) == 5


def test_batches_of_real_images(tmp_path: Path, photographs: Path, small_model: Model) -> None:
    free = small_model(size="s")
    free.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    free.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(free, tmp_path / "free.onnx")
    settings = {"model": str(tmp_path / "free.onnx"), "images": photographs, "size": (16, 24)}
    found, facts = opened(**settings, batch=3, instances=2)
    assert facts.shape == (3, 3, 16, 24)
    assert [one.shape for one in found.inputs] == [(3, 3, 16, 24)] * 2
    # Images 0 to 4 and then again from the first.
    reds: list[NDArray[np.float32]] = [one[:, 0, 0, 0] for one in found.inputs]
    assert np.unique(np.concatenate(reds)).size == 5
    assert reds[0][0] == reds[1][2]


def test_npz_files(model: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", input_0=np.full((3, 8, 9), ord(name), np.uint8))
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a.npz\n{tmp_path}/b.npz\n")
    found, facts = opened(model=model, feed="pixels", npz=tmp_path / "list.txt")
    assert [(one.shape, int(one[0, 0, 0])) for one in found.inputs] == [
        ((8, 9, 3), 97),
        ((8, 9, 3), 98),
    ]
    assert f"2 of {tmp_path / 'list.txt'}" in facts.fed


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (64, 64)}, "`size` 64,64: the network takes 32,32"),
        ({"batch": 2}, "`batch` 2: the network takes 1 image at a time; export or compile it"),
        ({"size": (64, 64), "feed": "pixels"}, "32"),
    ],
)
def test_what_does_not_fit(settings: dict[str, Any], message: str, model: str) -> None:
    with pytest.raises(ConfigError) as refused:
        opened(model=model, **settings)
    assert message in str(refused.value)


def test_one_image_at_a_time_needs_such_a_network(tmp_path: Path, small_model: Model) -> None:
    pair = small_model()
    for value in (pair.graph.input[0], pair.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    pair.graph.initializer[-1].CopyFrom(
        onnx.numpy_helper.from_array(np.array([2, 3, 32, 32]), "sizes")
    )
    onnx.save(pair, tmp_path / "two.onnx")
    model = str(tmp_path / "two.onnx")
    with pytest.raises(ConfigError, match=r"single-stream is one image at a time, and .* takes 2"):
        opened(model=model, scenario="single-stream")
    with pytest.raises(ConfigError, match="`synchronous` 1 is one image at a time"):
        opened(model=model, feed="pixels", synchronous=True)
    assert opened(model=model)[1].shape == (2, 3, 32, 32)


def test_free_shapes(tmp_path: Path, small_model: Model) -> None:
    onnx.save(small_model(size="s"), tmp_path / "free.onnx")
    model = str(tmp_path / "free.onnx")
    assert opened(model=model)[1].shape == (1, 3, 513, 513)
    assert opened(model=model, size=(64, 96))[1].shape == (1, 3, 64, 96)
    assert opened(model=model, size=(64, 96), feed="pixels")[1].shape == (1, 3, 64, 96)


def test_an_empty_folder(model: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no images in it"):
        opened(model=model, feed="images", images=tmp_path / "empty")


def test_a_share() -> None:
    plan = Plan(processes=3, threads=2, scenario="server", rate=30.0, queries=10)
    share = with_share(plan)
    assert (share.processes, share.threads, share.rate, share.queries) == (1, 2, 10.0, 4)
