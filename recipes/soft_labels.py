"""Soft labels of a teacher too slow to be asked at every step: Google's network at its best.

    python recipes/soft_labels.py BACKBONE.npz HEAD.npz --data voc:VOCdevkit:train_more -o soft

writes `soft/ID.npz` for every image of a split, which `teacher: {labels: soft}` of a training
recipe reads. The network runs at output stride 8 (its last stride left out, what follows it
dilated) over each whole picture, enlarged and mirrored as `LOOKS` says, and the probabilities
are averaged. Classes that the mask of a picture does not show are left out of them.

A picture that has its file is left out, so the same command goes on where it was stopped.
`--looks 2` asks for the first two alone, which takes a third of the time. `--judge COUNT` writes
nothing: it prints the mIoU on that many pictures of the split, spread over it, of the first answer,
of the mean of the first two, and so on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from start_from_google import Google

from atrous.data import Dataset, open_dataset
from atrous.data.soft_labels import CELL, SoftLabel
from atrous.metrics import ConfusionMatrix
from atrous.preprocess import Preprocess

# Scale, and whether mirrored.
LOOKS = ((1.0, False), (0.75, True), (1.25, False), (1.5, True))
STRIDE = 8
BACKGROUND = 0

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


def answers(network: Google, picture: Pixels, looks: int) -> Iterator[Floats]:
    """The probabilities `(C, h, w)` of each cell, look by look."""
    height, width = picture.shape[:2]
    for scale, mirrored in LOOKS[:looks]:
        rows, columns = round(height * scale), round(width * scale)
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        scaled = cv2.resize(picture, (columns, rows), interpolation=way)
        pixels = torch.from_numpy(Preprocess(size=(rows, columns))(np.asarray(scaled, np.uint8)))
        # Corners that are aligned want a pixel more than a multiple of the stride.
        tall, wide = (STRIDE * -(-(side - 1) // STRIDE) + 1 for side in (rows, columns))
        batch = torch.zeros(1, 3, tall, wide)  # the mean, once normalised
        batch[0, :, :rows, :columns] = pixels.flip(2) if mirrored else pixels
        batch = batch.to(torch.bfloat16, memory_format=torch.channels_last)
        grid = network.grid(batch)[0].float()
        down, across = _taps(height, rows, tall), _taps(width, columns, wide, mirrored=mirrored)
        yield (down @ grid @ across.T).softmax(0).numpy()


def _taps(whole: int, shown: int, side: int, *, mirrored: bool = False) -> torch.Tensor:
    """How the middle of each cell of a side is mixed from the network's grid.

    Args:
        whole: side of the picture, pixels.
        shown: the same, scaled.
        side: the same, padded.
        mirrored: whether the network saw it so.

    Returns:
        `(cells, grid)` shares.
    """
    cells, grid = -(-whole // CELL), (side - 1) // STRIDE + 1
    at = (np.arange(cells) + 0.5) * CELL * shown / whole - 0.5
    at = np.clip((shown - 1 - at if mirrored else at) / STRIDE, 0, grid - 1)
    return torch.from_numpy(np.maximum(1 - abs(at[:, None] - np.arange(grid)), 0)).float()


def judge(network: Google, data: Dataset, count: int, looks: int) -> None:
    """Print what ever more answers are worth."""
    chosen = data.samples[:: max(1, len(data.samples) // count)][:count]
    scores: list[ConfusionMatrix] = []
    seconds: list[float] = []
    for sample in chosen:
        picture, truth = data.read_image(sample), data.read_label(sample)
        total, began = np.float32(0), time.monotonic()
        for number, answer in enumerate(answers(network, picture, looks)):
            if number == len(scores):
                scores.append(ConfusionMatrix(data.labels.num_classes))
                seconds.append(0)
            total = total + answer
            seconds[number] += time.monotonic() - began
            soft, score = SoftLabel.of(total / (number + 1)), scores[number]
            score.update(truth, soft.warped(np.eye(2, 3), truth.shape, score.num_classes).argmax(0))
    for number, score in enumerate(scores):
        scale, mirrored = LOOKS[number]
        print(
            f"{100 * score.mean_iou:.2f} mIoU with scale {scale}{', mirrored' * mirrored}, "
            f"{seconds[number] / len(chosen):.2f} s an image"
        )


def write(network: Google, data: Dataset, folder: Path, looks: int) -> None:
    """Write the files that are not there yet."""
    left = [sample for sample in data.samples if not SoftLabel.path(folder, sample.id).is_file()]
    for number, sample in enumerate(left, 1):
        likely = np.mean(list(answers(network, data.read_image(sample), looks)), axis=0)
        shown = np.isin(np.arange(data.labels.num_classes), data.read_label(sample))
        shown[BACKGROUND] = True
        SoftLabel.of(likely * shown[:, None, None]).save(folder, sample.id)
        if number % 25 == 0 or number == len(left):
            print(f"{number} of {len(left)} images", flush=True)


def main() -> None:
    """Write the soft labels, or judge them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("backbone", type=Path)
    parser.add_argument("head", type=Path)
    parser.add_argument("--data", default="voc:VOCdevkit:train_more", metavar="KIND:ROOT:SPLIT")
    parser.add_argument("-o", "--output", type=Path, default=Path("soft"))
    parser.add_argument("--looks", type=int, choices=range(1, len(LOOKS) + 1), default=len(LOOKS))
    parser.add_argument("--judge", type=int, metavar="COUNT")
    arguments = parser.parse_args()
    backbone, head = (
        {name: torch.from_numpy(array) for name, array in np.load(path).items()}
        for path in (arguments.backbone, arguments.head)
    )
    network = Google(backbone, head, output_stride=STRIDE).eval().bfloat16()
    network.to(memory_format=torch.channels_last)
    data = open_dataset(arguments.data)
    with torch.inference_mode():
        if arguments.judge:
            judge(network, data, arguments.judge, arguments.looks)
        else:
            write(network, data, arguments.output, arguments.looks)


if __name__ == "__main__":
    main()
