"""Semantic segmentation, from trained weights to the fastest deployable model.

    import atrous

    with atrous.Predictor.open() as predictor:   # the model in the package
        prediction = predictor("photograph.jpg")
    print(prediction)                            # <Prediction 451×300: cat 93.4 %, …>
    prediction.save("mask.png")                  # class ids; "seen.jpg" is the overlay

`Predictor` segments one picture or a list, `Stream` many at once. `export`, `compile`, `train` and
`evaluate` do what the verbs of the command line do. All errors are `AtrousError`s. The names here
are loaded when they are first used.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atrous.engines.base import Options
    from atrous.errors import (
        ArtifactError,
        AtrousError,
        ConfigError,
        EngineError,
        InputError,
        StreamError,
    )
    from atrous.evaluation.evaluate import evaluate
    from atrous.labels import CITYSCAPES, VOC, LabelSet
    from atrous.preprocess import Preprocess
    from atrous.regions import Region
    from atrous.runtime.prediction import Prediction
    from atrous.runtime.predictor import Predictor
    from atrous.runtime.stream import Stream
    from atrous.verbs import compile, export, train

__version__ = "0.2.0"

# ONNX Runtime reports usage to its vendor unless told otherwise before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# OpenVINO reports its import to its vendor and leaves an id in ~/intel. No variable turns that off,
# but where the package that does it is absent OpenVINO uses a stub of its own.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

_HOMES = {
    "CITYSCAPES": "labels",
    "VOC": "labels",
    "ArtifactError": "errors",
    "AtrousError": "errors",
    "ConfigError": "errors",
    "EngineError": "errors",
    "InputError": "errors",
    "LabelSet": "labels",
    "Options": "engines.base",
    "Prediction": "runtime.prediction",
    "Predictor": "runtime.predictor",
    "Preprocess": "preprocess",
    "Region": "regions",
    "Stream": "runtime.stream",
    "StreamError": "errors",
    "compile": "verbs",
    "evaluate": "evaluation.evaluate",
    "export": "verbs",
    "train": "verbs",
}

__all__ = [
    "CITYSCAPES",
    "VOC",
    "ArtifactError",
    "AtrousError",
    "ConfigError",
    "EngineError",
    "InputError",
    "LabelSet",
    "Options",
    "Prediction",
    "Predictor",
    "Preprocess",
    "Region",
    "Stream",
    "StreamError",
    "compile",
    "evaluate",
    "export",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'atrous' has no attribute {name!r}")
    return getattr(import_module(f"atrous.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
