"""A finished network whose answers are learnt beside the labels (arXiv:1503.02531)."""

from __future__ import annotations

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
from atrous.training.config import TeacherSettings


class Teacher:
    """Answers for the crops that are learnt from, and how far a network is from them.

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

    def distance(self, logits: Tensor, images: Tensor) -> Tensor:
        """Mean over the pixels of the Kullback-Leibler divergence from its answers.

        Args:
            logits: of the network that learns, `(N, C, H, W)`.
            images: normalised, `(N, 3, H, W)`.
        """
        heat = self.settings.temperature
        with torch.no_grad():
            wanted = functional.log_softmax(self(images) / heat, dim=1)
        found = functional.log_softmax(logits / heat, dim=1)
        pixels = logits.numel() / logits.shape[1]
        divergence = functional.kl_div(found, wanted, reduction="sum", log_target=True)
        return divergence * (heat * heat / pixels)
