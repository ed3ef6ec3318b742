"""Make and measure a ResNet of the page's table, from its start to int8, by one command each.

    python recipes/resnets.py deeplabv3_resnet50 --data VOCdevkit --weights FOLDER
    python recipes/resnets.py deeplabv3plus_resnet50 --data VOCdevkit --weights FOLDER
    python recipes/resnets.py deeplabv3_resnet101 --data VOCdevkit --weights FOLDER
    python recipes/resnets.py deeplabv3plus_resnet101 --data VOCdevkit --weights FOLDER

FOLDER holds `resnet50_imagenet_int8.npz`, `mobilenet_v2_backbone.npz` and `deeplab_head.npz`. The
others begin as networks that are made before them (`start_from_resnet.py`). What is done is not
done again, and what was stopped goes on, so the same command goes on. The results lie under
`recipes/results` as `NAME-FORM-PROTOCOL.json`, the weights, too large for the package, in `runs`.

Scored are the images of `benchmarks/voc2012-val-725.txt`. fp32 and fp16 run on OpenVINO, int8 on
both engines, calibrated by KL divergence on 50 training images.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml
from release import FEW, LIST, RESULTS, ROOT, atrous, run

BEFORE = {
    "deeplabv3plus_resnet50": "deeplabv3_resnet50",
    "deeplabv3_resnet101": "deeplabv3_resnet50",
    "deeplabv3plus_resnet101": "deeplabv3plus_resnet50",
}
NAMES = ("deeplabv3_resnet50", *BEFORE)
SHAPE = {"input": [1, 3, 513, 513]}
WEIGHTS = ("resnet50_imagenet_int8.npz", "mobilenet_v2_backbone.npz", "deeplab_head.npz")
SHORTER = ("train.iterations=200",)
"""What is trained after another network begins as good as that one."""


def trained(name: str, data: Path, weights: Path) -> Path:
    """The weights of a network, trained as far as that was not done, like the one before it."""
    start = Path("starts", f"{name}.safetensors")
    if not start.is_file():
        begun = BEFORE.get(name)
        files = [weights / one for one in WEIGHTS]
        if begun is not None:
            files = [trained(begun, data, weights)]
        script = Path(__file__).with_name("start_from_resnet.py")
        run(sys.executable, script, name, *files, "--data", f"voc:{data}:train_more")
    script = Path(__file__).with_name("soft_labels.py")
    run(
        sys.executable, script, *(weights / one for one in WEIGHTS[1:]), "--data",
        f"voc:{data}:train_more", "-o", "soft", "--looks", 2,
    )  # fmt: skip
    # A run that was stopped has weights too: this goes on with it, or finds it done.
    atrous(
        "train", Path(__file__).with_name("resnet.yaml"), f"network={name}", f"start={start}",
        f"output=runs/{name}", f"data.train=voc:{data}:train_more",
        *(SHORTER if name in BEFORE else ()),
    )  # fmt: skip
    return Path("runs", name, "last.safetensors")


def compiled(name: str, checkpoint: Path, data: Path, dtype: str) -> Path:
    """A form of a network, compiled if it is not there."""
    folder = Path("deploy_weights", f"{name}-{dtype}")
    if not (folder / "mod.onnx").is_file():
        config = yaml.safe_load((ROOT / "examples" / "default-int8.yaml").read_text())
        config |= {
            "name": folder.name,
            "frontend": {"type": "pytorch", "checkpoint": str(checkpoint), "shape": SHAPE},
            "workspace": {"path": str(folder.parent)},
        }
        if dtype == "int8":
            config["dataset"]["path"] = f"voc:{data}:train"
        else:
            config["backend"] = {"dtype": dtype}
            del config["dataset"]
        path = Path("runs", name, f"{dtype}.yaml")
        path.write_text(yaml.safe_dump(config))
        atrous("compile", path)
    return folder


def main() -> None:
    """Make and measure one network."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--data", type=Path, default=Path("VOCdevkit"))
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    arguments = parser.parse_args()
    name, data = arguments.name, arguments.data.resolve()
    checkpoint = trained(name, data, arguments.weights)
    RESULTS.mkdir(exist_ok=True)
    for protocol in FEW:
        for form in ("fp32", "int8-openvino", "int8-onnxruntime", "fp16"):
            dtype, _, engine = form.partition("-")
            kept = RESULTS / f"{name}-{form}-{protocol}.json"
            if not kept.is_file():
                atrous(
                    "eval", "-m", compiled(name, checkpoint, data, dtype), "--data",
                    f"voc:{data}:{LIST}", "--protocol", protocol, "--engine", engine or "openvino",
                    "--json-file", kept,
                )  # fmt: skip


if __name__ == "__main__":
    main()
