import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from atrous.labels import VOC
from tests.builders.command import Run
from tests.builders.voc import EVAL, FIRST_WRONG, IDS, MAKE, RUN

PICTURES, TRUTH = ("--file_path", "VOC2012/JPEGImages"), ("--gt_path", "VOC2012/SegmentationClass")
MODEL = ("--model_prefix_path", "mod", "--vdsp_params_info", "vdsp.json", "--labels", "voc")
ALL = (*PICTURES, *MODEL, *TRUTH, "--save_dir", "o")
ONE_RIGHT = "validation pixAcc: 96.429, mIoU: 64.286"  # 1/28 of the pixels is wrong: see test_npz


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))


def test_the_seeds_command(atrous: Run, voc: Path) -> None:
    atrous("npz", "make", *MAKE, "--copy_dir", "VOC2012/JPEGImages_val")
    done = atrous(
        "stream", "--file_path", "VOC2012/JPEGImages_val", *MODEL[:4], *TRUTH,
        "--save_dir", "./runstream_output", "--device", "0", *MODEL[4:],
    )  # fmt: skip
    assert done.code == 0, done.err
    segmented, scored, accuracy = done.out.splitlines()
    assert re.fullmatch(
        r"6 of 6 images segmented by .+ on (openvino|onnxruntime), \d+ threads?; see "
        "runstream_output/masks",
        segmented,
    )
    assert scored == (
        "6 of 6 images scored: squash-32, opencv-bilinear, truth resized (nearest) to 32×32, 255 "
        "ignored, classes that occur nowhere left out"
    )
    assert accuracy == FIRST_WRONG
    assert "note: device 0 is a card of VastModelZOO's; this runs on the CPU" in done.err
    assert FIRST_WRONG in done.err  # the running figures end there
    written = {path.relative_to("runstream_output") for path in Path().glob("run*/**/*.*")}
    assert written == {Path("masks", f"{name}.png") for name in IDS}
    for name in IDS:
        with Image.open(f"runstream_output/masks/{name}.png") as mask:
            assert (mask.mode, mask.size) == ("P", (128, 64))
            assert bytes(mask.getpalette() or ())[:63] == VOC.palette()[:63]
            ids = np.asarray(mask)
        assert (ids[:28] == 0).all()
        assert (ids[36:] == 1).all()


def test_the_same_figures_as_eval_and_as_the_npz_chain(
    atrous: Run,
    voc: Path,
) -> None:
    """On noise, where a resize done otherwise would show."""
    rng = np.random.default_rng(0)
    for name in IDS:
        size = tuple(rng.integers(20, 90, 2))
        small = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
        small.save(voc / "JPEGImages" / f"{name}.jpg")
        ids = Image.fromarray(rng.choice([0, 1, 2, 255], size).astype(np.uint8), mode="P")
        ids.putpalette(VOC.palette())
        ids.save(voc / "SegmentationClass" / f"{name}.png")
    atrous("npz", "make", *MAKE, "--copy_dir", "val")
    atrous("npz", "run", *RUN, "-o", "out", "--output", "classmap")
    chain = atrous("npz", "eval", *EVAL).out.splitlines()[-1]
    done = atrous("stream", "--file_path", "val", *ALL[2:])
    assert done.out.splitlines()[-1] == chain
    data = ("--data", "voc:VOC2012:val", "--protocol", "squash-32", "--json-file", "r.json")
    atrous("eval", "-m", "mod", "--vdsp_params", "vdsp.json", *data)
    found = json.loads(Path("r.json").read_text())
    accuracy = f"pixAcc: {found['pixel_accuracy']:.3f}, mIoU: {found['mean_iou']:.3f}"
    assert chain == f"validation {accuracy}"


def test_pictures_without_masks_are_segmented_and_said(atrous: Run, voc: Path) -> None:
    (voc / "SegmentationClass" / f"{IDS[1]}.png").unlink()
    (voc / "SegmentationClass" / f"{IDS[2]}.png").unlink()
    done = atrous("stream", *ALL)
    assert done.code == 0, done.err
    assert "7 of 7 images segmented" in done.out
    assert "5 of 7 images scored" in done.out
    note = "note: 2 of 7 images not scored, without a true mask: 2007_a.jpg, 2007_c.jpg"
    assert note in done.err
    assert len(list(Path("o/masks").iterdir())) == 7
    for path in (voc / "SegmentationClass").iterdir():
        path.unlink()
    done = atrous("stream", *ALL)
    assert (done.code, "validation" in done.out) == (1, False)
    assert "2007_b.jpg, 2007_c.jpg, 2007_d.jpg, 2007_e.jpg, …" in done.err
    assert "error: no image was scored" in done.err


def test_what_fails_is_said_and_the_rest_is_scored(atrous: Run, voc: Path) -> None:
    (voc / "JPEGImages" / f"{IDS[1]}.jpg").write_bytes(b"no image")
    Image.new("P", (64, 128)).save(voc / "SegmentationClass" / f"{IDS[2]}.png")
    done = atrous("stream", *ALL)
    assert done.code == 1
    assert "6 of 7 images segmented" in done.out
    assert "5 of 7 images scored" in done.out
    failures = [line for line in done.err.splitlines() if line.startswith("failed: ")]
    assert failures == [
        f"failed: VOC2012/JPEGImages/{IDS[1]}.jpg: not a picture of a known kind",
        f"failed: VOC2012/SegmentationClass/{IDS[2]}.png: mask is (128, 64), its image (64, 128)",
    ]
    assert Path(f"o/masks/{IDS[2]}.png").exists()
    assert not Path(f"o/masks/{IDS[1]}.png").exists()


