import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from atrous import artifact
from atrous.artifact import Calibration, Metadata
from atrous.labels import VOC
from atrous.preprocess import Preprocess
from tests.builders.command import Run

COUNT = 6


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def voc(tmp_path: Path) -> str:
    """Pictures with a green or blue square on red, in the layout of VOC: classes 0, 1 and 2."""
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / name).mkdir(parents=True)
    ids = [f"2007_{number:06}" for number in range(COUNT)]
    for number, name in enumerate(ids):
        image = np.zeros((40, 48, 3), np.uint8)
        image[:, :, 0] = 220
        label = np.zeros((40, 48), np.uint8)
        box = (slice(8, 32), slice(8 + number, 40))
        class_id = 1 + number % 2
        image[box] = 0
        image[(*box, class_id)] = 220
        label[box] = class_id
        Image.fromarray(image).save(base / "JPEGImages" / f"{name}.jpg", quality=95)
        mask = Image.fromarray(label, mode="P")
        mask.putpalette(VOC.palette())
        mask.save(base / "SegmentationClass" / f"{name}.png")
    (base / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(ids))
    return f"voc:{tmp_path}:val"


@pytest.fixture
def model(tmp_path: Path, small_model: Callable[..., onnx.ModelProto]) -> Path:
    path = tmp_path / "model.onnx"
    preprocess = Preprocess(size=(32, 32), normalisation="div255")
    known = Metadata(name="small", labels=VOC, preprocess=preprocess)
    artifact.save(small_model(classes=21), known, path)
    return path


def edited(path: Path, change: Callable[[onnx.ModelProto], None], **known: Any) -> Path:
    model = artifact.load(path)
    metadata = artifact.metadata_of(model, path)
    assert metadata is not None
    change(model)
    target = path.with_name("edited.onnx")
    artifact.save(model, metadata.model_copy(update=known), target)
    return target


def set_weight(model: onnx.ModelProto, name: str, change: Callable[[Any], None]) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


@pytest.mark.heavy
def test_prints_and_stamps(atrous: Run, voc: str, model: Path, tmp_path: Path) -> None:
    arguments = ("-m", model, "--data", voc, "--protocol", "squash-32")
    ways = (
        "--engine",
        "onnxruntime",
        "--json-file",
        tmp_path / "r.json",
        "--report",
        tmp_path / "rep",
    )
    done = atrous("eval", *arguments, *ways)
    assert done.code == 0, done.err
    assert "protocol squash-32, opencv-bilinear, ignore 255, absent classes skip" in done.out
    document = json.loads((tmp_path / "r.json").read_text())
    assert document["mean_iou"] > 80
    assert document["stamp"]["images"] == COUNT
    assert document["stamp"]["engine"].startswith("onnxruntime 1.")
    assert len(document["stamp"]["identity"]) == 64
    assert (tmp_path / "rep" / "index.html").stat().st_size > 10_000
    again = atrous("eval", *arguments, *ways, "--json")
    assert json.loads(again.out) == json.loads((tmp_path / "r.json").read_text())
    assert "protocol squash-32" in again.err
    two = ("--engine", "onnxruntime", "--instances", 2, "--json-file", tmp_path / "two.json")
    assert atrous("eval", *arguments, *two).code == 0
    assert json.loads((tmp_path / "two.json").read_text()) == document
    zero = atrous("eval", *arguments, "--absent", "zero", "--json-file", tmp_path / "z.json")
    assert zero.code == 0
    share = json.loads((tmp_path / "z.json").read_text())["mean_iou"] / document["mean_iou"]
    assert share == pytest.approx(3 / 21)


def test_compare_prints_one_table_and_refuses_two(
    atrous: Run, voc: str, model: Path, tmp_path: Path
) -> None:
    for name, protocol in (("a", "squash-32"), ("b", "squash-32"), ("c", "native")):
        path = tmp_path / f"{name}.json"
        atrous("eval", "-m", model, "--data", voc, "--protocol", protocol, "--json-file", path)
    done = atrous("eval", "--compare", tmp_path / "a.json", tmp_path / "b.json")
    assert done.code == 0
    assert "protocol squash-32" in done.out
    assert "+0.000" in done.out
    refused = atrous("eval", "--compare", tmp_path / "a.json", tmp_path / "c.json")
    assert refused.code == 2
    assert "protocol is 'squash-32' in the one and 'native' in the other" in refused.err


def test_record_writes_the_accuracy_and_keeps_the_identity(
    atrous: Run, voc: str, model: Path
) -> None:
    before = artifact.identity(artifact.load(model))
    for _ in range(2):
        done = atrous("eval", "-m", model, "--data", voc, "--protocol", "squash-32", "--record")
        assert done.code == 0, done.err
    atrous("eval", "-m", model, "--data", voc, "--protocol", "native", "--record")
    after = artifact.load(model)
    known = artifact.metadata_of(after, model)
    assert known is not None
    assert [accuracy.protocol for accuracy in known.accuracies] == ["squash-32", "native"]
    assert known.accuracies[0].value > 80
    assert artifact.identity(after) == before


def test_a_favoured_class_and_nan_weights_fail(atrous: Run, voc: str, model: Path) -> None:
    def favour(values: Any) -> None:
        values[9] = 50.0

    def destroy(values: Any) -> None:
        values[0] = np.nan

    for name, change, message in (
        ("bias", favour, "health: 100.0% of the pixels are predicted as 'chair'"),
        ("weight", destroy, "health: logits are NaN or infinite on 6 images"),
    ):
        broken = edited(model, lambda m, n=name, c=change: set_weight(m, n, c))  # type: ignore[misc]
        done = atrous("eval", "-m", broken, "--data", voc, "--protocol", "squash-32", "--record")
        assert done.code == 1
        assert message in done.err
        assert artifact.metadata_of(artifact.load(broken), broken).accuracies == ()  # type: ignore[union-attr]


