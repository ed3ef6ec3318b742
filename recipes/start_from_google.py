"""A start for both MobileNet networks: Google's DeepLabV3-MobileNetV2 for PASCAL VOC.

    python recipes/start_from_google.py BACKBONE.npz HEAD.npz -o starts

writes `deeplabv3_mobilenet.safetensors` and `deeplabv3plus_mobilenet.safetensors`, which compute
nearly what that network computes before any training, and `teacher.onnx`, that network itself.

Both files hold its weights with batch norms folded, in torchvision's names (`features.*`) and as
`aspp0`, `image_pooling`, `concat_projection` and `logits`. What our networks have besides begins as
nothing: the atrous branches are random and their columns of the projection zero, the low-level
features of DeepLabV3+ have zero weights, and batch norms are identities.

The grids differ. Google's first convolution is padded and its last enlargement aligns corners, so
a value of its grid lies where it was computed: at pixel 16 j. The reference's first convolution is
unpadded and its enlargements align edges: values computed at pixel 16 j + 1 are shown at
16 j + 7.5, 6.5 pixels to the lower right. The 3×3 convolution of the head therefore begins as a
shift back, by 0.407 of a cell for DeepLabV3 and by one for DeepLabV3+, whose cells are a quarter of
that (1.6 would be exact). `--agreement IMAGES` prints on how many pixels of photographs each start
gives the class of that network, with the shift and without.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from atrous import image, models
from atrous.artifact import Metadata
from atrous.exporters.onnx import export_onnx
from atrous.files import sha256
from atrous.jobs.sources import find
from atrous.labels import LABEL_SETS
from atrous.models.weights import save_safetensors
from atrous.preprocess import Preprocess

SHIFT = {"deeplabv3_mobilenet": (0.0, 0.593, 0.407), "deeplabv3plus_mobilenet": (0.0, 0.0, 1.0)}
UNSHIFTED = (0.0, 1.0, 0.0)

Folded = dict[str, Tensor]


class Google(nn.Module):
    """The network that the weights were made for: padding and enlargements as its makers have them.

    Maps `(N, 3, H, W)` normalised RGB to logits of that size, aligned at the corners.

    Args:
        backbone: `features.*`.
        head: `aspp0`, `image_pooling`, `concat_projection` and `logits`.
        output_stride: 16, or 8: the last stride left out, what follows it dilated.
    """

    num_classes = 21

    def __init__(self, backbone: Folded, head: Folded, output_stride: int = 16) -> None:
        super().__init__()
        self.features = models.build("deeplabv3_mobilenet", output_stride=output_stride).backbone
        fill_backbone(self.features, backbone)
        self.head = nn.ParameterDict({name.replace(".", "_"): head[name] for name in head})

    def forward(self, x: Tensor) -> Tensor:
        """Return the class scores."""
        grid = self.grid(x)
        return functional.interpolate(grid, x.shape[2:], mode="bilinear", align_corners=True)

    def grid(self, x: Tensor) -> Tensor:
        """Return the class scores before the enlargement, one for each step of the stride."""
        x = self.last_features(x)
        pooled = self.layer("image_pooling", x.mean((2, 3), keepdim=True))
        both = torch.cat([pooled.expand(-1, -1, *x.shape[2:]), self.layer("aspp0", x)], 1)
        return self.layer("logits", self.layer("concat_projection", both), relu=False)

    def last_features(self, x: Tensor) -> Tensor:
        """Return what the head works on, `(N, 320, h, w)`."""
        first, *blocks = [*self.features.low_level_features, *self.features.high_level_features]
        x = _padded(first, x)
        for block in blocks:
            *expand, filtered, project, norm = block.conv
            y = expand[0](x) if expand else x
            y = norm(project(_padded(filtered, y)))
            x = x + y if block.residual else y
        return x

    def layer(self, name: str, x: Tensor, *, relu: bool = True) -> Tensor:
        """Return what one layer of the head makes of `(N, C, h, w)`."""
        x = functional.conv2d(x, self.head[f"{name}_weight"], self.head[f"{name}_bias"])
        return functional.relu(x) if relu else x


def _padded(unit: nn.Sequential, x: Tensor) -> Tensor:
    """An unpadded convolution with its norm and activation, padded with zeros all around."""
    return unit(functional.pad(x, [unit[0].dilation[0]] * 4))


def fill_backbone(backbone: nn.Module, folded: Folded) -> None:
    """Fill MobileNetV2 with folded weights; its batch norms become identities but for the shift."""
    blocks = [*backbone.low_level_features, *backbone.high_level_features]
    for number, block in enumerate(blocks):
        unit = block if number == 0 else block.conv
        stem = f"features.{number}." + ("" if number == 0 else "conv.")
        layers = [
            (f"{stem}{name}", layer)
            for name, layer in unit.named_modules()
            if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d))
        ]
        for name, layer in layers:
            if isinstance(layer, nn.Conv2d):
                layer.weight.data.copy_(folded[f"{name}.weight"])
            else:
                identity(layer, folded[f"{name}.bias"])


def identity(norm: nn.BatchNorm2d, shift: Tensor | float = 0.0) -> None:
    """Make a batch norm, with the statistics that it keeps, an addition."""
    norm.weight.data.fill_(1)
    norm.bias.data.copy_(torch.as_tensor(shift).expand(norm.num_features))
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)


def fill_aspp(aspp: nn.Module, head: Folded, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Fill ASPP: two branches and what they are joined by; three that count for nothing yet.

    Args:
        aspp: to fill.
        head: of Google's network.
        layers: weights and shift of the 1×1 branch and of the image pooling.
    """
    for unit, (weight, shift) in zip((aspp.convs[0], aspp.convs[4][1:]), layers, strict=True):
        unit[0].weight.data.copy_(weight.view_as(unit[0].weight))
        identity(unit[1], shift)
    for branch in aspp.convs[1:4]:
        identity(branch[1])
    pooled, local = head["concat_projection.weight"].split(256, dim=1)
    columns = aspp.project[0].weight.data.zero_()
    columns[:, :256], columns[:, 1024:] = local, pooled
    identity(aspp.project[1], head["concat_projection.bias"])


