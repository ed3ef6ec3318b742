"""The networks in PyTorch: build them, fill them with weights, name what a file holds."""

from atrous.models.checkpoint import read_state
from atrous.models.deeplab import DeepLab, build
from atrous.models.weights import (
    Identity,
    fill,
    identify,
    load,
    load_backbone,
    recorded_metadata,
    save_safetensors,
)

__all__ = [
    "DeepLab",
    "Identity",
    "build",
    "fill",
    "identify",
    "load",
    "load_backbone",
    "read_state",
    "recorded_metadata",
    "save_safetensors",
]
