"""Keep what `compile.py` and `folder.py` measured, and write the documents' tables from it.

    python benchmarks/tables.py    # README.md, docs/benchmarks.md and docs/stream.md

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`; a test holds every one of
them to the raw figures.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = tuple(ROOT / name for name in ("README.md", "docs/benchmarks.md", "docs/stream.md"))

Times = Mapping[str, list[float]]
"""Contender → ms of each of its turns, all in the same rounds."""

_TABLE = re.compile(r"(<!-- table: (\S+) -->\n+).*?(\n+<!-- end of table -->)", re.DOTALL)
_NAMES = {
    "deeplabv3plus_mobilenet": "DeepLabV3+-MobileNet",
    "deeplabv3_mobilenet": "DeepLabV3-MobileNet",
    "deeplabv3plus_resnet101": "DeepLabV3+-ResNet-101",
    "deeplabv3_resnet50": "DeepLabV3-ResNet-50",
    "segformer_b0": "SegFormer-B0, 512²",
    "upernet_convnext_tiny": "UPerNet-ConvNeXt-tiny, 512²",
    "pspnet_resnet50": "PSPNet-R50-D8, 512²",
    "hrnet18_fcn": "HRNet-W18 with an FCN head, 512²",
}
_HEADLINE = (
    *("deeplabv3plus_mobilenet", "deeplabv3_mobilenet"),
    *("segformer_b0", "upernet_convnext_tiny"),
)
"""The networks of the README's table."""

_PEERS = {
    "openvino": "OpenVINO",
    "onnxruntime": "ONNX Runtime",
    "pytorch": "PyTorch",
    "mnn": "MNN",
    "own": "own",
}
_PACKAGES = ("openvino", "onnxruntime", "torch", "MNN", "nncf", "transformers")


def keep(path: Path, networks: Mapping[str, Times]) -> None:
    """Add what was measured to a file, which begins anew on another machine or other versions."""
    made = here()
    kept = json.loads(path.read_text()) if path.exists() else {}
    if {name: kept.get(name) for name in made} != made:
        kept = {**made, "networks": {}}
    for network, times in networks.items():
        kept["networks"][network] = {n: [round(ms, 2) for ms in t] for n, t in times.items()}
    path.write_text(json.dumps(kept, separators=(",", ":")).replace("],", "],\n") + "\n")


def here() -> dict[str, object]:
    """The machine and the versions that something is measured with."""
    return {"machine": _machine(), "versions": _versions()}


def _machine() -> str:
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*: (.+)", cpuinfo.read_text())
        model = found[1].strip() if found else model
    return f"{model}, {os.cpu_count()} cores"


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


class Race:
    """What one network's contenders took.

    Args:
        times: contender → ms of each of its turns.
    """

    def __init__(self, times: Times) -> None:
        self.times = {name: np.array(values) for name, values in times.items()}

    def ms(self, name: str) -> float:
        """The median of a contender's turns."""
        return float(np.median(self.times[name]))

    def ratio(self, ours: str, theirs: str) -> float:
        """How many times as fast we are: the median over the rounds."""
        return float(np.median(self.times[theirs] / self.times[ours]))

    def best(self, engine: str = "") -> str:
        """The fastest peer, or the faster form of one engine."""
        peers = [n for n in self.times if not n.startswith(("atrous", "own"))]
        return min((n for n in peers if engine in ("", n.split()[0])), key=self.ms)

    @property
    def ours(self) -> str:
        """The faster of our own two."""
        return min((n for n in self.times if n.startswith("atrous")), key=self.ms)


def _load(name: str) -> dict[str, Race]:
    path = RESULTS / f"{name}.json"
    kept = json.loads(path.read_text())["networks"] if path.exists() else {}
    return {network: Race(kept[network]) for network in _NAMES if network in kept}


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value >= 200 else f"{value:.1f} ms"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(
        f"| {' | '.join(line)} |".replace("|  |", "| |").replace("|  |", "| |") for line in lines
    )


def _against(race: Race, ours: str, peer: str, *, named: bool = False) -> str:
    name = f" {_PEERS[peer.split()[0]]}" if named else ""
    return f"**{race.ratio(ours, peer):.2f}×**{name}"


def speed() -> str:
    """Our faster engine against the best peer, in fp32 and int8, and whole folders."""
    fp32, int8 = _load("compile-fp32"), _load("compile-int8")
    rows = []
    for network in _HEADLINE:
        cells = [_NAMES[network]]
        for found in (fp32, int8):
            race = found.get(network)
            cells += ["", ""] if race is None else _both(race)
        rows.append(cells)
    table = _table(["", "fp32", "against the best peer", "int8", "against the best peer"], rows)
    return f"{table}\n\n{folder_in_words()}"


