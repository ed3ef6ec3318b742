"""Damaged files of every kind, and the readers that take them, tried in a process of its own.

As a program it prints a line of JSON for each trial that ended otherwise than it may:
`python tests/builders/mutated_readers.py FOLDER FIRST COUNT`. The trials of a number are always the
same. The file that is being read lies in FOLDER, for a reader that takes the process with it.
"""

from __future__ import annotations

import io
import json
import logging
import re
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from atrous.errors import AtrousError
from tests.builders import mutants

Read = Callable[[Path], object]
LIMIT_BYTES = 8 << 30
LIMIT_SECONDS = 30

# Of 100 trials; networks take longest, and text is soon through.
SHARES = {"picture": 30, "mask": 20, "network": 10, "text": 25, "array": 7, "folder": 8}

_TOKEN = re.compile(rb'"[^"\n]*"|[\w.+-]+|\[[^\[\]\n]*\]|\{[^{}\n]*\}')
_ODD = (
    b"null", b"true", b"-1", b"0", b"1e400", b"NaN", b'""', b"[]", b"{}", b"[1]", b'"\\u0000"',
    b"99999999999999999999", b'"x"', b"[[[]]]", b'{"a": 1}', b"0.5", b'"\\ud800"', b"*a", b"~",
    b"2001-01-01",
)  # fmt: skip


