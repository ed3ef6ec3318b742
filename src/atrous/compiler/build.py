"""From a compile file to a folder: the model, what was asked for, and what became of it."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from atrous import artifact, engines, upsample
from atrous.artifact import Metadata
from atrous.compiler import folder, frontend, rewrites
from atrous.compiler import scores as scores_of
from atrous.compiler.config import CompileConfig
from atrous.compiler.form import Form
from atrous.compiler.int8 import budget, plan
from atrous.compiler.progress import Progress, Tell, silent
from atrous.compiler.report import page as report_page
from atrous.compiler.report.int8 import Int8
from atrous.compiler.report.report import Agreement, CompileReport, Rewrite
from atrous.compiler.rewrites import Change
from atrous.compiler.scores import StageEvaluator
from atrous.data import Dataset
from atrous.engines import processor
from atrous.engines.base import Engine
from atrous.engines.onnx_model import OnnxModel
from atrous.engines.profile import profile_both
from atrous.errors import ArtifactError, ConfigError, EngineError
from atrous.exporters.compare import TOLERANCE
from atrous.exporters.half import store_half
from atrous.geometry import Axis
from atrous.image import photograph

RUNS = 5
"""Timed runs of either model: for a reader of the report; `benchmarks/compile.py` compares."""

AGREEMENT = 0.9
"""Share of the pixels of a photograph on which int8 has to agree with the input model."""


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
    dataset = scores_of.dataset(config.evaluate) if config.evaluate else None
    budgeted = config.backend.dtype == "int8" and config.backend.quantize.max_drop is not None
    if budgeted and dataset is None:
        raise ConfigError("backend.quantize.max_drop: needs evaluate, to measure the drop on")
    tell(Progress("reading"))
    source = frontend.read(config)
    with folder.replacing(config.folder, replace=force) as work:
        given = config.frontend.checkpoint or config.frontend.type
        before, file = OnnxModel(source.model, source.metadata, given), work / folder.MODEL
        wanted = config.backend.engine
        wanted = "onnxruntime" if wanted == "tensorrt" else wanted
        try:
            with engines.open_engine(before, engine=wanted) as opened:
                engine, input_shape = opened.name, opened.signature.input.shape
        except EngineError as error:
            raise EngineError(f"{error}; export it with standard ONNX operators") from error
        tell(Progress("rewriting"))
        written = config.backend.engine if config.backend.engine == "tensorrt" else engine
        form = Form.of(written, config.backend.quantize)
        model, metadata, changes = _rewritten(config, source, form)
        scores = StageEvaluator(config, dataset, engine, tell)
        scores.add("input", source.model, source.metadata)
        scores.add("rewritten", model, metadata)
        int8 = None
        if config.backend.dtype != "fp32":
            half = store_half(model)
            scores.add("fp16", half, metadata)
            if config.backend.dtype == "fp16":
                model = half
            else:
                model, metadata, int8 = _quantised(
                    config, source, model, metadata, dataset, scores, form, tell
                )
                scores.add("int8", model, metadata)
        artifact.save(model, metadata.model_copy(update={"accuracies": scores.recorded()}), file)
        after = OnnxModel.read(file)
        tell(Progress("comparing"))
        agreement = _compare(before, after, engine)
        _check(config.name, agreement, metadata.precision)
        report = CompileReport(
            name=config.name,
            source=given,
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
            bytes_before=len(artifact.serialised(source.model, source.metadata)),
            bytes_after=file.stat().st_size,
            agreement=agreement,
            int8=int8,
            stages=scores.stages(),
            accuracies=scores.changes(),
        )
        if profiled:
            tell(Progress("timing"))
            old, new = profile_both(before, after, engine=engine, runs=RUNS)
            report = report.model_copy(update={"before": old, "after": new})
        report_page.save(report, work, config.folder)
        resolved = config if int8 is None else config.with_floats(int8.returned)
        (work / folder.RESOLVED).write_text(resolved.to_yaml(), encoding="utf-8")
    return report


def _rewritten(
    config: CompileConfig, source: frontend.InputModel, form: Form
) -> tuple[onnx.ModelProto, Metadata, list[Change]]:
    """The rewritten float model, what it says of itself, and what was done."""
    backend, metadata = config.backend, source.metadata
    model, changes = rewrites.apply(source.model, skip=backend.no_rewrite, layout=form.layout)
    preprocess = metadata.preprocess
    if backend.uint8_input:
        model, preprocess, change = rewrites.take_uint8(model, preprocess)
        changes.append(change)
    update = {"preprocess": preprocess, "precision": backend.dtype, "accuracies": ()}
    return model, metadata.model_copy(update=update), changes


def _quantised(
    config: CompileConfig,
    source: frontend.InputModel,
    model: onnx.ModelProto,
    metadata: Metadata,
    dataset: Dataset | None,
    scores: StageEvaluator,
    form: Form,
    tell: Tell,
) -> tuple[onnx.ModelProto, Metadata, Int8]:
    """The int8 model, what it says of itself, and how it came about."""
    settings = config.backend.quantize
    prepared = plan.prepare(
        model,
        source.model,
        metadata.preprocess,
        config,
        form,
        evaluated=[sample.id for sample in dataset.samples] if dataset else (),
        tell=tell,
    )
    attempts: list[budget.Attempt] = []
    if settings.max_drop is not None:
        attempts = budget.hold(
            prepared,
            max_drop=settings.max_drop,
            reference=scores.of("input"),
            score=lambda tried: scores.measure("trying int8", tried, metadata).mean_iou,
            tell=tell,
        )
    returned = attempts[-1].floats if attempts else ()
    if not prepared.chosen(returned):
        raise ConfigError(
            f"backend.dtype: int8, but all {len(prepared.layers)} layers stay in float; compile to "
            "fp16, or leave fewer out (skip_conv_layers, exclude_layers, max_drop)"
        )
    tell(Progress("writing int8"))
    quantised = prepared.write(returned)
    described = Int8.of(prepared, attempts, processor.instructions())
    return quantised, metadata.model_copy(update={"calibration": prepared.calibration}), described


def _check(name: str, agreement: Agreement, precision: str) -> None:
    """Raise `ArtifactError` if a compiled model is not the network that was compiled."""
    if precision == "int8":
        if not agreement.agreement >= AGREEMENT:
            raise ArtifactError(
                f"{name}: int8 agrees with the input model on {agreement.agreement:.1%} of the "
                f"pixels, under {AGREEMENT:.0%}; nothing was written; calibrate on other images, "
                "or set backend.quantize.max_drop and evaluate"
            )
    elif not agreement.largest_difference <= TOLERANCE[precision] * agreement.logit_range:
        raise ArtifactError(
            f"{name}: the compiled model differs from the input model by "
            f"{agreement.largest_difference:.2g}, over {TOLERANCE[precision]:.0e} of the logits' "
            f"range {agreement.logit_range:.3g}; nothing was written; backend.no_rewrite finds "
            "out which rewrite is at fault"
        )


def _compare(before: OnnxModel, after: OnnxModel, engine: str) -> Agreement:
    """Run both on a photograph and two turns of it."""
    photo = photograph()
    same, differences, low, high = [], [], np.inf, -np.inf
    with (
        engines.open_engine(before, engine=engine) as old,
        engines.open_engine(after, engine=engine) as new,
    ):
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


def _logits(engine: Engine, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`(C, h, w)` logits of an image, whatever the batch of the model."""
    assert engine.metadata is not None
    preprocess = engine.metadata.preprocess
    tensor = preprocess(image, preprocess.empty(engine.signature.dtype))
    batch = np.empty((engine.signature.batch or 1, *tensor.shape), tensor.dtype)
    batch[:] = tensor
    logits: NDArray[np.float32] = engine.run(batch)[-1].copy()
    return logits


def _class_map(engine: Engine, grid: NDArray[np.float32]) -> NDArray[np.uint8]:
    assert engine.metadata is not None
    tall, wide = size = engine.metadata.preprocess.size
    return upsample.argmax(grid, *engine.signature.on_grid(grid, size, Axis(tall), Axis(wide)))
