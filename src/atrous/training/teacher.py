"""Answers that are learnt beside the labels (arXiv:1503.02531): a network's, or soft labels."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from atrous import engines
from atrous.engines.base import Options
from atrous.errors import ConfigError
from atrous.labels import LabelSet
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from atrous.training.config import Recipe, TeacherSettings


class Teacher(ABC):
    """What is imitated, and how far a network is from it.

    Attributes:
        settings: see `atrous.training.config.TeacherSettings`.
    """

    settings: TeacherSettings

    @abstractmethod
    def pixels(self, images: Tensor, soft: Tensor) -> int:
        """How many pixels it has an answer for; of what, see `atrous.training.loader.Piece`."""

    @abstractmethod
    def distance(self, logits: Tensor, images: Tensor, soft: Tensor) -> Tensor:
        """Mean over those pixels of the divergence from its answers.

        That of Kullback and Leibler, for soft labels the cross-entropy: greater by what the network
        cannot change.

        Args:
            logits: of the network that learns, `(N, C, H, W)`.
            images: normalised, `(N, 3, H, W)`.
            soft: soft labels, `(N, C, H, W)` uint8.
        """


class NetworkTeacher(Teacher):
    """A finished network, asked for every crop.

    Args:
        settings: see `atrous.training.config.TeacherSettings`.
        labels: classes of the network that learns.
        crop: side of the crops, pixels.
        device: where it runs.

    Raises:
        ConfigError: it has other classes, takes no crops of this size, or normalises otherwise.
        AtrousError: it cannot be opened.
    """

    def __init__(
        self, settings: TeacherSettings, labels: LabelSet, crop: int, device: torch.device
    ) -> None:
        assert settings.model is not None
        self.settings = settings
        options = Options("cuda" if device.type == "cuda" else "cpu")
        self.engine = engines.open_engine(settings.model, options=options)
        name, known = f"teacher.model: {settings.model}", self.engine.metadata
        classes = self.engine.signature.classes
        if classes not in (None, labels.num_classes):
            raise ConfigError(
                f"{name} has {classes} classes, the data {labels.num_classes}; a teacher has the "
                "same"
            )
        if known is not None and known.labels.names != labels.names:
            raise ConfigError(f"{name} has other classes than the data: {known.labels.name}")
        if not self.engine.signature.takes(crop, crop):
            raise ConfigError(
                f"{name} takes {self.engine.signature.size} pixels, the crops have {crop}; take "
                "one of atrous export --dynamic height,width, or set augment.crop"
            )
        own = known.preprocess if known is not None else Preprocess()
        same = {"normalisation", "mean", "std", "colour"}
        if own.model_dump(include=same) != Preprocess().model_dump(include=same):
            raise ConfigError(f"{name} normalises its images otherwise than a network in training")
        self._predictor = Predictor(self.engine, Preprocess(size=(crop, crop)), labels)

    def __call__(self, images: Tensor) -> Tensor:
        """Its logits, `(N, C, H, W)`, for normalised images `(N, 3, H, W)`."""
        grids = self._predictor.logits([*images.cpu().numpy()])
        grid = torch.from_numpy(np.stack(grids)).to(images.device)
        corners = self.engine.signature.coordinates == "align_corners"
        return functional.interpolate(
            grid, size=images.shape[-2:], mode="bilinear", align_corners=corners
        )

    def pixels(self, images: Tensor, soft: Tensor) -> int:
        """Every one."""
        return images.shape[0] * images.shape[2] * images.shape[3]

    def distance(self, logits: Tensor, images: Tensor, soft: Tensor) -> Tensor:
        """See `Teacher`."""
        heat = self.settings.temperature
        with torch.no_grad():
            wanted = functional.log_softmax(self(images) / heat, dim=1)
        found = functional.log_softmax(logits / heat, dim=1)
        divergence = functional.kl_div(found, wanted, reduction="sum", log_target=True)
        return divergence * (heat * heat / self.pixels(images, soft))


class SoftLabelTeacher(Teacher):
    """Soft labels, cut out with the images.

    Args:
        settings: see `atrous.training.config.TeacherSettings`.
    """

    def __init__(self, settings: TeacherSettings) -> None:
        self.settings = settings

    def pixels(self, images: Tensor, soft: Tensor) -> int:
        """Those of the image: beyond it no class is likely."""
        return int(soft.amax(dim=1).count_nonzero())

    def distance(self, logits: Tensor, images: Tensor, soft: Tensor) -> Tensor:
        """See `Teacher`."""
        heat = self.settings.temperature
        wanted, whole = soft.to(logits.dtype), 255.0
        if heat != 1:
            wanted, whole = wanted ** (1 / heat), 1.0
            wanted = wanted / wanted.sum(dim=1, keepdim=True).clamp(min=1)
            logits = logits / heat
        found = functional.log_softmax(logits, dim=1)
        surprise = -(wanted * found).sum()
        return surprise * (heat * heat / (whole * max(1, self.pixels(images, soft))))


def make_teacher(recipe: Recipe, labels: LabelSet, device: torch.device) -> Teacher | None:
    """The teacher of a recipe, if it has one.

    Args:
        recipe: see `atrous.training.config`.
        labels: classes of the network that learns.
        device: where it runs.

    Raises:
        AtrousError: see `NetworkTeacher`.
    """
    settings = recipe.teacher
    if settings is None:
        return None
    if settings.labels is not None:
        return SoftLabelTeacher(settings)
    return NetworkTeacher(settings, labels, recipe.augment.crop, device)
