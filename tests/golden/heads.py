"""Make `heads.zip`: small exports of the heads that other libraries put on their backbones.

    python3 -m venv /tmp/goldens
    /tmp/goldens/bin/pip install torch==2.14.1 torchvision==0.29.1 \\
        segmentation-models-pytorch==0.6.0 transformers==5.24.0
    /tmp/goldens/bin/python tests/golden/heads.py

It runs transformers and segmentation_models.pytorch themselves; the heads of mmsegmentation, which
does not install beside today's torch, are rebuilt here as its source has them. Each is exported by
both of torch's exporters at two sizes, with few channels and weights filled by name (`fill.py`).
"""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import segmentation_models_pytorch as smp
import torch
from fill import fill_state
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    ConvNextConfig,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

HERE = Path(__file__).parent
CLASSES = 6
WIDTHS = [8, 12, 16, 20]
SIZES = [(128, 192), (192, 128)]


class Logits(nn.Module):
    """A network of transformers as one of tensors."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(pixel_values=x).logits


class Levels(nn.Module):
    """A backbone of one convolution per level, from a quarter to a 32nd of the size.

    Args:
        head: takes the list of levels.
        image: hand it the image and a level of half its size too, as smp's decoders want.
        strides: of the levels to the one before.
    """

    def __init__(
        self, head: nn.Module, *, image: bool = False, strides: tuple[int, ...] = (4, 2, 2, 2)
    ) -> None:
        super().__init__()
        self.image = image
        widths = [3, *([6] if image else []), *WIDTHS]
        steps = [2, 2, 2, 2, 2] if image else strides
        self.levels = nn.ModuleList(
            nn.Conv2d(a, b, 3, step, 1)
            for a, b, step in zip(widths, widths[1:], steps, strict=False)
        )
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for level in self.levels:
            found.append(torch.relu(level(found[-1])))
        return self.head(found if self.image else found[1:])


def module(inputs: int, outputs: int, size: int = 1) -> nn.Sequential:
    """mmcv's ConvModule."""
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def enlarged(x: Tensor, like: Tensor, align_corners: bool = False) -> Tensor:
    size = like.shape[2:]
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


class SegformerHead(nn.Module):
    """mmseg/models/decode_heads/segformer_head.py: 1×1 with norm and ReLU before enlarging."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.convs = nn.ModuleList(module(of, width) for of in WIDTHS)
        self.fusion_conv = module(4 * width, width)
        self.conv_seg = nn.Conv2d(width, CLASSES, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        outs = [
            enlarged(conv(level), levels[0]) for conv, level in zip(self.convs, levels, strict=True)
        ]
        return self.conv_seg(self.fusion_conv(torch.cat(outs, dim=1)))


class FCNHead(nn.Module):
    """mmseg's FCNHead over all levels of an HRNet (`input_transform='resize_concat'`)."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = module(sum(WIDTHS), sum(WIDTHS))
        self.conv_seg = nn.Conv2d(sum(WIDTHS), CLASSES, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        joined = torch.cat([enlarged(level, levels[0]) for level in levels], dim=1)
        return self.conv_seg(self.convs(joined))


class PSPHead(nn.Module):
    """mmseg/models/decode_heads/psp_head.py."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        last = WIDTHS[-1]
        self.psp = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), module(last, width)) for bins in (1, 2, 4)
        )
        self.bottleneck = module(last + 3 * width, width, 3)
        self.conv_seg = nn.Conv2d(width, CLASSES, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        x = levels[-1]
        joined = torch.cat([x, *(enlarged(pool(x), x) for pool in self.psp)], dim=1)
        return self.conv_seg(self.bottleneck(joined))


class Decoder(nn.Module):
    """A decoder of smp and its head of 1×1 or 3×3."""

    def __init__(self, decoder: nn.Module, width: int, size: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.head = nn.Conv2d(width, CLASSES, size, padding=size // 2)

    def forward(self, levels: list[Tensor]) -> Tensor:
        return self.head(self.decoder(levels))


def networks() -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """Name and maker of every network."""
    few = {
        "depths": [1] * 4,
        "mlp_ratios": [2] * 4,
        "num_attention_heads": [1, 1, 2, 2],
        "hidden_sizes": WIDTHS,
    }
    yield (
        "transformers-segformer",
        lambda: Logits(
            SegformerForSemanticSegmentation(
                SegformerConfig(**few, decoder_hidden_size=32, num_labels=CLASSES)
            )
        ),
    )
    stages = {"out_features": [f"stage{n}" for n in range(1, 5)], "depths": [1] * 4}
    yield (
        "transformers-upernet",
        lambda: Logits(
            UperNetForSemanticSegmentation(
                UperNetConfig(
                    backbone_config=ConvNextConfig(hidden_sizes=WIDTHS, **stages),
                    hidden_size=16,
                    num_labels=CLASSES,
                    use_auxiliary_head=False,
                    pool_scales=[1, 2],
                )
            )
        ),
    )
    yield "mmseg-segformer", lambda: Levels(SegformerHead())
    yield "mmseg-hrnet-fcn", lambda: Levels(FCNHead())
    yield "mmseg-pspnet", lambda: Levels(PSPHead(), strides=(2, 2, 1, 1))
    inputs = (3, 6, *WIDTHS)
    decoders = smp.decoders
    yield (
        "smp-unet",
        lambda: Levels(
            Decoder(
                decoders.unet.decoder.UnetDecoder(
                    inputs, (24, 20, 16, 12, 8), use_norm="batchnorm"
                ),
                8,
                3,
            ),
            image=True,
        ),
    )
    yield (
        "smp-segformer",
        lambda: Levels(
            Decoder(
                decoders.segformer.decoder.SegformerDecoder(inputs, segmentation_channels=32), 32, 1
            ),
            image=True,
        ),
    )


def exported(network: nn.Module, size: tuple[int, int], new: bool) -> bytes:
    """The ONNX file that one of torch's exporters makes."""
    x = torch.zeros(1, 3, *size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.onnx")
        torch.onnx.export(
            network, (x,), path, dynamo=new, opset_version=18 if new else 17, verbose=False,
            input_names=["input"], output_names=["logits"], external_data=False,
        )  # fmt: skip
        model = onnx.load(path)
    for node in model.graph.node:
        node.ClearField("doc_string")
        node.ClearField("name")
        del node.metadata_props[:]
    del model.graph.value_info[:], model.graph.metadata_props[:], model.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    return model.SerializeToString()


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as files:
        for name, make in networks():
            network = make().eval()
            fill_state(network.state_dict())
            for tensor in network.state_dict().values():
                if tensor.is_floating_point():  # few distinct values are a small file
                    tensor.copy_((tensor * 16).round() / 16)
            for size in SIZES:
                for new in (False, True):
                    data = exported(network, size, new)
                    called = f"{name}-{size[0]}x{size[1]}-{'new' if new else 'old'}.onnx"
                    assert len(data) < 200_000, f"{called}: {len(data)} bytes"
                    entry = zipfile.ZipInfo(called, (2026, 1, 1, 0, 0, 0))
                    files.writestr(entry, data, zipfile.ZIP_DEFLATED)
    (HERE / "heads.zip").write_bytes(archive.getvalue())


if __name__ == "__main__":
    main()
