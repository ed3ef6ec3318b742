"""The YAML file of `atrous train`: one complete recipe, checked, nothing unknown in it.

    network: deeplabv3plus_mobilenet
    start: imagenet
    output: runs/voc
    data:
      train: voc:VOCdevkit:train
      val: voc:VOCdevkit:val
    train:
      iterations: 30000
      batch: 16

Paths are relative to the current folder. An iteration is one step of the optimizer, and a batch
the images of one step, of all processes together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, Field, StrictBool, ValidationError, field_validator, model_validator

from atrous import strict_yaml, zoo
from atrous.compiler.sections import ProtocolName
from atrous.errors import ConfigError
from atrous.evaluation.protocols import Protocol
from atrous.files import from_home
from atrous.preprocess import Preprocess
from atrous.record import Record
from atrous.strict_yaml import nearest

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(strict=True, ge=1)]
Whole = Annotated[int, Field(strict=True, ge=0)]

SCRATCH, IMAGENET = "scratch", "imagenet"


class DataSettings(Record):
    """What is learnt from and what is scored on.

    Attributes:
        train: `KIND:ROOT:SPLIT`.
        val: the same, never learnt from; `null` trains without a score.
        balance: how strongly images of rare classes are preferred: 0 takes every image once an
            epoch, 1 in inverse proportion to the images that show its rarest class.
        workers: processes that prepare images; `null` takes what the machine has to spare.
        skip_unreadable: go on without the images that cannot be read.
        allow_absent_classes: train though a class never occurs.
        allow_ignored_labels: train though all pixels of a label are ignored.
    """

    train: str
    val: str | None = None
    balance: Share = 0.0
    workers: Whole | None = None
    skip_unreadable: StrictBool = False
    allow_absent_classes: StrictBool = False
    allow_ignored_labels: StrictBool = False


class AugmentSettings(Record):
    """How an image is changed before it is learnt from.

    Attributes:
        crop: side of the square that is cut out, pixels; beyond the image it shows the mean, and
            the label says ignored.
        scale: smallest and largest enlargement.
        flip: how often it is mirrored, 0–1.
        rotation: largest angle to either side, degrees.
        brightness: largest relative change, 0–1; so are `contrast` and `saturation`.
        hue: largest shift around the colour circle, 0–0.5 of a turn.
    """

    crop: Count = 513
    scale: tuple[Positive, Positive] = (0.5, 2.0)
    flip: Share = 0.5
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0

    @field_validator("scale")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"expected the smaller scale first, found {list(value)}")
        return value


class LossSettings(Record):
    """What is minimised.

    Attributes:
        type: `cross_entropy`; `focal` (arXiv:1708.02002); `ohem`, cross-entropy over the hard
            pixels alone; or `dice`.
        dice: weight of a Dice term beside it.
        class_weights: one number per class, `balanced` (median frequency, arXiv:1411.4734) or
            `null` for 1.
        label_smoothing: share of the truth that is spread over all classes; `cross_entropy` only.
        gamma: of `focal`.
        threshold: `ohem` keeps pixels whose true class has a lower probability than this.
        keep: `ohem` keeps at least this share of the pixels.
    """

    type: Literal["cross_entropy", "focal", "ohem", "dice"] = "cross_entropy"
    dice: NotNegative = 0.0
    class_weights: Literal["balanced"] | tuple[NotNegative, ...] | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    gamma: NotNegative = 2.0
    threshold: Share = 0.7
    keep: Share = 0.0625

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.label_smoothing and self.type != "cross_entropy":
            raise ValueError(f"label_smoothing belongs to cross_entropy, found type {self.type}")
        if self.dice and self.type == "dice":
            raise ValueError("dice is a term beside another type; type is dice already")
        return self


class TeacherSettings(Record):
    """What is imitated beside the labels (arXiv:1503.02531): `model` or `labels`.

    Attributes:
        model: a finished network, any that the other verbs take; of the same classes, and free in
            its input size or of that of the crops.
        labels: folder of soft labels, one file for every image; see `atrous.data.soft_labels`.
        weight: its share of the loss, 0–1; the labels have the rest.
        temperature: softens both answers before they are compared.
    """

    model: str | None = None
    labels: str | None = None
    weight: Share = 0.5
    temperature: Positive = 1.0

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.model is None) == (self.labels is None):
            raise ValueError("expected either model, a network, or labels, a folder of soft labels")
        return self


class OptimizerSettings(Record):
    """How the weights follow the gradient.

    Attributes:
        type: `sgd` or `adamw`.
        lr: learning rate of the head.
        backbone_lr: of the backbone; `null` takes `lr`.
        momentum: of `sgd`.
        nesterov: of `sgd`.
        weight_decay: of all weights.
        decay_norms: whether biases and the scales and shifts of batch norms decay too.
        clip: largest norm of the gradient; `null` does not clip.
    """

    type: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.01
    backbone_lr: NotNegative | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: StrictBool = False
    weight_decay: NotNegative = 1e-4
    decay_norms: StrictBool = True
    clip: Positive | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.nesterov and (self.type != "sgd" or not self.momentum):
            raise ValueError("nesterov belongs to sgd with a momentum")
        return self


class ScheduleSettings(Record):
    """How the learning rates fall.

    Attributes:
        type: `poly`: times (1 - done)^power; `step`: times `gamma` at each of `steps`; `constant`.
        power: of `poly`.
        steps: iterations, for `step`.
        gamma: of `step`.
        warmup: iterations at the start over which the rates rise linearly to their value.
    """

    type: Literal["poly", "step", "constant"] = "poly"
    power: Positive = 0.9
    steps: tuple[Count, ...] = ()
    gamma: Share = 0.1
    warmup: Whole = 0

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.type == "step") != bool(self.steps):
            raise ValueError("steps belongs to type step, which needs it, as steps: [10000, 20000]")
        return self


class TrainSettings(Record):
    """The loop.

    Attributes:
        iterations: steps of the optimizer.
        batch: images of one step, of all processes together.
        accumulate: pieces that a process takes its part of a batch in, to save memory.
        batch_norm: `train`: statistics of the batch; `sync`: of all processes' batches (GPU);
            `frozen`: those that the network started with. Scales and shifts are learnt in each.
        freeze: parts of the network that keep their weights, by the start of their names:
            `backbone`, or `backbone.low_level_features` alone.
        backbone_momentum: how fast the running statistics of the backbone follow.
        dropout: before the head's last convolutions, 0–1.
        ema: share that the averaged weights keep at each step, as 0.999; they are what is scored
            and shipped. `null` keeps no average.
        precision: of the arithmetic; weights stay fp32.
        bad_losses: steps in a row whose loss may be NaN or infinite, and are skipped.
        seed: decides the first weights, the order of the images and their changes.
    """

    iterations: Count = 30_000
    batch: Count = 16
    accumulate: Count = 1
    batch_norm: Literal["train", "sync", "frozen"] = "train"
    freeze: tuple[str, ...] = ()
    backbone_momentum: Annotated[float, Field(gt=0, le=1)] = 0.01
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    bad_losses: Whole = 5
    seed: Whole = 0


class ValidationSettings(Record):
    """How the network is scored on the way; the end is always scored on all images.

    Attributes:
        every: iterations between two scores.
        protocol: see `atrous.evaluation.protocols`.
        size: height and width of the input, pixels; for protocols that do not name one (`native`).
            `null` takes what the protocol names, or 513.
        images: how many, evenly spread over the split; `null` for all.
    """

    every: Count = 1000
    protocol: ProtocolName = "center-crop-513"
    size: tuple[Count, Count] | None = None
    images: Count | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        side = Protocol.parse(self.protocol).side
        if side and self.size not in (None, (side, side)):
            raise ValueError(
                f"size {list(self.size or ())} and protocol {self.protocol} name different sizes; "
                "leave size out, or take protocol native"
            )
        return self

    @property
    def preprocess(self) -> Preprocess:
        """How images reach a network that is scored so."""
        side = Protocol.parse(self.protocol).side or 513
        return Preprocess(size=self.size or (side, side))


class Recipe(Record):
    """A training run, checked. Made by `load`.

    Attributes:
        network: a row of `atrous.zoo.VARIANTS`.
        output_stride: input pixels per pixel of the high-level features; HRNet has 4, whatever is
            said.
        separable: atrous separable convolutions in the head.
        start: `imagenet` (backbone alone), `scratch`, a checkpoint, an ONNX file that `atrous
            export` wrote, or a name of the zoo; `default` and `fast` are in the package.
        output: folder of the run.
        save_every: iterations between two checkpoints.
        log_every: iterations between two entries of the log.
    """

    network: str
    output_stride: Literal[4, 8, 16] = 16
    separable: StrictBool = False
    start: str = IMAGENET
    output: str
    save_every: Count = 200
    log_every: Count = 20
    data: DataSettings
    augment: AugmentSettings = AugmentSettings()
    loss: LossSettings = LossSettings()
    teacher: TeacherSettings | None = None
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    train: TrainSettings = TrainSettings()
    validation: ValidationSettings = ValidationSettings()

    @field_validator("network")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in zoo.VARIANTS:
            raise ValueError(f"unknown network {value!r}{nearest(value, zoo.VARIANTS)}")
        return value

    @property
    def folder(self) -> Path:
        """Where the run keeps everything."""
        return from_home(self.output)

    def values(self) -> dict[str, Any]:
        """Every setting as JSON values, the defaults included."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """The file with every default written out; reads as the same recipe."""
        return yaml.safe_dump(self.values(), sort_keys=False, allow_unicode=True)


# Where unknown keys are looked up.
_SECTIONS: dict[str, type[BaseModel]] = {
    "": Recipe,
    "data": DataSettings,
    "augment": AugmentSettings,
    "loss": LossSettings,
    "teacher": TeacherSettings,
    "optimizer": OptimizerSettings,
    "schedule": ScheduleSettings,
    "train": TrainSettings,
    "validation": ValidationSettings,
}


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: the YAML file.
        overrides: `key=value` each, with a dotted key and YAML as value, as `train.batch=8`; the
            later wins.

    Raises:
        ConfigError: the file cannot be read, or says something that is unknown, impossible or in
            conflict with itself; one line that names the key.
    """
    content = strict_yaml.read(path, overrides, such_as="network and data")
    # `loss:` with nothing below it is a section without keys, not a value.
    kept = {k: value for k, value in content.items() if value is not None or k not in _SECTIONS}
    try:
        return Recipe.model_validate(kept)
    except ValidationError as error:
        raise ConfigError(f"{path}: {strict_yaml.complaint(error, _SECTIONS, {}, {})}") from None
