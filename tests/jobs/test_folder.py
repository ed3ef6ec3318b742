import errno
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.engines.fake import FakeEngine
from atrous.errors import EngineError, InputError
from atrous.jobs.folder import segment
from atrous.jobs.output import ImageResult, Output
from atrous.jobs.sources import find
from atrous.labels import generic
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor
from atrous.runtime.stages import Frame


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(FakeEngine(lambda x: x, 3), Preprocess(size=(16, 16)), generic(3))


@pytest.fixture
def folder(tmp_path: Path, image: NDArray[np.uint8]) -> Path:
    source = tmp_path / "in"
    (source / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/c.png"):
        Image.fromarray(image).save(source / name)
    return source


def run(
    predictor: Predictor,
    folder: Path,
    score: Callable[[Frame], object] | None = None,
    **options: bool,
) -> list[ImageResult]:
    output = Output(folder.parent / "out", **options)  # type: ignore[arg-type]
    return list(segment(predictor, find([folder]), output, score=score))


def files(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def test_masks_and_overlays(predictor: Predictor, folder: Path) -> None:
    results = run(predictor, folder)
    assert [result.status for result in results] == ["written"] * 3
    assert files(folder.parent / "out") == [
        *(f"masks/{name}.png" for name in ("a", "b", "sub/c")),
        *(f"overlays/{name}.jpg" for name in ("a", "b", "sub/c")),
    ]
    assert results[0].size == (60, 40)
    assert results[0].shares == pytest.approx({0: 0.5, 1: 0.5}, abs=0.05)


def test_existing_results_are_kept(predictor: Predictor, folder: Path) -> None:
    run(predictor, folder, overlays=False)
    mask = folder.parent / "out" / "masks" / "a.png"
    mask.write_bytes(b"mine")
    results = run(predictor, folder, overlays=False)
    assert [result.status for result in results] == ["failed", "kept", "kept"]
    assert results[0].error.startswith(f"{folder / 'a.png'}: {mask}: is in the way and kept")
    assert mask.read_bytes() == b"mine"
    assert [r.status for r in run(predictor, folder, overlays=False, force=True)] == ["written"] * 3
    assert mask.read_bytes() != b"mine"


def test_a_missing_overlay_is_made(predictor: Predictor, folder: Path) -> None:
    run(predictor, folder, overlays=False)
    assert [result.status for result in run(predictor, folder)] == ["written"] * 3


def test_failures_do_not_stop_the_rest(predictor: Predictor, folder: Path) -> None:
    (folder / "aa.jpg").write_bytes(b"no image")
    (folder / "zero.jpg").touch()
    results = run(predictor, folder)
    assert [result.status for result in results] == [
        "written", "failed", "written", "failed", "written",
    ]  # fmt: skip
    assert "aa.jpg: not a picture" in results[1].error
    assert "zero.jpg: the file is empty" in results[3].error
    assert "masks/aa.png" not in files(folder.parent / "out")


def test_an_engine_that_fails_once(folder: Path) -> None:
    calls = []

    def sometimes(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(1)
        if len(calls) == 2:
            raise EngineError("out of memory")
        return batch

    predictor = Predictor(FakeEngine(sometimes, 3), Preprocess(size=(16, 16)), generic(3))
    results = run(predictor, folder)
    assert [result.status for result in results] == ["written", "failed", "written"]
    assert results[1].error == f"{folder / 'b.png'}: out of memory"


def test_a_disk_without_space_for_one_image(
    predictor: Predictor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, written = Image.Image.save, []

    def full(self: Image.Image, file: IO[bytes], **options: object) -> None:
        written.append(file)
        if len(written) == 2:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, file, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "save", full)
    results = run(predictor, folder, overlays=False)
    [failed] = [result for result in results if result.status == "failed"]
    assert failed.error == f"{failed.source}: No space left on device"
    assert len(files(folder.parent / "out")) == 2


@pytest.mark.heavy
def test_a_disk_that_fills(predictor: Predictor, folder: Path) -> None:
    disk = folder.parent / "out"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k,nr_inodes=20", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    for name in "abcd":
        Image.fromarray(noise).save(folder / f"{name}.png")
    try:
        results = run(predictor, folder, overlays=False)
        left = files(disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    statuses = {result.status for result in results}
    assert statuses == {"written", "failed"}
    assert {result.error.split(": ")[1] for result in results if result.error} == {
        "No space left on device"
    }
    done = [result.mask.relative_to(disk) for result in results if result.mask]
    assert left == sorted(path.as_posix() for path in done)


def test_closed_in_the_middle(predictor: Predictor, folder: Path) -> None:
    for number in range(40):
        shutil.copy(folder / "a.png", folder / f"{number}.png")
    results = segment(predictor, find([folder]), Output(folder.parent / "out", overlays=False))
    assert next(results).status == "written"
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("atrous")]
    left = files(folder.parent / "out")
    assert 1 <= len(left) < 43
    for name in left:
        with Image.open(folder.parent / "out" / name) as mask:
            assert np.asarray(mask).shape == (40, 60)


def test_a_function_scores_what_was_written(predictor: Predictor, folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"no image")

    def score(frame: Frame) -> tuple[str, tuple[int, ...]]:
        assert frame.class_map is not None
        return frame.source.path.name, frame.outputs["infer"].grid.shape

    results = run(predictor, folder, score=score)
    assert [result.score for result in results] == [
        ("a.png", (3, 16, 16)),
        ("b.png", (3, 16, 16)),
        None,
        ("c.png", (3, 16, 16)),
    ]
    assert [result.score for result in run(predictor, folder, score=score)] == [None] * 4


def test_an_output_that_is_a_file(predictor: Predictor, folder: Path) -> None:
    (folder.parent / "out").touch()
    with pytest.raises(InputError, match="out: cannot be made a folder"):
        run(predictor, folder)


def test_results_of_another_image_or_model_are_made_again_and_said(
    predictor: Predictor, folder: Path
) -> None:
    assert not any(result.stale for result in run(predictor, folder))
    Image.new("RGB", (60, 40), "blue").save(folder / "b.png")
    results = run(predictor, folder)
    assert [result.status for result in results] == ["kept", "written", "kept"]
    assert [result.stale for result in results] == [False, True, False]
    other = Predictor(FakeEngine(lambda x: x, 3), Preprocess(size=(32, 32)), generic(3))
    assert [(result.status, result.stale) for result in run(other, folder)] == [
        ("written", True)
    ] * 3
