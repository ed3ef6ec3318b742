"""ONNX Runtime: the engine of the base install, on CPU and on NVIDIA GPUs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from atrous.engines.base import Device, Engine, Options
from atrous.engines.onnx_model import OnnxModel
from atrous.engines.session import first_line, open_session
from atrous.engines.signature import Runnable, TensorSpec, runnable
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
    """Run an ONNX network on ONNX Runtime.

    Args:
        model: what to run, in our form; see `adapt`.
        options: device and threads; TensorRT keeps its builds in `cache`.

    Raises:
        ArtifactError: it is not a segmentation network (one image input, one output of logits).
        EngineError: the device is not available in this installation or refuses the model.
    """

    name = "onnxruntime"
    untried = True

    def __init__(self, model: OnnxModel, options: Options | None = None) -> None:
        options = options or Options()
        options.need_fp32(self.name, model.metadata)
        self.metadata, self.identity = model.metadata, model.identity
        self.streams = options.streams
        network = runnable(model)
        session = session_for(network, model.identity, options)
        self.signature = network.signature(*specs_of(session))
        self._session: ort.InferenceSession | None = session

    def _run(self, batch: Tensor) -> NDArray[np.float32]:
        session, own = self._session, self.signature  # another thread may close the engine
        if session is None:
            raise EngineError("this engine is closed")
        try:
            [logits] = session.run([own.output.name], {own.input.name: batch})
        except Exception as error:  # the binding raises one class per status code
            raise EngineError(f"ONNX Runtime failed: {first_line(error)}") from error
        return np.asarray(logits)

    def close(self) -> None:
        """Free the session."""
        self._session = None


def available_devices() -> tuple[Device, ...]:
    """The devices that the installed ONNX Runtime was built for."""
    built = set(ort.get_available_providers())
    return tuple(device for device, providers in _PROVIDERS.items() if providers[0] in built)


def session_for(
    network: Runnable, identity: str, options: Options, *, trace: Path | None = None
) -> ort.InferenceSession:
    """A session on the device asked for.

    Args:
        network: what is run.
        identity: of its model; names the folder of what TensorRT keeps.
        options: device, threads, streams and cache.
        trace: see `open_session`.

    Raises:
        EngineError: the device is not available, or ONNX Runtime refuses the network.
    """
    if options.device not in available_devices():
        raise EngineError(
            f"ONNX Runtime here runs on {', '.join(available_devices())}, not on "
            f"{options.device}; for NVIDIA GPUs install onnxruntime-gpu in place of onnxruntime"
        )
    threads = options.threads
    if options.streams > 1:
        # Every call brings its own thread, and all calls share those of the session.
        threads = max(1, options.cores - options.streams + 1)
    providers: dict[str, dict[str, object]] = {name: {} for name in _PROVIDERS[options.device]}
    if options.device == "tensorrt" and (folder := options.cache_folder("tensorrt", identity)):
        providers["TensorrtExecutionProvider"] = {
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(folder),
        }
    session = open_session(
        network.content, network.name, providers=providers, threads=threads, trace=trace
    )
    wanted, *_ = providers
    if wanted not in session.get_providers():
        # ONNX Runtime only logs this and would go on, slowly, on the CPU.
        raise EngineError(
            f"{wanted} could not start and ONNX Runtime fell back to "
            f"{', '.join(session.get_providers())}; check the CUDA, cuDNN and TensorRT libraries"
        )
    return session


def specs_of(session: ort.InferenceSession) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """What the inputs and the outputs of a session look like."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    return [*map(_spec, inputs)], [*map(_spec, outputs)]


def _spec(argument: ort.NodeArg) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in argument.shape)
    return TensorSpec(argument.name, shape, _DTYPES.get(argument.type, argument.type))
