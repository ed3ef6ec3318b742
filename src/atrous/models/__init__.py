"""The networks in PyTorch: build them, fill them with weights, name what a file holds."""

from atrous.models.checkpoint import read_state
from atrous.models.deeplab import DeepLab, build
from atrous.models.weights import (
    Identity,
    fill,
    identify,
    load,
    load_backbone,
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
    "save_safetensors",
]
