"""What `compile.py` lets run against each other: Atrous and its peers on one network.

Each function opens a network and returns what turns an RGB image into its class map, of the size
that the network takes.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from numpy.typing import NDArray

from atrous import image, upsample
from atrous.geometry import Axis
from atrous.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import nn

Pixels = NDArray[np.uint8]
Work = Callable[[Pixels], Pixels]

OTHERS = ("segformer_b0", "upernet_convnext_tiny", "pspnet_resnet50", "hrnet18_fcn")
"""The networks of `others.py`."""

ENGINES = ("openvino", "onnxruntime")


def side(network: str) -> int:
    """Rows and columns of a network's input and of the class map."""
    return 512 if network in OTHERS else 513


def tensor(pixels: Pixels, network: str) -> NDArray[np.float32]:
    """The network input that every contender gets."""
    return Preprocess(size=(side(network),) * 2)(pixels)[None]


def running_argmax(logits: NDArray[np.float32]) -> Pixels:
    """`(1, C, H, W)` → `(H, W)`: the largest so far, class by class; the fastest way in NumPy."""
    best, winner = logits[0, 0].copy(), np.zeros(logits.shape[2:], np.uint8)
    for index in range(1, logits.shape[1]):
        higher = logits[0, index] > best
        winner[higher] = index
        np.maximum(best, logits[0, index], out=best)
    return winner


def atrous(folder: Path, network: str, engine: str, dtype: str, threads: int) -> Work:
    """The compiled network, run as `atrous predict` runs it."""
    from atrous import engines
    from atrous.engines.base import Options

    opened = engines.open_engine(
        folder / f"{network}-{engine}-{dtype}", engine=engine, options=Options(threads=threads)
    )

    size = side(network)

    def run(pixels: Pixels) -> Pixels:
        grid = opened.run(tensor(pixels, network))[0]
        return upsample.argmax(
            grid, *opened.signature.on_grid(grid, (size, size), Axis(size), Axis(size))
        )

    return run


def torch_channels_last(folder: Path, network: str, threads: int) -> Work:
    """PyTorch, eager, with the memory format that it is fastest in."""
    import torch

    torch.set_num_threads(threads)
    model = as_torch(folder, network).to(memory_format=torch.channels_last)

    def run(pixels: Pixels) -> Pixels:
        with torch.inference_mode():
            batch = torch.from_numpy(tensor(pixels, network)).to(memory_format=torch.channels_last)
            return model(batch).argmax(1)[0].to(torch.uint8).numpy()

    return run


def as_torch(folder: Path, network: str) -> nn.Module:
    """A network as PyTorch runs it."""
    if network in OTHERS:
        import others

        return others.make(network)
    from atrous import models

    return models.load(folder / f"{network}.pth")


