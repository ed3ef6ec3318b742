"""The table of networks and weights: what can be built, from where, and how good it is said to be.

Plain values only; nothing here needs torch. `atrous.models` builds and fills what is listed.
"""

from atrous.zoo.files import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    WEIGHTS,
    ClaimedAccuracy,
    Kind,
    Preprocessing,
    Weights,
    weights,
)
from atrous.zoo.networks import BACKBONES, VARIANTS, Backbone, Head, Variant, backbone, variant

__all__ = [
    "BACKBONES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "VARIANTS",
    "WEIGHTS",
    "Backbone",
    "ClaimedAccuracy",
    "Head",
    "Kind",
    "Preprocessing",
    "Variant",
    "Weights",
    "backbone",
    "variant",
    "weights",
]
