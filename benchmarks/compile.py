"""How much faster a compiled network is than the same one on the usual runtimes.

    python benchmarks/compile.py                                     # four networks, all peers
    python benchmarks/compile.py --networks deeplabv3plus_mobilenet --rounds 40
    python benchmarks/compile.py --checkpoint deeplabv3plus_mobilenet=best.pth
    python benchmarks/compile.py --agreement --images PHOTOGRAPHS    # class maps instead of times
    python benchmarks/compile.py --int8 --images TRAINING_IMAGES     # int8 against int8 peers
    python benchmarks/compile.py --networks segformer_b0 upernet_convnext_tiny   # other libraries'
    python benchmarks/compile.py --json benchmarks/results/compile-fp32.json     # keep every value
    python benchmarks/compile.py --compile-time                      # all six, fp32 and fp16

Work: one RGB image in memory → its class map at 513×513 (512×512 for the networks of
`others.py`), fp32. Every contender gets the same
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
ratios of the turns of one round. Weights without a checkpoint are random, which changes no time in
fp32. In int8 it does: which of our layers stay in float is decided by class maps, and those of
random weights mean nothing. So `--int8` and `--agreement` want `--checkpoint`.

`--int8` calibrates everything on the same `--calibrate` images of the folder (kl_divergence for
Atrous) and compares with ONNX Runtime's static quantisation (QDQ, per channel, after its own
preprocessing of the graph) and with NNCF for OpenVINO (default preset), where `pip install nncf`
was run; again with and without ArgMax in the graph. Atrous' own fp32 runs along.

`--agreement` compares, on the first `--count` images of a folder, the class map of the compiled
network with the argmax of the full-size logits of the exported one on ONNX Runtime, pixel by pixel.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

import contenders
import numpy as np
import tables
from contenders import ENGINES, OTHERS, Pixels, side

from atrous import cache, image, zoo
from atrous.jobs.sources import find

DEFAULT = (
    "deeplabv3plus_mobilenet",
    "deeplabv3_mobilenet",
    "deeplabv3plus_resnet101",
    "deeplabv3_resnet50",
)
PAUSE = 0.05


def worker(pipe: Connection, kind: str, arguments: tuple[object, ...]) -> None:
    """Make a contender, then run it once for every image that comes down the pipe."""
    logging.disable(logging.WARNING)  # ONNX Runtime's and NNCF's advice
    with Path(os.devnull).open("w") as nowhere:  # MNN prints what the processor can do
        os.dup2(nowhere.fileno(), 1)
    try:
        *shared, threads = arguments[:3]
        extra = arguments[3:]
        if kind == "atrous":
            run = contenders.atrous(*shared, *extra, threads)
        else:
            run = getattr(contenders, kind)(*shared, threads, *extra)
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
        return
    pipe.send("")
    while (pixels := pipe.recv()) is not None:
        start = time.perf_counter()
        result = run(pixels)
        pipe.send((1e3 * (time.perf_counter() - start), result))


def export(folder: Path, network: str, checkpoint: Path | None) -> None:
    """Write the checkpoint and the exported file of one network of the zoo."""
    import torch

    from atrous import models
    from atrous.engines.torch import describe
    from atrous.exporters.onnx import export_onnx
    from atrous.labels import LABEL_SETS

    weights = folder / f"{network}.pth"
    if checkpoint:
        shutil.copy(checkpoint, weights)
    else:
        torch.manual_seed(0)
        torch.save({"model_state": models.build(network).eval().state_dict()}, weights)
    loaded = models.load(weights)
    metadata = describe(loaded, weights, LABEL_SETS["voc"])
    export_onnx(loaded, folder / f"{network}.onnx", metadata=metadata, pixels=image.photograph())


def prepare(folder: Path, network: str, checkpoint: Path | None, dtype: str) -> None:
    """Write the exported file and the compiled folders of one network."""
    from atrous.compiler import build, config

    plain = folder / f"{network}.onnx"
    if not plain.exists():
        if network in OTHERS:
            import others

            others.export(network, plain)
        else:
            export(folder, network, checkpoint)
    for engine in ENGINES:
        name = f"{network}-{engine}-{dtype}"
        if find_spec(engine) and not (folder / name).exists():
            content = {
                "name": name,
                "frontend": {"type": "onnx", "checkpoint": str(plain)},
                "backend": {
                    "engine": engine,
                    "dtype": dtype,
                    "quantize": {"calibrate_mode": "kl_divergence"},
                },
                "dataset": {"path": str(folder / "calibration")},
                "workspace": {"path": str(folder)},
            }
            file = folder / "compile.yaml"
            file.write_text(json.dumps(content))
            start = time.perf_counter()
            build.build(config.load(file), profiled=False)
            print(f"{name}: compiled in {time.perf_counter() - start:.0f} s")


def race(
    folder: Path, network: str, threads: int, turns: tuple[int, int], int8: bool
) -> dict[str, list[float]]:
    """Let all contenders take turns, unmeasured and measured ones; print and return the ms."""
    warmup, rounds = turns
    pixels = image.photograph()
    running: dict[str, Connection] = {}
    for name, (kind, extra) in contenders.listed(int8).items():
        pipe = contenders.begin(name, worker, kind, (folder, network, threads, *extra))
        if pipe is not None:
            running[name] = pipe
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
    report(network, times, results, "int8" if int8 else "fp32")
    return times


def report(
    network: str, times: dict[str, list[float]], results: dict[str, Pixels], dtype: str
) -> None:
    """Print medians, spreads and the ratios of the README's tables."""
    medians = {name: float(np.median(values)) for name, values in times.items()}
    ours = [name for name in times if name.startswith("atrous")]
    peers = [name for name in times if not name.startswith(("atrous", "own"))]
    print(f"\n{network}: RGB image → class map {side(network)}×{side(network)}, {dtype}, ms")
    for name in sorted(times, key=medians.__getitem__):
        low, high = np.percentile(times[name], [10, 90])
        same = (results[name] == results[ours[0]]).mean()
        print(f"  {name:24}{medians[name]:8.1f}  ({low:.1f} .. {high:.1f})  same {same:.4%}")
    best = min(peers, key=medians.__getitem__)
    for name in ours:
        engine = name.removeprefix("atrous ")
        others = [(best, "best peer of all")]
        same = [peer for peer in (engine, f"{engine} argmax") if peer in medians]
        if same:
            plain = min(same, key=medians.__getitem__)
            others.insert(0, (plain, "same engine, whole network"))
        if f"own fp32 {engine}" in times:
            others.append((f"own fp32 {engine}", "our own fp32"))
        for other, label in others:
            ratio = np.median(np.array(times[other]) / np.array(times[name]))
            print(f"  {name}: {ratio:.2f}x as fast as {other} ({label})")