def onnxruntime(folder: Path, network: str, threads: int, inside: bool, int8: bool = False) -> Work:
    """ONNX Runtime on the exported file, or on what its static quantisation makes of it."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    file = exported(folder, network, inside)
    if int8:
        file = statically_quantised(folder, file, network)
    session = ort.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
    if inside:
        return lambda pixels: session.run(None, {"input": tensor(pixels, network)})[0][0]
    return lambda pixels: running_argmax(session.run(None, {"input": tensor(pixels, network)})[0])


def openvino(folder: Path, network: str, threads: int, inside: bool, int8: bool = False) -> Work:
    """OpenVINO on the exported file, or on what NNCF makes of it, tuned for latency."""
    import openvino as ov

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": str(threads),
    }
    model = ov.Core().read_model(exported(folder, network, inside))
    if int8:
        import nncf

        inputs = nncf.Dataset([tensor(pixels, network) for pixels in calibration(folder)])
        kind = nncf.ModelType.TRANSFORMER if network == "segformer_b0" else None
        model = nncf.quantize(model, inputs, subset_size=len(calibration(folder)), model_type=kind)
    compiled = ov.Core().compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()

    def run(pixels: Pixels) -> Pixels:
        outputs = request.infer({0: tensor(pixels, network)}, share_inputs=True, share_outputs=True)
        return outputs[0][0].copy() if inside else running_argmax(outputs[0])

    return run


def mnn(folder: Path, network: str, threads: int, inside: bool) -> Work:
    """MNN on the file that its converter makes of the exported one."""
    import MNN.expr as expr
    import MNN.nn as nn

    file = folder / f"{network}{'-argmax' * inside}.mnn"
    if not file.exists():
        # `MNN.tools.mnnconvert` would report to its maker, and install what that takes.
        convert = "import _tools, sys; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"
        tool = [sys.executable, "-c", convert, "-f", "ONNX"]
        tool += ["--modelFile", exported(folder, network, inside), "--MNNModel", str(file)]
        subprocess.run([*tool, "--bizCode", "bench"], check=True, capture_output=True)
    settings = {"backend": "CPU", "numThread": threads, "precision": "high"}
    manager = nn.create_runtime_manager((settings,))
    module = nn.load_module_from_file(str(file), [], [], runtime_manager=manager)

    def run(pixels: Pixels) -> Pixels:
        batch = tensor(pixels, network)
        output = module.forward([expr.const(batch, list(batch.shape), expr.NCHW)])[0]
        if inside:
            return np.asarray(output.read()).reshape([side(network)] * 2).astype(np.uint8)
        return running_argmax(np.asarray(expr.convert(output, expr.NCHW).read()))

    return run


def exported(folder: Path, network: str, inside: bool) -> str:
    """The exported file, with ArgMax at its end if `inside`."""
    import onnx

    plain = folder / f"{network}.onnx"
    if not inside:
        return str(plain)
    file = folder / f"{network}-argmax.onnx"
    if not file.exists():
        model = onnx.load(plain)
        graph = model.graph
        wide = [onnx.helper.make_node("ArgMax", [graph.output[0].name], ["w"], axis=1, keepdims=0)]
        cast = onnx.helper.make_node("Cast", ["w"], ["classes"], to=onnx.TensorProto.UINT8)
        graph.node.extend([*wide, cast])
        shape = onnx.helper.make_tensor_value_info("classes", 2, [1, *[side(network)] * 2])
        graph.output[0].CopyFrom(shape)
        onnx.save(model, file)
    return str(file)


def calibration(folder: Path) -> list[Pixels]:
    """The images that were put aside to calibrate on."""
    return [image.read(path) for path in sorted((folder / "calibration").iterdir())]


def statically_quantised(folder: Path, file: str, network: str) -> str:
    """ONNX Runtime's own int8 of a file: QDQ, per channel, uint8 × int8."""
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    target = Path(file).with_suffix(".int8.onnx")
    if target.exists():
        return str(target)
    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(file, str(prepared))

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            self.images = iter(calibration(folder))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            pixels = next(self.images, None)
            return None if pixels is None else {"input": tensor(pixels, network)}

    q.quantize_static(
        str(prepared),
        str(target),
        Reader(),
        quant_format=q.QuantFormat.QDQ,
        per_channel=True,
        activation_type=q.QuantType.QUInt8,
        weight_type=q.QuantType.QInt8,
    )
    return str(target)


def listed(int8: bool) -> dict[str, tuple[str, tuple[object, ...]]]:
    """Name → function of this file, and the arguments that are its own."""
    found: dict[str, tuple[str, tuple[object, ...]]] = {}
    for engine, quantiser in (("openvino", "nncf"), ("onnxruntime", "onnxruntime")):
        found[f"atrous {engine}"] = ("atrous", (engine, "int8" if int8 else "fp32"))
        if int8:
            found[f"own fp32 {engine}"] = ("atrous", (engine, "fp32"))
        peer = quantiser if int8 else engine
        if _installed(peer):
            found[f"{engine}"] = (engine, (False, int8))
            found[f"{engine} argmax"] = (engine, (True, int8))
    if not int8:
        found["pytorch channels-last"] = ("torch_channels_last", ())
        if _installed("MNN"):
            found["mnn"] = ("mnn", (False,))
            found["mnn argmax"] = ("mnn", (True,))
    return found


def _installed(peer: str) -> bool:
    there = find_spec(peer) is not None
    if not there:
        print(f"  {peer}: left out: not installed; a ratio against the best peer needs it")
    return there


def begin(name: str, target: Callable[..., None], *arguments: object) -> Connection | None:
    """Start a contender in a process of its own, and print why if it does not come up.

    Args:
        name: for the reason.
        target: takes the process's end of the pipe and `arguments`; it sends an empty text when
            it is ready, or what went wrong.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    context.Process(target=target, args=(theirs, *arguments), daemon=True).start()
    theirs.close()  # else the end of a process that crashes would not be seen
    try:
        reason = ours.recv()
    except EOFError:
        reason = "it crashed"
    if reason:
        print(f"  {name}: left out: {reason.splitlines()[0]}")
    return None if reason else ours
