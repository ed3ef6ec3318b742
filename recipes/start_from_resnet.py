"""A start for the four ResNet networks: an ImageNet ResNet-50, and Google's head taught to read it.

    python recipes/start_from_resnet.py deeplabv3_resnet50 RESNET50.npz BACKBONE.npz HEAD.npz
    python recipes/start_from_resnet.py deeplabv3plus_resnet50 DEEPLABV3_RESNET50.safetensors
    python recipes/start_from_resnet.py deeplabv3_resnet101 DEEPLABV3_RESNET50.safetensors
    python recipes/start_from_resnet.py deeplabv3plus_resnet101 DEEPLABV3PLUS_RESNET50.safetensors

each write `starts/NAME.safetensors`.

The first fills ResNet-50 with folded weights in torchvision's names. Of the head of Google's
DeepLabV3-MobileNetV2, all that follows its two layers on the backbone's features is copied; those
two layers, the 1×1 branch and the image pooling, are solved for: ridge regression from the features
of ResNet-50 to what those layers give for the same picture, over the crops of a training split. So
the network is Google's from there on before any step of training. The atrous branches are random
and their columns of the projection zero, as in `start_from_google.py`.

DeepLabV3+ takes backbone and ASPP of a trained DeepLabV3; the taps of its 3×3 convolution are
summed into the middle one, as the features there are enlarged four times, and the low-level
features have zero weights. ResNet-101 is a trained ResNet-50 with seventeen further blocks in
layer3 that add nothing: their last convolution is zero.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from start_from_google import Folded, Google, fill_aspp, identity
from torch import Tensor, nn

from atrous import models
from atrous.data import Dataset, open_dataset
from atrous.models.weights import save_safetensors
from atrous.preprocess import Preprocess

CROP = 321
LOW_LEVEL = 48
PENALTY = 1e-3
"""What a weight of the regression costs, as a share of the features' mean square."""


def fill_resnet(backbone: nn.Module, folded: Folded) -> None:
    """Fill ResNet-50 with folded weights; its batch norms become identities but for the shift."""
    for name, layer in backbone.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.copy_(folded[f"{name}.weight"])
            norm = name.replace("conv", "bn") if "conv" in name else f"{name[:-1]}1"
            identity(backbone.get_submodule(norm), folded[f"{name}.bias"])


class Regression:
    """Least squares from features to targets, a crop at a time."""

    def __init__(self, features: int, targets: int) -> None:
        self.squares = torch.zeros(features + 1, features + 1)
        self.products = torch.zeros(features + 1, targets)

    def add(self, features: Tensor, targets: Tensor) -> None:
        """Take `(N, features)` and `(N, targets)`."""
        x = torch.cat([features, torch.ones(len(features), 1)], 1)
        self.squares += x.T @ x
        self.products += x.T @ targets

    def solve(self) -> tuple[Tensor, Tensor]:
        """The weights `(targets, features)` and the shift `(targets,)`."""
        penalty = PENALTY * self.squares.diagonal()[:-1].mean().double()
        penalties = torch.full((len(self.squares),), penalty.item(), dtype=torch.float64)
        penalties[-1] = 0
        solution = torch.linalg.solve(
            self.squares.double() + torch.diag(penalties), self.products.double()
        )
        return solution[:-1].T.float(), solution[-1].float()


