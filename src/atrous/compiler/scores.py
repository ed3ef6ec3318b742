"""Accuracy of a model at every stage of its compilation, measured the same way."""

from __future__ import annotations

import dataclasses

import onnx

from atrous import artifact, texts
from atrous.artifact import Accuracy, Metadata
from atrous.compiler.config import CompileConfig
from atrous.compiler.progress import Progress, Tell
from atrous.compiler.report.report import AccuracyChange, StageScores
from atrous.compiler.sections import Evaluate
from atrous.data import Dataset, open_dataset
from atrous.engines.onnx_model import OnnxModel
from atrous.errors import ConfigError
from atrous.evaluation.protocols import Protocol, own_protocol
from atrous.evaluation.result import Evaluation, accuracy
from atrous.evaluation.run import Evaluator
from atrous.files import from_home
from atrous.runtime.predictor import Predictor


def images(config: CompileConfig) -> Dataset | None:
    """The images to evaluate on, `None` if the compile file asks for no evaluation.

    Raises:
        ConfigError: the data set or the file of ids is missing, or holds something else; or
            `max_drop` is to be held without images.
    """
    if config.evaluate is not None:
        return _dataset(config.evaluate)
    if config.backend.dtype == "int8" and config.backend.quantize.max_drop is not None:
        raise ConfigError("backend.quantize.max_drop: needs evaluate, to measure the drop on")
    return None


def _dataset(wanted: Evaluate) -> Dataset:
    """All images of a data set, or those of `wanted.ids`."""
    opened = open_dataset(wanted.data)
    if wanted.ids is None:
        return opened
    path = from_home(wanted.ids)
    try:
        ids = dict.fromkeys(texts.read_lines(path))
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"evaluate.ids: {path}: expected a file of ids: {error}") from None
    found = {sample.id: sample for sample in opened.samples}
    if unknown := [name for name in ids if name not in found]:
        raise ConfigError(
            f"evaluate.ids: {path}: {len(unknown)} of {len(ids)} ids are not in {wanted.data}, "
            f"first {unknown[0]}"
        )
    if not ids:
        raise ConfigError(f"evaluate.ids: {path}: holds no id")
    return dataclasses.replace(opened, samples=tuple(found[name] for name in ids))


class StageEvaluator:
    """Evaluates the stages of one compile, or nothing if the compile file does not ask for it.

    Args:
        config: says whether, and under which protocol.
        images: to evaluate on, `None` without.
        engine: runs the models.
        tell: called as it works.
    """

    def __init__(
        self, config: CompileConfig, images: Dataset | None, engine: str, tell: Tell
    ) -> None:
        self.engine = engine
        self._protocol = config.evaluate.protocol if config.evaluate else None
        self._images = images
        self._tell = tell
        self._results: dict[str, Evaluation] = {}
        self._measured: dict[tuple[str, str], Evaluation] = {}

    def add(self, stage: str, model: onnx.ModelProto, metadata: Metadata) -> None:
        """Measure a stage, if measuring is asked for."""
        if self._images is not None:
            self._results[stage] = self.measure(stage, model, metadata)

    def measure(self, stage: str, model: onnx.ModelProto, metadata: Metadata) -> Evaluation:
        """Measure a model; one that was measured before is not measured again."""
        assert self._images is not None  # `images` refuses what needs them without
        identity = artifact.identity(model), metadata.arithmetic
        if identity in self._measured:
            return self._measured[identity]
        total = len(self._images.samples)

        def progress(done: int, iou: float) -> None:
            detail = f"mIoU {iou:.1%}"
            self._tell(Progress(f"evaluating {stage}", done, total, detail))

        network = OnnxModel(model, metadata, metadata.name)
        with Predictor.open(network, engine=self.engine) as predictor:
            name = self._protocol or own_protocol(metadata, predictor.preprocess)
            protocol = Protocol.parse(name)
            evaluator = Evaluator(predictor, self._images, protocol, name=metadata.name)
            self._measured[identity] = evaluator.run(progress)
        return self._measured[identity]

    @property
    def ids(self) -> list[str]:
        """Of the images that are evaluated on."""
        return [sample.id for sample in self._images.samples] if self._images else []

    def of(self, stage: str) -> float:
        """Mean IoU of a stage that was measured, percent."""
        return self._results[stage].mean_iou

    def stages(self) -> tuple[StageScores, ...]:
        """Every stage in order: where accuracy went."""
        return tuple(StageScores.of(name, result) for name, result in self._results.items())

    def changes(self) -> tuple[AccuracyChange, ...]:
        """The last stage against the first."""
        results = list(self._results.values())
        return (AccuracyChange.between(results[0], results[-1]),) if results else ()

    def recorded(self) -> tuple[Accuracy, ...]:
        """What the compiled model remembers: the last stage, if nothing was wrong with it."""
        last = list(self._results.values())[-1:]
        return tuple(accuracy(one) for one in last if not one.failed and not one.health)
