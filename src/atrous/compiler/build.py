"""From a compile file to a folder: the model, what was asked for, and what became of it."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from atrous import artifact, engines, upsample
from atrous.artifact import Metadata
from atrous.compiler import frontend, rewrites
from atrous.compiler.config import CompileConfig, Evaluate
from atrous.compiler.report import AccuracyChange, Agreement, Report, Rewrite
from atrous.compiler.rewrites import Change
from atrous.data import Dataset, open_dataset
from atrous.engines.base import Engine
from atrous.engines.profile import profile_both
from atrous.errors import ArtifactError, ConfigError
from atrous.evaluation.protocols import Protocol
from atrous.evaluation.result import Result, accuracy
from atrous.evaluation.run import Evaluation
from atrous.export.compare import TOLERANCE
from atrous.export.half import store_half
from atrous.geometry import Axis
from atrous.image import photograph
from atrous.runtime.predictor import Predictor

RUNS = 5
"""Timed runs of either model: for a reader of the report; `benchmarks/compile.py` compares."""

Say = Callable[[str], None]


def _silent(step: str) -> None:
    """Say nothing."""


def build(
    config: CompileConfig, *, force: bool = False, profiled: bool = True, say: Say = _silent
) -> Report:
    """Compile one model into `config.folder`, whole or not at all.

    Args:
        config: see `config.load`.
        force: replace an existing folder.
        profiled: measure time per layer, before and after.
        say: called with a few words as each step begins.

    Raises:
        ConfigError: the configuration is wrong, or the folder exists.
        ArtifactError: the model is damaged, or what was compiled disagrees with it.
        EngineError: the engine is not installed or refuses the model.
    """
    if config.backend.dtype == "int8":
        raise ConfigError("backend.dtype: int8 is not supported yet; expected fp32 or fp16")
    if config.folder.exists() and not force:
        raise ConfigError(f"{config.folder} exists; --force replaces it")
    dataset = _dataset(config.evaluate) if config.evaluate else None
    say("reading")
    source = frontend.read(config)
    with _whole_or_nothing(config.folder) as work, tempfile.TemporaryDirectory() as scratch:
        before, after = Path(scratch) / "input.onnx", work / "mod.onnx"
        artifact.save(source.model, source.metadata, before)
        with engines.open_engine(before, engine=config.backend.engine) as opened:
            engine, input_shape = opened.name, opened.input.shape
        say("rewriting")
        model, metadata, changes = _rewritten(config, source, engine)
        artifact.save(model, metadata, after)
        say("comparing")
        agreement = _compare(before, after, engine)
        tolerance = TOLERANCE[metadata.precision]
        if not agreement.largest_difference <= tolerance * agreement.logit_range:
            raise ArtifactError(
                f"{config.name}: the compiled model differs from the input model by "
                f"{agreement.largest_difference:.2g}, over {tolerance:.0e} of the logits' range "
                f"{agreement.logit_range:.3g}; nothing was written; backend.no_rewrite finds out "
                "which rewrite is at fault"
            )
        report = Report(
            name=config.name,
            source=config.frontend.checkpoint or config.frontend.type,
            source_sha256=metadata.weights_sha256,
            notes=source.notes,
            without_effect=config.without_effect,
            precision=metadata.precision,
            input_shape=tuple(size or 1 for size in input_shape),
            input_dtype="uint8" if config.backend.uint8_input else "float32",
            engine=engine,
            engine_version=engines.version(engine),
            rewrites=tuple(Rewrite.of(change) for change in changes),
            gmacs_before=changes[0].macs_before / 1e9,
            gmacs_after=changes[-1].macs_after / 1e9,
            bytes_before=before.stat().st_size,
            bytes_after=after.stat().st_size,
            agreement=agreement,
        )
        measured: dict[str, object] = {}
        if profiled:
            say("timing")
            measured["before"], measured["after"] = profile_both(
                before, after, engine=engine, runs=RUNS
            )
        if dataset is not None and config.evaluate is not None:
            protocol = config.evaluate.protocol
            old = _evaluate(before, engine, dataset, protocol, say)
            new = _evaluate(after, engine, dataset, protocol, say)
            measured["accuracies"] = (AccuracyChange.between(old, new),)
            if not new.failed and not new.health:
                known = metadata.model_copy(update={"accuracies": (accuracy(new),)})
                artifact.save(model, known, after)
        report = report.model_copy(update=measured)
        report.save(work)
        (work / "resolved.yaml").write_text(config.to_yaml(), encoding="utf-8")
    return report


def _rewritten(
    config: CompileConfig, source: frontend.Source, engine: str
) -> tuple[onnx.ModelProto, Metadata, list[Change]]:
    """The compiled model, what it says of itself, and what was done."""
    backend, metadata = config.backend, source.metadata
    # OpenVINO keeps activations channels-last on CPUs, ONNX Runtime in planes of channels.
    model, changes = rewrites.apply(
        source.model,
        skip=backend.no_rewrite,
        layout="channels-last" if engine == "openvino" else "planar",
    )
    preprocess = metadata.preprocess
    if backend.uint8_input:
        model, preprocess, change = rewrites.take_uint8(model, preprocess)
        changes.append(change)
    if backend.dtype == "fp16":
        model = store_half(model)
    metadata = metadata.model_copy(
        update={"preprocess": preprocess, "precision": backend.dtype, "accuracies": ()}
    )
    return model, metadata, changes


def _compare(before: Path, after: Path, engine: str) -> Agreement:
    """Run both on a photograph and two turns of it."""
    photo = photograph()
    same, differences, low, high = [], [], np.inf, -np.inf
    with _opened(before, engine) as old, _opened(after, engine) as new:
        for image in (photo, photo[:, ::-1], np.rot90(photo)):
            expected, actual = (_logits(one, np.ascontiguousarray(image)) for one in (old, new))
            same.append((_class_map(old, expected) == _class_map(new, actual)).mean())
            differences.append(np.abs(expected - actual).max())
            low, high = min(low, expected.min()), max(high, expected.max())
    return Agreement(
        images=len(same),
        agreement=float(np.mean(same)),
        largest_difference=float(np.max(differences)),
        logit_range=float(high - low),
    )


def _opened(path: Path, engine: str) -> Engine:
    return engines.open_engine(path, engine=engine)


def _logits(engine: Engine, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`(C, h, w)` logits of an image, whatever the batch of the model."""
    assert engine.metadata is not None
    preprocess = engine.metadata.preprocess
    tensor = preprocess(image, preprocess.empty(engine.input.dtype))
    batch = np.empty((engine.input.shape[0] or 1, *tensor.shape), tensor.dtype)
    batch[:] = tensor
    logits: NDArray[np.float32] = engine.run(batch)[-1].copy()
    return logits


