"""What `atrous bench` adds to what it measures: its pure inference beside bare loops.

    python benchmarks/bench.py                          # the float model in the package
    python benchmarks/bench.py --model mod.onnx --pairs 20 --instances 2
    python benchmarks/bench.py --json raw.json          # keep every pair

Work: one ONNX file, random tensors, offline. The file is the model without its last resize, which
our engines leave out and other tools would run: so all contenders run the same graph.

Bare ONNX Runtime loop: `session.run` over and over, in the same process as `bench`'s own loop, each
with a session of its own on the same settings. Turns of `--seconds` each, after `WARMUP` unmeasured
turns, with a pause between them in which the other's threads stop spinning.

benchmark_app: OpenVINO's own tool and `atrous bench`, each a whole run in a process of its own with
the same streams, requests, threads and precision; `--api sync` for one instance, else async. Both
warm up by themselves; each measures `--app-seconds`.

Method: interleaved pairs; which of a pair comes first alternates. Shown are the medians of both,
and the median, 10th and 90th percentile of the pairs' ratios `bench / other`. Control: the bare
loop against itself, in the same way, shows what a ratio of equals looks like on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from atrous import artifact
from atrous.bench.load import load
from atrous.bench.load_generator import Load, generator_for
from atrous.bench.machine import CpuWatch
from atrous.bench.plan import Plan
from atrous.engines.drop_resize import drop_last_resize

WARMUP = 2
REST = 0.05
BIN = Path(sys.executable).parent

Turn = Callable[[], float]
Pairs = list[tuple[float, float]]


def paired(one: Turn, other: Turn, pairs: int, warmup: int = 0) -> Pairs:
    """Images per second of both, in turn."""
    found = []
    for number in range(warmup + pairs):
        turns = [one, other] if number % 2 == 0 else [other, one]
        rates = [turn() for turn in turns]
        if number >= warmup:
            found.append((rates[0], rates[1]) if turns[0] is one else (rates[1], rates[0]))
    return found


def against_loop(file: Path, threads: int, seconds: float, pairs: int) -> dict[str, Pairs]:
    """`bench` against `session.run` in a loop, and that loop against another one."""
    plan = Plan(model=str(file), engine="onnxruntime", threads=threads)
    loaded = load(plan)
    ours = generator_for(plan, loaded)

    def bench() -> float:
        time.sleep(REST)
        found = ours.run(Load(seconds))
        return len(found.ends) / (found.ended - found.began)

    def bare() -> Turn:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: loaded.inputs[0]}

        def loop() -> float:
            time.sleep(REST)
            began, count = time.perf_counter(), 0
            while (now := time.perf_counter()) - began < seconds:
                session.run(None, feed)
                count += 1
            return count / (now - began)

        return loop

    first, second = bare(), bare()
    found = {
        "bench / bare ONNX Runtime loop": paired(bench, first, pairs, WARMUP),
        "control: bare loop / bare loop": paired(second, first, pairs, WARMUP),
    }
    ours.close()
    loaded.engine.close()
    return found


def against_app(file: Path, threads: int, instances: int, seconds: float, pairs: int) -> Pairs:
    """`atrous bench` against OpenVINO's benchmark_app."""
    app = [str(BIN / "benchmark_app"), "-m", str(file), "-d", "CPU", "-hint", "none"]
    app += ["-nstreams", str(instances), "-nireq", str(instances), "-nthreads", str(threads)]
    app += ["-infer_precision", "f32", "-t", str(round(seconds))]
    app += ["-api", "sync" if instances == 1 else "async"]
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "bench.json"
        own = [str(BIN / "atrous"), "bench", "-m", str(file), "--engine", "openvino"]
        own += ["-i", str(instances), "--threads", str(threads), "-t", str(seconds)]
        own += ["--json-file", str(kept)]

        def bench() -> float:
            subprocess.run(own, check=True, capture_output=True)
            return float(json.loads(kept.read_text())["throughput"]["mean"])

        def theirs() -> float:
            done = subprocess.run(app, check=True, capture_output=True, text=True)
            return float(re.findall(r"Throughput:\s+([\d.]+) FPS", done.stdout)[-1])

        return paired(bench, theirs, pairs)


def show(name: str, pairs: Pairs) -> None:
    """Print one line of the table."""
    rates = np.array(pairs)
    low, middle, high = np.percentile(rates[:, 0] / rates[:, 1], [10, 50, 90])
    one, other = np.median(rates, axis=0)
    print(
        f"{name:32} {one:7.2f} {other:7.2f} images/s, ratio {middle:.4f} ({low:.3f} .. {high:.3f}),"
        f" {len(pairs)} pairs"
    )


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, default=artifact.DEFAULT)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--instances", type=int, default=1, help="of the comparison with OpenVINO")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--app-pairs", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--app-seconds", type=float, default=6.0)
    parser.add_argument("--json", type=Path, help="keep every pair")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "without_resize.onnx"
        onnx.save(drop_last_resize(artifact.load(arguments.model))[0], file)
        watch, own = CpuWatch(), sum(os.times()[:4])
        found = against_loop(file, arguments.threads, arguments.seconds, arguments.pairs)
        found["bench / benchmark_app"] = against_app(
            file,
            arguments.threads,
            arguments.instances,
            arguments.app_seconds,
            arguments.app_pairs,
        )
        others = watch.others(sum(os.times()[:4]) - own)
    for name, pairs in found.items():
        show(name, pairs)
    print(f"other processes took {others:.0%} of the CPU meanwhile")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
