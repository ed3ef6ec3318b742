"""The one place where ONNX Runtime is handed a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from atrous.cores import cores, lent
from atrous.engines import processor
from atrous.errors import EngineError

Optimised = Literal["all", "basic", "none"]

_LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_CPU: Mapping[str, Mapping[str, object]] = {"CPUExecutionProvider": {}}


def open_session(
    content: bytes | onnx.ModelProto,
    name: str,
    *,
    providers: Mapping[str, Mapping[str, object]] = _CPU,
    threads: int = 0,
    optimised: Optimised = "all",
    arena: bool = True,
    trace: Path | None = None,
) -> ort.InferenceSession:
    """Open a network on ONNX Runtime.

    Args:
        content: the network, serialised or not.
        name: of the network or of what is done with it, in messages.
        providers: name → settings, the first is the device that is wanted.
        threads: of one call, 0 for one per core.
        optimised: `all`; `basic` without other layouts and most fusions; `none` runs every node as
            it stands, quantisers and what is between them too.
        arena: keep memory between calls. It keeps the most that was ever needed.
        trace: where files of the layers' times begin; nothing is timed without.

    Raises:
        EngineError: ONNX Runtime refuses the network.
    """
    settings = ort.SessionOptions()
    # For 0 it counts the machine's cores, and binds a thread to each, whatever the mask.
    settings.intra_op_num_threads = threads or (cores() if lent() else 0)
    settings.log_severity_level = 4  # what fails is raised, and told by who asked for it
    settings.graph_optimization_level = _LEVELS[optimised]
    settings.enable_cpu_mem_arena = arena
    if processor.saturates():  # products of bytes stay exact; weights of 7 bits keep their speed
        settings.add_session_config_entry("session.x64quantprecision", "1")
    if trace is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(trace)
    if isinstance(content, onnx.ModelProto):
        content = content.SerializeToString()
    chosen = [(provider, dict(own)) for provider, own in providers.items()]
    try:
        # Its second try with the same provider prints to standard output.
        return ort.InferenceSession(
            content, sess_options=settings, providers=chosen, enable_fallback=0
        )
    except Exception as error:  # the binding raises one class per status code
        raise EngineError(f"{name}: ONNX Runtime refuses it: {first_line(error)}") from error


def run_once(
    content: bytes | onnx.ModelProto, name: str, batch: NDArray[np.generic]
) -> NDArray[np.float32]:
    """The only output of a network with one input, on the CPU.

    Args:
        content: see `open_session`.
        name: likewise.
        batch: the input.

    Raises:
        EngineError: ONNX Runtime refuses the network, or fails.
    """
    session = open_session(content, name)
    try:
        [output] = session.run(None, {session.get_inputs()[0].name: batch})
    except Exception as error:  # the binding raises one class per status code
        raise EngineError(f"{name}: ONNX Runtime failed: {first_line(error)}") from error
    return np.asarray(output)


def first_line(error: Exception) -> str:
    """The first line of a message that may have many."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
