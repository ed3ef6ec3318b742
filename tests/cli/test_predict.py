import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.cli.options import ModelOptions, engine_options
from atrous.engines import find_model
from atrous.labels import VOC
from atrous.runtime.predictor import Predictor
from tests.builders.cases import Cases, agreement, expected
from tests.builders.command import Run, run_and_weigh

PHOTOGRAPH = Path(__file__).parents[2] / "src" / "atrous" / "assets" / "photograph.jpg"
CAT = VOC.names.index("cat")


def ids(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as mask:
        assert mask.mode == "P"
        return np.asarray(mask)


Small = tuple[object, ...]


@pytest.fixture
def small(
    tmp_path_factory: pytest.TempPathFactory, small_model: Callable[..., onnx.ModelProto]
) -> Small:
    """The arguments that use a model which opens at once; its class is the brightest channel."""
    model = tmp_path_factory.mktemp("models") / "small.onnx"
    onnx.save(small_model(), model)
    return "-m", model


@pytest.mark.heavy
def test_the_cat_is_a_cat(atrous: Run, tmp_path: Path) -> None:
    done = atrous("predict", PHOTOGRAPH, "-o", tmp_path)
    assert done.code == 0
    assert "photograph.jpg" in done.out
    assert "cat" in done.out
    mask = ids(tmp_path / "masks" / "photograph.png")
    assert mask.shape == (300, 451)
    assert mask[150, 225] == CAT  # between its eyes
    assert (mask == CAT).mean() > 0.6
    with Image.open(tmp_path / "overlays" / "photograph.jpg") as overlay:
        assert overlay.size[0] == 451
        assert overlay.size[1] > 300


@pytest.mark.heavy
def test_json_has_one_line_per_image(atrous: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    done = atrous("predict", PHOTOGRAPH, tmp_path / "empty.jpg", "-o", tmp_path / "o", "--json")
    assert done.code == 1
    good, bad = map(json.loads, done.out.splitlines())
    assert (good["status"], good["width"], good["height"]) == ("written", 451, 300)
    assert good["classes"][0]["name"] == "cat"
    assert sum(found["share"] for found in good["classes"]) == pytest.approx(1)
    assert Path(good["mask"]).is_file()
    assert (bad["status"], bad["mask"], bad["classes"]) == ("failed", None, None)
    assert "the file is empty" in bad["error"]


def test_a_picture_of_too_many_pixels(atrous: Run, small: Small, tmp_path: Path) -> None:
    done = atrous("predict", PHOTOGRAPH, "-o", tmp_path, "--max-pixels", "1000", *small)
    assert done.code == 1
    assert "is 135300 pixels, the limit is 1000; make it smaller, or raise --max-pixels" in done.err


def test_one_picture_into_one_file(atrous: Run, small: Small, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (0, 200, 0)).save(tmp_path / "green.png")
    done = atrous("predict", tmp_path / "green.png", "-o", tmp_path / "sub" / "mask.png", *small)
    assert (done.code, f"see {tmp_path}/sub/mask.png" in done.out) == (0, True)
    assert (ids(tmp_path / "sub" / "mask.png") == np.ones((20, 30))).all()
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["mask.png"]


def test_a_folder_may_be_called_like_a_file(atrous: Run, small: Small, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    for place in (f"{tmp_path}/out.png/", f"{tmp_path}/out.png"):
        done = atrous("predict", tmp_path / "a.png", "-o", place, "--no-overlays", *small)
        assert done.code == 0, done.err
    assert (tmp_path / "out.png" / "masks" / "a.png").is_file()


def test_several_pictures_do_not_fit_one_file(atrous: Run, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    done = atrous("predict", tmp_path, "-o", tmp_path / "mask.png")
    assert done.code == 2
    assert "mask.png is a file for one picture, and 2 were found: name a folder" in done.err
    assert not (tmp_path / "mask.png").exists()


@pytest.mark.heavy
def test_it_is_said_what_ran(atrous: Run, tmp_path: Path) -> None:
    """The same network as `Predictor.open()`; no share that is there is 0.0 %."""
    Image.new("RGB", (300, 300), "green").save(tmp_path / "a.png")
    done = atrous("predict", tmp_path / "a.png", "-o", tmp_path / "o", "--engine", "onnxruntime")
    model = find_model(None)
    assert f"1 written by {model.stem} (" in done.out
    assert re.search(r" \((int8|fp16)\) on onnxruntime, \d+ threads?; see", done.out)
    ours = ModelOptions(None, "onnxruntime", "cpu", 1, 1, None, None, None, None)
    with ours.open() as here, Predictor.open(engine="onnxruntime") as there:
        assert here.engine.identity == there.engine.identity
    (tmp_path / "net").mkdir()
    shutil.copy(model, tmp_path / "net" / "mod.onnx")
    done = atrous(
        "predict", tmp_path / "a.png", "-o", tmp_path / "p", "-m", tmp_path / "net" / "mod"
    )
    assert "1 written by net (" in done.out


CLASH = ("a.jpg", "a.png", "a.jpg.png")


@pytest.mark.parametrize("verb", [["predict"], ["predict", "--tile", "256"], ["stream"]])
def test_pictures_that_share_a_name(
    verb: list[str], cases: Cases, atrous: Run, tmp_path: Path
) -> None:
    folder, out = cases("names"), tmp_path / "out"
    model = ("-m", folder / "colours.onnx", "--vdsp-params", folder / "colours.json", "-o", out)
    source = ("--file_path", folder / "clash") if verb == ["stream"] else (folder / "clash",)
    if "--tile" in verb:
        pytest.importorskip("rasterio", reason="needs the extra large")
    for _ in range(2):
        done = atrous(*verb, *source, *model)
        assert done.code == 0, done.err
        assert sorted(path.name for path in (out / "masks").iterdir()) == sorted(
            f"{name}.png" for name in CLASH
        )
        for name in CLASH:
            right = folder / expected(folder)[f"clash/{name}"]["class_map"]
            share = agreement(out / "masks" / f"{name}.png", right)
            assert share > (0.99 if "--tile" in verb else 0.999)  # GDAL decodes JPEG in its own way


@pytest.mark.parametrize("verb", [["predict"], ["predict", "--tile", "256"]])
def test_names_as_long_as_they_may_be(
    verb: list[str], cases: Cases, atrous: Run, tmp_path: Path
) -> None:
    folder, source = cases("names"), tmp_path / "in"
    if "--tile" in verb:
        pytest.importorskip("rasterio", reason="needs the extra large")
    shutil.copytree(folder / "long", source)
    [short] = source.glob("b" * 60 + ".png")
    for name in ("c" * 251 + ".png", "d" * 246 + ".jpeg", "d" * 246 + ".tiff"):
        shutil.copy(short, source / name)
    model = ("-m", folder / "colours.onnx", "--vdsp-params", folder / "colours.json")
    for word in ("written", "kept"):
        done = atrous(*verb, source, *model, "-o", tmp_path / "out")
        assert (done.code, f"5 {word}" in done.out) == (0, True), done.err
    assert len([*(tmp_path / "out" / "masks").iterdir()]) == 5
    assert len([*(tmp_path / "out" / "overlays").iterdir()]) == 5


def test_existing_results_are_kept(atrous: Run, small: Small, tmp_path: Path) -> None:
    command = ("predict", PHOTOGRAPH, "-o", tmp_path, *small)
    atrous(*command)
    done = atrous(*command)
    assert (done.code, "1 kept" in done.out) == (0, True)
    done = atrous(*command, "--force", "--no-overlays")
    assert "1 written" in done.out


def test_somebody_elses_model_with_the_seeds_vdsp_file(
    atrous: Run, tmp_path: Path, small_model: Callable[..., onnx.ModelProto]
) -> None:
    folder = tmp_path / "deploy_weights" / "net"
    folder.mkdir(parents=True)
    onnx.save(small_model(size=64, classes=19), folder / "mod.onnx")
    vdsp = {
        "OpType": "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR",
        "OpConfig": {"NormaType": "DIV255", "OimageWidth": 64, "OimageHeight": 64},
    }
    (tmp_path / "vdsp.json").write_text(json.dumps(vdsp))
    green = np.zeros((30, 40, 3), np.uint8)
    green[:, :, 1] = 255
    Image.fromarray(green).save(tmp_path / "green.png")
    arguments = ("predict", tmp_path / "green.png", "-o", tmp_path / "o", "-m", folder / "mod")
    named = ("--vdsp_params", tmp_path / "vdsp.json", "--labels", "cityscapes")
    done = atrous(*arguments, *named)
    assert (done.code, "note" in done.err) == (0, False)
    assert "sidewalk" in done.out
    assert (ids(tmp_path / "o" / "masks" / "green.png") == 1).all()
    said = atrous(*arguments, "--force").err
    assert "assuming RGB squashed to 64×64" in said
    assert "does not name its classes" in said


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing.jpg", "-o", "o"], 2, "error: missing.jpg: no such file or folder"),
        ([PHOTOGRAPH, "-o", "o", "-m", "none"], 2, "none: not a file, no folder with mod.onnx"),
        ([PHOTOGRAPH, "-o", "o", "--size", "big"], 2, "--size: expected N, HEIGHT,WIDTH or ["),
        ([PHOTOGRAPH, "-o", "o", "--size", "65"], 2, "the network takes (513, 513) pixels"),
        ([PHOTOGRAPH, "-o", "o", "--labels", "coco"], 2, "expected voc, cityscapes, or the names"),
        ([PHOTOGRAPH, "-o", "o", "--labels", "cityscapes"], 2, "has 21 classes but label set"),
        ([PHOTOGRAPH, "-o", "o", "--vdsp_params", "no.json"], 2, "no.json: not a readable JSON"),
        ([PHOTOGRAPH, "-o", "o", "--device", "cuda"], 1, "install onnxruntime-gpu"),
        ([PHOTOGRAPH], 2, "Missing option"),
        (
            [PHOTOGRAPH.parent, PHOTOGRAPH, "-o", "o.png", "--cluster", "local"],
            2,
            "o.png is a file",
        ),
        ([PHOTOGRAPH, "-o", "o.tif"], 2, "is written as .png, or .tif with --tile, an overlay as"),
        ([PHOTOGRAPH, "-o", "o.bmp", "--tile", "9"], 2, "written as .png or .tif, an overlay as"),
        ([PHOTOGRAPH, "*.jpg", "-o", "o.png"], 2, "*.jpg: no such file or folder"),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(
    arguments: list[object],
    code: int,
    message: str,
    atrous: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = atrous("predict", *arguments)
    assert done.code == code
    assert message in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_folder_of_odd_files(tmp_path: Path) -> None:
    """Ten good images, odd ones that can be read, broken ones that cannot, one that is huge."""
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    good = PHOTOGRAPH.read_bytes()
    for number in range(10):
        (source / f"good{number}.jpg").write_bytes(good)
    with Image.open(PHOTOGRAPH) as photograph:
        photograph.convert("CMYK").save(source / "odd-cmyk.jpg")
        photograph.convert("L").save(source / "odd-grey.png")
        photograph.resize((10_000, 9_000)).save(source / "odd-huge.jpg", quality=70)
    Image.new("RGB", (1, 1), "red").save(source / "odd-pixel.png")
    (source / "bad-truncated.jpg").write_bytes(good[: len(good) // 2])
    (source / "bad-empty.jpg").touch()
    (source / "bad-text.png").write_text("this is no picture")

    command = [sys.executable, "-m", "atrous", "predict", str(source), "-o", str(output)]
    done, peak = run_and_weigh(command)

    assert done.returncode == 1
    assert {path.name for path in source.iterdir()} >= {"odd-huge.jpg"}
    written = {path.stem for path in (output / "masks").iterdir()}
    expected = {path.stem for path in source.iterdir() if not path.name.startswith("bad")}
    assert written == expected == {path.stem for path in (output / "overlays").iterdir()}
    assert re.search(
        r"14 written by default(-int8)? .* on (openvino|onnxruntime), \d+ threads?, 3 failed",
        done.stdout,
    )
    failures = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert len(failures) == 3
    assert ids(output / "masks" / "odd-huge.png").shape == (9000, 10_000)
    assert ids(output / "masks" / "odd-pixel.png").shape == (1, 1)
    agreement = [
        (ids(output / "masks" / f"{name}.png") == ids(output / "masks" / "good0.png")).mean()
        for name in ("odd-cmyk", "odd-grey", "good9")
    ]
    assert min(agreement) > 0.85
    assert peak < 3e9


@pytest.mark.parametrize(
    ("arguments", "streams"),
    [
        ((None, "cpu", 0, 0), 3),
        ((None, "cpu", 2, 0), 2),
        ((None, "cpu", 16, 0), 4),
        ((None, "cpu", 16, 1), 1),
        ((None, "cpu", 1, 6), 6),
        ((None, "cuda", 16, 0), 1),
        (("net.safetensors", "cpu", 16, 0), 1),
        (("net.onnx", "cpu", 0, 0), 3),
    ],
)
def test_how_many_instances(
    arguments: tuple[str | None, Literal["cpu", "cuda"], int, int],
    streams: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("net.onnx", "net.safetensors"):
        Path(name).touch()
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert engine_options(*arguments, None).streams == streams


@pytest.mark.heavy
def test_instances_change_no_mask(atrous: Run, tmp_path: Path) -> None:
    for number in ("1", "2"):
        done = atrous("predict", PHOTOGRAPH, "-o", tmp_path / number, "-i", number)
        assert done.code == 0, done.err
    one, two = (ids(tmp_path / number / "masks" / "photograph.png") for number in "12")
    assert (one != two).mean() < 0.001


def test_other_tools_and_a_gallery(atrous: Run, small: Small, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    names = (PHOTOGRAPH, tmp_path / "empty.jpg", "-o", tmp_path / "o", *small)
    done = atrous("predict", *names, "--as", "overlays,coco,labelme", "--gallery")
    assert done.code == 1
    assert "empty.jpg: the file is empty" in done.err
    assert f"labelme and {tmp_path}/o/index.html" in done.out
    [image] = json.loads((tmp_path / "o" / "coco.json").read_text())["images"]
    assert image["file_name"].endswith("photograph.jpg")
    assert (tmp_path / "o" / "labelme" / "photograph.json").is_file()
    assert "photograph.jpg" in (tmp_path / "o" / "index.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-o", "out", "--as", "masks,geo"), "expected some of masks,overlays,coco,labelme,geo"),
        (("-o", "a.png", "--as", "coco"), "a.png is a file: --as and --gallery need a folder"),
        (("-o", "out", "--as", "coco", "--gallery"), "--gallery shows the overlays: add overlays"),
        (("-o", "out", "--as", "coco", "--no-overlays"), "leave out --overlays"),
        (("-o", "a.mp4", "--as", "coco"), "--as belongs to whole images"),
    ],
)
def test_formats_that_do_not_fit(
    atrous: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = atrous("predict", PHOTOGRAPH, *words)
    assert done.code == 2
    assert said in done.err
