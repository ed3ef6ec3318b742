"""How much faster a training step is than the network's own forward and backward.

    python benchmarks/train.py                              # V3+-MobileNet, batch 4, crop 321
    python benchmarks/train.py --networks deeplabv3plus_mobilenet deeplabv3_mobilenet --batch 8
    python benchmarks/train.py --loader voc:VOCdevkit:train # images a second of the loader as well

Work: one batch of random images and labels → the gradients of all weights. The same weights, batch,
crop and cross-entropy for every contender:

* plain: the network as the reference computes it: full concatenation, enlargement, NCHW; this is
  the reference's forward and backward, as its networks are ours name by name
* plain, channels last: the same with activations and weights channels last, which is the best that
  a user of plain PyTorch would write
* Atrous: `atrous.training`: decoder convolved before it is enlarged, channels last, logits enlarged
  by matrix products, and for frozen batch norms these folded into the convolutions
* Atrous, bf16, with `--bf16`: the same with `train.precision: bf16`, for processors that have it

once with batch norms in training and once with frozen ones. All contenders compute the same
gradients up to rounding (`tests/training/test_network.py`), with bf16 up to that of its 8 bits.

Method: one process; all contenders take turns, one step each, `--rounds` times after `--warmup`
unmeasured ones. Shown are the median seconds of a step, wall clock and CPU time of all threads, and
the median of the ratios of one round to the plain contender. CPU time says more on a machine that
others use too. `--raw FILE` keeps every time as JSON. GOMP_SPINCOUNT=0 is set, as `atrous train`
does, so that waiting threads do not count as work.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "0")

import torch
from torch.nn import functional

from atrous.models import DeepLab, build
from atrous.training.trainee import Trainee, norms

CLASSES, IGNORED = 21, 255

Forward = Callable[[torch.Tensor], torch.Tensor]


BF16 = "Atrous, bf16"


def contenders(network: DeepLab, frozen: bool, *, bf16: bool) -> dict[str, tuple[DeepLab, Forward]]:
    """Name → a copy of the network, and its way from images to full-size logits."""
    made: dict[str, tuple[DeepLab, Forward]] = {}
    for name in ("plain", "plain, channels last", "Atrous", *[BF16] * bf16):
        own = copy.deepcopy(network).train()
        forward: Forward = own
        if name != "plain":
            own.to(memory_format=torch.channels_last)
        if name == "plain, channels last":
            forward = lambda x, own=own: own(x.contiguous(memory_format=torch.channels_last))  # noqa: E731
        if name.startswith("Atrous"):
            forward = Trainee(own, frozen=frozen).train()
            if name == BF16:
                forward = torch.autocast("cpu", torch.bfloat16)(forward)
        elif frozen:
            for norm in norms(own):
                norm.eval()
        made[name] = own, forward
    return made


def step(network: DeepLab, forward: Forward, images: torch.Tensor, labels: torch.Tensor) -> None:
    """One forward and backward."""
    network.zero_grad()
    functional.cross_entropy(forward(images), labels, ignore_index=IGNORED).backward()


def race(name: str, frozen: bool, arguments: argparse.Namespace) -> dict[str, list[list[float]]]:
    """Time all contenders of one network, print the table, return `[wall, CPU]` of each step."""
    torch.manual_seed(0)
    all_of_them = contenders(build(name, CLASSES), frozen, bf16=arguments.bf16)
    images = torch.randn(arguments.batch, 3, arguments.crop, arguments.crop)
    labels = torch.randint(0, CLASSES, (arguments.batch, arguments.crop, arguments.crop))
    labels[:, : arguments.crop // 16] = IGNORED
    times: dict[str, list[list[float]]] = {one: [] for one in all_of_them}
    for turn in range(arguments.warmup + arguments.rounds):
        for one, (network, forward) in all_of_them.items():
            wall, work = time.perf_counter(), time.process_time()
            step(network, forward, images, labels)
            if turn >= arguments.warmup:
                times[one].append([time.perf_counter() - wall, time.process_time() - work])
    mode = "frozen" if frozen else "train"
    print(f"\n{name}, batch norm {mode}, batch {arguments.batch}, crop {arguments.crop}")
    print(f"{'':22}  wall s   ratio   CPU s   ratio")
    for one, measured in times.items():
        cells = []
        for kind in (0, 1):
            ratios = [
                plain[kind] / own[kind] for plain, own in zip(times["plain"], measured, strict=True)
            ]
            middle = statistics.median(each[kind] for each in measured)
            cells.append(f"{middle:7.2f} {statistics.median(ratios):6.2f}×")
        print(f"{one:22} {' '.join(cells)}")
    return times


def load(spec: str, arguments: argparse.Namespace) -> None:
    """Print how many images a second one process of the loader makes."""
    from atrous.data import open_dataset
    from atrous.data.augment import Augment
    from atrous.preprocess import Preprocess
    from atrous.training.loader import Crops

    preprocess = Preprocess(size=(arguments.crop, arguments.crop))
    augment = Augment(arguments.crop, (0.5, 2.0), 0.5, padding=preprocess.padding_value)
    crops = Crops(open_dataset(spec), augment, preprocess, 0)
    wall, work = time.perf_counter(), time.process_time()
    for position in range(arguments.images):
        crops[position]
    wall, work = time.perf_counter() - wall, time.process_time() - work
    print(
        f"\nloader, {spec}, crop {arguments.crop}, one process: {arguments.images / wall:.0f} "
        f"images/s, {1e3 * work / arguments.images:.1f} ms of CPU each"
    )


def main() -> None:
    """Run the comparison that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--networks", nargs="+", default=["deeplabv3plus_mobilenet"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=321)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own choice")
    parser.add_argument("--bf16", action="store_true", help="also in bf16")
    parser.add_argument("--loader", metavar="DATA", help="as voc:VOCdevkit:train")
    parser.add_argument("--images", type=int, default=100, help="of the loader")
    parser.add_argument("--raw", type=Path)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    raw = {
        f"{name}, {'frozen' if frozen else 'train'}": race(name, frozen, arguments)
        for name in arguments.networks
        for frozen in (False, True)
    }
    if arguments.loader:
        load(arguments.loader, arguments)
    if arguments.raw:
        arguments.raw.write_text(json.dumps(raw))


if __name__ == "__main__":
    main()
