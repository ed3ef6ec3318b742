"""A folder as Hugging Face's hub has it: which file in it is the model, and what its JSON says.

Files and JSON alone; `atrous.snapshot` says what they mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atrous import texts
from atrous.errors import ArtifactError

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
GRAPHS = ("onnx/model.onnx", "model.onnx")
CHECKPOINTS = ("model.safetensors", "pytorch_model.bin")
READ_HERE = ("MobileNetV2ForSemanticSegmentation", "DeepLabV3", "DeepLabV3Plus")
"""Architectures whose checkpoints `atrous.models` reads."""

_EXPORT = "optimum-cli export onnx --model {0} --task semantic-segmentation {0}/onnx"

# Architecture → setting → the values that the networks here have.
_BUILT: dict[str, dict[str, tuple[object, ...]]] = {
    "MobileNetV2ForSemanticSegmentation": {
        "tf_padding": (True,), "depth_multiplier": (1,), "expand_ratio": (6,),
        "first_layer_is_expansion": (True,), "hidden_act": ("relu6",), "num_channels": (3,),
        "layer_norm_eps": (0.001,),
    },
    "DeepLabV3": {
        "decoder_atrous_rates": ([12, 24, 36],), "encoder_depth": (5,), "in_channels": (3,),
        "upsampling": (None, 8, 16),
    },
    "DeepLabV3Plus": {
        "decoder_atrous_rates": ([12, 24, 36],), "encoder_depth": (5,), "in_channels": (3,),
        "upsampling": (4,),
    },
}  # fmt: skip


def model_file(folder: Path) -> Path | None:
    """The model in a snapshot of the hub, or in the folder of a repository in its cache.

    The graph comes before the checkpoint, as every network has one.

    Returns:
        The file, or `None` if the folder is no snapshot.

    Raises:
        ArtifactError: it holds neither a graph nor a checkpoint of an architecture that is read.
    """
    folder = _revision(folder)
    config = configuration(folder / CONFIG)
    if not config:
        return None
    graph = next((folder / name for name in GRAPHS if (folder / name).is_file()), None)
    if graph is not None:
        return graph
    kind = architecture(config)
    weights = next((folder / name for name in CHECKPOINTS if (folder / name).is_file()), None)
    if weights is not None and kind in READ_HERE:
        return weights
    if kind in READ_HERE:
        raise ArtifactError(
            f"{folder}: a snapshot of {kind} without its weights; put {CHECKPOINTS[0]} into it"
        )
    raise ArtifactError(
        f"{folder}: a snapshot of {kind} without its ONNX file, {GRAPHS[0]}; make it where "
        f"optimum is installed: {_EXPORT.format(folder)}"
    )


def _revision(folder: Path) -> Path:
    """The snapshot that `main` names, of a folder `models--…` of the hub's cache; else `folder`."""
    if not (folder / "snapshots").is_dir():
        return folder
    head = folder / "refs" / "main"
    if head.is_file():
        named = folder / "snapshots" / head.read_text("utf-8", "replace").strip()
        if named.is_dir():
            return named
    found = sorted(path for path in (folder / "snapshots").iterdir() if path.is_dir())
    return found[0] if len(found) == 1 else folder


def configuration(path: Path) -> dict[str, Any]:
    """What `config.json` says, empty if it is not there or is none of the hub's."""
    content = _json(path)
    return content if content.keys() & {"model_type", "architectures", "_model_class"} else {}


def processor(path: Path) -> dict[str, Any]:
    """What `preprocessor_config.json` says, empty if it is not there."""
    return _json(path)


def architecture(config: Mapping[str, Any]) -> str:
    """What a configuration calls its network."""
    named = config.get("architectures") or config.get("_model_class") or config.get("model_type")
    return str(named[0] if isinstance(named, list) else named)


def beside(model: Path, name: str) -> Path:
    """Where a file of the snapshot is that `model` belongs to."""
    folder = model.parent
    upper = folder.parent / name
    own = folder / name
    return upper if folder.name == "onnx" and upper.is_file() and not own.is_file() else own


def output_stride(checkpoint: Path) -> str | None:
    """The output stride that the configuration beside a checkpoint records, `None` without one.

    Raises:
        ArtifactError: the configuration is of a network that is built otherwise here.
    """
    config = configuration(checkpoint.parent / CONFIG)
    kind = architecture(config) if config else ""
    if kind not in READ_HERE or checkpoint.name not in CHECKPOINTS:
        return None
    for setting, built in _BUILT[kind].items():
        if config.get(setting, built[0]) not in built:
            raise ArtifactError(
                f"its {CONFIG} says {setting} {json.dumps(config[setting])}, and {kind} is read "
                f"with {json.dumps(built[0])} alone; export it to ONNX where it was trained "
                "(docs/from-elsewhere.md)"
            )
    if kind == "MobileNetV2ForSemanticSegmentation":
        return str(config.get("output_stride", 32))  # what transformers leave out is their default
    return str(config.get("encoder_output_stride", 16 if kind == "DeepLabV3Plus" else 8))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = texts.read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