def agreement(folder: Path, network: str, images: list[Path], dtype: str) -> None:
    """Print the share of pixels on which compiled and exported network agree."""
    plain = contenders.onnxruntime(folder, network, 0, False)
    expected = {path: plain(image.read(path)) for path in images}
    for engine in ENGINES:
        if not find_spec(engine):
            continue
        run = contenders.atrous(folder, network, engine, dtype, 0)
        shares = [(run(image.read(path)) == wanted).mean() for path, wanted in expected.items()]
        print(
            f"{network} {dtype}, {engine}: equal on {np.mean(shares):.5%} of the pixels of "
            f"{len(shares)} images; worst image {min(shares):.4%}; "
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
        size = cache.given(folder / content["name"]).stat().st_size
        before = (folder / f"{network}.onnx").stat().st_size
        print(f"{network} {dtype}: {taken:.1f} s, {size / 1e6:.1f} MB of {before / 1e6:.1f} MB")


def main() -> None:
    """Prepare the networks and print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="+", default=None, choices=[*zoo.VARIANTS, *OTHERS])
    parser.add_argument("--checkpoint", action="append", default=[], metavar="NETWORK=FILE")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="keep the files here, and use those there")
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--agreement", action="store_true")
    parser.add_argument("--images", type=Path, help="photographs for --agreement and --int8")
    parser.add_argument("--count", type=int, default=100, help="images for --agreement")
    parser.add_argument("--calibrate", type=int, default=50, help="images for --int8")
    parser.add_argument("--compile-time", action="store_true")
    parser.add_argument("--json", type=Path, help="keep every value in this file")
    arguments = parser.parse_args()
    checkpoints = dict(entry.split("=", 1) for entry in arguments.checkpoint)
    networks = arguments.networks or (list(zoo.VARIANTS) if arguments.compile_time else DEFAULT)
    dtype = "int8" if arguments.int8 else "fp32"
    found = find([arguments.images]) if arguments.images else []
    paths = [source.path for source in found]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        put_aside = folder / "calibration"
        put_aside.mkdir(parents=True, exist_ok=True)
        if arguments.int8 and not any(put_aside.iterdir()):
            chosen = paths[:: max(1, len(paths) // arguments.calibrate)][: arguments.calibrate]
            if not chosen:
                parser.error("--int8 calibrates on --images FOLDER")
            for path in chosen:
                shutil.copy(path, put_aside)
        kept: dict[str, dict[str, list[float]]] = {}
        for network in networks:
            file = checkpoints.get(network)
            for wanted in {"fp32", dtype}:
                prepare(folder, network, Path(file) if file else None, wanted)
            if arguments.compile_time:
                compile_time(folder, network)
            elif arguments.agreement:
                agreement(folder, network, paths[: arguments.count], dtype)
            else:
                turns = (arguments.warmup, arguments.rounds)
                kept[network] = race(folder, network, arguments.threads, turns, arguments.int8)
                if arguments.json:
                    tables.keep(arguments.json, kept)


if __name__ == "__main__":
    main()
