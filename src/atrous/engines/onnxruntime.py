"""ONNX Runtime: the engine of the base install, on CPU and on NVIDIA GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from atrous.engines import onnx_model
from atrous.engines.base import Device, Engine, Options, TensorSpec
from atrous.errors import EngineError
from atrous.preprocess import Tensor

_PROVIDERS: dict[Device, tuple[str, ...]] = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": (
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ),
}
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


class OnnxRuntimeEngine(Engine):
    """Run an ONNX file on ONNX Runtime.

    Args:
        path: the `.onnx` file.
        options: device and threads; TensorRT keeps its builds in `cache`.

    Raises:
        ArtifactError: the file is damaged, or is not a segmentation network (one image input, one
            output of logits).
        EngineError: the device is not available in this installation or refuses the model.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, options: Options | None = None) -> None:
        options = options or Options()
        opened = onnx_model.read(path)
        self.metadata, self.identity = opened.metadata, opened.identity
        self.coordinates, self.streams = opened.coordinates, options.streams
        session = make_session(opened, path, options)
        self.input, self.output = onnx_model.one_image_to_logits(
            path,
            [spec_of(argument) for argument in session.get_inputs()],
            [spec_of(argument) for argument in session.get_outputs()],
        )
        self._session: ort.InferenceSession | None = session

    def _run(self, batch: Tensor) -> NDArray[np.float32]:
        session = self._session  # another thread may close the engine
        if session is None:
            raise EngineError("this engine is closed")
        try:
            [logits] = session.run([self.output.name], {self.input.name: batch})
        except Exception as error:  # the binding raises one class per status code
            raise EngineError(f"ONNX Runtime failed: {_first_line(error)}") from error
        return np.asarray(logits)

    def close(self) -> None:
        """Free the session."""
        self._session = None


def available_devices() -> tuple[Device, ...]:
    """The devices that the installed ONNX Runtime was built for."""
    built = set(ort.get_available_providers())
    return tuple(device for device, providers in _PROVIDERS.items() if providers[0] in built)


def make_session(opened: onnx_model.Network, path: Path, options: Options) -> ort.InferenceSession:
    """A session on the device asked for; raises `EngineError`."""
    if options.device not in available_devices():
        raise EngineError(
            f"ONNX Runtime here runs on {', '.join(available_devices())}, not on "
            f"{options.device}; for NVIDIA GPUs install onnxruntime-gpu in place of onnxruntime"
        )
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    if options.streams > 1:
        # Every call brings its own thread, and all calls share those of the session.
        settings.intra_op_num_threads = max(1, options.cores - options.streams + 1)
    settings.log_severity_level = 3
    providers = _PROVIDERS[options.device]
    chosen = [(provider, _provider_options(provider, opened, options)) for provider in providers]
    try:
        session = ort.InferenceSession(
            opened.model.SerializeToString(), sess_options=settings, providers=chosen
        )
    except Exception as error:  # the binding raises one class per status code
        raise EngineError(f"{path}: ONNX Runtime refuses it: {_first_line(error)}") from error
    if providers[0] not in session.get_providers():
        # ONNX Runtime only logs this and would go on, slowly, on the CPU.
        raise EngineError(
            f"{providers[0]} could not start and ONNX Runtime fell back to "
            f"{', '.join(session.get_providers())}; check the CUDA, cuDNN and TensorRT libraries"
        )
    return session


def _provider_options(
    provider: str, opened: onnx_model.Network, options: Options
) -> dict[str, Any]:
    if provider != "TensorrtExecutionProvider":
        return {}
    folder = options.cache_folder("tensorrt", opened.identity)
    if folder is None:
        return {}
    return {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(folder)}


def spec_of(argument: ort.NodeArg) -> TensorSpec:
    """What an input or output of a session looks like."""
    shape = tuple(size if isinstance(size, int) else None for size in argument.shape)
    return TensorSpec(argument.name, shape, _DTYPES.get(argument.type, argument.type))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
