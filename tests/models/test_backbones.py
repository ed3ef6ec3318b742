"""ImageNet backbones in torchvision's names, downloaded from a local server."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import Tensor

from atrous import models, zoo
from atrous.engines.torch import describe
from atrous.errors import ArtifactError, ConfigError
from tests.builders.shallow import make_shallow

State = dict[str, Tensor]


@pytest.fixture
def served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, State], None]]:
    """Publish a state under a row of the zoo, on a local server."""
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = (folder / self.path.removeprefix("/")).read_bytes()
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if start else 200)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()

    def publish(name: str, state: State) -> None:
        row = zoo.weights(name)
        path = folder / row.file_name
        torch.save(state, path, _use_new_zipfile_serialization=False)
        digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        url = f"http://127.0.0.1:{server.server_port}/{row.file_name}"
        monkeypatch.setitem(zoo.WEIGHTS, name, replace(row, url=url, sha256=digits))

    yield publish
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["deeplabv3_resnet50_coco", "lraspp_mobilenet_v3_large_coco"])
def test_torchvisions_networks_by_name(
    served: Callable[[str, State], None], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_shallow(monkeypatch)
    row = zoo.weights(name)
    state = models.build(row.network, 21).state_dict()
    theirs = {n.replace("classifier.classifier.", "classifier."): t for n, t in state.items()}
    served(name, theirs | {"aux_classifier.4.bias": torch.ones(21)})
    # What an earlier run has left is taken up.
    content = (tmp_path / "served" / row.file_name).read_bytes()
    part = tmp_path / "cache" / "weights" / f"{row.file_name}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content[:1000])
    seen: list[int] = []
    network = models.load(name, progress=lambda done, total: seen.append(done))
    assert seen[0] > 1000
    assert seen[-1] == len(content)
    found = network.state_dict()
    assert all(torch.equal(found[n], tensor) for n, tensor in state.items())
    assert network.output_stride == (8 if "resnet" in name else 16)
    means = describe(network, part.with_suffix(""))
    assert means.labels.name == "voc"
    assert (means.preprocess.fit, means.preprocess.size) == ("letterbox", (520, 520))
    damaged = part.with_suffix("")
    damaged.write_bytes(content[:-1] + b"x")
    with pytest.raises(ArtifactError, match="expected sha256:"):
        models.load(name)


def in_torchvisions_names(model: models.DeepLab) -> State:
    prefixes = ("low_level_", "high_level_")
    state = {}
    for name, tensor in model.backbone.state_dict().items():
        for prefix in prefixes:
            name = name.removeprefix(prefix)
        state[name] = torch.full(tensor.shape, 0.25).to(tensor.dtype)
    return state


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("backbone", "classifier"),
    [
        ("mobilenet", ["features.18.0.weight", "features.18.1.running_var", "classifier.1.bias"]),
        ("resnet50", ["fc.weight", "fc.bias"]),
        ("resnet101", ["fc.weight", "fc.bias"]),
    ],
)
def test_imagenet_backbones(
    served: Callable[[str, State], None], backbone: str, classifier: list[str]
) -> None:
    with torch.device("meta"):
        model = models.build(f"deeplabv3_{backbone}", 2)
    published = in_torchvisions_names(model) | {name: torch.ones(2) for name in classifier}
    served(zoo.backbone(backbone).pretrained, published)
    seen = []
    models.load_backbone(model, progress=lambda done, total: seen.append((done, total)))
    filled = model.backbone.state_dict().values()
    assert all(bool((tensor == 0.25).all()) for tensor in filled if tensor.is_floating_point())
    assert all(tensor.is_meta for tensor in model.classifier.state_dict().values())
    assert seen[-1][0] == seen[-1][1]


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("backbone", "classifier"),
    [
        ("xception", ["bn4.weight", "bn4.running_mean", "fc.weight", "last_linear.bias"]),
        ("hrnetv2_32", ["bn_classifier.0.weight", "bn_classifier.5.bias"]),
    ],
)
def test_imagenet_backbones_fetched_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str, classifier: list[str]
) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path))
    with torch.device("meta"):
        model = models.build(f"deeplabv3plus_{backbone}", 2)
    row = zoo.weights(f"{backbone}_imagenet")
    with pytest.raises(ArtifactError, match=rf"expected .*{row.file_name}, found nothing"):
        models.load_backbone(model)
    path = tmp_path / "weights" / row.file_name
    path.parent.mkdir()
    state = in_torchvisions_names(model) | {name: torch.ones(2) for name in classifier}
    torch.save({"state_dict": state}, path)
    models.load_backbone(model)
    filled = model.backbone.state_dict().values()
    assert all(bool((tensor == 0.25).all()) for tensor in filled if tensor.is_floating_point())


def test_no_imagenet_weights_are_published_of_every_backbone() -> None:
    with torch.device("meta"):
        model = models.build("deeplabv3plus_hrnetv2_48", 2)
    with pytest.raises(ConfigError, match="no ImageNet weights of hrnetv2_48 are in the zoo"):
        models.load_backbone(model)


def test_imagenet_backbones_must_fit(tmp_path: Path) -> None:
    model = models.build("deeplabv3_mobilenet", 2)
    with pytest.raises(ConfigError, match="resnet50_imagenet fits resnet50, but deeplabv3_mobile"):
        models.load_backbone(model, "resnet50_imagenet")
    published = in_torchvisions_names(model)
    del published["features.0.0.weight"]
    torch.save({**published, "features.19.0.weight": torch.ones(1)}, tmp_path / "x.pth")
    with pytest.raises(
        ArtifactError,
        match=r"1 missing: low_level_features\.0\.0\.weight; 1 unexpected: high_level_features\.19",
    ):
        models.load_backbone(model, tmp_path / "x.pth")
