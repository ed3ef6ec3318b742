"""The weights that are known: from where, what they mean, and how good they are said to be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from atrous.labels import VOC
from atrous.zoo.networks import BACKBONES, VARIANTS, row_of

Kind = Literal["segmentation", "backbone"]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes the network's input.

    Attributes:
        mean: subtracted from RGB in 0..1.
        std: then divided by, RGB.
        size: height and width in pixels at which the accuracies hold.
        fit: how the image comes to that size, as `atrous.preprocess.Preprocess` has it.
        interpolation: likewise.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: tuple[int, int]
    fit: Literal["squash", "letterbox"] = "squash"
    interpolation: Literal["opencv-bilinear", "pillow-bilinear"] = "opencv-bilinear"


@dataclass(frozen=True, slots=True)
class ClaimedAccuracy:
    """One number and where it comes from.

    Attributes:
        metric: `mIoU`, `pixel accuracy`, or `top-1` for a classifier.
        value: in percent; `None` means not measured.
        protocol: data, resize and crop it was measured under.
        source: who measured it.
    """

    metric: str
    value: float | None
    protocol: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A file of trained weights.

    Attributes:
        name: what users call it.
        kind: a whole network, or a backbone trained on ImageNet.
        network: the row of `VARIANTS`, or of `BACKBONES`.
        file_name: name in the cache, or inside the package for the embedded model.
        url: where `atrous` downloads it from; `None` where it must be fetched by hand.
        page: the page that publishes it.
        sha256: the hash in hexadecimal or its first digits; empty where none is published.
        num_classes: number of classes.
        labels: a row of `atrous.labels.LABEL_SETS`, `None` for ImageNet.
        preprocessing: what it was trained with.
        licence: SPDX identifier, and of what.
        recipe: how it was trained.
        paper: arXiv number.
        accuracy: what others claim, each number with its protocol and source. Files of the package
            hold what was measured on them in their own metadata.
        megabytes: of the file, 10⁶ bytes; 0 where none is published.
        note: anything else a user must know.
    """

    name: str
    kind: Kind
    network: str
    file_name: str
    url: str | None
    page: str
    sha256: str
    num_classes: int
    labels: str | None
    preprocessing: Preprocessing
    licence: str
    recipe: str
    paper: str
    accuracy: tuple[ClaimedAccuracy, ...]
    megabytes: float = 0
    note: str = ""


def weights(name: str) -> Weights:
    """Return the row of `WEIGHTS` called `name`, or raise `ConfigError` with the nearest."""
    return row_of(WEIGHTS, name, "weights")


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_VOC_INPUT = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, (513, 513))
_REFERENCE = "https://github.com/VainF/DeepLabV3Plus-Pytorch"
_TORCHVISION = "https://download.pytorch.org/models"


def _reference(name: str, claimed: float) -> Weights:
    """Return the row of a checkpoint of the reference's own, which its README links."""
    return Weights(
        name=f"{name}_voc",
        kind="segmentation",
        network=name,
        file_name=f"best_{name}_voc_os16.pth",
        url=None,
        page=_REFERENCE,
        sha256="",
        num_classes=VOC.num_classes,
        labels=VOC.name,
        preprocessing=_VOC_INPUT,
        licence="MIT (the code; none is stated for the weights)",
        recipe="PASCAL VOC 2012 trainaug, SGD, batch 16, 30k iterations, 513 crops",
        paper=VARIANTS[name].paper,
        accuracy=(
            ClaimedAccuracy(
                "mIoU",
                claimed,
                "VOC 2012 val, center-crop-513",
                "claimed by its authors, not measured here",
            ),
        ),
        note="On file-sharing pages (Dropbox, Tencent Weiyun) linked in the table "
        "'Performance on Pascal VOC2012 Aug' of that page, without a published hash. Download it "
        "by hand, then pass its path or put it into the cache under its file name.",
    )


def _imagenet(network: str, model: str, digits: str, top1: float) -> Weights:
    """Return the row of a torchvision classifier, whose file name holds its hash."""
    file_name = f"{model}-{digits}.pth"
    return Weights(
        name=f"{model}_imagenet",
        kind="backbone",
        network=network,
        file_name=file_name,
        url=f"{_TORCHVISION}/{file_name}",
        page="https://docs.pytorch.org/vision/stable/models.html",
        sha256=digits,
        num_classes=1000,
        labels=None,
        preprocessing=Preprocessing(IMAGENET_MEAN, IMAGENET_STD, (224, 224)),
        licence="BSD-3-Clause",
        recipe="torchvision references/classification, IMAGENET1K_V1",
        paper=BACKBONES[network].paper,
        accuracy=(
            ClaimedAccuracy(
                "top-1",
                top1,
                "ImageNet-1K val, short side 256, center-crop-224",
                "claimed by torchvision, not measured here",
            ),
        ),
        note="Only the convolutional part is used.",
    )