class Trials:
    """Every reader with files that it reads, before they are damaged.

    Args:
        folder: where files are written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.kinds: dict[str, list[tuple[str, bytes, dict[str, Read]]]] = {
            "picture": [(name, data, {"image": _image}) for name, data in mutants.originals()],
            "mask": [(name, data, {"mask": _mask}) for name, data in _masks()],
            "network": [(name, data, _network_readers()) for name, data in _networks().items()],
            "text": [(name, text.encode(), read) for name, text, read in _texts()],
            "array": [(name, data, read) for name, data, read in _arrays()],
            "folder": [
                (name, data, {"folder": _folder}) for name, data in _data_set(folder).items()
            ],
        }
        # Without it nobody looks at the file beside.
        (folder / "three").mkdir(exist_ok=True)
        (folder / "three" / "config.json").write_text('{"model_type": "segformer"}')
        self._order = [kind for kind, share in SHARES.items() for _ in range(share)]

    def damaged(self, number: int) -> tuple[str, bytes, dict[str, Read]]:
        """The file of a number, damaged, and what reads it."""
        random = np.random.default_rng([20, number])
        choices = self.kinds[self._order[number % len(self._order)]]
        name, data, readers = choices[number // len(self._order) % len(choices)]
        if _is_text(name) and random.random() < 0.6:
            return name, _swapped(data, random), readers
        return name, mutants.mutated(data, random), readers

    def run(self, number: int) -> list[tuple[str, str, str]]:
        """Reader, file and error of whatever ended otherwise than it may."""
        name, data, readers = self.damaged(number)
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_bytes() if path.exists() else None
        path.write_bytes(data)
        wrong = []
        for reader, read in readers.items():
            signal.alarm(LIMIT_SECONDS)
            try:
                read(path)
            except AtrousError as error:
                if "\n" in str(error):  # what else ends a line is shown escaped
                    wrong.append((reader, name, f"lines: {error}"[:300]))
            except Exception as error:
                wrong.append((reader, name, f"{type(error).__name__}: {error}"[:300]))
        signal.alarm(0)
        path.unlink() if before is None else path.write_bytes(before)
        return wrong


def _is_text(name: str) -> bool:
    return Path(name).suffix in (".yaml", ".json", ".txt")


def _swapped(data: bytes, random: np.random.Generator) -> bytes:
    """A value or two replaced by others, as a hand or another program writes them."""
    for _ in range(random.integers(1, 3)):
        found = list(_TOKEN.finditer(data))
        if not found:
            break
        one = found[int(random.integers(len(found)))]
        odd = _ODD[int(random.integers(len(_ODD)))]
        data = data[: one.start()] + odd + data[one.end() :]
    return data


def _image(path: Path) -> None:
    from atrous import image

    assert image.read(path).dtype == np.uint8


def _mask(path: Path) -> None:
    from atrous.data import masks

    assert masks.read_ids(path).dtype == np.uint8


def _masks() -> list[tuple[str, bytes]]:
    """Those of the pictures that could be masks, and more."""
    ids = np.array([[0, 1, 2], [1, 255, 3]], np.uint8).repeat(4, 0).repeat(4, 1)
    palette = Image.fromarray(ids).convert("P")
    found = [one for one in mutants.originals() if one[0] in ("palette.png", "gif", "sixteen.png")]
    for name, picture, options in (
        ("grey.png", Image.fromarray(ids), {}),
        ("palette.tif", palette, {"compression": "tiff_lzw"}),
        ("grey.bmp", Image.fromarray(ids), {}),
        ("palette.bmp", palette, {}),
        ("grey.tga", Image.fromarray(ids), {}),
        ("bits.png", Image.fromarray(ids % 2 * 255).convert("1"), {}),
        ("alpha.png", Image.fromarray(ids).convert("LA"), {}),
    ):
        file = io.BytesIO()
        kind = {"tif": "TIFF"}.get(name[-3:], name[-3:].upper())
        picture.save(file, kind, **options)
        found.append((name, file.getvalue()))
    return found


def _network_readers() -> dict[str, Read]:
    from atrous import artifact, engines

    def run(path: Path) -> None:
        with engines.open_engine(path, engine="onnxruntime") as engine:
            shape = [side or 1 for side in engine.signature.input.shape]
            if np.prod(shape, dtype=float) < 1 << 20:
                engine.run(np.zeros(shape, engine.signature.dtype))

    return {
        "artefact": lambda path: artifact.metadata_of(artifact.load(path), path),
        "onnxruntime": run,
    }


def _networks() -> dict[str, bytes]:
    from atrous.artifact import Metadata, serialised
    from atrous.labels import generic
    from atrous.preprocess import Preprocess
    from tests.builders.networks import make_joining, make_small_model

    metadata = Metadata(
        name="small",
        labels=generic(3),
        preprocess=Preprocess(size=(8, 8), normalisation="div255"),
        precision="fp16",
    )
    return {
        "plain.onnx": make_small_model(8).SerializeToString(),
        "artefact.onnx": serialised(make_small_model(8), metadata),
        "free.onnx": make_small_model("side", classes=5).SerializeToString(),
        "bytes.onnx": make_small_model(8, dtype="uint8").SerializeToString(),
        "joining.onnx": make_joining(2).SerializeToString(),
    }


def _texts() -> list[tuple[str, str, dict[str, Read]]]:
    from atrous import hub, snapshot
    from atrous.compiler import config
    from atrous.evaluation import result
    from atrous.training import config as recipe
    from atrous.vastai import npz, vdsp

    compile_file = (
        "name: x\nfrontend: {type: onnx, checkpoint: a.onnx, shape: {input: [1, 3, 32, 32]}}\n"
        "backend: {dtype: int8, quantize: {calibrate_mode: kl_divergence}}\n"
        "dataset:\n  path: pictures\n  sampler: {suffix: jpg, get_data_num: 6}\n"
        "  process_ops: [{type: DecodeImage}, {type: Resize, size: [32, 32]},\n"
        "    {type: Normalize, mean: [0.4, 0.4, 0.4], std: [0.2, 0.2, 0.2]}, {type: ToTensor}]\n"
        "workspace: {path: out}\n"
    )
    training = (
        "network: deeplabv3plus_mobilenet\nstart: scratch\noutput: run\nlog_every: 1\n"
        "data: {train: 'synthetic:0:12', workers: 0, balance: 0.5}\naugment: {crop: 49, hue: 0.1}\n"
        "train: {iterations: 3, batch: 2, ema: 0.9}\nschedule: {warmup: 1}\n"
        "validation: {every: 2, protocol: whole}\n"
    )
    settings = {
        "OpType": "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR",
        "OpConfig": {
            "NormaType": "MINUSMEAN_DIVSTD", "OimageWidth": 32, "OimageHeight": 32,
            "IimageFormat": "RGB888", "ResizeType": "BILINEAR_PILLOW",
            "Mean": [14500, 14000, 13000], "Std": [13500, 13400, 13300],
        },
    }  # fmt: skip
    hub_config = {
        "architectures": ["SegformerForSemanticSegmentation"], "model_type": "segformer",
        "id2label": {"0": "wall", "1": "sky"}, "output_stride": 16,
    }  # fmt: skip
    processor = {
        "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.4, 0.4, 0.4],
        "image_std": [0.2, 0.2, 0.2], "resample": 2, "rescale_factor": 0.0039,
        "size": {"height": 32, "width": 64}, "crop_size": 32,
    }  # fmt: skip
    stride = {**hub_config, "architectures": ["MobileNetV2ForSemanticSegmentation"]}
    return [
        ("compile.yaml", compile_file, {"compile file": config.load}),
        ("recipe.yaml", training, {"recipe": recipe.load}),
        ("vdsp.json", json.dumps(settings, indent=1), {"vdsp": vdsp.read}),
        ("list.txt", "in/a.npz\nin/b.npz\n\nin/ü.npz\n", {"list": npz.read_list}),
        ("evaluation.json", _evaluation(), {"evaluation": result.load}),
        ("one/config.json", json.dumps(hub_config), {
            "classes": lambda path: snapshot.labels(path.with_name("model.onnx")),
            "architecture": lambda path: hub.architecture(hub.configuration(path)),
        }),
        ("two/config.json", json.dumps(stride), {
            "output stride": lambda path: hub.output_stride(path.with_name("model.safetensors")),
        }),
        ("three/preprocessor_config.json", json.dumps(processor), {
            "processor": lambda path: snapshot.preprocess(path.with_name("model.onnx")),
        }),
    ]  # fmt: skip


def _evaluation() -> str:
    from atrous.evaluation.result import Evaluation, Stamp

    words = ("protocol", "resize", "data", "ids", "labels", "absent", "model", "identity", "engine")
    stamp: dict[str, Any] = dict.fromkeys(words, "x")
    made = Evaluation(
        stamp=Stamp(**stamp, images=9, ignore_index=255, precision="fp16"),
        pixel_accuracy=90.0,
        mean_accuracy=75.0,
        frequency_weighted_iou=83.0,
        mean_iou=64.0,
        iou={"background": 91.0, "person": None},
        confusion=[[1, 0], [0, 0]],
    )
    return made.model_dump_json(indent=1)


def _arrays() -> list[tuple[str, bytes, dict[str, Read]]]:
    import torch
    from safetensors.torch import save

    from atrous.models import weights
    from atrous.training import checkpoint
    from atrous.vastai import npz

    def saved(**arrays: Any) -> bytes:
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)
        return file.getvalue()

    tensors = {
        f"classifier.classifier.{number}.weight": torch.zeros(2, 3) for number in range(3)
    } | {"backbone.low_level_features.0.0.weight": torch.zeros(4, 3, 3, 3)}
    file = io.BytesIO()
    torch.save({"model_state": tensors, "best_score": 0.5}, file)
    split = checkpoint.SplitRecord(name="synthetic", images=3, ids="x")
    told = checkpoint.State(atrous="1", recipe={}, train=split, scores={1: 0.5})
    state = save(tensors, {"output_stride": "16", checkpoint.KEY: told.model_dump_json()})
    return [
        ("in.npz", saved(input_0=np.zeros((3, 8, 8), np.uint8)), {
            "npz": npz.read_input,
            "npz stamp": lambda path: npz.stamp_of(path, npz.INPUT),
        }),
        ("weights.pth", file.getvalue(), {"checkpoint": weights.load}),
        ("weights.safetensors", state, {
            "checkpoint": weights.load, "metadata": weights.recorded_metadata,
        }),
        (f"run/{checkpoint.STATE}", state, {
            "run": lambda path: checkpoint.read_state(path.parent)
        }),
    ]  # fmt: skip


def _data_set(folder: Path) -> dict[str, bytes]:
    """A small data set, whole in `folder`; its files, of which one at a time is damaged."""
    from tests.builders.picture_files import write

    description = (
        "images: {val: images}\nmasks: {val: masks}\nmask_type: ids\n"
        "classes: {ground: [0, 0, 0], road: [128, 64, 128]}\nignore_index: 255\n"
        "splits: {val: val.txt}\n"
    )
    root = folder / "set"
    for name in ("one", "two"):
        write(root / f"images/{name}.jpg", np.zeros((2, 3, 3)))
        write(root / f"masks/{name}.png", [[0, 1, 255], [0, 0, 0]])
    (root / "set.yaml").write_text(description)
    (root / "val.txt").write_text("one\ntwo\n")
    names = ("set.yaml", "images/one.jpg", "masks/two.png", "set.yaml", "val.txt")
    return {f"set/{name}": (root / name).read_bytes() for name in names}


def _folder(path: Path) -> None:
    from atrous.data import open_dataset, other_splits

    root = next(parent for parent in path.parents if parent.name == "set")
    data = open_dataset(f"folder:{root / 'set.yaml'}:val")
    for sample in data.samples:
        data.read_image(sample)
        data.read_label(sample)
    other_splits(data)


def main() -> None:
    """Run trials, the limits around them."""
    folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    logging.getLogger("atrous").addHandler(logging.NullHandler())
    logging.getLogger("atrous").propagate = False
    trials = Trials(folder)
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    for number in range(first, first + count):
        for found in trials.run(number):
            sys.stdout.write(json.dumps([number, *found]) + "\n")
            sys.stdout.flush()
    sys.stdout.write(json.dumps(count) + "\n")


if __name__ == "__main__":
    main()
