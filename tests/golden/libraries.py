"""Make `libraries.npz` and `libraries.json.gz`: what three libraries compute.

    python3 -m venv /tmp/goldens
    /tmp/goldens/bin/pip install torch==2.14.1 torchvision==0.29.1 \\
        segmentation-models-pytorch==0.6.0 transformers==5.24.0
    /tmp/goldens/bin/python tests/golden/libraries.py

It runs torchvision, segmentation_models.pytorch and transformers themselves, nothing of this
project: every tensor filled by its name as `fill.py` says. Two strides each, or two sizes where
there is one stride.

With `--segformer DIR` it writes a snapshot of SegFormer-B0 instead, as the hub has them: made from
its configuration with random weights, with its ONNX file.
"""

from __future__ import annotations

import argparse
import gzip
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from fill import fill_state, golden_input
from torch import Tensor, nn
from torchvision.models import segmentation
from transformers import (
    MobileNetV2Config,
    MobileNetV2ForSemanticSegmentation,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
)

HERE = Path(__file__).parent
CLASSES = 7
STEP = 16
"""Of the rows and columns that are kept."""


def networks() -> Iterator[tuple[str, nn.Module, int]]:
    """Name with what varies, the network, the side of its picture."""
    for name in ("deeplabv3_resnet50", "deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large"):
        network = getattr(segmentation, name)(
            weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True
        )
        yield f"torchvision/{name}/97", network, 97
        yield f"torchvision/{name}/160", network, 160
    network = segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=CLASSES
    )
    yield "torchvision/lraspp_mobilenet_v3_large/97", network, 97
    yield "torchvision/lraspp_mobilenet_v3_large/160", network, 160
    for kind in (smp.DeepLabV3, smp.DeepLabV3Plus):
        for encoder in ("resnet50", "resnet101", "mobilenet_v2"):
            for stride, separable in ((8, False), (16, True)):
                network = kind(
                    encoder,
                    encoder_weights=None,
                    encoder_output_stride=stride,
                    decoder_aspp_separable=separable,
                    classes=CLASSES,
                )
                yield f"smp/{kind.__name__}/{encoder}/os{stride}", network, 96
    for stride, side in ((8, 97), (16, 96), (32, 129)):
        config = MobileNetV2Config(output_stride=stride, num_labels=CLASSES)
        yield f"hf/os{stride}", MobileNetV2ForSemanticSegmentation(config), side


def logits(network: nn.Module, x: Tensor) -> np.ndarray:
    found = network(x)
    found = found if isinstance(found, Tensor) else found.get("out", found.get("logits"))
    kept = found if found.shape[-1] < x.shape[-1] else found[:, :, ::STEP, ::STEP]
    return kept[0].numpy()


def main() -> None:
    made, names = {}, {}
    for name, network, side in networks():
        fill_state(network.state_dict())
        with torch.inference_mode():
            made[name] = logits(network.eval(), torch.from_numpy(golden_input(side)))
        library = name.rpartition("/")[0]
        names[library] = {k: list(v.shape) for k, v in network.state_dict().items()}
        if library.startswith("smp"):
            names[name] = names.pop(library)
    np.savez_compressed(HERE / "libraries.npz", **made)
    (HERE / "libraries.json.gz").write_bytes(gzip.compress(json.dumps(names).encode(), mtime=0))


def segformer(folder: Path) -> None:
    labels = {str(index): f"thing {index}" for index in range(150)}
    config = SegformerConfig(id2label=labels, label2id={v: int(k) for k, v in labels.items()})
    network = SegformerForSemanticSegmentation(config).eval()
    fill_state(network.state_dict())
    network.save_pretrained(folder)
    SegformerImageProcessor(do_reduce_labels=True).save_pretrained(folder)
    (folder / "onnx").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, 128, 128),),
            folder / "onnx" / "model.onnx",
            input_names=["pixel_values"],
            output_names=["logits"],
            dynamo=False,
            opset_version=17,
            dynamic_axes={"pixel_values": {0: "batch", 2: "height", 3: "width"}},
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--segformer", type=Path)
    arguments = parser.parse_args()
    main() if arguments.segformer is None else segformer(arguments.segformer)
