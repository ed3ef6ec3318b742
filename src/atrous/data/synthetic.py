"""A small set that is drawn from a seed: for tests, and for trying a training recipe."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.data.dataset import Dataset, Sample
from atrous.data.voc import read_ids
from atrous.labels import LabelSet, interleaved_colour

NAMES = ("background", "disc", "box", "triangle")
LABELS = LabelSet("synthetic", NAMES, tuple(map(interleaved_colour, range(len(NAMES)))))
SIZE = (120, 160)


def write_synthetic(folder: Path, count: int, seed: int = 0) -> Dataset:
    """Draw images of discs, boxes and triangles on a noisy background, with their masks.

    Args:
        folder: gets `images/` and `masks/`.
        count: number of images.
        seed: the same seed draws the same pixels.

    Returns:
        The set, of images `(120, 160)` with a margin of one ignored pixel around every shape.
    """
    samples = []
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels, mask = draw(np.random.default_rng([seed, number]))
        sample = Sample(
            f"{number:05}",
            folder / "images" / f"{number:05}.png",
            folder / "masks" / f"{number:05}.png",
        )
        Image.fromarray(pixels).save(sample.image)
        assert sample.label is not None
        Image.fromarray(mask).save(sample.label)
        samples.append(sample)
    name = f"synthetic:{seed}"
    return Dataset(name, f"{name}:{count}", LABELS, tuple(samples), read_ids)


def draw(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One image `(120, 160, 3)` uint8 RGB and its mask `(120, 160)` uint8."""
    height, width = SIZE
    noise = rng.normal(0, 14, (height, width, 3))
    pixels = cv2.resize(rng.uniform(70, 150, (4, 5, 3)), (width, height)) + noise
    mask = np.zeros(SIZE, np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        class_id = int(rng.integers(1, len(NAMES)))
        shape = np.zeros(SIZE, np.uint8)
        x, y = int(rng.integers(25, width - 25)), int(rng.integers(25, height - 25))
        radius = int(rng.integers(12, 28))
        match NAMES[class_id]:
            case "disc":
                cv2.circle(shape, (x, y), radius, 1, -1)
            case "box":
                cv2.rectangle(shape, (x - radius, y - radius), (x + radius, y + radius), 1, -1)
            case "triangle":
                corners = [(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)]
                cv2.fillPoly(shape, [np.array(corners, np.int32)], 1)
        around = cv2.dilate(shape, np.ones((3, 3), np.uint8))
        # Shape decides the class; colour only leans towards it.
        colour = rng.uniform(30, 120, 3)
        colour[class_id - 1] = rng.uniform(170, 250)
        pixels[shape == 1] = colour + noise[shape == 1]
        mask[around == 1] = LABELS.ignore_index
        mask[shape == 1] = class_id
    return np.clip(pixels, 0, 255).astype(np.uint8), mask
