"""Checkpoints of other libraries go all the way: export, compile, predict, serve."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from atrous import models
from atrous.image import photograph
from atrous.runtime.predictor import Predictor
from atrous.serve.app import make_app
from atrous.serve.service import Service
from atrous.serve.settings import Settings
from tests.builders.cases import Cases, expected
from tests.builders.command import Run
from tests.builders.shallow import make_exports_quick, make_shallow

pytestmark = pytest.mark.heavy

State = dict[str, Tensor]
SIZE = 64
COMPILE = """
name: {name}
frontend:
  type: {kind}
  checkpoint: {checkpoint}
  shape: {{input: [1, 3, {size}, {size}]}}
backend:
  dtype: {precision}
dataset:
  path: {pictures}
workspace:
  path: {folder}
"""


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_shallow(monkeypatch)
    make_exports_quick(monkeypatch)
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)


def renamed(state: State, **parts: str) -> State:
    """Our names as another library has them: what ours begin with → what its do."""
    found = {}
    for name, tensor in state.items():
        ours = next(part for part in parts if name.startswith(f"{part.replace('_', '.', 1)}."))
        rest = name.removeprefix(ours.replace("_", ".", 1))
        found[(parts[ours] + rest).replace(".body.", ".")] = tensor
    return found


def vision(state: State) -> object:
    plain = renamed(state, classifier_classifier="classifier", backbone="backbone")
    return plain | {"aux_classifier.4.weight": torch.ones(5, 256, 1, 1)}


def lightning_of_smp(state: State) -> object:
    plain = renamed(
        state,
        classifier_decoder="decoder",
        classifier_segmentation_head="segmentation_head",
        backbone="encoder",
    )
    return {"state_dict": {f"model.{name}": tensor for name, tensor in plain.items()}, "epoch": 3}


KINDS: dict[str, tuple[str, Callable[[State], object]]] = {
    "torchvision": ("deeplabv3_resnet50", vision),
    "lraspp": ("lraspp_mobilenet_v3_large", lambda state: state),
    "smp": ("smp_deeplabv3_mobilenet_v2", lightning_of_smp),
    "smp plus": ("smp_deeplabv3plus_mobilenet_v2", lightning_of_smp),
    "transformers": (
        "hf_deeplabv3_mobilenet_v2_tf",
        lambda state: renamed(state, classifier="segmentation_head", backbone="mobilenet_v2"),
    ),
    "torch.compile": (
        "deeplabv3plus_mobilenet",
        lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
    ),
}


def made(variant: str, classes: int = 5) -> models.DeepLab:
    network = models.build(variant, classes, 8 if variant.startswith("hf") else 16)
    with torch.no_grad():
        network.train()(torch.randn(2, 3, SIZE, SIZE))  # statistics as after training
    return network.eval()


def mask_of(atrous: Run, picture: Path, model: Path, out: Path) -> np.ndarray:  # type: ignore[type-arg]
    done = atrous("predict", picture, "-m", model, "-o", out, "--size", SIZE)
    assert done.code == 0, done.err
    [mask] = (out / "masks").iterdir()
    return np.asarray(Image.open(mask))


async def served(model: Path, picture: Path) -> httpx.Response:
    service = Service({"m": Predictor.open(model)}, Settings())
    try:
        transport = httpx.ASGITransport(make_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/v1/segment", content=picture.read_bytes())
    finally:
        service.close()


# Each takes ten seconds and more on its way; this one is the least like our own.
WAYS = [pytest.param(k, marks=() if k == "transformers" else pytest.mark.slow) for k in KINDS]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", WAYS)
async def test_all_the_way(kind: str, atrous: Run, tmp_path: Path) -> None:
    variant, layout = KINDS[kind]
    checkpoint, picture = tmp_path / "their.ckpt", tmp_path / "pictures" / "p.png"
    network = made(variant)
    torch.save(layout(dict(network.state_dict())), checkpoint)
    picture.parent.mkdir()
    Image.fromarray(photograph()).resize((SIZE, SIZE)).save(picture)
    stride = 16 if network.output_stride == 16 else 8
    done = atrous("export", checkpoint, "-o", tmp_path / "x.onnx", "--size", SIZE,
                  "--output-stride", stride, "--opset", 17)  # fmt: skip
    assert done.code == 0, done.err
    assert f"{variant}, 5 classes" in done.out
    right = mask_of(atrous, picture, checkpoint, tmp_path / "torch")
    if stride == models.load(checkpoint).output_stride:
        assert (mask_of(atrous, picture, tmp_path / "x.onnx", tmp_path / "onnx") == right).all()
    file = tmp_path / "c.yaml"
    for precision in ("fp16", "int8"):
        file.write_text(
            COMPILE.format(
                name=precision, kind="pytorch", checkpoint=checkpoint, size=SIZE,
                precision=precision, pictures=picture.parent, folder=tmp_path / "compiled",
            )
        )  # fmt: skip
        done = atrous("compile", file)
        assert done.code == 0, done.err
        compiled = tmp_path / "compiled" / precision / "mod.onnx"
        found = mask_of(atrous, picture, compiled, tmp_path / precision)
        assert (found == right).mean() > (0.99 if precision == "fp16" else 0.6)
    answer = await served(compiled, picture)
    assert answer.status_code == 200


@pytest.mark.parametrize("name", ["torch_compile.pth", "lightning.ckpt"])
def test_prefixes_of_the_cases(name: str, cases: Cases, atrous: Run, tmp_path: Path) -> None:
    folder = cases("checkpoints")
    right = expected(folder)[name]["same_as"]
    found, bare = (models.read_state(folder / one) for one in (name, right))
    ours = models.dialects.find(found).state
    assert ours.keys() == models.dialects.find(bare).state.keys()
    assert all(torch.equal(ours[key], tensor) for key, tensor in bare.items())


def snapshot(folder: Path) -> Path:
    """As transformers save `MobileNetV2ForSemanticSegmentation`."""
    from safetensors.torch import save_file

    folder.mkdir()
    variant, layout = KINDS["transformers"]
    state = layout(dict(made(variant, 3).state_dict()))
    assert isinstance(state, dict)
    save_file({name: tensor.contiguous() for name, tensor in state.items()},
              folder / "model.safetensors", {"format": "pt"})  # fmt: skip
    config = {"architectures": ["MobileNetV2ForSemanticSegmentation"], "output_stride": 8,
              "tf_padding": True, "id2label": {"0": "sea", "1": "sand", "2": "sky"}}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    processor = {"do_resize": True, "size": {"shortest_edge": SIZE}, "do_center_crop": True,
                 "crop_size": {"height": SIZE, "width": SIZE}, "do_rescale": True,
                 "rescale_factor": 1 / 255, "do_normalize": True, "resample": 2,
                 "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.mark.parametrize("named", ["", "model.safetensors"])
def test_a_snapshot_says_what_it_means(named: str, tmp_path: Path) -> None:
    folder = snapshot(tmp_path / "snapshot")
    with Predictor.open(folder / named) as predictor:
        assert predictor.labels.names == ("sea", "sand", "sky")
        preprocess = predictor.preprocess
        assert (preprocess.size, preprocess.fit, preprocess.mean) == ((64, 64), "crop", (0.5,) * 3)
        assert predictor.engine.metadata is not None
        assert predictor.engine.metadata.output_stride == 8


def test_what_a_snapshot_has_otherwise_is_refused(atrous: Run, tmp_path: Path) -> None:
    folder = snapshot(tmp_path / "snapshot")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tf_padding": False}))
    done = atrous("export", folder, "-o", tmp_path / "x.onnx")
    assert done.code == 1
    assert "says tf_padding false, and MobileNetV2ForSemanticSegmentation is read with true" in (
        done.err
    )


def test_one_score_is_background_and_foreground(tmp_path: Path) -> None:
    network = made("smp_deeplabv3plus_mobilenet_v2", 1)
    with torch.inference_mode():
        head = network.classifier.segmentation_head[0]
        head.bias -= network(torch.randn(1, 3, SIZE, SIZE)).median()
    torch.save(lightning_of_smp(dict(network.state_dict())), tmp_path / "x.ckpt")
    with Predictor.open(tmp_path / "x.ckpt", size=(SIZE, SIZE)) as predictor:
        assert predictor.labels.names == ("background", "foreground")
        picture = np.asarray(Image.fromarray(photograph()).resize((SIZE, SIZE)))
        found = predictor(picture).class_map()
        tensor, _ = predictor.prepare(picture)
        with torch.inference_mode():
            right = network(torch.from_numpy(tensor[None]))[0, 0].numpy() > 0
    assert (found == right).mean() > 0.999
    assert 0.05 < right.mean() < 0.95
