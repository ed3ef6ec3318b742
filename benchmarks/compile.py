"""How much faster a compiled network is than the same one on the usual runtimes.

    python benchmarks/compile.py                                     # four networks, all peers
    python benchmarks/compile.py --networks deeplabv3plus_mobilenet --rounds 40
    python benchmarks/compile.py --checkpoint deeplabv3plus_mobilenet=best.pth
    python benchmarks/compile.py --agreement --images PHOTOGRAPHS    # class maps instead of times
    python benchmarks/compile.py --compile-time                      # all six, fp32 and fp16

Work: one RGB image in memory → its class map at 513×513, fp32. Every contender gets the same
photograph through the same preprocessing (`atrous.preprocess`, 1 ms). Atrous compiles with default
settings for the engine named. The peers run the whole network:

* PyTorch, channels-last, inference mode; argmax in torch
* ONNX Runtime and OpenVINO on the exported file, default optimisations, fp32 asked for; once with
  ArgMax inside the graph and once with the fastest argmax that we know outside (a running maximum
  in NumPy); the faster of the two counts
* MNN, converted by its own tool, likewise; only where `pip install MNN` was run

Method: each contender lives in a process of its own, which sleeps while others run, so that no
thread pool spins beside another; all take turns, one image each, `--rounds` times after `--warmup`
unmeasured ones. Shown are the median, the 10th and 90th percentile in ms, and the median of the
ratios of the turns of one round. Weights without a checkpoint are random, which changes no time;
class maps that mean something need `--checkpoint`.

`--agreement` compares, on the first `--count` images of a folder, the class map of the compiled
network with the argmax of the full-size logits of the exported one on ONNX Runtime, pixel by pixel.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from numpy.typing import NDArray

from atrous import artifact, image, upsample, zoo
from atrous.geometry import Axis
from atrous.preprocess import Preprocess

Pixels = NDArray[np.uint8]
Work = Callable[[Pixels], Pixels]

SIDE = 513
DEFAULT = (
    "deeplabv3plus_mobilenet",
    "deeplabv3_mobilenet",
    "deeplabv3plus_resnet101",
    "deeplabv3_resnet50",
)
ENGINES = ("openvino", "onnxruntime")
PAUSE = 0.05


def tensor(pixels: Pixels) -> NDArray[np.float32]:
    """The network input that every contender gets."""
    return Preprocess()(pixels)[None]


def running_argmax(logits: NDArray[np.float32]) -> Pixels:
    """`(1, C, H, W)` → `(H, W)`: the largest so far, class by class; the fastest way in NumPy."""
    best, winner = logits[0, 0].copy(), np.zeros(logits.shape[2:], np.uint8)
    for index in range(1, logits.shape[1]):
        higher = logits[0, index] > best
        winner[higher] = index
        np.maximum(best, logits[0, index], out=best)
    return winner


def atrous(folder: Path, network: str, engine: str, threads: int) -> Work:
    """The compiled network, run as `atrous predict` runs it."""
    from atrous import engines
    from atrous.engines.base import Options

    opened = engines.open_engine(
        folder / f"{network}-{engine}", engine=engine, options=Options(threads=threads)
    )

    def run(pixels: Pixels) -> Pixels:
        grid = opened.run(tensor(pixels))[0]
        return upsample.argmax(grid, *opened.on_grid(grid, (SIDE, SIDE), Axis(SIDE), Axis(SIDE)))

    return run


def torch_channels_last(folder: Path, network: str, threads: int) -> Work:
    """PyTorch, eager, with the memory format that it is fastest in."""
    import torch

    from atrous import models

    torch.set_num_threads(threads)
    model = models.load(folder / f"{network}.pth").to(memory_format=torch.channels_last)

    def run(pixels: Pixels) -> Pixels:
        with torch.inference_mode():
            batch = torch.from_numpy(tensor(pixels)).to(memory_format=torch.channels_last)
            return model(batch).argmax(1)[0].to(torch.uint8).numpy()

    return run


def onnxruntime(folder: Path, network: str, threads: int, inside: bool) -> Work:
    """ONNX Runtime on the exported file."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    session = ort.InferenceSession(
        exported(folder, network, inside), settings, providers=["CPUExecutionProvider"]
    )
    if inside:
        return lambda pixels: session.run(None, {"input": tensor(pixels)})[0][0]
    return lambda pixels: running_argmax(session.run(None, {"input": tensor(pixels)})[0])