def start(network: str, backbone: Folded, head: Folded, shift: tuple[float, ...]) -> models.DeepLab:
    """One of our networks, computing what Google's computes as nearly as it can."""
    torch.manual_seed(0)
    made = models.build(network).eval()
    fill_backbone(made.backbone, backbone)
    classifier = made.classifier.classifier
    plus = network.startswith("deeplabv3plus")
    aspp = made.classifier.aspp if plus else classifier[0]
    convolution, norm, last = (classifier[i] for i in ((0, 1, 3) if plus else (1, 2, 4)))
    own = [(head[f"{name}.weight"], head[f"{name}.bias"]) for name in ("aspp0", "image_pooling")]
    fill_aspp(aspp, head, own)
    low = convolution.in_channels - 256
    taps = convolution.weight.data.zero_()
    for channel in range(256):
        taps[channel, low + channel] = torch.outer(torch.tensor(shift), torch.tensor(shift))
    identity(norm)
    if plus:
        identity(made.classifier.project[1])
    last.weight.data.copy_(head["logits.weight"])
    last.bias.data.copy_(head["logits.bias"])
    return made


def agreement(backbone: Folded, head: Folded, images: Path, count: int) -> None:
    """Print how often the starts and Google's network give a pixel the same class."""
    teacher = Google(backbone, head).eval()
    preprocess = Preprocess(interpolation="pillow-bilinear", fit="crop")
    found = find([images])
    chosen = [source.path for source in found[:: max(1, len(found) // count)][:count]]
    for network, shift in SHIFT.items():
        for name, used in (("shifted", shift), ("not shifted", UNSHIFTED)):
            made, shares = start(network, backbone, head, used), []
            for path in chosen:
                batch = torch.from_numpy(preprocess(image.read(path))[None])
                with torch.inference_mode():
                    same = made(batch).argmax(1) == teacher(batch).argmax(1)
                shares.append(same.float().mean().item())
            print(f"{network}, {name}: {np.mean(shares):.2%} of {len(chosen)} images' pixels")


def main() -> None:
    """Write the files, or print the agreement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("backbone", type=Path)
    parser.add_argument("head", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("starts"))
    parser.add_argument("--agreement", type=Path, metavar="IMAGES")
    parser.add_argument("--count", type=int, default=24)
    arguments = parser.parse_args()
    backbone, head = (
        {name: torch.from_numpy(array) for name, array in np.load(path).items()}
        for path in (arguments.backbone, arguments.head)
    )
    if arguments.agreement:
        agreement(backbone, head, arguments.agreement, arguments.count)
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    for network, shift in SHIFT.items():
        path = arguments.output / f"{network}.safetensors"
        print(save_safetensors(start(network, backbone, head, shift), path))
    teacher = arguments.output / "teacher.onnx"
    metadata = Metadata(
        name="google-deeplabv3-mobilenetv2",
        variant="deeplabv3_mobilenet",
        output_stride=16,
        labels=LABEL_SETS["voc"],
        preprocess=Preprocess(),
        weights_sha256=sha256(arguments.head),
        licence="Apache-2.0",
    )
    export_onnx(
        Google(backbone, head).eval(),
        teacher,
        metadata=metadata,
        pixels=image.photograph(),
        dynamic=("batch", "height", "width"),
    )
    print(teacher)


if __name__ == "__main__":
    main()
