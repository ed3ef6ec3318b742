"""Change images and labels at random before they are learnt from.

All randomness comes from the generator that is passed in. `generator` makes it from a seed, an
epoch and a place in the epoch's order alone, so a run that is resumed sees what it would have seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_GREY = np.array([0.299, 0.587, 0.114])
_HUES = 180  # steps of OpenCV's colour circle


@dataclass(frozen=True, slots=True)
class Augment:
    """Random scale, crop, flip, rotation and colours.

    Scale, rotation, flip and crop are one affine map, so an image is interpolated once.

    Attributes:
        crop: side of the result, pixels.
        scale: smallest and largest enlargement.
        flip: how often it is mirrored, 0–1.
        rotation: largest angle to either side, degrees.
        brightness: largest relative change, 0–1; so are `contrast` and `saturation`.
        hue: largest shift, 0–0.5 of the colour circle.
        padding: RGB 0–255 beyond the image: the mean.
        ignore_index: of the label beyond the image.
    """

    crop: int
    scale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    padding: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ignore_index: int = 255

    def __call__(
        self, image: Pixels, label: Pixels, random: np.random.Generator
    ) -> tuple[Pixels, Pixels]:
        """Return a changed crop.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            label: `(H, W)` uint8 class ids.
            random: decides all; see `generator`.

        Returns:
            `(crop, crop, 3)` uint8 and `(crop, crop)` uint8.
        """
        return self.cut(image, label, self.placed(label.shape, random), random)

    def cut(
        self, image: Pixels, label: Pixels, matrix: NDArray[np.float64], random: np.random.Generator
    ) -> tuple[Pixels, Pixels]:
        """Return the crop that `placed` decided, its colours changed; see `__call__`."""
        size = (self.crop, self.crop)
        warped = cv2.warpAffine(
            image,
            matrix,
            size,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=tuple(round(value) for value in self.padding),
        )
        classes = cv2.warpAffine(
            label,
            matrix,
            size,
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=self.ignore_index,
        )
        coloured = self._coloured(np.asarray(warped, np.uint8), random)
        return coloured, np.asarray(classes, np.uint8)

    def beyond(self, shape: tuple[int, ...], matrix: NDArray[np.float64]) -> NDArray[np.bool_]:
        """`(crop, crop)`: the pixels of the crop beyond an image of that height and width."""
        shown = np.ones(shape, np.uint8)
        size = (self.crop, self.crop)
        return np.asarray(cv2.warpAffine(shown, matrix, size, flags=cv2.INTER_NEAREST) == 0)

    def placed(self, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float64]:
        """Where an image comes to lie in the crop.

        Args:
            shape: its height and width, pixels.
            random: decides scale, angle, mirror and place.

        Returns:
            `(2, 3)`: position in the image → in the crop, pixel centres at whole numbers.
        """
        height, width = shape
        scale = random.uniform(*self.scale)
        angle = math.radians(random.uniform(-self.rotation, self.rotation))
        mirror = -1.0 if random.random() < self.flip else 1.0
        turn = np.array(
            [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        ) @ np.diag([scale * mirror, scale])
        # Where the centre of the image comes to lie: the crop stays inside it, or it in the crop.
        slack = (np.array([width, height]) * scale - self.crop) / 2
        centre = self.crop / 2 + random.uniform(-1, 1, 2) * np.abs(slack)
        shift = centre - 0.5 - turn @ (np.array([width, height]) / 2 - 0.5)
        return np.column_stack([turn, shift])

    def _coloured(self, image: Pixels, random: np.random.Generator) -> Pixels:
        limits = (self.brightness, self.contrast, self.saturation)
        brightness, contrast, saturation = (1 + random.uniform(-1, 1, 3) * limits).tolist()
        hue = random.uniform(-self.hue, self.hue)
        values = np.arange(256.0)
        if self.brightness:
            image = _lookup(image, values * brightness)
        if self.contrast:
            mean = float(np.dot(cv2.mean(image)[:3], _GREY))
            image = _lookup(image, mean + (values - mean) * contrast)
        if self.saturation:
            grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            mixed = cv2.addWeighted(image, saturation, grey, 1 - saturation, 0)
            image = np.asarray(mixed, np.uint8)
        if self.hue:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
            hsv[:, :, 0] = (hsv[:, :, 0].astype(np.int16) + round(hue * _HUES)) % _HUES
            image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)
        return image


def _lookup(image: Pixels, values: NDArray[np.float64]) -> Pixels:
    return np.asarray(cv2.LUT(image, np.clip(np.rint(values), 0, 255).astype(np.uint8)), np.uint8)


def generator(seed: int, epoch: int, place: int) -> np.random.Generator:
    """The randomness for one image of one epoch: the same for the same three numbers.

    Args:
        seed: of the run.
        epoch: how often the data set has been gone through.
        place: in the order of the epoch.
    """
    return np.random.default_rng([seed, epoch, place])


def order(
    seed: int, epoch: int, count: int, weights: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """The images of one epoch in the order they are learnt from; decided by the arguments alone.

    Args:
        seed: of the run.
        epoch: how often the data set has been gone through.
        count: number of images.
        weights: `(count,)`, how often each is wanted in relation to the others; each comes as often
            as its share says, rounded up or down at random. `None` takes each once.

    Returns:
        `(count,)` indices.
    """
    # No place has this number, so the order shares its randomness with no image.
    random = np.random.default_rng([seed, epoch, 2**32])
    if weights is None:
        return random.permutation(count)
    ends = np.cumsum(weights) / weights.sum() * count
    drawn = np.searchsorted(ends, np.arange(count) + random.random(), side="right")
    return random.permutation(np.minimum(drawn, count - 1))
