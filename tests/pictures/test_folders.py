"""Which pictures of a folder are taken, and that nothing is left out in silence."""

import os
from pathlib import Path

import pytest

from atrous.pictures import folders, formats

PNG = b"\x89PNG\r\n\x1a\n"


def make(root: Path, *names: str, content: bytes = b"") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def names(found: folders.Found) -> list[str]:
    return [below.as_posix() for below in found.pictures.values()]


def test_every_ending_of_the_list_in_any_case(tmp_path: Path) -> None:
    endings = sorted(one for one in formats.SUFFIXES if not formats.missing(one))
    make(tmp_path, *(f"a{one.upper()}" for one in endings))
    found = folders.search(tmp_path)
    assert len(found.pictures) == len(endings) > 30
    assert not found.left_out


def test_content_decides_where_the_ending_does_not(tmp_path: Path) -> None:
    make(tmp_path, "download", "photo.tmp", "page.php", content=PNG)
    make(tmp_path, "scan", "raw.nef", "photo.dng", content=b"II*\0")
    make(tmp_path, "README", "notes.txt", content=b"text")
    found = folders.search(tmp_path)
    assert names(found) == ["download", "page.php", "photo.tmp", "scan"]
    assert found.left_out == {".nef": 1, ".dng": 1, ".txt": 1, "without ending": 1}


def test_what_needs_a_reader_is_named_with_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "readable", lambda: frozenset({"PNG"}))
    make(tmp_path, "a.heic", "b.HEIC", "c.png", "notes.txt")
    found = folders.search(tmp_path)
    assert names(found) == ["c.png"]
    assert found.summary() == "3 left out: .heic 2 (pip install 'atrous[heic]'), .txt 1"


def test_hidden_pictures_are_counted_and_what_systems_leave_is_not(tmp_path: Path) -> None:
    make(tmp_path, "a.png", ".DS_Store", ".b.jpg", "._a.png", ".thumbnails/c.png")
    found = folders.search(tmp_path)
    assert names(found) == ["a.png"]
    assert found.left_out == {"hidden": 2}


def test_links_are_entered_once_and_loops_do_no_harm(tmp_path: Path) -> None:
    make(tmp_path, "in/2023/p.png", "in/z.png", "elsewhere/q.png", "elsewhere/deep/r.png", "s.png")
    links = {
        "in/2024": "../elsewhere", "in/again": "../elsewhere", "in/loop": ".", "in/self": "self",
        "in/inner": "2023", "in/up": "..", "elsewhere/back": "../in", "elsewhere/round": ".",
        "in/file.png": "../elsewhere/q.png",
    }  # fmt: skip
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    found = folders.search(tmp_path / "in")
    assert names(found) == ["file.png", "z.png", "2023/p.png", "2024/q.png", "2024/deep/r.png"]
    assert found.left_out == {"links to a folder above": 1}
    assert list(found.failures) == [tmp_path / "in" / "self"]


def test_links_to_nothing(tmp_path: Path) -> None:
    for name in ("photo.jpg", "folder", "notes.txt"):
        (tmp_path / name).symlink_to("gone")
    found = folders.search(tmp_path)
    assert not found.pictures
    assert set(found.failures) == {tmp_path / "photo.jpg", tmp_path / "folder"}
    assert "photo.jpg: a link to gone, which is not there" in found.failures[tmp_path / "photo.jpg"]
    assert found.left_out == {".txt": 1}


def test_links_to_devices_and_to_themselves(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("/dev/zero")
    (tmp_path / "b.png").symlink_to("b.png")
    found = folders.search(tmp_path)
    assert "a.png: a link to /dev/zero, which is no file" in found.failures[tmp_path / "a.png"]
    assert "b.png: a link to b.png, which is not there" in found.failures[tmp_path / "b.png"]


def test_a_folder_that_cannot_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.png", "shut/b.png")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = folders.search(tmp_path)
    assert names(found) == ["a.png"]
    assert found.failures == {
        tmp_path / "shut": f"{tmp_path}/shut: cannot be entered: Permission denied"
    }


def test_a_pipe_does_not_hold_it_up(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    os.mkfifo(tmp_path / "b.png")
    found = folders.search(tmp_path)
    assert names(found) == ["a.png"]
    assert found.left_out == {"pipes and devices": 1}


def test_folders_in_one_that_is_not_searched_are_counted(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "sub/b.png", "notes.npz")
    found = folders.search(tmp_path, recursive=False, also=(".npz",))
    assert names(found) == ["a.png", "notes.npz"]
    assert found.left_out == {"folders": 1}
