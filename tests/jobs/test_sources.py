from pathlib import Path

import pytest

from atrous.errors import InputError
from atrous.jobs.sources import find


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
    with pytest.raises(InputError, match=r"no images in it \(looked for apng, avif, "):
        find([tmp_path])


def test_the_results_beside_the_images_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "masks/a.png", "overlays/a.jpg", "sub/masks/b.png")
    assert stems(tmp_path, ".", output=tmp_path) == ["a", "sub/masks/b"]
