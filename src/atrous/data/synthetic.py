"""A small set that is drawn from a seed: for tests, and for trying a training recipe."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.data.dataset import Dataset, Sample
from atrous.errors import ConfigError
from atrous.labels import LabelSet, interleaved_colour

NAMES = ("background", "disc", "box", "triangle", "cross")
LABELS = LabelSet("synthetic", NAMES, tuple(map(interleaved_colour, range(len(NAMES)))))
SIZE = (120, 160)

_TINTS = ((235, 60, 50), (60, 200, 70), (70, 90, 240), (240, 210, 60))


def open_synthetic(seed: str, count: str, spec: str) -> Dataset:
    """A set of `count` pictures that exist nowhere but in memory: their files are only names.

    Args:
        seed: the same seed draws the same pixels, and begins with the same pictures at any count.
        count: number of pictures.
        spec: as the user wrote it.

    Raises:
        ConfigError: `seed` or `count` is not a whole number, or there would be no picture.
    """
    if not (seed.isdecimal() and count.isdecimal() and int(count)):
        raise ConfigError(f"{spec}: expected synthetic:SEED:COUNT, as synthetic:0:100")
    name = f"synthetic:{seed}:{count}"
    ids = [f"{number:05}" for number in range(int(count))]
    samples = tuple(Sample(i, Path(f"{i}.image"), Path(f"{i}.label")) for i in ids)
    return Dataset(
        name, spec, LABELS, samples, partial(_label, int(seed)), partial(_image, int(seed))
    )


def draw(seed: int, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One picture: discs, boxes, triangles and crosses on a textured background.

    The class follows from the shape, and the colour leans towards it. Every shape is outlined by
    one ignored pixel, as in PASCAL VOC, and the first shape of picture n is of class n % 4 + 1.

    Returns:
        Image `(120, 160, 3)` uint8 RGB and label `(120, 160)` uint8.
    """
    rng = np.random.default_rng([seed, number])
    height, width = SIZE
    coarse = rng.uniform(60, 170, (6, 8, 3))
    pixels = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    label = np.zeros(SIZE, np.uint8)
    first = number % len(_TINTS) + 1
    # Drawn last, so that the first shape is never covered.
    for class_id in (*rng.integers(1, len(NAMES), rng.integers(0, 3)), first):
        shape = _shape(NAMES[class_id], rng)
        outline = cv2.dilate(shape, np.ones((3, 3), np.uint8))
        pixels[shape == 1] = np.array(_TINTS[class_id - 1]) + rng.uniform(-40, 40, 3)
        label[outline == 1] = LABELS.ignore_index
        label[shape == 1] = class_id
    noisy = pixels + rng.normal(0, 12, pixels.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), label


def _shape(name: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """`(120, 160)` uint8, 1 inside."""
    shape = np.zeros(SIZE, np.uint8)
    radius = int(rng.integers(12, 30))
    x, y = int(rng.integers(20, SIZE[1] - 20)), int(rng.integers(20, SIZE[0] - 20))
    thin = radius // 3
    match name:
        case "disc":
            cv2.circle(shape, (x, y), radius, 1, cv2.FILLED)
        case "box":
            corner = (x + radius, y + radius)
            cv2.rectangle(shape, (x - radius, y - radius), corner, 1, cv2.FILLED)
        case "triangle":
            corners = [(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)]
            cv2.fillPoly(shape, [np.array(corners, np.int32)], 1)
        case _:  # cross
            cv2.rectangle(shape, (x - radius, y - thin), (x + radius, y + thin), 1, cv2.FILLED)
            cv2.rectangle(shape, (x - thin, y - radius), (x + thin, y + radius), 1, cv2.FILLED)
    return shape


def _image(seed: int, path: Path) -> NDArray[np.uint8]:
    return draw(seed, int(path.stem))[0]


def _label(seed: int, path: Path) -> NDArray[np.uint8]:
    return draw(seed, int(path.stem))[1]
