"""What evaluation costs beside prediction, and how much memory it takes.

    python benchmarks/evaluate.py --data voc:VOCdevkit:val --images 60

Both verbs run as whole processes on the same images, one after the other in pairs; `predict` writes
masks and overlays, `eval` reads the labels and adds up the confusion matrix under `native`, which
makes the same class maps. Shown are the wall time of each, the ratio of each pair, and the largest
resident memory of the evaluation (`--images` 0 takes all: memory must not grow with their number).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from atrous.data import open_dataset


def seconds(command: list[str]) -> float:
    """Wall time of a command that must succeed."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print the pairs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="as voc:VOCdevkit:val")
    parser.add_argument("--images", type=int, default=60, help="the first so many, 0 for all")
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.data)
    samples = dataset.samples[: arguments.images or None]
    atrous = [sys.executable, "-m", "atrous"]
    with tempfile.TemporaryDirectory() as folder:
        ids = Path(folder) / "ids.txt"
        ids.write_text("\n".join(sample.id for sample in samples))
        root = arguments.data.split(":")[1]
        evaluate = [*atrous, "eval", "--data", f"voc:{root}:{ids}", "--protocol", "native"]
        evaluate.append("--restart")
        images = [str(sample.image) for sample in samples]
        predict = [*atrous, "predict", *images, "-o", f"{folder}/out", "--force"]
        seconds([*atrous, "predict", images[0], "-o", f"{folder}/warm"])
        ratios = []
        for _ in range(arguments.pairs):
            one, other = seconds(predict), seconds(evaluate)
            ratios.append(other / one)
            print(f"predict {one:.1f} s, eval {other:.1f} s, eval / predict {other / one:.2f}")
        print(f"{len(samples)} images, median ratio {sorted(ratios)[len(ratios) // 2]:.2f}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"largest resident memory of either: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
