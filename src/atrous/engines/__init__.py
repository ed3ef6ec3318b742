"""Inference backends behind one contract, opened by the name of a model."""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from importlib.util import find_spec
from pathlib import Path

from atrous import artifact
from atrous.cache import resolve
from atrous.engines import adapt, processor, saturation
from atrous.engines.base import Device, Engine, Options
from atrous.engines.built import warn_once
from atrous.engines.onnx_model import OnnxModel
from atrous.errors import ConfigError, EngineError

ENGINES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "torch": "torch"}
"""Engine name → the module it needs."""

_INSTALL = {
    "onnxruntime": "pip install onnxruntime",
    "openvino": "pip install 'atrous[openvino]', or use engine onnxruntime",
    "torch": "pip install 'atrous[torch]'",
}
_log = logging.getLogger("atrous")

_CHECKPOINTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")


def open_engine(
    model: str | Path | OnnxModel | None = None,
    *,
    engine: str = "auto",
    options: Options | None = None,
) -> Engine:
    """Open a model.

    Args:
        model: an ONNX file, a folder holding `mod.onnx`, a path without its `.onnx`, a checkpoint
            (`.pth`, `.safetensors`), a name of the zoo, an ONNX network in memory, or `None` for
            the model in the package.
        engine: `onnxruntime`, `openvino`, `torch`, or `auto`: torch for checkpoints; for ONNX files
            on the CPU OpenVINO if it is installed and takes the model, ONNX Runtime otherwise.
        options: device, threads, streams and cache.

    Raises:
        ArtifactError: there is no such model, or it is damaged.
        ConfigError: the engine is unknown or does not read this kind of file.
        EngineError: the engine is not installed or refuses the model.
    """
    options = options or Options()
    source = model if isinstance(model, OnnxModel) else find_model(model, options.device)
    checkpoint = isinstance(source, Path) and source.suffix.lower() in _CHECKPOINTS
    if not checkpoint and engine != "torch" and (engine == "auto" or engine in ENGINES):
        source = read_model(source, options)
        for note in source.notes:
            _log.warning("%s", note)
    if engine == "auto":
        return _open("torch", source, options) if checkpoint else _open_fastest(source, options)
    if engine not in ENGINES:
        raise ConfigError(
            f"there is no engine {engine!r}; expected one of auto, {', '.join(ENGINES)}"
        )
    if checkpoint != (engine == "torch"):
        reads = "checkpoints (.pth, .safetensors)" if engine == "torch" else "ONNX files"
        raise ConfigError(f"{source}: engine {engine} reads {reads}")
    return _open(engine, source, options)


def read_model(source: Path | OnnxModel, options: Options) -> OnnxModel:
    """A network in the form that engines take; see `atrous.engines.adapt`.

    Args:
        source: an ONNX file, or what was read from one.
        options: what is said of it.

    Raises:
        ArtifactError: it is missing, damaged, or no segmentation network.
        ConfigError: `options` do not fit it.
    """
    model = source if isinstance(source, OnnxModel) else OnnxModel.read(source)
    return adapt.adapted(model, options.hints)


def _open_fastest(source: Path | OnnxModel, options: Options) -> Engine:
    """Open an ONNX network on OpenVINO if that can be done, else on ONNX Runtime."""
    if options.device != "cpu":
        _log.info(
            "%s: engine onnxruntime, which is the one that runs on %s", source, options.device
        )
        return _open("onnxruntime", source, options)
    model = source if isinstance(source, OnnxModel) else read_model(source, options)
    if options.arithmetic(model.metadata) == "bf16":
        return _open("openvino", model, options)
    if missing("openvino"):
        _log.info(
            "%s: engine onnxruntime; openvino, which is usually faster, is not installed", source
        )
        return _open("onnxruntime", source, options)
    if saturation.overflows(model):
        _log.info("%s: engine onnxruntime, which is exact in int8 on this processor", source)
        return _open("onnxruntime", source, options)
    try:
        opened = _open("openvino", source, options)
    except EngineError as error:
        # The reason is worth telling only if ONNX Runtime does not refuse the file as well.
        opened = _open("onnxruntime", source, options)
        _log.warning("using engine onnxruntime instead of openvino: %s", error)
    else:
        _log.info("%s: engine openvino, which is usually the fastest on CPUs", source)
    return opened


def _open(engine: str, source: Path | OnnxModel, options: Options) -> Engine:
    if reason := missing(engine):
        otherwise = "; or export it where torch is installed" if engine == "torch" else ""
        raise EngineError(f"{source}: {reason}{otherwise}")
    try:
        if engine == "torch":
            from atrous.engines.torch import TorchEngine

            assert isinstance(source, Path)
            return TorchEngine(source, options)
        model = source if isinstance(source, OnnxModel) else read_model(source, options)
        if engine == "openvino":
            from atrous.engines.openvino import OpenVinoEngine

            if saturation.overflows(model):
                warn_once(saturation.note(model))

            return OpenVinoEngine(model, options)
        from atrous.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(model, options)
    except ImportError as error:
        raise EngineError(
            f"{source}: engine {engine} is installed but does not load: {error}; install it again: "
            f"{_INSTALL[engine]}"
        ) from error


def find_model(model: str | Path | None, device: Device = "cpu") -> Path:
    """The file behind the name of a model.

    Args:
        model: see `atrous.cache.resolve`; without one, the model in the package: in int8 on CPUs
            whose int8 products do not overflow, in fp16 elsewhere.
        device: where it will run.

    Raises:
        ArtifactError: there is none; says what was tried and where to get it.
    """
    if model is None:
        bytes_pay = device == "cpu" and not processor.saturates()
        return artifact.DEFAULT_INT8 if bytes_pay else artifact.DEFAULT
    return resolve(model)


def model_name(file: str | Path) -> str:
    """What people call the model in a file: the name of the file, or of the folder of a `mod.onnx`.

    Args:
        file: see `find_model`.
    """
    path = Path(file).absolute()
    return path.parent.name if path.stem == "mod" else path.stem


def missing(engine: str) -> str:
    """Why `engine` does not work here, empty if it does."""
    module = ENGINES[engine]
    if find_spec(module) is None:
        return f"engine {engine} needs {module}, which is not installed: {_INSTALL[engine]}"
    return ""


def version(engine: str) -> str:
    """Version of the library behind `engine`, empty if it is not known."""
    for package in (engine, f"{engine}-gpu"):
        try:
            return version_of(package)
        except PackageNotFoundError:
            continue
    return ""
