"""A folder of photographs in, a folder of masks out: images per second, Atrous and the usual ways.

    python benchmarks/folder.py --images PHOTOGRAPHS --checkpoint deeplabv3plus_mobilenet_voc.pth
    python benchmarks/folder.py ... --save raw.json       # every turn's seconds

Work: `--count` JPEG files → as many palette PNG files, DeepLabV3+-MobileNet. The photographs are
squashed to 513×513 beforehand, so that every contender decodes, computes and writes the same
number of pixels.

* `atrous`: what `atrous predict --no-overlays --force` does with the model in the package, which is
  the same network: int8 where the processor is made for it
* `reference`: the reference's prediction loop, rebuilt from its description: Pillow opens, torch
  normalises, PyTorch computes in fp32 as it is, argmax, Pillow saves; one image after the other
* `onnxruntime`, `openvino`: the plain loop with the exported file in fp32; `… int8`: with what ONNX
  Runtime's static quantisation and NNCF (`pip install nncf`) make of it, calibrated on the same
  images; argmax in NumPy or in the graph (`argmax`)

Method: each contender lives in a process of its own and sleeps while others run; all take turns,
the whole folder each, `--rounds` times after `--warmup` unmeasured ones. Shown are the median, the
10th and 90th percentile of images per second, and the median of the ratios of the turns of a round.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

import contenders
import numpy as np
import tables
from compile import prepare
from PIL import Image

from atrous.jobs.sources import find
from atrous.labels import LABEL_SETS

NETWORK = "deeplabv3plus_mobilenet"
SIDE = contenders.side(NETWORK)
PAUSE = 0.3
Turn = Callable[[], None]


def save(class_map: contenders.Pixels, path: Path) -> None:
    """A palette PNG by Pillow, with its defaults."""
    mask = Image.fromarray(class_map)
    mask.putpalette(LABEL_SETS["voc"].palette())
    mask.save(path)


def reference(folder: Path, images: list[Path], output: Path, threads: int) -> Turn:
    """PyTorch, one image after the other."""
    import torch

    from atrous import models

    torch.set_num_threads(threads)
    model = models.load(folder / f"{NETWORK}.pth").eval()
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

    def turn() -> None:
        with torch.no_grad():
            for path in images:
                pixels = np.array(Image.open(path).convert("RGB"))
                tensor = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div(255)
                logits = model(tensor.sub_(mean).div_(std)[None])
                classes = logits.max(1)[1].numpy()[0].astype(np.uint8)
                save(classes, output / f"{path.stem}.png")

    return turn


def plain(
    folder: Path,
    images: list[Path],
    output: Path,
    threads: int,
    *,
    engine: str,
    how: tuple[bool, ...],
) -> Turn:
    """A plain loop around a runtime."""
    run = getattr(contenders, engine)(folder, NETWORK, threads, *how)

    def turn() -> None:
        for path in images:
            classes = run(np.array(Image.open(path).convert("RGB")))
            save(classes, output / f"{path.stem}.png")

    return turn


def atrous(folder: Path, images: list[Path], output: Path, threads: int) -> Turn:
    """What `atrous predict` does."""
    from atrous.cli.options import engine_options
    from atrous.jobs.folder import segment
    from atrous.jobs.output import Output
    from atrous.runtime.predictor import Predictor

    predictor = Predictor.open(options=engine_options(None, "cpu", threads, 0, None))

    def turn() -> None:
        wanted = Output(output, overlays=False, force=True)
        for result in segment(predictor, find(images), wanted):
            if result.status != "written":
                raise RuntimeError(result.error)

    return turn


def worker(pipe: Connection, make: Callable[[], Turn]) -> None:
    """Make a contender, then take a turn whenever asked to."""
    logging.disable(logging.WARNING)
    try:
        turn = make()
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
        return
    pipe.send("")
    while pipe.recv():
        start = time.perf_counter()
        turn()
        pipe.send(time.perf_counter() - start)


def listed() -> dict[str, Callable[..., Turn]]:
    """Every contender whose library is installed."""
    found: dict[str, Callable[..., Turn]] = {"atrous": atrous, "reference": reference}
    for engine, int8 in (("onnxruntime", "onnxruntime"), ("openvino", "nncf")):
        if not find_spec(engine):
            continue
        for inside in (False, True):
            name = engine + " argmax" * inside
            found[name] = partial(plain, engine=engine, how=(inside,))
            if find_spec(int8):
                found[f"{name} int8"] = partial(plain, engine=engine, how=(inside, True))
    return found


def race(folder: Path, images: list[Path], arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of every turn of every contender."""
    running: dict[str, Connection] = {}
    for name, make in listed().items():
        output = folder / "masks" / name.replace(" ", "-")
        output.mkdir(parents=True, exist_ok=True)
        made = partial(make, folder, images, output, arguments.threads)
        pipe = contenders.begin(name, worker, made)
        if pipe is not None:
            running[name] = pipe
    times: dict[str, list[float]] = {name: [] for name in running}
    for number in range(arguments.warmup + arguments.rounds):
        for name, pipe in running.items():
            time.sleep(PAUSE)
            pipe.send(True)
            taken = pipe.recv()
            if number >= arguments.warmup:
                times[name].append(taken)
    for pipe in running.values():
        pipe.send(False)
    return times


def report(times: dict[str, list[float]], count: int) -> None:
    """Print images per second, and how much faster Atrous is."""
    medians = {name: float(np.median(values)) for name, values in times.items()}
    print(f"{count} JPEG files of {SIDE}×{SIDE} → palette PNG files, images per second")
    for name in sorted(times, key=medians.__getitem__):
        rates = count / np.array(times[name])
        low, high = np.percentile(rates, [10, 90])
        ratio = np.median(np.array(times[name]) / np.array(times["atrous"]))
        print(
            f"  {name:26}{np.median(rates):7.1f}  ({low:.1f} .. {high:.1f})   "
            f"atrous is {ratio:.2f}x as fast"
        )


def main() -> None:
    """Prepare the files and print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--calibrate", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="keep the files here, and use those there")
    parser.add_argument("--save", type=Path, help="write the seconds of every turn as JSON")
    arguments = parser.parse_args()
    paths = [source.path for source in find([arguments.images])]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        aside, squashed = folder / "calibration", folder / "photographs"
        for where in (aside, squashed):
            where.mkdir(parents=True, exist_ok=True)
        if not any(aside.iterdir()):
            for path in paths[:: max(1, len(paths) // arguments.calibrate)][: arguments.calibrate]:
                shutil.copy(path, aside)
        for path in paths[:: max(1, len(paths) // arguments.count)][: arguments.count]:
            small = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            small.save(squashed / f"{path.stem}.jpg", quality=90)
        prepare(folder, NETWORK, arguments.checkpoint, "fp32")
        images = sorted(squashed.iterdir())[: arguments.count]
        times = race(folder, images, arguments)
        report(times, len(images))
        if arguments.save:
            kept = {**tables.here(), "images": len(images), "seconds": times}
            arguments.save.write_text(json.dumps(kept))


if __name__ == "__main__":
    main()
