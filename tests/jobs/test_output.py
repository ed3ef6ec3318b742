"""Where results lie, what made them, and whether they stand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from atrous import image
from atrous.errors import EngineError, InputError
from atrous.jobs.names import stems
from atrous.jobs.output import (
    ImageResult,
    Output,
    Results,
    Target,
    join,
    remove_unfinished,
)
from atrous.jobs.renaming import follow_names
from atrous.jobs.sources import find
from atrous.runtime.predictor import Predictor
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
    assert Output("s3://b").shown() == ["s3://b/masks", "s3://b/overlays"]
    assert Output("out", overlays=False).shown() == ["out/masks"]


def test_a_mask_depends_on_image_model_preprocessing_labels_and_setting(
    source: Path, tmp_path: Path
) -> None:
    output = Output(tmp_path / "out")

    def made_from(predictor: Predictor, setting: str = "") -> str:
        return Results(output, predictor, setting).target(source, Path("a")).made_from

    first = brightest()
    others = [brightest(), brightest(), brightest()]
    others[0].engine.identity = "another"
    others[1].preprocess = first.preprocess.model_copy(update={"fit": "letterbox"})
    others[2].labels = replace(first.labels, names=("x", "y", "z"))
    found = [made_from(first), made_from(first, "0.25"), *map(made_from, others)]
    Image.fromarray(PIXELS + 1).save(source)
    found.append(made_from(first))
    assert len(set(found)) == len(found)
    assert made_from(first) == found[-1]
    missing = Results(output, first).target(tmp_path / "none.png", Path("none"))
    assert missing.made_from == "unreadable"


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(Output(tmp_path / "out"), brightest())


@pytest.fixture
def done(results: Results, source: Path) -> Target:
    target = results.target(source, Path("sub/a"))
    assert results.claim(target) == target
    written = results.write(target, PIXELS, CLASSES)
    assert (written.status, written.size, written.shares) == ("written", (6, 4), {1: 1.0})
    return target


def test_results_stand_until_something_is_missing(results: Results, done: Target) -> None:
    kept = ImageResult(done.source, "kept", done.mask, done.overlay)
    assert results.claim(done) == kept
    place = done.mask.parents[2]
    for output in (Output(place, force=True), Output(place, again=True)):
        again = Results(output, brightest())
        assert again.claim(again.target(done.source, Path("sub/a"))) == done
    assert done.overlay is not None
    done.overlay.unlink()
    assert results.claim(done) == done
    bare = Results(Output(place, overlays=False), brightest())
    found = bare.claim(bare.target(done.source, Path("sub/a")))
    assert isinstance(found, ImageResult)
    assert found.status == "kept"


def test_what_was_made_from_something_else_is_made_again(results: Results, done: Target) -> None:
    Image.fromarray(PIXELS + 1).save(done.source)
    found = results.claim(results.target(done.source, Path("sub/a")))
    assert isinstance(found, Target)
    assert found.stale
    assert results.write(found, PIXELS, CLASSES).stale
    paler = Results(Output(done.mask.parents[2], opacity=0.2), brightest())
    found = paler.claim(paler.target(done.source, Path("sub/a")))
    assert isinstance(found, Target)
    assert found.stale


@pytest.mark.parametrize("ending", [".msk", ".aux.xml"])
def test_what_lies_beside_a_raster_counts(ending: str, results: Results, done: Target) -> None:
    beside = done.source.with_name(f"{done.source.name}{ending}")
    for change in (lambda: beside.write_bytes(b"1"), lambda: beside.write_bytes(b"2")):
        change()
        found = results.claim(results.target(done.source, Path("sub/a")))
        assert isinstance(found, Target)
        assert found.stale
        results.write(found, PIXELS, CLASSES)
    beside.unlink()
    assert isinstance(results.claim(results.target(done.source, Path("sub/a"))), Target)


def test_a_mask_of_an_earlier_version_is_made_again(results: Results, done: Target) -> None:
    for stamp in ("a" * 64, f"{'b' * 64} 0.25", "unreadable"):
        info = PngInfo()
        info.add_text("atrous", stamp)
        Image.fromarray(CLASSES, "P").save(done.mask, pnginfo=info)
        assert done.overlay is not None
        Image.fromarray(PIXELS).save(done.overlay)  # which had no stamps then
        found = results.claim(done)
        assert isinstance(found, Target)
        assert found.stale


def repainted(path: Path) -> None:
    """Change one pixel and keep all that the file says of itself."""
    with Image.open(path) as picture:
        picture.load()
        info = PngInfo()
        info.add_text("atrous", str(picture.info["atrous"]))
        picture.putpixel((0, 0), 2)
        picture.save(path, pnginfo=info)


@pytest.mark.parametrize(
    "change",
    [
        repainted,
        lambda path: Image.new("P", (6, 4)).save(path),
        lambda path: path.write_text("a note"),
        lambda path: path.write_bytes(b""),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.symlink_to("nowhere")),
    ],
    ids=["changed", "other", "text", "empty", "folder", "link"],
)
@pytest.mark.parametrize("again", [False, True])
def test_what_atrous_did_not_make_is_kept_and_said(
    done: Target, change: Callable[[Path], object], again: bool
) -> None:
    change(done.mask)
    results = Results(Output(done.mask.parents[2], again=again), brightest())
    with pytest.raises(InputError, match=r"sub/a\.png: .*in the way"):
        results.claim(done)
    forced = Results(Output(done.mask.parents[2], force=True), brightest())
    if done.mask.is_dir():
        with pytest.raises(InputError, match="a folder is in the way; move it away"):
            forced.claim(done)
    else:
        assert forced.claim(done) == done
        forced.write(done, PIXELS, CLASSES)
        assert image.mask_stamp(done.mask) is not None


def test_an_overlay_that_was_changed_is_kept(results: Results, done: Target) -> None:
    assert done.overlay is not None
    with Image.open(done.overlay) as picture:
        picture.save(done.overlay, comment=picture.info["comment"])
    with pytest.raises(InputError, match=r"a\.jpg: is in the way and kept: .*`force`"):
        results.claim(done)


def test_a_picture_is_never_its_own_result(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    source = tmp_path / "masks" / "a.png"
    Image.fromarray(PIXELS).save(source)
    results = Results(Output(tmp_path, force=True), brightest())
    with pytest.raises(InputError, match="its result would replace it; choose another `output`"):
        results.claim(results.target(source, Path("a")))


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


def named(root: Path, *names: str) -> list[tuple[Path, Path]]:
    """Pictures in a folder, each another, with what their results are called."""
    for name in names:
        if not (root / name).exists():
            shade = sum(name.encode()) % 200
            Image.fromarray(PIXELS + np.uint8(shade)).save(root / name)
    found = stems({root / name: Path(name) for name in names}, lambda path: path)
    return [*found.items()]


def made(results: Results, pairs: list[tuple[Path, Path]]) -> list[str]:
    """Follow names and write what has to be written; what became of each."""
    follow_names(results, pairs)
    became = []
    for path, stem in pairs:
        target = results.claim(results.target(path, stem))
        if isinstance(target, Target):
            target = results.write(target, PIXELS, CLASSES)
        became.append(target.status)
    return became


def test_results_follow_when_pictures_come_and_go(
    results: Results, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert made(results, named(tmp_path, "a.jpg")) == ["written"]
    masks = tmp_path / "out" / "masks"
    first = (masks / "a.png").read_bytes()
    assert made(results, named(tmp_path, "a.jpg", "a.png")) == ["kept", "written"]
    assert sorted(path.name for path in masks.iterdir()) == ["a.jpg.png", "a.png.png"]
    assert (masks / "a.jpg.png").read_bytes() == first
    assert caplog.messages == [
        "masks are renamed, because pictures were added or removed in their folder: "
        f"{masks}/a.png is now a.jpg.png"
    ]
    (tmp_path / "a.png").unlink()
    assert made(results, named(tmp_path, "a.jpg")) == ["kept"]
    assert sorted(path.name for path in masks.iterdir()) == ["a.png", "a.png.png"]
    assert (tmp_path / "out" / "overlays" / "a.jpg").is_file()


def test_results_follow_when_a_folder_comes_and_goes(results: Results, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Image.fromarray(PIXELS + len(name)).save(tmp_path / name / "b.jpg")
    Image.fromarray(PIXELS + 9).save(tmp_path / "two" / "b.jpg")
    one, both = ([*map(tmp_path.joinpath, names)] for names in (["one"], ["one", "two"]))
    masks = tmp_path / "out" / "masks"

    def run(folders: list[Path]) -> tuple[list[str], list[str]]:
        became = made(results, [(source.path, source.stem) for source in find(folders)])
        found = (path for path in masks.rglob("*") if path.is_file())
        return became, sorted(str(path.relative_to(masks)) for path in found)

    whole = [f"{path}/b.jpg.png"[1:] for path in both]
    assert run(one) == (["written"], ["b.png"])
    assert run(both) == (["kept", "written"], whole)
    assert run(one) == (["kept"], ["b.png", whole[1]])


def test_a_result_of_something_else_is_not_taken_over(
    results: Results, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert made(results, named(tmp_path, "a.jpg")) == ["written"]
    Image.fromarray(PIXELS + 99).save(tmp_path / "a.jpg")
    assert made(results, named(tmp_path, "a.jpg", "a.png")) == ["written"] * 2
    masks = sorted(path.name for path in (tmp_path / "out" / "masks").iterdir())
    assert masks == ["a.jpg.png", "a.png", "a.png.png"]
    assert caplog.messages == [
        f"{tmp_path}/out/masks/a.png stays as it is: of an earlier picture or model, or changed "
        "since; it is of none of today's pictures called a"
    ]


def test_copies_do_not_take_each_others_results(results: Results, tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a.jpg.png"):
        (tmp_path / name).write_bytes(b"the same")
    pairs = named(tmp_path, "a.jpg", "a.png", "a.jpg.png")
    assert made(results, pairs) == ["written"] * 3
    assert made(results, pairs) == ["kept"] * 3


@pytest.mark.parametrize(("name", "kind"), [("m.png", "mask"), ("m.JPG", "overlay")])
def test_a_single_file(source: Path, tmp_path: Path, name: str, kind: str) -> None:
    place = tmp_path / "sub" / name
    results = Results(Output(place, single=True), brightest())
    target = results.claim(results.target(source, Path("a")))
    assert isinstance(target, Target)
    written = results.write(target, PIXELS, CLASSES)
    assert {"mask": written.mask, "overlay": written.overlay}[kind] == place
    assert [path.name for path in place.parent.iterdir()] == [name]
    assert results.claim(results.target(source, Path("a"))).status == "kept"  # type: ignore[union-attr]
    place.write_bytes(b"mine")
    with pytest.raises(InputError, match="is in the way and kept"):
        results.claim(target)
    own = Results(Output(source, force=True, single=True), brightest())
    with pytest.raises(InputError, match="would replace it"):
        own.claim(own.target(source, Path("a")))
