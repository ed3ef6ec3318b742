"""Where results lie, what made them, and whether they stand."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.errors import EngineError, InputError
from atrous.jobs.output import ImageResult, Output, Results, join, remove_unfinished, stems
from tests.builders.predictors import brightest

PIXELS = np.zeros((4, 6, 3), np.uint8)
CLASSES = np.ones((4, 6), np.uint8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    return path


@pytest.mark.parametrize(
    ("place", "name", "expected"),
    [
        ("out", "masks", "out/masks"),
        (Path("out"), "masks", "out/masks"),
        ("/out/", "masks/a.png", "/out/masks/a.png"),
        ("s3://bucket/out/", "masks", "s3://bucket/out/masks"),
        ("memory://", "a", "memory:///a"),
        ("zip://in::s3://bucket/x.zip", "a.png", "zip://in/a.png::s3://bucket/x.zip"),
    ],
)
def test_join(place: str | Path, name: str, expected: str) -> None:
    assert join(place, name) == expected


def test_names_in_the_order_of_writing() -> None:
    names = Output("out").names("sub/a")
    assert [*names.values()] == ["overlays/sub/a.jpg", "masks/sub/a.png"]
    assert Output("out", overlays=False).names("a", ".tif") == {"masks": "masks/a.tif"}
    assert Output("s3://b").folders() == ["s3://b/masks", "s3://b/overlays"]
    assert Output("out", overlays=False).folders() == ["out/masks"]


def test_stems() -> None:
    found = {name: Path(name) for name in ("a.jpg", "a.png", "b.jpg", "sub/a.jpg")}
    names = stems({**found, "other": Path("b.jpg")}, lambda one: Path("whole", one))
    assert {one: name.as_posix() for one, name in names.items()} == {
        "a.jpg": "a.jpg",
        "a.png": "a.png",
        "b.jpg": "whole/b.jpg",
        "sub/a.jpg": "sub/a",
        "other": "whole/other",
    }


def test_a_stamp_is_of_image_model_preprocessing_and_setting(source: Path, tmp_path: Path) -> None:
    predictor = brightest()
    settings = predictor.preprocess.model_dump_json()
    content = hashlib.sha256(source.read_bytes()).hexdigest()
    what = f"{content} {predictor.engine.identity} {settings}"
    expected = hashlib.sha256(what.encode()).hexdigest()
    output = Output(tmp_path / "out")
    assert Results(output, predictor).target(source, Path("a")).stamp == expected
    assert Results(output, predictor, "0.25").target(source, Path("a")).stamp == f"{expected} 0.25"
    missing = Results(output, predictor).target(tmp_path / "none.png", Path("none"))
    assert missing.stamp == "unreadable"


def test_results_stand_until_something_is_missing(source: Path, tmp_path: Path) -> None:
    output = Output(tmp_path / "out")
    results = Results(output, brightest())
    target = results.target(source, Path("sub/a"))
    assert results.standing(target) is None
    written = results.write(target, PIXELS, CLASSES)
    assert (written.status, written.size, written.shares) == ("written", (6, 4), {1: 1.0})
    standing = results.standing(target)
    assert standing == ImageResult(source, "kept", target.mask, target.overlay)

    Image.fromarray(PIXELS + 1).save(source)
    changed = results.standing(results.target(source, Path("sub/a")))
    assert changed is not None
    assert changed.status == "stale"

    assert Results(Output(output.place, force=True), brightest()).standing(target) is None
    assert target.overlay is not None
    target.overlay.unlink()
    assert results.standing(target) is None
    bare = Results(Output(output.place, overlays=False), brightest())
    assert bare.standing(bare.target(source, Path("sub/a"))) is not None


def test_no_mask_without_the_rest(source: Path, tmp_path: Path) -> None:
    results = Results(Output(tmp_path / "out"), brightest())
    target = results.target(source, Path("a"))
    (tmp_path / "out" / "overlays").touch()
    with pytest.raises(OSError, match="exists"):
        results.write(target, PIXELS, CLASSES)
    assert not target.mask.exists()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (EngineError("the device is gone"), "in/a.png: the device is gone"),
        (InputError("in/a.png: damaged"), "in/a.png: damaged"),
        (OSError(28, "No space left on device"), "in/a.png: No space left on device"),
        (MemoryError(), "in/a.png: MemoryError"),
    ],
)
def test_a_failure_names_its_image(error: Exception, text: str) -> None:
    failed = ImageResult.failure(Path("in/a.png"), error)
    assert (failed.status, failed.error) == ("failed", text)


def test_what_was_left_half_written_goes(tmp_path: Path) -> None:
    for name in ("masks/sub/.a.png.x.part", "overlays/.a.jpg.y.part", "masks/a.png", ".b.part"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(left) == [".b.part", "a.png"]
