"""A folder with one of each odd picture beside good ones: nothing is lost, nothing left unsaid."""

import io
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.builders import odd_folder
from tests.builders.cases import Cases, check, expected
from tests.builders.command import Done, Run
from tests.builders.networks import make_small_model
from tests.builders.odd_folder import GOOD, SIZE, OddFolder, is_right
from tests.builders.server import Network, serving

pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> OddFolder:
    return odd_folder.make(tmp_path_factory.mktemp("odd") / "in")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(make_small_model(size=64), path)
    return path


def said_once(done: Done, odd: OddFolder, nowhere: bool = True) -> None:
    """Every failure is one line that names the file, and there is no other line of the kind."""
    lines = [line for line in done.err.splitlines() if line.startswith("failed:")]
    for name, reason in odd.broken.items():
        [line] = [line for line in lines if name in line]
        assert reason in line
    for name in odd.nowhere if nowhere else ():
        assert sum(name in line for line in lines) == 1
    assert len(lines) == odd.failures()
    assert "Traceback" not in done.err
    assert done.code == 1


@pytest.mark.parametrize(
    "verb", [("predict",), ("predict", "--tile", "64"), ("stream", "--file_path")], ids=str
)
def test_masks(
    verb: tuple[str, ...], odd: OddFolder, model: Path, atrous: Run, tmp_path: Path
) -> None:
    if "--tile" in verb:
        pytest.importorskip("rasterio", reason="needs the extra large")
    place = (odd.path, *verb[1:]) if "--tile" in verb else (*verb[1:], odd.path)
    done = atrous(verb[0], *place, "-m", model, "-o", tmp_path / "out")
    said_once(done, odd)
    assert f"note: {odd.left_out} left out: .txt 1, pipes and devices 1" in done.err
    for name in odd.right:
        found = tmp_path / "out" / "masks" / f"{name}.png"
        with Image.open(found) as mask:
            assert is_right(np.asarray(mask)), name
    assert len(odd.right) > GOOD + 20
    assert len([*(tmp_path / "out" / "masks").rglob("*.png")]) == len(odd.right)


def test_npz(odd: OddFolder, atrous: Run, tmp_path: Path) -> None:
    done = atrous(
        "npz", "make", "--dataset_path", odd.path, "--ids", "all",
        "--target_path", tmp_path / "npz", "--text_path", tmp_path / "list.txt",
    )  # fmt: skip
    said_once(done, odd)
    listed = (tmp_path / "list.txt").read_text().splitlines()
    here = [name for name in odd.right if "/" not in name]
    assert {Path(line).stem for line in listed} == set(here)
    for line in listed:
        with np.load(line) as file:
            assert is_right(file["input_0"].argmax(0).astype(np.uint8)), line


def test_doctor(odd: OddFolder, atrous: Run, tmp_path: Path) -> None:
    truth = np.zeros(SIZE[::-1], np.uint8)
    truth[:, SIZE[0] // 2 :] = 1
    for name in [*odd.right, *(Path(name).stem for name in (*odd.broken, *odd.nowhere))]:
        path = tmp_path / "masks" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(truth).save(path)
    described = {"images": str(odd.path), "masks": "masks", "classes": ["red", "green"],
                 "mask_type": "ids"}  # fmt: skip
    (tmp_path / "own.yaml").write_text(json.dumps(described))
    done = atrous("doctor", "--data", f"folder:{tmp_path / 'own.yaml'}:all")
    assert done.code == 1
    assert "Traceback" not in done.err
    assert "size mismatch" not in done.out
    assert f"unreadable image ({len(odd.broken)})" in done.out
    assert "missing image (2)" in done.out
    for name, reason in odd.broken.items():
        assert any(name in line and reason in line for line in done.out.splitlines()), name


def test_serve(odd: OddFolder) -> None:
    with serving(Network()) as live:
        for name in odd.right:
            place = odd.path / name
            [path] = [one for one in place.parent.iterdir() if one.stem == place.name]
            if path.suffix == ".dib":
                continue
            answer = live.segment(path.read_bytes(), output="mask")
            assert answer.status_code == 200, (name, answer.text)
            assert answered(answer.content), name
        for name, reason in odd.broken.items():
            answer = live.segment((odd.path / name).read_bytes())
            assert answer.status_code in (400, 413, 422)
            said = answer.json()["error"]
            assert reason.removeprefix("the file is empty") in said


def answered(png: bytes) -> bool:
    with Image.open(io.BytesIO(png)) as mask:
        class_map = np.asarray(mask)
    half = SIZE[0] // 2  # the network sees 8×8 pixels
    left, right = class_map[:, : half - 8], class_map[:, half + 8 :]
    return class_map.shape == SIZE[::-1] and not left.any() and bool((right == 1).all())


@pytest.mark.parametrize("verb", [("predict",), ("predict", "--tile", "256"), ("stream",)], ids=str)
@pytest.mark.parametrize("folder", ["exif", "metadata.png"])
def test_pictures_from_the_field(
    verb: tuple[str, ...], folder: str, atrous: Run, cases: Cases, tmp_path: Path
) -> None:
    group = cases("pictures")
    arguments = [
        "-m",
        group / "colours.onnx",
        "-o",
        tmp_path,
        "--vdsp_params",
        group / "colours.json",
    ]
    source = ["--file_path", group / folder] if verb == ("stream",) else [group / folder, *verb[1:]]
    done = atrous(verb[0], *source, *arguments)
    assert done.code == 0, done.err
    names = [name for name in expected(group) if name.startswith(folder)]
    for name in names:
        check(group, name, tmp_path / "masks" / f"{Path(name).stem}.png")
    assert names


@pytest.mark.parametrize("verb", [("predict",), ("predict", "--tile", "256"), ("stream",)], ids=str)
@pytest.mark.parametrize(("folder", "count"), [("endings", 3), ("links/photos", 4)])
def test_names_from_the_field(
    verb: tuple[str, ...], folder: str, count: int, atrous: Run, cases: Cases, tmp_path: Path
) -> None:
    group = cases("names")
    arguments = [
        "-m",
        group / "colours.onnx",
        "-o",
        tmp_path,
        "--vdsp_params",
        group / "colours.json",
    ]
    source = ["--file_path", group / folder] if verb == ("stream",) else [group / folder, *verb[1:]]
    done = atrous(verb[0], *source, *arguments)
    assert done.code == 0, done.err
    assert "left out" not in done.err
    assert len([*(tmp_path / "masks").rglob("*.png")]) == count


def test_strips_from_the_field(
    atrous: Run, cases: Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path))
    group = cases("pictures")
    done = atrous(
        "eval", "-m", group / "colours.onnx", "--vdsp-params", group / "colours.json",
        "--data", f"folder:{group / 'strip' / 'own.yaml'}:all", "--protocol", "center-crop-256",
        "--engine", "onnxruntime",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "2 images" in done.out
    assert "pixel accuracy 99." in done.out