def openvino(folder: Path, network: str, threads: int, inside: bool) -> Work:
    """OpenVINO on the exported file, tuned for latency."""
    import openvino as ov

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": str(threads),
    }
    compiled = ov.Core().compile_model(exported(folder, network, inside), "CPU", settings)
    request = compiled.create_infer_request()

    def run(pixels: Pixels) -> Pixels:
        outputs = request.infer({0: tensor(pixels)}, share_inputs=True, share_outputs=True)
        return outputs[0][0].copy() if inside else running_argmax(outputs[0])

    return run


def mnn(folder: Path, network: str, threads: int, inside: bool) -> Work:
    """MNN on the file that its converter makes of the exported one."""
    import MNN.expr as expr
    import MNN.nn as nn

    file = folder / f"{network}{'-argmax' * inside}.mnn"
    if not file.exists():
        tool = [sys.executable, "-m", "MNN.tools.mnnconvert", "-f", "ONNX"]
        tool += ["--modelFile", exported(folder, network, inside), "--MNNModel", str(file)]
        subprocess.run([*tool, "--bizCode", "bench"], check=True, capture_output=True)
    settings = {"backend": "CPU", "numThread": threads, "precision": "high"}
    manager = nn.create_runtime_manager((settings,))
    module = nn.load_module_from_file(str(file), [], [], runtime_manager=manager)

    def run(pixels: Pixels) -> Pixels:
        batch = tensor(pixels)
        output = module.forward([expr.const(batch, list(batch.shape), expr.NCHW)])[0]
        if inside:
            return np.asarray(output.read()).reshape(SIDE, SIDE).astype(np.uint8)
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
        shape = onnx.helper.make_tensor_value_info("classes", 2, [1, SIDE, SIDE])
        graph.output[0].CopyFrom(shape)
        onnx.save(model, file)
    return str(file)


def contenders() -> dict[str, tuple[str, tuple[object, ...]]]:
    """Name → function of this file and its last arguments."""
    found: dict[str, tuple[str, tuple[object, ...]]] = {}
    for engine in ENGINES:
        if find_spec(engine):
            found[f"atrous {engine}"] = ("atrous", (engine,))
            found[f"{engine}"] = (engine, (False,))
            found[f"{engine} argmax"] = (engine, (True,))
    if find_spec("torch"):
        found["pytorch channels-last"] = ("torch_channels_last", ())
    if find_spec("MNN"):
        found["mnn"] = ("mnn", (False,))
        found["mnn argmax"] = ("mnn", (True,))
    return found


def worker(pipe: Connection, kind: str, arguments: tuple[object, ...]) -> None:
    """Make a contender, then run it once for every image that comes down the pipe."""
    with Path(os.devnull).open("w") as nowhere:  # MNN prints what the processor can do
        os.dup2(nowhere.fileno(), 1)
    try:
        *shared, threads = arguments[:3]
        extra = arguments[3:]
        if kind == "atrous":
            run = atrous(*shared, *extra, threads)
        else:
            run = globals()[kind](*shared, threads, *extra)
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
        return
    pipe.send("")
    while (pixels := pipe.recv()) is not None:
        start = time.perf_counter()
        result = run(pixels)
        pipe.send((1e3 * (time.perf_counter() - start), result))


def prepare(folder: Path, network: str, checkpoint: Path | None) -> None:
    """Write the checkpoint, the exported file and the compiled folders of one network."""
    import torch

    from atrous import models
    from atrous.compiler import build, config
    from atrous.engines.torch import describe
    from atrous.export.onnx import export_onnx
    from atrous.labels import LABEL_SETS

    weights = folder / f"{network}.pth"
    if checkpoint:
        shutil.copy(checkpoint, weights)
    else:
        torch.manual_seed(0)
        state = models.build(network).eval().state_dict()
        torch.save({"model_state": state}, weights)
    loaded = models.load(weights)
    plain = folder / f"{network}.onnx"
    metadata = describe(loaded, weights, LABEL_SETS["voc"])
    export_onnx(loaded, plain, metadata=metadata, pixels=image.photograph())
    for engine in ENGINES:
        if find_spec(engine):
            content = {
                "name": f"{network}-{engine}",
                "frontend": {"type": "onnx", "checkpoint": str(plain)},
                "backend": {"engine": engine},
                "workspace": {"path": str(folder)},
            }
            file = folder / "compile.yaml"
            file.write_text(json.dumps(content))
            build.build(config.load(file), profiled=False)


