"""Inference backends behind one contract, opened by the name of a model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from atrous import artifact, zoo
from atrous.cache import weights_file
from atrous.engines.base import Engine, Options
from atrous.errors import ArtifactError, ConfigError, EngineError

ENGINES = {"onnxruntime": "onnxruntime", "torch": "torch"}
"""Engine name → the module it needs."""

_CHECKPOINTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")


def open_engine(
    model: str | Path | None = None, *, engine: str = "auto", options: Options | None = None
) -> Engine:
    """Open a model.

    Args:
        model: an ONNX file, a folder holding `mod.onnx`, a path without its `.onnx`, a checkpoint
            (`.pth`, `.safetensors`), a name of the zoo, or `None` for the model in the package.
        engine: `onnxruntime`, `torch`, or `auto`: torch for checkpoints, ONNX Runtime otherwise.
        options: device and threads.

    Raises:
        ArtifactError: there is no such model, or it is damaged.
        ConfigError: the engine is unknown or does not read this kind of file.
        EngineError: the engine is not installed or refuses the model.
    """
    path = find_model(model)
    checkpoint = path.suffix.lower() in _CHECKPOINTS
    if engine == "auto":
        engine = "torch" if checkpoint else "onnxruntime"
    if engine not in ENGINES:
        raise ConfigError(f"no engine is called {engine!r}; known: auto, {', '.join(ENGINES)}")
    if checkpoint != (engine == "torch"):
        reads = "checkpoints (.pth, .safetensors)" if engine == "torch" else "ONNX files"
        raise ConfigError(f"{path}: engine {engine} reads {reads}")
    if reason := missing(engine):
        raise EngineError(f"{path}: {reason}; or export it where torch is installed")
    if engine == "torch":
        from atrous.engines.torch import TorchEngine

        return TorchEngine(path, options)
    from atrous.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, options)


def find_model(model: str | Path | None) -> Path:
    """The file behind the name of a model; see `open_engine`.

    Raises:
        ArtifactError: there is none; says what was tried and where to get it.
    """
    if model is None:
        return artifact.DEFAULT
    path = artifact.locate(model)
    if path is not None:
        return path
    name = str(model)
    rows = [row for row in zoo.WEIGHTS.values() if row.kind == "segmentation"]
    row = next((row for row in rows if name in (row.name, row.network, row.file_name)), None)
    if row is None:
        raise ArtifactError(
            f"{name}: not a file, no folder with mod.onnx, no {name}.onnx, and not a name of the "
            f"zoo ({', '.join(row.name for row in rows)})"
        )
    if row.file_name == artifact.DEFAULT.name:
        return artifact.DEFAULT
    return weights_file(row)


def missing(engine: str) -> str:
    """Why `engine` does not work here, empty if it does."""
    module = ENGINES[engine]
    if find_spec(module) is None:
        return (
            f"engine {engine} needs {module}, which is not installed: pip install 'atrous[torch]'"
        )
    return ""
