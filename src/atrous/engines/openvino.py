"""OpenVINO: an engine for CPUs, beside ONNX Runtime and over the same files."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
from numpy.typing import NDArray

from atrous.engines import onnx_model
from atrous.engines.base import Engine, Options, TensorSpec
from atrous.errors import EngineError
from atrous.preprocess import Tensor

_DTYPES = {"f32": "float32", "f16": "float16", "u8": "uint8"}
_NOISE = ("Exception from", "Check ", "FrontEnd API", "Model wasn't", "Summary:")


class OpenVinoEngine(Engine):
    """Run an ONNX file on OpenVINO.

    Input and output share memory with the runtime. Every calling thread has a request of its own,
    and `options.streams` of them run at the same time.

    Args:
        path: the `.onnx` file.
        options: threads, streams and the folder of compiled models; `cpu` is the only device.

    Raises:
        ArtifactError: the file is damaged, or is not a segmentation network (one image input, one
            output of logits).
        EngineError: the device is another, or OpenVINO refuses the model.
    """

    name = "openvino"

    def __init__(self, path: Path, options: Options | None = None) -> None:
        options = options or Options()
        if options.device != "cpu":
            raise EngineError(
                f"engine openvino runs on cpu, not on {options.device}; use engine onnxruntime"
            )
        opened = onnx_model.read(path)
        self.metadata, self.identity = opened.metadata, opened.identity
        self.coordinates, self.streams = opened.coordinates, options.streams
        core = ov.Core()
        model = read_model(core, opened.model, path)
        self.input, self.output = onnx_model.one_image_to_logits(
            path,
            [spec_of(port) for port in model.inputs],
            [spec_of(port) for port in model.outputs],
        )
        settings = settings_for(options, self.identity)
        try:
            self._compiled: ov.CompiledModel | None = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise EngineError(f"{path}: OpenVINO refuses it: {reason_of(error)}") from error
        self._own = threading.local()

    def _run(self, batch: Tensor) -> NDArray[np.float32]:
        compiled, own = self._compiled, self._own  # another thread may close the engine
        if compiled is None:
            raise EngineError("this engine is closed")
        try:
            if not hasattr(own, "request"):
                own.request = compiled.create_infer_request()
            outputs = own.request.infer({0: batch}, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed: {reason_of(error)}") from error
        return np.asarray(outputs[0])

    def close(self) -> None:
        """Free the compiled model and the requests of all threads."""
        self._compiled = None
        self._own = threading.local()


def read_model(core: ov.Core, model: onnx.ModelProto, path: Path) -> ov.Model:
    """Hand a graph to OpenVINO; raises `EngineError`."""
    try:
        return core.read_model(model.SerializeToString())
    except RuntimeError as error:
        raise EngineError(
            f"{path}: OpenVINO refuses it: {reason_of(error)}; engine onnxruntime may run it"
        ) from error


def settings_for(options: Options, identity: str) -> dict[str, str]:
    """What a compiled model is asked for, in OpenVINO's words."""
    settings = {
        # Without this OpenVINO computes in bf16 or f16, unasked, on CPUs that have instructions
        # for it (AVX-512 BF16, AMX, newer ARM): other logits, other classes where two are close.
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        # More streams than threads have been seen to wait for each other for ever.
        "NUM_STREAMS": str(min(options.streams, options.cores)),
    }
    if options.threads:
        settings["INFERENCE_NUM_THREADS"] = str(options.threads)
    if folder := options.cache_folder("openvino", identity):
        settings["CACHE_DIR"] = str(folder)
    return settings


def spec_of(port: ov.Output) -> TensorSpec:
    """What an input or output of a model looks like."""
    dims = port.partial_shape
    shape = tuple(None if dim.is_dynamic else dim.get_length() for dim in dims)
    dtype = port.element_type.get_type_name()
    return TensorSpec(port.any_name, shape, _DTYPES.get(dtype, dtype))


def reason_of(error: Exception) -> str:
    """The one line of OpenVINO's many that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    listed = [line.removeprefix("-- ") for line in lines if line.startswith("-- ")]
    plain = [line for line in lines if not line.startswith(_NOISE)]
    return (listed[-1:] or plain or lines or [type(error).__name__])[0]
