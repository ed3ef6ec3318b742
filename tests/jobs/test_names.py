"""What results are called: no two alike, on any file system."""

import os
import unicodedata
from pathlib import Path

import pytest

from atrous.jobs.names import ENDINGS, earlier, stems, whole_path


def named(*paths: str) -> dict[str, str]:
    found = stems({path: Path(path) for path in paths}, lambda path: Path("whole", path))
    assert list(found) == list(paths)
    return {path: name.as_posix() for path, name in found.items()}


@pytest.mark.parametrize(
    "expected",
    [
        {"a.jpg": "a", "b.jpg": "b", "sub/a.jpg": "sub/a"},
        {"a.jpg": "a.jpg", "a.png": "a.png", "b.jpg": "b", "sub/a.jpg": "sub/a"},
        {"a.jpg": "a.jpg", "a.png": "a.png", "a.jpg.png": "a.jpg.png"},
        {"a.jpg.png": "a.jpg", "b.png": "b"},
        {"A.PNG": "A.PNG", "a.jpg": "a.jpg"},
        {"stra\u00dfe.png": "stra\u00dfe.png", "STRASSE.jpg": "STRASSE.jpg"},
        # The overlay of a.png, the mask of b.jpg, where another has its folder.
        {"a.png": "a.png", "a.jpg/b.png": "a.jpg/b"},
        {"b.jpg": "b.jpg", "B.png/c/d.png": "B.png/c/d"},
    ],
)
def test_stems(expected: dict[str, str]) -> None:
    assert named(*expected) == expected
    assert named(*reversed(expected)) == dict(reversed(expected.items()))


@pytest.mark.parametrize(
    "paths",
    [
        ("a.png", "A.PNG"),
        ("X/a.png", "x/a.png"),
        ("caf\u00e9.jpg", "cafe\u0301.jpg"),
        ("a.png", "a.jpg/b.png", "a.png.jpg/b.png"),
        ("b" * 251 + ".jpg", "b" * 251 + ".png", "b" * 255),
        ("\u00e9" * 125 + ".jpeg", "\u00e9" * 125 + ".png", "\u00e9" * 127),
        ("a\udcff.jpg", "a\udcff.png", "a\udcfe.png"),
    ],
)
def test_no_two_alike_on_any_file_system(paths: tuple[str, ...]) -> None:
    names = named(*paths).values()
    files = [f"{name}{ending}" for name in names for ending in ENDINGS]
    folded = {unicodedata.normalize("NFC", file).casefold() for file in files}
    assert len(folded) == len(files)
    folders = {str(parent).casefold() for name in names for parent in Path(name).parents}
    assert not folded & folders
    assert max(len(os.fsencode(Path(file).name)) for file in files) <= 255
    assert named(*reversed(paths)) == dict(reversed(named(*paths).items()))


def test_one_name_below_two_folders() -> None:
    found = {"one/b.jpg": Path("b.jpg"), "two/b.jpg": Path("b.jpg"), "c.jpg": Path("c.jpg")}
    names = stems(found, lambda one: Path("home", one))
    assert [name.as_posix() for name in names.values()] == ["home/one/b.jpg", "home/two/b.jpg", "c"]
    linked = stems(found, lambda one: Path("home/b.jpg"))
    assert len(set(linked.values())) == 3


def test_a_long_name_is_kept_as_long_as_it_fits() -> None:
    assert named("b" * 251 + ".png") == {"b" * 251 + ".png": "b" * 251}
    [cut] = named("b" * 255).values()
    assert cut.startswith("b" * 238 + "~")


def test_names_that_it_may_have_had() -> None:
    whole = Path("data/in/a.jpg")
    image = "/" / whole
    assert earlier(image, Path("sub/a")) == [Path("sub/a.jpg"), whole]
    assert earlier(image, Path("sub/a.jpg")) == [Path("sub/a"), whole]
    tails = ["data/in/a", "in/a", "in/a.jpg", "a", "a.jpg"]
    assert earlier(image, whole) == [*map(Path, tails)]


def test_a_link_to_itself_has_a_whole_path(tmp_path: Path) -> None:
    link = tmp_path / "a.jpg"
    link.symlink_to("a.jpg")
    assert whole_path(link).name == "a.jpg"
