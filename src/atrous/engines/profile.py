"""Where the time of an ONNX network goes on an engine: whole runs, and every layer of them."""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from atrous import engines
from atrous.engines.base import Options
from atrous.engines.layer_names import LayerNames
from atrous.engines.onnx_model import OnnxModel
from atrous.engines.signature import Runnable, TensorSpec, runnable
from atrous.errors import ConfigError, EngineError, InputError
from atrous.preprocess import Tensor
from atrous.record import Record

WARMUP = 2
"""Runs before the ones that count."""

REST = 0.05
"""Seconds between runs in turn: threads of ONNX Runtime spin for some 35 ms after a run."""

FREE = (1, 3, 513, 513)
"""Sizes of the input where the model leaves them free."""


class Layer(Record):
    """A layer as the engine runs it, with what it fused into it.

    Attributes:
        name: the module, where weights carry its name; else the node or tensor of the ONNX file,
            or the engine's own name. `a → b` is a change of layout between the two.
        operator: as the engine calls it.
        kernel: the engine's code for it, empty where it does not tell.
        milliseconds: median over the runs.
        share: of the sum over all layers, 0–1.
    """

    name: str
    operator: str
    kernel: str = ""
    milliseconds: float
    share: float


class Profile(Record):
    """How long a model takes, and where.

    Attributes:
        engine: what ran it.
        version: of the engine.
        threads: asked for, 0 for one per core.
        runs: that were measured, after a warm-up.
        milliseconds: median of a whole run; nothing watches the layers meanwhile.
        spread: 10th and 90th percentile of the same.
        layers: slowest first, from other runs; empty on devices other than the CPU, where engines
            time the launch of a layer and not its work.
    """

    engine: str
    version: str
    threads: int
    runs: int
    milliseconds: float
    spread: tuple[float, float]
    layers: tuple[Layer, ...] = ()

    def by_operator(self) -> dict[str, float]:
        """Milliseconds of all layers of an operator, slowest first."""
        sums: dict[str, float] = {}
        for layer in self.layers:
            sums[layer.operator] = sums.get(layer.operator, 0.0) + layer.milliseconds
        return dict(sorted(sums.items(), key=lambda item: -item[1]))


@dataclass(frozen=True, slots=True)
class _Kernel:
    """A layer as the engine calls it; `place` tells layers of one name apart."""

    name: str
    operator: str
    kernel: str
    place: int


_Times = dict[_Kernel, list[float]]
"""Milliseconds of each layer, run by run."""


@dataclass(frozen=True, slots=True)
class _Measure:
    """A model on an engine: run it once, or watch its layers over some runs."""

    run: Callable[[], object]
    watch: Callable[[int], _Times]


def profile(
    model: Path | OnnxModel,
    *,
    engine: str,
    options: Options | None = None,
    runs: int = 10,
) -> Profile:
    """Time an ONNX network, set up as the engine of that name sets it up: up to the logits.

    The input is standard-normal noise, or mid-grey where it is uint8, of the model's size, and of
    `FREE` where that is open.

    Args:
        model: an ONNX file, or what was read from one.
        engine: `onnxruntime` or `openvino`.
        options: how the engine uses the machine; nothing is kept in `cache`.
        runs: how often to run it, once with the layers watched and once without.

    Raises:
        ArtifactError: the file is damaged, or is not a segmentation network.
        ConfigError: there is no such engine.
        EngineError: the engine is not installed, refuses the model, or reads no ONNX files.
        InputError: `runs` is under 1.
    """
    [one] = _profiles([model], engine, options or Options(), runs)
    return one


def profile_both(
    before: Path | OnnxModel,
    after: Path | OnnxModel,
    *,
    engine: str,
    options: Options | None = None,
    runs: int = 10,
) -> tuple[Profile, Profile]:
    """Time two ONNX networks in turn, so that what else the machine does slows both the same.

    Args:
        before: one of them.
        after: the other.
        engine: see `profile`, as for what follows and for what is raised.
        options: how the engine uses the machine.
        runs: of each.
    """
    one, other = _profiles([before, after], engine, options or Options(), runs)
    return one, other


def _profiles(
    models: Sequence[Path | OnnxModel], engine: str, options: Options, runs: int
) -> list[Profile]:
    first = models[0]
    if runs < 1:
        raise InputError(f"runs: expected 1 or more, got {runs}")
    if engine == "torch":
        raise EngineError(
            f"{first}: profile profiles ONNX files, and engine torch runs checkpoints; export it "
            f"and use engine {' or '.join(_MEASURES)}"
        )
    if engine not in _MEASURES:
        raise ConfigError(f"there is no engine {engine!r}; expected one of {', '.join(_MEASURES)}")
    if reason := engines.missing(engine):
        raise EngineError(f"{first}: {reason}")
    names, measures, options = [], [], replace(options, cache=None)
    for model in models:
        network = engines.read_model(model, options)
        names.append(LayerNames(network.proto))
        renamed = replace(network, proto=names[-1].model)
        if engine != "openvino":
            options.need_fp32(engine, network.metadata)
        computed = replace(options, precision=options.arithmetic(network.metadata))
        measures.append(_MEASURES[engine](runnable(renamed), computed))
    totals = _timed([measure.run for measure in measures], runs)
    return [
        Profile(
            engine=engine,
            version=engines.version(engine),
            threads=options.threads,
            runs=runs,
            milliseconds=round(float(np.median(times)), 4),
            spread=(_percentile(times, 10), _percentile(times, 90)),
            layers=_layers(measure.watch(runs), name),
        )
        for name, measure, times in zip(names, measures, totals, strict=True)
    ]


