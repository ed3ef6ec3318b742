"""What a compile did, measured: kept as JSON, shown on a page and in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import ValidationError

from atrous import __version__, texts
from atrous.agreement import Agreement
from atrous.compiler.report.int8 import Int8
from atrous.compiler.rewrites import Rewrite
from atrous.engines.profile import Profile
from atrous.errors import ConfigError
from atrous.evaluation.result import Evaluation, check_comparable
from atrous.exporters.standalone import VIEWS
from atrous.formatting import as_change, as_ms, as_points, as_share, megabytes, shortened
from atrous.record import Record

SAME_WORK = "both up to the logits, without the last resize"
"""What was timed."""


class ModelScores(Record):
    """Accuracy of one model.

    Attributes:
        mean_iou: percent.
        pixel_accuracy: percent.
    """

    mean_iou: float
    pixel_accuracy: float


class StageScores(Record):
    """Accuracy at one stage of a compile.

    Attributes:
        name: `input`, `rewritten`, `fp16` or `int8`.
        mean_iou: percent.
        pixel_accuracy: percent.
    """

    name: str
    mean_iou: float
    pixel_accuracy: float

    @classmethod
    def of(cls, name: str, result: Evaluation) -> Self:
        """From an evaluation."""
        return cls(name=name, mean_iou=result.mean_iou, pixel_accuracy=result.pixel_accuracy)


class AccuracyChange(Record):
    """Accuracy before and after, measured the same way.

    Attributes:
        protocol: which pixels were compared, as `squash-513`.
        data: the images, as `voc:val`.
        images: how many.
        before: of the input model.
        after: of the compiled model.
        mean_iou_points: what the compiled model gained, in points of percent; a loss is negative.
        pixel_accuracy_points: likewise.
        warnings: what speaks against these numbers, one sentence each.
    """

    protocol: str
    data: str
    images: int
    before: ModelScores
    after: ModelScores
    mean_iou_points: float
    pixel_accuracy_points: float
    warnings: tuple[str, ...] = ()

    @classmethod
    def between(cls, before: Evaluation, after: Evaluation) -> Self:
        """From two evaluations.

        Raises:
            ConfigError: they measure different things.
        """
        warnings = []
        for name, one in (("input", before), ("compiled", after)):
            warnings += [f"{name} model: {message}" for message in one.health]
            warnings += [f"{name} model: not scored: {message}" for message in one.failed]
        if seen := after.stamp.calibrated_on:
            warnings.append(f"the compiled model was calibrated on {seen} of these images")
        # A page that shows what is wrong is worth more than none.
        whole: dict[str, list[str]] = {"health": [], "failed": []}
        check_comparable(
            [("before", before.model_copy(update=whole)), ("after", after.model_copy(update=whole))]
        )
        old, new = (
            ModelScores(mean_iou=one.mean_iou, pixel_accuracy=one.pixel_accuracy)
            for one in (before, after)
        )
        return cls(
            protocol=after.stamp.protocol,
            data=after.stamp.data,
            images=after.stamp.images,
            before=old,
            after=new,
            mean_iou_points=round(new.mean_iou - old.mean_iou, 6),
            pixel_accuracy_points=round(new.pixel_accuracy - old.pixel_accuracy, 6),
            warnings=tuple(warnings),
        )


class CompileReport(Record):
    """What a compile did. What was not measured is absent, in the file and on the page.

    Attributes:
        name: of the compiled model.
        atrous: version that compiled it.
        source: the file it came from, as it was given.
        source_sha256: hash of that file.
        notes: what was assumed, changed or decided, one sentence each.
        without_effect: dotted names of the keys in the compile file that do nothing here.
        precision: how weights are stored.
        arithmetic: what floats are computed in.
        input_shape: `(N, 3, H, W)`.
        input_dtype: `float32` or `uint8`.
        engine: what everything here was measured on.
        engine_version: of that.
        threads: asked for, 0 for one per core.
        rewrites: in the order in which they ran.
        gmacs_before: multiply-accumulates of one run of the input model, 10⁹.
        gmacs_after: of the compiled model.
        bytes_before: of the input model as an ONNX file.
        bytes_after: of the compiled one.
        agreement: with the input model.
        standalone: share of the pixels with the class of Atrous, of the graph that needs nothing
            around it, 0–1; where one was written.
        before: time of the input model, milliseconds.
        after: time of the compiled model.
        accuracies: before and after, percent; one for each way to measure.
        stages: accuracy on the way from the one to the other.
        int8: how it was quantised.
    """

    name: str
    atrous: str = __version__
    source: str
    source_sha256: str
    notes: tuple[str, ...] = ()
    without_effect: tuple[str, ...] = ()
    precision: str
    arithmetic: str = "fp32"
    input_shape: tuple[int, ...]
    input_dtype: str
    engine: str
    engine_version: str
    threads: int = 0
    rewrites: tuple[Rewrite, ...] = ()
    gmacs_before: float
    gmacs_after: float
    bytes_before: int
    bytes_after: int
    agreement: Agreement | None = None
    standalone: float | None = None
    before: Profile | None = None
    after: Profile | None = None
    accuracies: tuple[AccuracyChange, ...] = ()
    stages: tuple[StageScores, ...] = ()
    int8: Int8 | None = None

    @property
    def precision_text(self) -> str:
        """How weights are stored, and what floats are computed in if that is not fp32."""
        computed = "" if self.arithmetic == "fp32" else f" computed in {self.arithmetic}"
        if self.precision == "int8" and computed:
            return f"int8, the rest{computed}"
        return f"{self.precision}{computed}"

    @property
    def faster(self) -> float:
        """Time before over time after; 1 unless both were measured."""
        if self.before is None or self.after is None:
            return 1.0
        return self.before.milliseconds / self.after.milliseconds

    @property
    def input_text(self) -> str:
        """Shape and dtype of the input."""
        return f"{'×'.join(map(str, self.input_shape))} {self.input_dtype}"

    @property
    def engine_text(self) -> str:
        """Name, version and threads of the engine."""
        count = {0: "one thread per core", 1: "1 thread"}.get(
            self.threads, f"{self.threads} threads"
        )
        return f"{f'{self.engine} {self.engine_version}'.strip()}, {count}"

    def to_json(self) -> str:
        """All of it, as `load` reads it."""
        absent = {name for name in ("accuracies", "stages") if not getattr(self, name)}
        return self.model_dump_json(indent=2, exclude_none=True, exclude=absent)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `report_page.save` wrote.

        Args:
            path: `report.json`, or the folder that holds it.

        Raises:
            ConfigError: the file is missing, or holds something else.
        """
        path = path / "report.json" if path.is_dir() else path
        try:
            return cls.model_validate(texts.read_json(path))
        except (OSError, ValueError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise ConfigError(f"{path}: not a report of atrous compile: {reason}") from None

    def lines(self) -> list[str]:
        """What the terminal shows."""
        lines = [f"{self.name}: {self.precision_text}, input {self.input_text}, from {self.source}"]
        lines += map(str, self.rewrites)
        lines.append(
            f"work: {self.gmacs_before:.2f} → {self.gmacs_after:.2f} GMAC "
            f"({as_change(self.gmacs_before, self.gmacs_after)})"
        )
        lines.append(
            f"file: {megabytes(self.bytes_before)} → {megabytes(self.bytes_after)} "
            f"({as_change(self.bytes_before, self.bytes_after)})"
        )
        if self.after is not None:
            times = f"{as_ms(self.after.milliseconds)} a run"
            if self.before is not None:
                times = f"{as_ms(self.before.milliseconds)} → {times} ({self.faster:.2f}× as fast"
                times += f"; {SAME_WORK})"
            lines.append(f"time on {self.engine_text}: {times}")
        if self.agreement is not None:
            lines.append(f"agreement with the input model: {self.agreement.of(VIEWS)}")
        if self.standalone is not None:
            share = as_share(self.standalone)
            lines.append(f"standalone.onnx: same class as Atrous on {share} of the pixels")
        lines += self.int8.lines() if self.int8 is not None else []
        for one in self.accuracies:
            lines.append(
                f"{one.protocol} on {one.data}, {one.images} images: mIoU "
                f"{one.before.mean_iou:.2f} → {one.after.mean_iou:.2f} % "
                f"({as_points(one.mean_iou_points)} points)"
            )
            lines += [f"  warning: {shortened(one.warnings, 1)}"] if one.warnings else []
        if len(self.stages) > 2:
            way = " → ".join(f"{one.name} {one.mean_iou:.2f}" for one in self.stages)
            lines.append(f"mIoU after each step: {way} %")
        if self.without_effect:
            lines.append(f"no effect here: {shortened(self.without_effect, 4, ', ')}")
        return lines