def test_calibration_images_are_warned_of_and_fail_if_strict(
    atrous: Run, voc: str, model: Path
) -> None:
    calibration = Calibration(method="kl_divergence", images=("2007_000001", "2009_000001"))
    other = edited(model, lambda m: None, calibration=calibration)
    arguments = ("eval", "-m", other, "--data", voc, "--protocol", "squash-32")
    done = atrous(*arguments)
    assert done.code == 0
    assert "note: 1 of the 6 images were calibrated on" in done.err
    assert atrous(*arguments, "--strict").code == 1


def test_broken_files_are_named_and_fail_at_the_end(
    atrous: Run, voc: str, model: Path, tmp_path: Path
) -> None:
    base = tmp_path / "VOCdevkit" / "VOC2012"
    (base / "JPEGImages" / "2007_000002.jpg").write_bytes(b"nothing")
    (base / "SegmentationClass" / "2007_000004.png").unlink()
    deep = Image.fromarray(np.zeros((40, 48), np.float32))
    deep.save(base / "JPEGImages" / "2007_000003.jpg", format="TIFF")
    done = atrous(
        "eval", "-m", model, "--data", voc, "--protocol", "squash-32", "--json-file", tmp_path / "r"
    )
    assert done.code == 1
    assert "2007_000002.jpg: not a picture" in done.err
    assert "2007_000004.png: cannot be read" in done.err
    assert "--range LOW,HIGH says which values they are" in done.err
    assert "3 of 6 images" in done.out
    assert json.loads((tmp_path / "r").read_text())["mean_iou"] > 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "squash-32"], "--data is missing"),
        (["--data", "VOC", "--record"], "--record changes a model file: name it with -m"),
        (["--data", "voc:nowhere:val"], "nowhere: expected VOC2012 with JPEGImages"),
        (["--data", "voc:nowhere"], "expected "),
        (["--data", "VOC", "--protocol", "squash"], "expected center-crop-N"),
        (["--data", "VOC", "--protocol", "whole", "--scales", "a"], "--scales: expected numbers"),
        (["a.json"], "results are given with --compare"),
        (["--compare"], "--compare takes results"),
        (["--compare", "none.json"], "none.json: not a result of atrous eval --json-file"),
        (["--compare", "a.json", "--json"], "--compare A.json B.json prints a table of results"),
        (["--compare", "a.json", "--json-file", "b.json"], ": expected no --json-file"),
        (["--compare", "a.json", "b.json", "--data", "VOC"], ": expected no --data"),
        (["--data", "VOC", "--overlap", "0.5"], "--overlap belongs to --tile"),
        (
            ["--data", "VOC", "--tile", "32", "--protocol", "native"],
            "--tile is a protocol of its own, and native another",
        ),
    ],
)
def test_wrong_commands(arguments: list[str], message: str, atrous: Run, voc: str) -> None:
    done = atrous("eval", *[voc if argument == "VOC" else argument for argument in arguments])
    assert done.code == 2
    assert message in done.err


def test_what_cannot_be_recorded_is_said_before_anything_is_scored(
    atrous: Run, tmp_path: Path, small_model: Callable[..., onnx.ModelProto]
) -> None:
    bare = tmp_path / "bare.onnx"
    onnx.save(small_model(classes=21), bare)
    (tmp_path / "weights.pth").write_bytes(b"")
    for path in (bare, tmp_path / "weights.pth"):
        # The data set, which is opened next, is not there either.
        done = atrous("eval", "-m", path, "--data", "voc:nowhere:val", "--record")
        wanted = f"error: {path}: --record needs an artefact of atrous export or compile\n"
        assert (done.code, done.err) == (2, wanted)


def test_the_protocol_must_fit_the_model(atrous: Run, voc: str, model: Path) -> None:
    done = atrous("eval", "-m", model, "--data", voc, "--protocol", "squash-64")
    assert done.code == 1
    assert "makes inputs of (64, 64), the model takes (32, 32)" in done.err


@pytest.mark.parametrize(
    ("size", "protocol"),
    [(32, "native"), (32, "squash-32"), ("side", "squash-48"), ("side", "tile-24-0.25")],
)
def test_a_vdsp_file_that_names_no_size(
    atrous: Run,
    voc: str,
    size: int | str,
    protocol: str,
    tmp_path: Path,
    small_model: Callable[..., onnx.ModelProto],
) -> None:
    """The size is the network's own; where that is free, the protocol's."""
    path, file = tmp_path / "free.onnx", tmp_path / "vdsp.json"
    onnx.save(small_model(size=size, classes=21), path)
    operation = "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR"
    file.write_text(json.dumps({"OpType": operation, "OpConfig": {"NormaType": "DIV255"}}))
    given = ("-m", path, "--vdsp-params", file, "--data", voc, "--protocol", protocol)
    done = atrous("eval", *given, "--json-file", tmp_path / "r.json")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "r.json").read_text())["mean_iou"] > 80


def test_a_size_that_nobody_names(
    atrous: Run, voc: str, tmp_path: Path, small_model: Callable[..., onnx.ModelProto]
) -> None:
    path, file = tmp_path / "free.onnx", tmp_path / "vdsp.json"
    onnx.save(small_model(size="side", classes=21), path)
    operation = "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR"
    file.write_text(json.dumps({"OpType": operation, "OpConfig": {"NormaType": "DIV255"}}))
    given = ("-m", path, "--vdsp-params", file, "--data", voc, "--protocol", "native")
    done = atrous("eval", *given)
    assert (done.code, "OimageWidth and OimageHeight are missing; add them" in done.err) == (
        2,
        True,
    )
