"""From a compile file to a folder: the model, what was asked for, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from atrous import artifact, engines
from atrous.agreement import LEAST, TOLERANCE, Agreement, compare
from atrous.artifact import Metadata
from atrous.compiler import folder, frontend, rewrites, scores
from atrous.compiler.config import CompileConfig
from atrous.compiler.form import Form
from atrous.compiler.frontend import InputModel
from atrous.compiler.int8 import budget, plan
from atrous.compiler.progress import Progress, Tell, silent
from atrous.compiler.report import page as report_page
from atrous.compiler.report.int8 import Int8
from atrous.compiler.report.report import CompileReport
from atrous.compiler.rewrites import Rewrite, Rewritten
from atrous.compiler.rewrites.base import Layout
from atrous.compiler.scores import StageEvaluator
from atrous.compiler.sections import Backend
from atrous.engines import processor
from atrous.engines.onnx_model import OnnxModel
from atrous.engines.profile import profile_both
from atrous.errors import ArtifactError, ConfigError, EngineError
from atrous.exporters.half import store_half
from atrous.exporters.standalone import save, standalone, views
from atrous.files import write_whole
from atrous.runtime.predictor import Predictor

RUNS = 5
"""Timed runs of either model: for a reader of the report; `benchmarks/compile.py` compares."""


def build(
    config: CompileConfig,
    *,
    force: bool = False,
    profiled: bool = True,
    tell: Tell = silent,
) -> CompileReport:
    """Compile one model into `config.folder`, whole or not at all.

    Args:
        config: see `config.load`.
        force: replace the folder of an earlier compile.
        profiled: measure time per layer, before and after.
        tell: called as it works.

    Raises:
        ConfigError: the configuration is wrong, or the folder exists, or no compile made it.
        ArtifactError: the model is damaged, or what was compiled disagrees with it.
        EngineError: the engine is not installed or refuses the model.
    """
    folder.check(config.folder, replace=force)
    images = scores.images(config)
    tell(Progress("reading"))
    source = frontend.read(config)
    before = OnnxModel(source.model, source.metadata, config.frontend.given)
    with folder.replacing(config.folder, replace=force) as work:
        engine, input_shape = _opened(before, config.backend.measured_on)
        evaluator = StageEvaluator(config, images, engine, tell)
        tell(Progress("rewriting"))
        compiled = _compiled(config, source, evaluator, tell)
        accuracies = {"accuracies": evaluator.recorded()}
        file, metadata = work / folder.MODEL, compiled.metadata.model_copy(update=accuracies)
        artifact.save(compiled.model, metadata, file)
        after = OnnxModel.read(file)
        tell(Progress("comparing"))
        agreement = _compare(before, after, engine)
        _check(config.name, agreement, metadata)
        whole = _standalone(after, work) if config.backend.standalone else None
        report = CompileReport(
            name=config.name,
            source=config.frontend.given,
            source_sha256=metadata.weights_sha256,
            notes=source.notes,
            without_effect=config.without_effect,
            precision=metadata.precision,
            arithmetic=metadata.arithmetic,
            input_shape=tuple(size or 1 for size in input_shape),
            input_dtype="uint8" if config.backend.uint8_input else "float32",
            engine=engine,
            engine_version=engines.version(engine),
            rewrites=tuple(compiled.changes),
            gmacs_before=compiled.changes[0].gmacs_before,
            gmacs_after=compiled.changes[-1].gmacs_after,
            bytes_before=len(artifact.serialised(source.model, source.metadata)),
            bytes_after=file.stat().st_size,
            agreement=agreement,
            standalone=whole,
            int8=compiled.int8,
            stages=evaluator.stages(),
            accuracies=evaluator.changes(),
        )
        if profiled:
            tell(Progress("timing"))
            old, new = profile_both(before, after, engine=engine, runs=RUNS)
            report = report.model_copy(update={"before": old, "after": new})
        report_page.save(report, work, config.folder)
        resolved = config.with_floats(report.int8.returned if report.int8 else ())
        write_whole(work / folder.RESOLVED, resolved.to_yaml())
    return report


def outline(config: CompileConfig) -> Sequence[Rewrite]:
    """What the exact rewrites would do to a model; nothing is written or measured.

    Args:
        config: see `config.load`.

    Raises:
        ConfigError: the configuration is wrong.
        ArtifactError: the model is missing or damaged.
        EngineError: the engine is not installed or refuses the model.
    """
    source, backend = frontend.read(config), config.backend
    before = OnnxModel(source.model, source.metadata, config.frontend.given)
    engine, _ = _opened(before, backend.measured_on)
    form = Form.of(backend.written_for(engine), backend.quantize)
    return _rewritten(source, backend, form.layout).changes


def _opened(network: OnnxModel, engine: str) -> tuple[str, tuple[int | None, ...]]:
    """The engine that takes a network, and the shape of the input there.

    Raises:
        EngineError: it is not installed or refuses the network.
    """
    try:
        with engines.open_engine(network, engine=engine) as opened:
            return opened.name, opened.signature.input.shape
    except EngineError as error:
        raise EngineError(f"{error}; export it with standard ONNX operators") from error


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A network in its final form: what it says of itself, and what was done to it."""

    model: onnx.ModelProto
    metadata: Metadata
    changes: Sequence[Rewrite]
    int8: Int8 | None = None


