"""What the recipe of `atrous train --init` reaches on small sets, by how long it runs.

    python benchmarks/short_runs.py                               # 60, 150 and 500 iterations
    python benchmarks/short_runs.py --norms CHECKPOINT            # 60 iterations, by batch norms

Three sets of 60 pictures to learn from and 20 to score on, drawn from a seed, 128×128 or 160×120:

* shapes: discs, boxes, triangles and crosses, told apart by form (`atrous.data.synthetic`)
* lines: dark cracks and bright wires, 2 to 3 pixels wide, each a class, on textured ground
* rare: two classes, one of them spots on 1 to 2 % of the pixels

Each number is the mIoU of the last checkpoint on the pictures to score on, in percent, as `atrous
train` prints it: `train --init`, then `train` with nothing changed but the number of iterations.

`--norms` starts from a checkpoint that has the statistics of its batch norms (an ONNX file has not)
and compares `train.batch_norm`: `frozen`, which `--init` writes; `train` with a momentum of the
backbone's statistics of 0.1; and `train` with that of the recipes for long runs, 0.01.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.data import synthetic

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]

SIDE = 128
TRAIN, VAL = 60, 20
NORMS = {
    "frozen": ["train.batch_norm=frozen"],
    "train, momentum 0.1": ["train.batch_norm=train", "train.backbone_momentum=0.1"],
    "train, momentum 0.01": ["train.batch_norm=train", "train.backbone_momentum=0.01"],
}


def lines(seed: int, number: int) -> Pair:
    """Cracks and wires that cross the picture: image `(H, W, 3)` and ids `(H, W)`, uint8."""
    random = np.random.default_rng([seed, number, 1])
    picture, mask = _ground(random), np.zeros((SIDE, SIDE), np.uint8)
    for class_id, colour in ((1, (40, 35, 30)), (2, (225, 220, 190))):
        for _ in range(random.integers(1, 3)):
            steps = random.normal(0, 5, 9).cumsum() + random.uniform(20, SIDE - 20)
            along = np.linspace(-5, SIDE + 5, 9)
            points = np.stack([along, steps], axis=1)[:, :: random.choice([-1, 1])]
            width = int(random.integers(2, 4))
            for image, value in ((picture, colour), (mask, class_id)):
                cv2.polylines(image, [points.round().astype(np.int32)], False, value, width)
    return _noisy(picture, random), mask


def rare(seed: int, number: int) -> Pair:
    """One to four spots: image `(H, W, 3)` and ids `(H, W)`, uint8."""
    random = np.random.default_rng([seed, number, 2])
    picture, mask = _ground(random), np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(random.integers(1, 5)):
        centre = tuple(map(int, random.integers(10, SIDE - 10, 2)))
        axes = tuple(map(int, random.integers(4, 9, 2)))
        for image, value in ((picture, (110, 70, 50)), (mask, 1)):
            cv2.ellipse(image, centre, axes, float(random.uniform(0, 180)), 0, 360, value, -1)
    return _noisy(picture, random), mask


def _ground(random: np.random.Generator) -> NDArray[np.float64]:
    coarse = random.uniform(80, 180, (8, 8, 1)) + random.uniform(-15, 15, (8, 8, 3))
    return np.asarray(cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))


def _noisy(picture: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.uint8]:
    return np.clip(picture + random.normal(0, 10, picture.shape), 0, 255).astype(np.uint8)


SETS: dict[str, tuple[Callable[[int, int], Pair], list[str]]] = {
    "shapes": (synthetic.draw, list(synthetic.NAMES)),
    "lines": (lines, ["ground", "crack", "wire"]),
    "rare": (rare, ["ground", "spot"]),
}


def make(folder: Path, name: str) -> None:
    """Write a set and the recipe for it."""
    draw, classes = SETS[name]
    for split, seed, count in (("train", 0, TRAIN), ("val", 1, VAL)):
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(count):
            picture, mask = draw(seed, number)
            Image.fromarray(picture).save(folder / f"images/{split}/{split}{number}.png")
            Image.fromarray(mask).save(folder / f"masks/{split}/{split}{number}.png")
    described = {"images": "images/{split}", "masks": "masks/{split}", "classes": classes}
    (folder / "own.yaml").write_text(json.dumps(described | {"mask_type": "ids"}))
    atrous(folder, "train", "--init", "folder:own.yaml:train", "-o", "own-recipe.yaml")


def atrous(folder: Path, *arguments: str) -> None:
    """Run a command in a folder; exit code 1 is a score that looks ill, which the table shows."""
    command = [sys.executable, "-m", "atrous", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"atrous {' '.join(arguments)}: {done.stderr}")


def score(folder: Path, name: str, *changes: str) -> tuple[float, str]:
    """Train, and read the mIoU of the last checkpoint and that of every class, in percent."""
    output = f"runs/{name}"
    atrous(folder, "train", "own-recipe.yaml", f"output={output}", *changes)
    found = json.loads((folder / output / "last.json").read_text())
    return float(found["mean_iou"]), json.dumps(found["iou"])


def main() -> None:
    """Parse the command line, make the sets, train on each and print the table."""
    parser = argparse.ArgumentParser(description="Short training runs on three small sets.")
    parser.add_argument("--iterations", type=int, nargs="+", default=[60, 150, 500])
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--norms", type=Path, help="compare batch norms, starting from this file")
    parser.add_argument("--changes", nargs="*", default=[], help="KEY=VALUE of every run")
    arguments = parser.parse_args()
    runs = {f"{n} iterations": [f"train.iterations={n}"] for n in arguments.iterations}
    if arguments.norms is not None:
        start = f"start={arguments.norms.resolve()}"
        short = [f"train.iterations={min(arguments.iterations)}", start]
        runs = {name: [*short, *changes] for name, changes in NORMS.items()}
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in arguments.sets:
            folder = Path(temporary, name)
            make(folder, name)
            row = [name]
            for run, changes in runs.items():
                found, classes = score(folder, run.replace(" ", "_"), *changes, *arguments.changes)
                row.append(f"{found:.1f}")
                used = os.times().children_user + os.times().children_system
                print(f"{name}, {run}: {found:.1f} {classes} ({used:.0f} s of the processors)")
            rows.append(row)
    for cells in (["", *runs], ["---", *["--:"] * len(runs)], *rows):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