def crops(data: Dataset, count: int) -> Iterator[Tensor]:
    """Crops of `count` pictures of a split, spread over it, at three scales: `(1, 3, H, W)`."""
    preprocess = Preprocess(size=(CROP, CROP))
    chosen = data.samples[:: max(1, len(data.samples) // count)][:count]
    random = np.random.default_rng(0)
    for number, sample in enumerate(chosen):
        picture = data.read_image(sample)
        scale = (0.75, 1.0, 1.5)[number % 3] * max(1.0, CROP / min(picture.shape[:2]) / 0.75)
        scaled = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        top, left = (int(random.integers(side - CROP + 1)) for side in scaled.shape[:2])
        crop: NDArray[np.uint8] = np.asarray(scaled[top : top + CROP, left : left + CROP], np.uint8)
        yield torch.from_numpy(preprocess(crop)[None])


def taught(
    backbone: nn.Module, google: Google, data: Dataset, count: int
) -> list[tuple[Tensor, Tensor]]:
    """Weights and shifts of the 1×1 branch and of the image pooling, for other features."""
    local, pooled = Regression(2048, 256), Regression(2048, 256)
    for number, crop in enumerate(crops(data, count), 1):
        theirs, ours = google.last_features(crop), backbone(crop)[1]
        for regression, name, pick in (
            (local, "aspp0", lambda x: x),
            (pooled, "image_pooling", lambda x: x.mean((2, 3), keepdim=True)),
        ):
            target = google.layer(name, pick(theirs), relu=False)
            regression.add(pick(ours)[0].flatten(1).T, target[0].flatten(1).T)
        if number % 100 == 0:
            print(f"{number} crops", flush=True)
    return [local.solve(), pooled.solve()]


def from_imagenet(
    folded: Folded, google: Google, head: Folded, data: Dataset, count: int
) -> models.DeepLab:
    """DeepLabV3-ResNet-50 that answers as Google's network, as nearly as its features let it."""
    made = models.build("deeplabv3_resnet50").eval()
    fill_resnet(made.backbone, folded)
    with torch.inference_mode():
        layers = taught(made.backbone, google, data, count)
    aspp, convolution, norm, _, last = made.classifier.classifier
    fill_aspp(aspp, head, layers)
    taps = convolution.weight.data.zero_()
    taps[:, :, 1, 1] = torch.eye(256)
    identity(norm)
    last.weight.data.copy_(head["logits.weight"])
    last.bias.data.copy_(head["logits.bias"])
    return made


def with_decoder(trained: models.DeepLab) -> models.DeepLab:
    """DeepLabV3+ with backbone and ASPP of DeepLabV3, nothing of the low-level features yet."""
    made = models.build(trained.variant.name.replace("deeplabv3", "deeplabv3plus")).eval()
    made.backbone.load_state_dict(trained.backbone.state_dict())
    aspp, convolution, *rest = trained.classifier.classifier
    made.classifier.aspp.load_state_dict(aspp.state_dict())
    identity(made.classifier.project[1])
    fused, *others = made.classifier.classifier
    taps = fused.weight.data.zero_()
    taps[:, LOW_LEVEL:, 1, 1] = convolution.weight.data.sum((2, 3))
    for target, source in zip(others, rest, strict=True):
        target.load_state_dict(source.state_dict())
    return made


def deepened(trained: models.DeepLab) -> models.DeepLab:
    """ResNet-101 that computes what a network with ResNet-50 does."""
    made = models.build(trained.variant.name.replace("resnet50", "resnet101")).eval()
    missing = made.load_state_dict(trained.state_dict(), strict=False).missing_keys
    for block in {name.rsplit(".", 2)[0] for name in missing}:
        added = made.get_submodule(block)
        for norm in (added.bn1, added.bn2, added.bn3):
            identity(norm)
        nn.init.zeros_(added.conv3.weight)
    return made


def read(path: Path) -> Folded:
    """The tensors of a file of arrays."""
    return {name: torch.from_numpy(array).float() for name, array in np.load(path).items()}


def main() -> None:
    """Write the start of one network."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("network")
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--data", default="voc:VOCdevkit:train_aug", metavar="KIND:ROOT:SPLIT")
    parser.add_argument("--count", type=int, default=600, help="crops of the regression")
    parser.add_argument("-o", "--output", type=Path, default=Path("starts"))
    arguments = parser.parse_args()
    torch.manual_seed(0)
    network, weights = arguments.network, arguments.weights
    if network == "deeplabv3_resnet50":
        folded, backbone, head = map(read, weights)
        google = Google(backbone, head).eval()
        made = from_imagenet(folded, google, head, open_dataset(arguments.data), arguments.count)
    else:
        trained = models.load(weights[0]).eval()
        made = deepened(trained) if network.endswith("101") else with_decoder(trained)
    arguments.output.mkdir(parents=True, exist_ok=True)
    print(save_safetensors(made, arguments.output / f"{network}.safetensors"))


if __name__ == "__main__":
    main()