def _class_map(engine: Engine, grid: NDArray[np.float32]) -> NDArray[np.uint8]:
    assert engine.metadata is not None
    tall, wide = size = engine.metadata.preprocess.size
    return upsample.argmax(grid, *engine.on_grid(grid, size, Axis(tall), Axis(wide)))


def _dataset(wanted: Evaluate) -> Dataset:
    """The images to evaluate on; those of `wanted.ids` alone if it is given."""
    dataset = open_dataset(wanted.data)
    if wanted.ids is None:
        return dataset
    path = Path(wanted.ids)
    try:
        ids = dict.fromkeys(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"evaluate.ids: {path}: expected a file of ids: {error}") from None
    found = {sample.id: sample for sample in dataset.samples}
    if unknown := [name for name in ids if name not in found]:
        raise ConfigError(
            f"evaluate.ids: {path}: {len(unknown)} of {len(ids)} ids are not in {wanted.data}, "
            f"first {unknown[0]}"
        )
    if not ids:
        raise ConfigError(f"evaluate.ids: {path}: holds no id")
    return dataclasses.replace(dataset, samples=tuple(found[name] for name in ids))


def _evaluate(path: Path, engine: str, dataset: Dataset, protocol: str, say: Say) -> Result:
    with Predictor.open(path, engine=engine) as predictor:
        evaluation = Evaluation(predictor, dataset, Protocol.parse(protocol), name=path.stem)
        total = len(dataset.samples)
        return evaluation.run(
            lambda done, iou: say(f"evaluating {path.stem}: {done} of {total}, mIoU {iou:.1%}")
        )


@contextmanager
def _whole_or_nothing(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that takes its place at the end, and is gone after an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        work = Path(scratch) / "new"
        work.mkdir()
        yield work
        if folder.exists():
            folder.rename(Path(scratch) / "old")
        work.rename(folder)