def test_one_picture_with_our_own_flags(atrous: Run, voc: Path) -> None:
    picture = voc / "JPEGImages" / f"{IDS[0]}.jpg"
    done = atrous(
        "stream", "--file-path", picture, "-m", "mod", "--vdsp-params", "vdsp.json",
        "-o", "o", "--overlays", "--engine", "onnxruntime", "-i", "2", "-b", "1", "--threads", 1,
    )  # fmt: skip
    assert done.code == 0, done.err
    ran = f"{Path.cwd().name} on onnxruntime, 1 thread"
    assert done.out == f"1 of 1 images segmented by {ran}; see o/masks\n"
    assert {path.as_posix() for path in Path("o").rglob("*.*")} == {
        f"o/masks/{IDS[0]}.png",
        f"o/overlays/{IDS[0]}.jpg",
    }
    before = Path(f"o/masks/{IDS[0]}.png").stat().st_mtime_ns
    atrous("stream", "--file-path", picture, *MODEL, "--save-dir", "o")
    assert Path(f"o/masks/{IDS[0]}.png").stat().st_mtime_ns > before


def test_masks_of_others_are_kept(atrous: Run, voc: Path) -> None:
    picture = voc / "JPEGImages" / f"{IDS[0]}.jpg"
    mask = Path(f"o/masks/{IDS[0]}.png")
    mask.parent.mkdir(parents=True)
    mask.write_bytes(b"drawn by hand")
    arguments = ("stream", "--file-path", picture, *MODEL, "-o", "o")
    done = atrous(*arguments)
    assert (done.code, done.out[:6]) == (1, "0 of 1")
    assert f"{mask}: is in the way and kept" in done.err
    assert "replace it with --force" in done.err
    assert mask.read_bytes() == b"drawn by hand"
    assert atrous(*arguments, "--force").code == 0
    assert mask.read_bytes() != b"drawn by hand"
    assert atrous(*arguments).code == 0


def test_absent_classes_by_the_seeds_rule(atrous: Run, voc: Path) -> None:
    done = atrous("stream", *ALL, "--absent", "zero")
    assert "classes that occur nowhere counted as 0" in done.out
    accuracy = f"mIoU: {100 * (13 / 14 + 1 + 0) / 21:.3f}"
    assert done.out.splitlines()[-1] == f"validation pixAcc: 96.429, {accuracy}"
    assert atrous("stream", *ALL).out.splitlines()[-1] == ONE_RIGHT


def test_a_broken_model_is_noticed(
    atrous: Run,
    voc: Path,
    small_model: Callable[..., onnx.ModelProto],
) -> None:
    model = small_model(size=32, classes=21)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.eye(21, dtype=np.float32)[9] * 1000, "bias"))
    onnx.save(model, "mod.onnx")
    done = atrous("stream", *ALL)
    assert done.code == 1
    assert "validation pixAcc: 0.000, mIoU: 0.000" in done.out
    assert "health: 100.0% of the pixels are predicted as 'chair'" in done.err


@pytest.mark.parametrize(
    ("seen", "index", "expected"),
    [(None, "1", "1"), (None, "0", None), ("4,7", "1", "7"), ("GPU-a,GPU-b", "1", "GPU-b")],
)
def test_a_gpu_by_its_number(
    seen: str | None,
    index: str,
    expected: str | None,
    atrous: Run,
    voc: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen or "")
    if seen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    told = (
        ("--device", f"cuda:{index}")
        if seen == "4,7"
        else ("--device", "cuda", "--device_id", index)
    )
    done = atrous("stream", *ALL, *told)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == (expected if expected else seen)
    assert "runs on the CPU" not in done.err
    assert (done.code, "onnxruntime-gpu" in done.err) == (1, True)


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ((*ALL, "--batch", 2), 2, "-b 2: the network takes 1 image at a time"),
        ((*ALL, "--device", "dpu"), 2, "expected cpu, cuda, tensorrt or the number of a card"),
        ((*ALL, "--gt_path", "none"), 2, "none: no such folder; expected one of masks"),
        ((*ALL, "--file_path", "none"), 2, "none: no such file or folder"),
        ((*ALL, "--labels", "coco"), 2, "expected voc, cityscapes"),
        ((*ALL, "--model_prefix_path", "no/mod"), 2, "no/mod"),
        (ALL[2:], 2, "Missing option '--file_path'"),
        (ALL[:-2], 2, "Missing option '-o'"),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(
    change: tuple[object, ...],
    code: int,
    message: str,
    atrous: Run,
    voc: Path,
) -> None:
    done = atrous("stream", *change)
    assert done.code == code
    assert message in done.err
    assert "Traceback" not in done.err
    assert not list(Path().glob("o/**/*.png"))


def test_a_gpu_that_is_not_visible(
    atrous: Run,
    voc: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    done = atrous("stream", *ALL, "--device", "cuda", "--device_id", 1)
    assert (done.code, "CUDA_VISIBLE_DEVICES=2 leaves 1 GPUs" in done.err) == (2, True)


def test_masks_in_subfolders(atrous: Run, voc: Path) -> None:
    for folder, name in (("JPEGImages", f"{IDS[0]}.jpg"), ("SegmentationClass", f"{IDS[0]}.png")):
        (voc / folder / "sub").mkdir()
        shutil.move(voc / folder / name, voc / folder / "sub" / name)
    done = atrous("stream", *ALL)
    assert "7 of 7 images scored" in done.out
    assert Path(f"o/masks/sub/{IDS[0]}.png").exists()
