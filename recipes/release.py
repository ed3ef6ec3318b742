"""Make the models inside the package from trained weights, measure them, and write their card.

    python recipes/release.py default runs/default/last.safetensors --data VOCdevkit
    python recipes/release.py fast runs/fast/last.safetensors --data VOCdevkit
    python recipes/release.py --int8 --data VOCdevkit
    python recipes/release.py --card docs/models.md

The first two export fp16, compile int8 by `examples/NAME-int8.yaml`, measure fp32, fp16 and int8
with `atrous eval` under every protocol of the card, record each accuracy in its file and keep the
results under `recipes/results`. The third makes and measures the int8 forms alone, from the fp16
ones in the package. The last one writes the card from those results alone.

VOCdevkit holds PASCAL VOC 2012; scored are the images of `benchmarks/voc2012-val-725.txt`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import page
import yaml
from page import FEW, RESULTS

from atrous import artifact, zoo
from atrous.evaluation import result as results
from atrous.evaluation.result import Evaluation

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "src" / "atrous" / "assets"
LIST = ROOT / "benchmarks" / "voc2012-val-725.txt"
BORDERS = "center-crop-513+trimap-8"
MANY = (*FEW, "pad-513", "native", "slide-513", BORDERS)
NAMES = ("default", "fast")
FORMS = {
    "fp32": "fp32, PyTorch",
    "fp16": "fp16, ONNX Runtime",
    "int8-onnxruntime": "int8, ONNX Runtime",
    "int8-openvino": "int8, OpenVINO",
}


def atrous(*arguments: object) -> None:
    """Run a verb."""
    run(sys.executable, "-m", "atrous", *arguments)


def run(*command: object) -> None:
    """Print a command and run it."""
    print("$", *command, flush=True)
    subprocess.run(list(map(str, command)), check=True)


def make(name: str, checkpoint: Path, data: Path) -> None:
    """Put the files of one model into the package, measured."""
    half = ASSETS / f"{name}.onnx"
    atrous(
        "export", checkpoint, "-o", half, "--precision", "fp16", "--labels", "voc", "--name", name,
        "--licence", "Apache-2.0",
    )  # fmt: skip
    measure(name, checkpoint, "fp32", "torch", FEW, data)
    measure(name, half, "fp16", "onnxruntime", MANY, data)
    make_int8(name, data)


def make_int8(name: str, data: Path) -> None:
    """Put the int8 form of one model into the package, measured."""
    quantised = ASSETS / f"{name}-int8.onnx"
    config = yaml.safe_load((ROOT / "examples" / f"{name}-int8.yaml").read_text())
    config["dataset"]["path"] = f"voc:{data}:train"
    with TemporaryDirectory() as folder:
        config["workspace"] = {"path": folder}
        path = Path(folder, "compile.yaml")
        path.write_text(yaml.safe_dump(config))
        atrous("compile", path)
        shutil.copyfile(Path(folder, f"{name}-int8", "mod.onnx"), quantised)
    for engine in ("onnxruntime", "openvino"):
        measure(name, quantised, f"int8-{engine}", engine, FEW, data)


def measure(
    name: str, model: Path, form: str, engine: str, protocols: Sequence[str], data: Path
) -> None:
    """Evaluate one form of a model, and record it in its file."""
    RESULTS.mkdir(exist_ok=True)
    recorded = model.suffix == ".onnx"
    for protocol in protocols:
        geometry, _, trimap = protocol.partition("+trimap-")
        more = ["--trimap", trimap] if trimap else ["--record"] * recorded
        atrous(
            "eval", "-m", model, "--data", f"voc:{data}:{LIST}", "--protocol", geometry,
            "--engine", engine, "--json-file", RESULTS / f"{name}-{form}-{protocol}.json", *more,
        )  # fmt: skip


def card() -> str:
    """The models' card, from the results."""
    parts = [f"# The models in the package\n\nWritten by `python recipes/{Path(__file__).name} "]
    parts[0] += "--card docs/models.md` from the results under `recipes/results`."
    parts.append(page.tables())
    for name in NAMES:
        half = ASSETS / f"{name}.onnx"
        row, known = zoo.weights(name), artifact.metadata_of(artifact.load(half), half)
        assert known is not None
        network = zoo.variant(row.network)
        scores = {
            (form, protocol): results.load(path)
            for protocol in MANY
            for form in FORMS
            if (path := RESULTS / f"{name}-{form}-{protocol}.json").is_file()
        }
        any_score = next(iter(scores.values()))
        parts += [
            f"## `{name}`, `{name}-int8`",
            f"{row.network}, output stride {known.output_stride}, {row.num_classes} classes of "
            f"PASCAL VOC 2012, {network.params_m:.3f} million parameters, {network.gmacs:.2f} "
            f"GMAC at 513×513 before compiling. Files: {_size(name)} and {_size(name + '-int8')}. "
            f"Licence: {row.licence}.",
            row.recipe,
            row.note,
            f"mIoU in percent, {any_score.stamp.images} images of VOC 2012 val "
            "([every second id](../benchmarks/voc2012-val-725.txt)), absent classes left out; "
            f"`{BORDERS}` scores the pixels alone that are at most eight from a border:",
            _scores(scores),
            "IoU per class in percent, `center-crop-513`:",
            _classes({form: scores[form, FEW[0]] for form in FORMS if (form, FEW[0]) in scores}),
        ]
    return "\n\n".join(parts) + "\n"


def _size(name: str) -> str:
    return f"`{name}.onnx`, {(ASSETS / f'{name}.onnx').stat().st_size / 1e6:.1f} MB"


def _scores(scores: dict[tuple[str, str], Evaluation]) -> str:
    lines = [f"| protocol | {' | '.join(FORMS.values())} |", "|---|" + "--:|" * len(FORMS)]
    for protocol in MANY:
        cells = [scores.get((form, protocol)) for form in FORMS]
        lines.append(f"| `{protocol}` | {' | '.join(map(_percent, cells))} |")
    return "\n".join(lines)


def _percent(found: Evaluation | None) -> str:
    return "" if found is None else f"{found.mean_iou:.3f}"


def _classes(found: dict[str, Evaluation]) -> str:
    lines = [f"| class | {' | '.join(FORMS[form] for form in found)} |"]
    lines.append("|---|" + "--:|" * len(found))
    for name in next(iter(found.values())).iou:
        cells = [one.iou[name] for one in found.values()]
        shown = ["does not occur" if cell is None else f"{cell:.2f}" for cell in cells]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    """Make one model, or write the card."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", nargs="?", choices=NAMES)
    parser.add_argument("checkpoint", nargs="?", type=Path)
    parser.add_argument("--data", type=Path, default=Path("VOCdevkit"))
    parser.add_argument("--int8", action="store_true", help="make the int8 forms alone")
    parser.add_argument("--card", type=Path, metavar="FILE.md")
    arguments = parser.parse_args()
    if arguments.card == Path("-"):
        sys.stdout.write(card())
    elif arguments.card:
        arguments.card.write_text(card())
    elif arguments.int8:
        for name in [arguments.name] if arguments.name else NAMES:
            make_int8(name, arguments.data.resolve())
    elif arguments.name and arguments.checkpoint:
        make(arguments.name, arguments.checkpoint.resolve(), arguments.data.resolve())
    else:
        parser.error("expected NAME and CHECKPOINT, --int8, or --card FILE.md")


if __name__ == "__main__":
    main()