def _vision(
    network: str, file_name: str, digits: str, miou: float, pixels: float, megabytes: float
) -> Weights:
    """Return the row of a segmentation network of torchvision, whose file name holds its hash."""
    protocol = "COCO val2017, VOC's classes; short side 520, no crop"
    source = "claimed by torchvision, not measured here"
    return Weights(
        name=f"{network}_coco",
        kind="segmentation",
        network=network,
        file_name=file_name,
        url=f"{_TORCHVISION}/{file_name}",
        page="https://docs.pytorch.org/vision/stable/models.html#semantic-segmentation",
        sha256=digits,
        num_classes=VOC.num_classes,
        labels=VOC.name,
        preprocessing=Preprocessing(
            IMAGENET_MEAN, IMAGENET_STD, (520, 520), "letterbox", "pillow-bilinear"
        ),
        licence="BSD-3-Clause (the library; none is stated for the weights)",
        recipe="torchvision references/segmentation, COCO_WITH_VOC_LABELS_V1: images of COCO "
        "train2017 with VOC's classes, 480-pixel crops",
        paper=VARIANTS[network].paper,
        accuracy=(
            ClaimedAccuracy("mIoU", miou, protocol, source),
            ClaimedAccuracy("pixel accuracy", pixels, protocol, source),
        ),
        megabytes=megabytes,
        note="Pictures are fitted whole into 520×520; its authors scale the short side to 520, "
        "whatever the other becomes, which a network of fixed size cannot. Its auxiliary head is "
        "left out.",
    )


_BY_HAND = (
    "Only the convolutional part is used. Linked on that page: download it by hand, then pass its "
    "path or put it into the cache under its file name."
)

_XCEPTION_IMAGENET = replace(
    _imagenet("xception", "xception", "43020ad28", 0),
    url=None,
    page="https://github.com/Cadene/pretrained-models.pytorch",
    sha256="",
    preprocessing=Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), (299, 299)),
    licence="see its page",
    recipe="ported from Keras",
    accuracy=(ClaimedAccuracy("top-1", None, "ImageNet-1K val", "not measured here"),),
    note=f"{_BY_HAND} Its images were normalised with mean and std 0.5, where segmentation here "
    "takes ImageNet's mean and std.",
)

_HRNET_IMAGENET = replace(
    _imagenet("hrnetv2_32", "hrnetv2_32", "", 0),
    file_name="hrnetv2_32_model_best_epoch96.pth",
    url=None,
    page=f"{_REFERENCE}/blob/master/network/backbone/hrnetv2.py",
    licence="see its page",
    recipe="not stated",
    accuracy=(ClaimedAccuracy("top-1", None, "ImageNet-1K val", "not measured here"),),
    note=_BY_HAND,
)


def _packaged(name: str, network: str, iterations: int) -> tuple[Weights, Weights]:
    """Return the rows of a model in the package: fp16 and int8."""
    row = Weights(
        name=name,
        kind="segmentation",
        network=network,
        file_name=f"{name}.onnx",
        url=None,
        page="the package itself",
        sha256="",
        num_classes=VOC.num_classes,
        labels=VOC.name,
        preprocessing=_VOC_INPUT,
        licence="Apache-2.0 (its origin)",
        recipe="Started as Google's DeepLabV3-MobileNetV2 for PASCAL VOC (Apache-2.0, "
        f"google-coral/test_data), trained by recipes/{name}.yaml on 1103 VOC 2012 train images: "
        f"{iterations} iterations of eight 321-pixel crops, that network as the teacher",
        paper=VARIANTS[network].paper,
        accuracy=(),
        note="An ONNX file inside the package, for the runtime; docs/models.md is its card. Google "
        "describes its network as trained on COCO and VOC trainaug; that it never saw val is "
        "their word.",
    )
    int8 = replace(
        row,
        name=f"{name}-int8",
        file_name=f"{name}-int8.onnx",
        recipe=f"{row.recipe}; int8 by examples/{name}-int8.yaml, calibrated on 50 of them",
    )
    return row, int8


WEIGHTS: dict[str, Weights] = {
    row.name: row
    for row in (
        *_packaged("default", "deeplabv3plus_mobilenet", 2000),
        *_packaged("fast", "deeplabv3_mobilenet", 600),
        _reference("deeplabv3_mobilenet", 70.1),
        _reference("deeplabv3_resnet50", 76.9),
        _reference("deeplabv3_resnet101", 77.3),
        _reference("deeplabv3plus_mobilenet", 71.1),
        _reference("deeplabv3plus_resnet50", 77.2),
        _reference("deeplabv3plus_resnet101", 78.3),
        _vision(
            "deeplabv3_resnet50",
            "deeplabv3_resnet50_coco-cd0a2569.pth",
            "cd0a2569",
            66.4,
            92.4,
            168.3,
        ),
        _vision(
            "deeplabv3_resnet101",
            "deeplabv3_resnet101_coco-586e9e4e.pth",
            "586e9e4e203fcbf17e1ad45533d8d33ab133fc762bf03101c5dd743995c08c0d",
            67.4,
            92.4,
            244.5,
        ),
        _vision(
            "deeplabv3_mobilenet_v3_large",
            "deeplabv3_mobilenet_v3_large-fc3c493d.pth",
            "fc3c493d68e89cc31ef488c803d5d7dd2f3190fb570598faa49fef69be8e5e70",
            60.3,
            91.2,
            44.4,
        ),
        _vision(
            "lraspp_mobilenet_v3_large",
            "lraspp_mobilenet_v3_large-d234d4ea.pth",
            "d234d4eae9d55d5f76de18b77cf0dc62c66fe5c5482758209d00f950c92bb280",
            57.9,
            91.2,
            13.1,
        ),
        _imagenet("mobilenet", "mobilenet_v2", "b0353104", 71.878),
        _imagenet("resnet50", "resnet50", "0676ba61", 76.130),
        _imagenet("resnet101", "resnet101", "63fe2227", 77.374),
        _XCEPTION_IMAGENET,
        _HRNET_IMAGENET,
    )
}
"""Trained weights by name."""
