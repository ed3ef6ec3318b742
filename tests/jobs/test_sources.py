from pathlib import Path

import numpy as np
import pytest

from atrous.errors import InputError
from atrous.image import write_mask, write_overlay
from atrous.jobs.sources import find
from atrous.labels import VOC


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def stems(root: Path, *sources: str, output: Path | None = None) -> list[str]:
    return [source.stem.as_posix() for source in find([str(root / s) for s in sources], output)]


def test_folders_are_searched_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.PNG", "sub/c.jpeg", "notes.txt", ".hidden.jpg", ".git/d.jpg")
    assert stems(tmp_path, ".") == ["a", "b", "sub/c"]


def test_a_file_counts_whatever_its_ending(tmp_path: Path) -> None:
    touch(tmp_path, "photo.heic")
    assert stems(tmp_path, "photo.heic") == ["photo"]


def test_globs(tmp_path: Path) -> None:
    touch(tmp_path, "a1.jpg", "a2.jpg", "b.jpg", "a3.txt", "d/a4.jpg")
    assert stems(tmp_path, "a*") == ["a1", "a2"]
    assert stems(tmp_path, "**/a*.jpg") == ["a1", "a2", "a4"]


def test_names_with_glob_letters_are_files_first(tmp_path: Path) -> None:
    touch(tmp_path, "a[1].jpg")
    assert stems(tmp_path, "a[1].jpg") == ["a[1]"]


def test_each_file_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    assert stems(tmp_path, ".", "a.jpg", "*.jpg") == ["a"]


def test_results_never_share_a_name(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png", "b.jpg", "one/x.jpg", "two/x.jpg")
    assert stems(tmp_path, "a.jpg", "a.png", "b.jpg") == ["a.jpg", "a.png", "b"]
    found = stems(tmp_path, "one", "two")
    assert len(set(found)) == 2
    assert all(name.endswith("/x.jpg") for name in found)


def test_the_output_folder_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "out/masks/a.png")
    assert stems(tmp_path, ".", output=tmp_path / "out") == ["a"]


@pytest.mark.parametrize("source", ["missing.jpg", "*.jpg"])
def test_nothing_there(source: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        find([tmp_path / source])


def test_a_folder_without_images(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(InputError, match=r"no images in it; 1 left out: \.txt 1$"):
        find([tmp_path])


def test_the_results_beside_the_images_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "masks/a.png", "overlays/a.jpg", "sub/masks/b.png")
    assert stems(tmp_path, ".", output=tmp_path) == ["a", "sub/masks/b"]


def test_what_is_not_there_costs_the_others_nothing(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "empty/notes.txt")
    named = [tmp_path / name for name in ("missing.jpg", "a.jpg", "*.png", "empty")]
    found = find(named)
    assert [(source.stem.name, bool(source.error)) for source in found] == [
        ("missing.jpg", True), ("*.png", True), ("empty", True), ("a", False),
    ]  # fmt: skip
    assert found[0].error == f"{tmp_path}/missing.jpg: no such file or folder"
    assert found[2].error == f"{tmp_path}/empty: no images in it; 1 left out: .txt 1"
    with pytest.raises(InputError, match="empty: no images in it"):
        found[2].check()


def test_what_is_left_out_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a/1.jpg", "a/n.txt", "b/2.jpg", "b/n.TXT", "b/m.json", "b/LICENSE")
    find([tmp_path / "a", tmp_path / "b"])
    assert [record.message for record in caplog.records] == [
        "4 left out: .txt 2, .json 1, without ending 1"
    ]


def test_a_linked_folder_once_whatever_led_there(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "photos" / "link").symlink_to("../elsewhere")
    (tmp_path / "photos" / "loop").symlink_to(".")
    assert stems(tmp_path, "photos") == ["a", "link/b"]
    assert stems(tmp_path, "photos", "elsewhere") == ["a", "link/b"]
    assert len(stems(tmp_path, "photos/**/*.jpg")) == 2


def test_what_atrous_made_earlier_is_no_photograph(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class_map, pixels = np.zeros((4, 6), np.uint8), np.zeros((4, 6, 3), np.uint8)
    touch(tmp_path, "a.jpg", "masks/theirs.png")
    mask, overlay, single = (
        tmp_path / name for name in ("old/masks/a.png", "old/overlays/a.jpg", "seen.jpg")
    )
    write_mask(mask, class_map, VOC, "a" * 64)
    for path in (overlay, single):
        write_overlay(path, pixels, class_map, VOC, made_from="b" * 64)
    assert stems(tmp_path, ".") == ["a", "masks/theirs"]
    assert [record.message for record in caplog.records] == [
        "3 left out: masks and overlays by Atrous 3"
    ]
    assert stems(tmp_path, "old/masks/a.png", "seen.jpg") == ["a", "seen"]
    with pytest.raises(InputError, match="no images in it; 2 left out: masks and overlays by"):
        find([tmp_path / "old"])