def _compiled(
    config: CompileConfig, source: InputModel, evaluator: StageEvaluator, tell: Tell
) -> _Compiled:
    """Rewrite, and store or quantise; every form on the way is evaluated."""
    backend = config.backend
    form = Form.of(backend.written_for(evaluator.engine), backend.quantize)
    network = _rewritten(source, backend, form.layout)
    update = {"preprocess": network.preprocess, "precision": backend.dtype, "accuracies": ()}
    metadata = source.metadata.model_copy(update={**update, "arithmetic": "fp32"})
    evaluator.add("input", source.model, source.metadata)
    evaluator.add("rewritten", network.model, metadata)
    if backend.dtype == "fp32":
        return _computed(backend, evaluator, _Compiled(network.model, metadata, network.changes))
    half = store_half(network.model)
    evaluator.add("fp16", half, metadata)
    if backend.dtype == "fp16":
        return _computed(backend, evaluator, _Compiled(half, metadata, network.changes))
    prepared = plan.prepare(
        network, config, form, evaluated=evaluator.ids, labels=metadata.labels.names, tell=tell
    )
    attempts = _attempts(config, prepared, metadata, evaluator, tell)
    returned = attempts[-1].floats if attempts else ()
    if not prepared.chosen(returned):
        raise ConfigError(
            f"backend.dtype: int8, but all {len(prepared.layers)} layers stay in float; compile to "
            "fp16, or leave fewer out (skip_conv_layers, exclude_layers, max_drop)"
        )
    tell(Progress("writing int8"))
    quantised = prepared.write(returned)
    int8 = Int8.of(prepared, attempts, processor.instructions())
    metadata = metadata.model_copy(update={"calibration": prepared.calibration})
    evaluator.add("int8", quantised, metadata)
    final = _Compiled(quantised, metadata, network.changes, int8)
    return _computed(backend, evaluator, final)


def _computed(backend: Backend, evaluator: StageEvaluator, final: _Compiled) -> _Compiled:
    """The same, to be computed in bf16 if that is asked for."""
    if backend.precision == "fp32":
        return final
    metadata = final.metadata.model_copy(update={"arithmetic": backend.precision})
    evaluator.add(backend.precision, final.model, metadata)
    return replace(final, metadata=metadata)


def _rewritten(source: InputModel, backend: Backend, layout: Layout) -> Rewritten:
    """The float network in less work, its normalisation in the graph if that is asked for."""
    model, changes = rewrites.apply(
        source.model, skip=backend.no_rewrite, unfit=backend.unfit, layout=layout
    )
    preprocess = source.metadata.preprocess
    if backend.uint8_input:
        model, preprocess, change = rewrites.take_uint8(model, preprocess)
        changes.append(change)
    return Rewritten(source.model, model, preprocess, changes)


def _attempts(
    config: CompileConfig,
    prepared: plan.Prepared,
    metadata: Metadata,
    evaluator: StageEvaluator,
    tell: Tell,
) -> list[budget.Attempt]:
    """How `max_drop` was held, if it is asked for."""
    if config.backend.quantize.max_drop is None:
        return []
    return budget.hold(
        prepared,
        max_drop=config.backend.quantize.max_drop,
        reference=evaluator.of("input"),
        score=lambda tried: evaluator.measure("trying int8", tried, metadata).mean_iou,
        tell=tell,
    )


def _check(name: str, agreement: Agreement, compiled: Metadata) -> None:
    """Raise `ArtifactError` if a compiled model is not the network that was compiled."""
    what = "bf16" if compiled.arithmetic == "bf16" else compiled.precision
    if compiled.precision == "int8" or compiled.arithmetic == "bf16":
        if not agreement.agreement >= LEAST:
            raise ArtifactError(
                f"{name}: {what} agrees with the input model on {agreement.agreement:.1%} of the "
                f"pixels, under {LEAST:.0%}; nothing was written; calibrate on other images, "
                "or set backend.quantize.max_drop and evaluate"
            )
    elif not agreement.relative <= TOLERANCE[compiled.precision]:
        raise ArtifactError(
            f"{name}: the compiled model differs from the input model by "
            f"{agreement.largest_difference:.2g}, over {TOLERANCE[compiled.precision]:.0e} of the "
            f"logits' range {agreement.logit_range:.3g}; nothing was written; backend.no_rewrite "
            "finds out which rewrite is at fault"
        )


def _compare(before: OnnxModel, after: OnnxModel, engine: str) -> Agreement:
    """Run both on a photograph and two turns of it."""
    with Predictor.open(before, engine=engine) as old, Predictor.open(after, engine=engine) as new:
        return compare((old.at_input(old(one)), new.at_input(new(one))) for one in views())


def _standalone(model: OnnxModel, work: Path) -> float:
    """Write what was compiled once more, as one graph that needs nothing around it.

    Returns:
        The share of the pixels with the class that Atrous gives them.
    """
    with Predictor.open(model, engine="onnxruntime") as predictor:
        made = standalone(model, predictor, views())
    save(made, work / folder.STANDALONE)
    return made.agreement
