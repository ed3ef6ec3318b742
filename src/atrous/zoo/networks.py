"""The networks that can be built, and what they cost."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from atrous.errors import ConfigError

Row = TypeVar("Row")
Head = Literal[
    "deeplabv3", "deeplabv3plus", "deeplabv3cascade", "lraspp",
    "smp_deeplabv3", "smp_deeplabv3plus", "hf_deeplabv3",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Backbone:
    """A feature extractor.

    Attributes:
        name: as in the name of a variant.
        low_channels: channels of the features at stride 4 (MobileNetV3: 8).
        high_channels: channels of the features at the output stride.
        output_strides: the strides it can be dilated to.
        pretrained: the row of `WEIGHTS` with its ImageNet weights, `None` where none can be read.
        paper: arXiv number.
    """

    name: str
    low_channels: int
    high_channels: int
    output_strides: tuple[int, ...]
    pretrained: str | None
    paper: str


@dataclass(frozen=True, slots=True)
class Variant:
    """A segmentation network: a head over a backbone.

    Attributes:
        name: as the reference (VainF/DeepLabV3Plus-Pytorch) calls it, if it has it.
        head: which head.
        backbone: a row of `BACKBONES`.
        params_m: parameters with 21 classes, in millions.
        gmacs: multiply-accumulates of all convolutions for one 3x513x513 image at output stride 16
            (HRNet: 4, its only one) and 21 classes, in 10⁹: torch's flop counter divided by 2.
        paper: arXiv number of the head.
        atrous_rates: of the ASPP at every output stride, `None` for those of the papers.
        library: whose definition it is, where others than the reference and the papers have one.
    """

    name: str
    head: Head
    backbone: str
    params_m: float
    gmacs: float
    paper: str
    atrous_rates: tuple[int, int, int] | None = None
    library: str = ""


def variant(name: str) -> Variant:
    """Return the row of `VARIANTS` called `name`, or raise `ConfigError` with the nearest."""
    return row_of(VARIANTS, name, "network")


def backbone(name: str) -> Backbone:
    """Return the row of `BACKBONES` called `name`, or raise `ConfigError` with the nearest."""
    return row_of(BACKBONES, name, "backbone")


def row_of(table: Mapping[str, Row], name: str, kind: str) -> Row:
    """The row called `name`, or raise `ConfigError` with the nearest."""
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ConfigError(f"no {kind} is called {name!r}{hint} Known: {', '.join(table)}")


_RESNET = "arXiv:1512.03385"
_XCEPTION, _HRNET = "arXiv:1610.02357", "arXiv:1908.07919"
_MOBILENET_V2, _MOBILENET_V3 = "arXiv:1801.04381", "arXiv:1905.02244"
_V3, _V3PLUS = "arXiv:1706.05587", "arXiv:1802.02611"
_WIDE = (12, 24, 36)
_VISION, _SMP, _HF = "torchvision", "segmentation_models.pytorch", "Hugging Face transformers"

_SMP_COSTS: tuple[tuple[Head, str, float, float, str], ...] = (
    ("smp_deeplabv3", "resnet50", 39.639, 51.08, _V3),
    ("smp_deeplabv3", "resnet101", 58.631, 71.70, _V3),
    ("smp_deeplabv3", "mobilenet_v2", 12.653, 13.95, _V3),
    ("smp_deeplabv3plus", "resnet50", 39.210, 52.14, _V3PLUS),
    ("smp_deeplabv3plus", "resnet101", 58.202, 72.76, _V3PLUS),
    ("smp_deeplabv3plus", "mobilenet_v2", 12.213, 14.82, _V3PLUS),
)

BACKBONES: dict[str, Backbone] = {
    row.name: row
    for row in (
        Backbone("mobilenet", 24, 320, (8, 16), "mobilenet_v2_imagenet", _MOBILENET_V2),
        Backbone("resnet50", 256, 2048, (8, 16), "resnet50_imagenet", _RESNET),
        Backbone("resnet101", 256, 2048, (8, 16), "resnet101_imagenet", _RESNET),
        Backbone("xception", 128, 2048, (8, 16), "xception_imagenet", _XCEPTION),
        Backbone("xception65", 256, 2048, (8, 16), None, "arXiv:1802.02611"),
        Backbone("hrnetv2_32", 256, 480, (4,), "hrnetv2_32_imagenet", _HRNET),
        Backbone("hrnetv2_48", 256, 720, (4,), None, _HRNET),
        Backbone("mobilenet_v3_large", 40, 960, (16,), None, _MOBILENET_V3),
        Backbone("mobilenet_v2", 24, 1280, (8, 16), None, _MOBILENET_V2),
        Backbone("mobilenet_v2_tf", 24, 320, (8, 16, 32), None, _MOBILENET_V2),
    )
}
"""Feature extractors by name."""

VARIANTS: dict[str, Variant] = {
    row.name: row
    for row in (
        Variant("deeplabv3_mobilenet", "deeplabv3", "mobilenet", 5.114, 5.84, _V3),
        Variant("deeplabv3_resnet50", "deeplabv3", "resnet50", 39.639, 51.08, _V3),
        Variant("deeplabv3_resnet101", "deeplabv3", "resnet101", 58.631, 71.70, _V3),
        Variant("deeplabv3_xception", "deeplabv3", "xception", 36.934, 39.41, _V3),
        Variant("deeplabv3cascade_resnet50", "deeplabv3cascade", "resnet50", 63.714, 77.81, _V3),
        Variant("deeplabv3cascade_resnet101", "deeplabv3cascade", "resnet101", 82.707, 98.44, _V3),
        Variant("deeplabv3plus_mobilenet", "deeplabv3plus", "mobilenet", 5.226, 16.82, _V3PLUS),
        Variant("deeplabv3plus_resnet50", "deeplabv3plus", "resnet50", 39.762, 62.38, _V3PLUS),
        Variant("deeplabv3plus_resnet101", "deeplabv3plus", "resnet101", 58.754, 83.01, _V3PLUS),
        Variant("deeplabv3plus_xception", "deeplabv3plus", "xception", 37.051, 50.43, _V3PLUS),
        Variant("deeplabv3plus_xception65", "deeplabv3plus", "xception65", 54.121, 76.86, _V3PLUS),
        Variant("deeplabv3plus_hrnetv2_32", "deeplabv3plus", "hrnetv2_32", 33.919, 117.64, _V3PLUS),
        Variant("deeplabv3plus_hrnetv2_48", "deeplabv3plus", "hrnetv2_48", 71.720, 191.81, _V3PLUS),
        Variant(
            "deeplabv3_mobilenet_v3_large",
            "deeplabv3",
            "mobilenet_v3_large",
            11.025,
            10.43,
            _V3,
            _WIDE,
            _VISION,
        ),
        Variant(
            "lraspp_mobilenet_v3_large",
            "lraspp",
            "mobilenet_v3_large",
            3.222,
            2.08,
            _MOBILENET_V3,
            None,
            _VISION,
        ),
        *(
            Variant(f"{head}_{backbone}", head, backbone, params_m, gmacs, paper, _WIDE, _SMP)
            for head, backbone, params_m, gmacs, paper in _SMP_COSTS
        ),
        Variant(
            "hf_deeplabv3_mobilenet_v2_tf",
            "hf_deeplabv3",
            "mobilenet_v2_tf",
            2.114,
            2.74,
            _V3,
            None,
            _HF,
        ),
    )
}
"""Segmentation networks by name."""