def _both(race: Race) -> list[str]:
    return [_ms(race.ms(race.ours)), _against(race, race.ours, race.best(), named=True)]


def engines(name: str) -> str:
    """Both engines of one file, against the same engine, the best peer and our own fp32."""
    rows = []
    for network, race in _load(name).items():
        cells = [_NAMES[network]]
        for engine in ("openvino", "onnxruntime"):
            ours = f"atrous {engine}"
            cells += [
                _ms(race.ms(ours)),
                _against(race, ours, race.best(engine)),
                _against(race, ours, race.best(), named=True),
            ]
            if name == "compile-int8":
                cells.append(f"{race.ratio(ours, f'own fp32 {engine}'):.2f}×")
        rows.append(cells)
    head = [""]
    for engine in ("OpenVINO", "ONNX Runtime"):
        head += [f"Atrous, {engine}", "same engine, whole network", "best peer of all"]
        head += ["our own fp32"] * (name == "compile-int8")
    return _table(head, rows)


def machine(name: str) -> str:
    """Where and with what a file was measured."""
    kept = json.loads((RESULTS / f"{name}.json").read_text())
    versions = ", ".join(f"{package} {version}" for package, version in kept["versions"].items())
    races = kept["networks"].values() if "networks" in kept else [kept["seconds"]]
    rounds = min(len(turns) for race in races for turns in race.values())
    return f"Measured on {kept['machine']}; at least {rounds} rounds; {versions}."


class Folder:
    """Images per second of everything that goes from a folder of JPEG files to masks."""

    def __init__(self) -> None:
        kept = json.loads((RESULTS / "folder.json").read_text())
        self.images = kept["images"]
        self.seconds = {name: np.array(turns) for name, turns in kept["seconds"].items()}

    def rate(self, name: str) -> float:
        """The median of a contender's turns, images a second."""
        return float(np.median(self.images / self.seconds[name]))

    def ratio(self, name: str) -> float:
        """How many times as fast we are: the median over the rounds."""
        return float(np.median(self.seconds[name] / self.seconds["atrous"]))

    def best(self, *, int8: bool) -> str:
        """The fastest plain loop."""
        peers = [n for n in self.seconds if n not in ("atrous", "reference")]
        return max((n for n in peers if n.endswith(" int8") == int8), key=self.rate)


def folder() -> str:
    """Every contender."""
    found = Folder()
    rows = [["**`atrous predict`** (int8)", f"**{found.rate('atrous'):.1f}**", ""]]
    for name in sorted(set(found.seconds) - {"atrous"}, key=found.rate, reverse=True):
        rows.append([_called(name), f"{found.rate(name):.1f}", f"{found.ratio(name):.2f}×"])
    return _table(["", "images/s", "Atrous is as fast"], rows)


def _called(name: str) -> str:
    if name == "reference":
        return "the reference's way: PyTorch fp32, one after the other"
    engine, *rest = name.split()
    how = "fp32"
    if "int8" in rest:
        how = "NNCF's int8" if engine == "openvino" else "static int8"
    return f"{_PEERS[engine]}, {how}{', argmax in the graph' * ('argmax' in rest)}"


def folder_in_words() -> str:
    """What the README says of it."""
    found = Folder()
    int8, fp32 = (found.ratio(found.best(int8=int8)) for int8 in (True, False))
    return (
        f"From a folder of JPEG files to masks, `atrous predict` makes {found.rate('atrous'):.1f} "
        f"images/s, **{int8:.2f}×** as many as the best plain loop in int8\nand **{fp32:.2f}×** as "
        "many as the best one in fp32 (`python benchmarks/folder.py`, DeepLabV3+-MobileNet)."
    )


TABLES: dict[str, Callable[[], str]] = {
    "speed": speed,
    "compile-fp32": lambda: engines("compile-fp32"),
    "compile-int8": lambda: engines("compile-int8"),
    "machine-fp32": lambda: machine("compile-fp32"),
    "machine-int8": lambda: machine("compile-int8"),
    "folder": folder,
    "folder-in-words": folder_in_words,
    "machine-folder": lambda: machine("folder"),
}


def filled(text: str) -> str:
    """A document with its tables as the raw figures have them."""
    return _TABLE.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def main() -> None:
    """Write the tables into the documents."""
    for path in DOCUMENTS:
        path.write_text(filled(path.read_text()))


if __name__ == "__main__":
    main()
