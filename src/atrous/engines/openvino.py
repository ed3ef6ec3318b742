"""OpenVINO: an engine for CPUs, beside ONNX Runtime and over the same files."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from atrous.cores import lent
from atrous.engines.base import Engine, Options
from atrous.engines.built import built
from atrous.engines.onnx_graph import OnnxGraph, attributes
from atrous.engines.onnx_model import OnnxModel
from atrous.engines.signature import Runnable, TensorSpec, runnable
from atrous.errors import EngineError
from atrous.preprocess import Tensor

_DTYPES = {"f32": "float32", "f16": "float16", "u8": "uint8"}
_NOISE = ("Exception from", "Check ", "FrontEnd API", "Model wasn't", "Summary:")


class OpenVinoEngine(Engine):
    """Run an ONNX network on OpenVINO.

    Input and output share memory with the runtime. Every calling thread has a request of its own,
    and `options.streams` of them run at the same time.

    Args:
        model: what to run, in our form; see `adapt`.
        options: threads, streams and the folder of compiled models; `cpu` is the only device.

    Raises:
        ArtifactError: it is not a segmentation network (one image input, one output of logits).
        EngineError: the device is another, or OpenVINO refuses the model.
    """

    name = "openvino"
    untried = True

    def __init__(self, model: OnnxModel, options: Options | None = None) -> None:
        options = options or Options()
        if options.device != "cpu":
            raise EngineError(
                f"engine openvino runs on cpu, not on {options.device}; use engine onnxruntime"
            )
        check_resizes(model)
        self.metadata, self.identity = model.metadata, model.identity
        self.streams = options.streams
        self.arithmetic = options.arithmetic(model.metadata)
        network = runnable(model)
        core = ov.Core()
        if self.arithmetic == "bf16":
            check_bf16(core)
            self.identity += "-bf16"  # another network, to whoever compares results
        read = read_model(core, network)
        self.signature = network.signature(*specs_of(read))
        settings = settings_for(replace(options, precision=self.arithmetic))
        bf16 = "-bf16" * (self.arithmetic == "bf16")
        folder = options.cache_folder(f"openvino{bf16}", model.identity)
        self._compiled: ov.CompiledModel | None = (
            compile_model(core, read, network.name, settings)
            if folder is None
            else _kept(core, read, network, settings, folder)
        )
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


def read_model(core: ov.Core, network: Runnable) -> ov.Model:
    """Hand a graph to OpenVINO; raises `EngineError`."""
    try:
        return core.read_model(network.content)
    except RuntimeError as error:
        raise EngineError(
            f"{network.name}: OpenVINO refuses it: {reason_of(error)}; engine onnxruntime may run "
            "it"
        ) from error


def compile_model(
    core: ov.Core, model: ov.Model, name: str, settings: Mapping[str, str]
) -> ov.CompiledModel:
    """Make a graph ready for the CPU; raises `EngineError`."""
    try:
        return core.compile_model(model, "CPU", dict(settings))
    except RuntimeError as error:
        raise EngineError(f"{name}: OpenVINO refuses it: {reason_of(error)}") from error


def _kept(
    core: ov.Core, model: ov.Model, network: Runnable, settings: dict[str, str], folder: Path
) -> ov.CompiledModel:
    """`compile_model`, unless the same was compiled before by this version for this processor."""
    processor = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
    here = [core.get_property("CPU", name) for name in processor]
    key = hashlib.sha256(json.dumps([ov.__version__, here, settings]).encode())
    key.update(network.content)

    def save(compiled: ov.CompiledModel) -> bytes:
        held = io.BytesIO()
        compiled.export_model(held)
        return held.getvalue()

    return built(
        folder / f"{key.hexdigest()[:32]}.built",
        lambda content: core.import_model(io.BytesIO(content), "CPU", settings),
        lambda: compile_model(core, model, network.name, settings),
        save,
    )


def check_resizes(model: OnnxModel) -> None:
    """Raise `EngineError` for what OpenVINO would compute as something else: it reads over
    `antialias`, which matters wherever a map is made smaller."""
    graph = OnnxGraph(model.proto)
    for node in graph.graph.node:
        if node.op_type != "Resize" or not attributes(node).get("antialias", 0):
            continue
        source, target = graph.dims(node.input[0]), graph.dims(node.output[0])
        sizes = zip((source or (None,) * 4)[-2:], (target or (None,) * 4)[-2:], strict=True)
        if any(old is None or new is None or new < old for old, new in sizes):
            raise EngineError(
                f"{model.name}: OpenVINO leaves out the antialiasing of Resize {node.output[0]}, "
                "which changes the classes; engine onnxruntime runs it"
            )


def check_bf16(core: ov.Core) -> None:
    """Raise `EngineError` if the processor has no instructions for bf16."""
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise EngineError(
            "this processor has no instructions for bf16 (AVX512-BF16 or AMX on x86, BF16 on ARM), "
            "where bf16 would be slower and no more exact: use `precision` fp32"
        )


def settings_for(options: Options) -> dict[str, str]:
    """What a compiled model is asked for, in OpenVINO's words."""
    bf16 = options.precision == "bf16"
    settings = {
        # Without this OpenVINO computes in bf16 or f16, unasked, on CPUs that have instructions
        # for it (AVX-512 BF16, AMX, newer ARM): other logits, other classes where two are close.
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        # More streams than threads have been seen to wait for each other for ever.
        "NUM_STREAMS": str(min(options.streams, options.cores)),
    }
    if options.threads or lent():
        settings["INFERENCE_NUM_THREADS"] = str(options.cores)
    return settings


def specs_of(model: ov.Model) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """What the inputs and the outputs of a graph look like."""
    return [*map(_spec, model.inputs)], [*map(_spec, model.outputs)]


def _spec(port: ov.Output) -> TensorSpec:
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
