"""ONNX Runtime: the engine of the base install, on CPU and on NVIDIA GPUs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from atrous import artifact
from atrous.engines.base import Device, Engine, Options, TensorSpec
from atrous.engines.headless import drop_last_resize
from atrous.errors import ArtifactError, EngineError

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
        options: device and threads.

    Raises:
        ArtifactError: the file is damaged, or is not a segmentation network (one image input, one
            output of logits).
        EngineError: the device is not available in this installation, or refuses the model.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, options: Options | None = None) -> None:
        options = options or Options()
        model = artifact.load(path)
        self.metadata = artifact.metadata_of(model, path)
        self.identity = artifact.identity(model)
        model, rule = drop_last_resize(model)
        if rule is not None:
            self.coordinates = rule
        self._session: ort.InferenceSession | None = _session(model, path, options)
        self.input = _spec(path, "input", self._session.get_inputs())
        self.output = _spec(path, "output", self._session.get_outputs())
        if len(self.input.shape) != 4 or self.input.shape[1] not in (3, None):
            raise ArtifactError(f"{path}: expected an input (N, 3, H, W), found {self.input.shape}")
        if len(self.output.shape) != 4 or self.output.dtype != "float32":
            raise ArtifactError(
                f"{path}: expected float32 logits (N, C, H, W) as output, found "
                f"{self.output.dtype} {self.output.shape}; export the network without its argmax"
            )

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._session is None:
            raise EngineError("this engine is closed")
        try:
            [logits] = self._session.run([self.output.name], {self.input.name: batch})
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


def _session(model: onnx.ModelProto, path: Path, options: Options) -> ort.InferenceSession:
    if options.device not in available_devices():
        raise EngineError(
            f"ONNX Runtime here runs on {', '.join(available_devices())}, not on "
            f"{options.device}; for NVIDIA GPUs install onnxruntime-gpu in place of onnxruntime"
        )
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 3
    providers = list(_PROVIDERS[options.device])
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), sess_options=settings, providers=providers
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


def _spec(path: Path, role: str, arguments: list[ort.NodeArg]) -> TensorSpec:
    if len(arguments) != 1:
        names = ", ".join(argument.name for argument in arguments)
        raise ArtifactError(f"{path}: expected one {role}, found {len(arguments)} ({names})")
    [argument] = arguments
    shape = tuple(size if isinstance(size, int) else None for size in argument.shape)
    return TensorSpec(argument.name, shape, _DTYPES.get(argument.type, argument.type))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