def _layers(times: _Times, names: LayerNames) -> tuple[Layer, ...]:
    medians = {kernel: float(np.median(each)) for kernel, each in times.items()}
    total = sum(medians.values()) or 1.0
    layers = [
        Layer(
            name=names.of(kernel.name, kernel.operator),
            operator=kernel.operator,
            kernel=kernel.kernel,
            milliseconds=round(median, 4),
            share=round(median / total, 5),
        )
        for kernel, median in medians.items()
    ]
    return tuple(sorted(layers, key=lambda layer: -layer.milliseconds))


def _on_onnxruntime(network: Runnable, options: Options) -> _Measure:
    from atrous.engines import onnxruntime as ours

    session = ours.session_for(network, "", options)
    image = network.signature(*ours.specs_of(session)).input
    feed = {image.name: _noise(image)}

    def watch(runs: int) -> _Times:
        if options.device != "cpu":
            return {}
        with TemporaryDirectory(prefix="atrous-profile-") as folder:
            watched = ours.session_for(network, "", options, trace=Path(folder) / "run")
            _timed([partial(watched.run, None, feed)], runs)
            return _read_trace(Path(watched.end_profiling()))

    return _Measure(partial(session.run, None, feed), watch)


def _read_trace(path: Path) -> _Times:
    """Times of the layers in a file that ONNX Runtime wrote."""
    events = json.loads(path.read_text(encoding="utf-8"))
    starts = sorted(event["ts"] for event in events if event["name"] == "model_run")
    times: _Times = {}
    for event in events:
        name = event["name"].removesuffix("_kernel_time")
        if event["cat"] != "Node" or name == event["name"]:
            continue
        detail = event["args"]
        kernel = _Kernel(name, detail["op_name"], "", int(detail["node_index"]))
        each = times.setdefault(kernel, [0.0] * len(starts))
        each[bisect_right(starts, event["ts"]) - 1] += event["dur"] / 1e3
    return {kernel: each[WARMUP:] for kernel, each in times.items()}


def _on_openvino(network: Runnable, options: Options) -> _Measure:
    import openvino as ov

    from atrous.engines import openvino as ours

    if options.device != "cpu":
        raise EngineError(f"engine openvino runs on cpu, not on {options.device}")
    core = ov.Core()
    model = ours.read_model(core, network)
    batch = _noise(network.signature(*ours.specs_of(model)).input)
    settings = ours.settings_for(options)

    def infer(**more: str) -> tuple[ov.InferRequest, Callable[[], object]]:
        compiled = ours.compile_model(core, model, network.name, {**settings, **more})
        request = compiled.create_infer_request()
        return request, partial(request.infer, {0: batch}, share_inputs=True, share_outputs=True)

    def watch(runs: int) -> _Times:
        request, run = infer(PERF_COUNT="YES")
        seen: list[dict[_Kernel, float]] = []
        for _ in range(WARMUP + runs):
            run()
            seen.append(
                {
                    _Kernel(info.node_name, info.node_type, info.exec_type, place): (
                        info.real_time.total_seconds() * 1e3
                    )
                    for place, info in enumerate(request.profiling_info)
                    if info.status == ov.ProfilingInfo.Status.EXECUTED
                }
            )
        # Under a microsecond a layer counts as not executed, in some runs and not in others.
        kernels = dict.fromkeys(kernel for one in seen for kernel in one)
        return {kernel: [one.get(kernel, 0.0) for one in seen[WARMUP:]] for kernel in kernels}

    return _Measure(infer()[1], watch)


_MEASURES: dict[str, Callable[[Runnable, Options], _Measure]] = {
    "onnxruntime": _on_onnxruntime,
    "openvino": _on_openvino,
}


def _timed(calls: Sequence[Callable[[], object]], runs: int) -> list[list[float]]:
    """Milliseconds of every run of each, taken in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(WARMUP + runs):
        for call, each in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            each.append((time.perf_counter() - start) * 1e3)
            if len(calls) > 1:
                time.sleep(REST)
    return [each[WARMUP:] for each in times]


def _percentile(times: list[float], percent: int) -> float:
    return round(float(np.percentile(times, percent)), 4)


def _noise(image: TensorSpec) -> Tensor:
    shape = tuple(have or free for have, free in zip(image.shape, FREE, strict=True))
    if image.dtype == "uint8":
        return np.full(shape, 128, np.uint8)
    return np.random.default_rng(0).standard_normal(shape, np.float32)