def race(folder: Path, network: str, threads: int, warmup: int, rounds: int) -> None:
    """Let all contenders take turns, and print what they took."""
    pixels = image.photograph()
    context = multiprocessing.get_context("spawn")
    running: dict[str, Connection] = {}
    for name, (kind, extra) in contenders().items():
        ours, theirs = context.Pipe()
        arguments = (folder, network, threads, *extra)
        context.Process(target=worker, args=(theirs, kind, arguments), daemon=True).start()
        if reason := ours.recv():
            print(f"  {name}: left out: {reason.splitlines()[0]}")
        else:
            running[name] = ours
    times: dict[str, list[float]] = {name: [] for name in running}
    results: dict[str, Pixels] = {}
    for number in range(warmup + rounds):
        for name, pipe in running.items():
            time.sleep(PAUSE)
            pipe.send(pixels)
            taken, results[name] = pipe.recv()
            if number >= warmup:
                times[name].append(taken)
    for pipe in running.values():
        pipe.send(None)
    report(network, times, results)


def report(network: str, times: dict[str, list[float]], results: dict[str, Pixels]) -> None:
    """Print medians, spreads and the two ratios of the README's table."""
    medians = {name: float(np.median(values)) for name, values in times.items()}
    ours = [name for name in times if name.startswith("atrous")]
    peers = [name for name in times if name not in ours]
    print(f"\n{network}: RGB image → class map {SIDE}×{SIDE}, fp32, ms")
    for name in sorted(times, key=medians.__getitem__):
        low, high = np.percentile(times[name], [10, 90])
        same = (results[name] == results[ours[0]]).mean()
        print(f"  {name:24}{medians[name]:8.1f}  ({low:.1f} .. {high:.1f})  same {same:.4%}")
    best = min(peers, key=medians.__getitem__)
    for name in ours:
        engine = name.removeprefix("atrous ")
        plain = min((engine, f"{engine} argmax"), key=medians.__getitem__)
        for other, label in ((plain, "same engine, whole network"), (best, "best peer of all")):
            ratio = np.median(np.array(times[other]) / np.array(times[name]))
            print(f"  {name}: {ratio:.2f}x as fast as {other} ({label})")


def agreement(folder: Path, network: str, images: list[Path]) -> None:
    """Print the share of pixels on which compiled and exported network agree."""
    plain = onnxruntime(folder, network, 0, False)
    expected = {path: plain(image.read(path)) for path in images}
    for engine in ENGINES:
        if not find_spec(engine):
            continue
        run = atrous(folder, network, engine, 0)
        shares = [(run(image.read(path)) == wanted).mean() for path, wanted in expected.items()]
        print(
            f"{network}, {engine}: equal on {np.mean(shares):.5%} of the pixels of {len(shares)} "
            f"images; worst image {min(shares):.4%}; "
            f"{np.mean([len(np.unique(wanted)) for wanted in expected.values()]):.1f} classes each"
        )


def compile_time(folder: Path, network: str) -> None:
    """Print how long `atrous compile` takes, its profile included."""
    for dtype in ("fp32", "fp16"):
        content = {
            "name": f"{network}-{dtype}",
            "frontend": {"type": "onnx", "checkpoint": str(folder / f"{network}.onnx")},
            "backend": {"dtype": dtype},
            "workspace": {"path": str(folder)},
        }
        file = folder / "compile.yaml"
        file.write_text(json.dumps(content))
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "atrous", "compile", str(file)], check=True, capture_output=True
        )
        taken = time.perf_counter() - start
        size = artifact.locate(folder / content["name"]).stat().st_size
        before = (folder / f"{network}.onnx").stat().st_size
        print(f"{network} {dtype}: {taken:.1f} s, {size / 1e6:.1f} MB of {before / 1e6:.1f} MB")


def main() -> None:
    """Prepare the networks and print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="+", default=None, choices=list(zoo.VARIANTS))
    parser.add_argument("--checkpoint", action="append", default=[], metavar="NETWORK=FILE")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="keep the files here, and use those there")
    parser.add_argument("--agreement", action="store_true")
    parser.add_argument("--images", type=Path, help="folder of photographs for --agreement")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--compile-time", action="store_true")
    arguments = parser.parse_args()
    checkpoints = dict(entry.split("=", 1) for entry in arguments.checkpoint)
    networks = arguments.networks or (list(zoo.VARIANTS) if arguments.compile_time else DEFAULT)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for network in networks:
            if not (folder / f"{network}-{ENGINES[-1]}").exists():
                file = checkpoints.get(network)
                prepare(folder, network, Path(file) if file else None)
            if arguments.compile_time:
                compile_time(folder, network)
            elif arguments.agreement:
                from atrous.runtime.sources import find

                found = find([arguments.images]) if arguments.images else []
                paths = [source.path for source in found[: arguments.count]]
                agreement(folder, network, paths)
            else:
                race(folder, network, arguments.threads, arguments.warmup, arguments.rounds)


if __name__ == "__main__":
    main()
