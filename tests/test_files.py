import os
import threading
from pathlib import Path
from typing import IO

import pytest

from atrous.files import (
    check_writable,
    discard_unfinished,
    from_home,
    sha256,
    write_atomic,
    write_whole,
)


def test_a_tilde_is_the_home_folder_or_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert from_home("~/a/~") == Path("/home/me/a/~")
    assert from_home("~no-such-user/a.onnx") == Path("~no-such-user/a.onnx")
    assert from_home(Path("a")) == Path("a")


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_atomic(path, lambda file: file.write(b"one"))
    write_atomic(path, lambda file: file.write(b"two"))
    assert path.read_bytes() == b"two"
    write_whole(path, "größer")
    assert path.read_text(encoding="utf-8") == "größer"
    assert path.stat().st_mode & 0o444 == 0o444 & ~(0o777 - (path.parent.stat().st_mode & 0o777))


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def fail(file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_that_ends_at_once_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def end_while_writing(file: IO[bytes]) -> None:
        file.write(b"half")
        discard_unfinished()
        assert not list(tmp_path.iterdir())

    with pytest.raises(FileNotFoundError) as caught:
        write_atomic(path, end_while_writing)
    assert caught.value.filename == str(path)
    assert not list(tmp_path.iterdir())
    write_atomic(path, lambda file: file.write(b"whole"))
    discard_unfinished()
    assert path.read_bytes() == b"whole"


def test_a_pipe_is_written_into_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    write_atomic(path, lambda file: file.write(b"one"))
    reader.join()
    assert read == [b"one"]
    assert path.is_fifo()
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_behind_a_link_is_written_into_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "link"
    path.symlink_to(os.devnull)
    write_atomic(path, lambda file: file.write(b"one"))
    assert path.is_symlink()
    assert path.is_char_device()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no such links here")
def test_a_link_of_the_system_is_written_through(tmp_path: Path) -> None:
    """As /dev/stdout is, where the output of a command goes into a file."""
    path = tmp_path / "redirected.txt"
    with path.open("w") as file:
        before = path.stat().st_ino
        write_atomic(Path(f"/proc/self/fd/{file.fileno()}"), lambda out: out.write(b"one"))
    assert (path.read_bytes(), path.stat().st_ino) == (b"one", before)


def test_sha256(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert sha256(path).startswith("ba7816bf8f01cfea414140de5dae2223")


def test_what_has_no_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(OSError, match="a pipe or a device, expected a file"):
            sha256(path)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("new/deep/a.txt", ""),
        ("there.txt", ""),
        ("folder", "Is a directory"),
        ("there.txt/a", "Not a directory"),
        ("x" * 300, "File name too long"),
        (f"new/{'x' * 300}", ""),  # seen when the folder is made
    ],
)
def test_whether_a_file_can_be_written_is_seen_before(
    tmp_path: Path, place: str, said: str
) -> None:
    (tmp_path / "there.txt").write_text("kept")
    (tmp_path / "folder").mkdir()
    if said:
        with pytest.raises(OSError, match=said) as refused:
            check_writable(tmp_path / place)
        assert Path(refused.value.filename) == tmp_path / place
    else:
        check_writable(tmp_path / place)
    assert {path.name for path in tmp_path.iterdir()} == {"there.txt", "folder"}
    assert (tmp_path / "there.txt").read_text() == "kept"


def test_errors_name_the_file_and_no_temporary_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long") as refused:
        write_whole(tmp_path / ("x" * 300), "text")
    assert refused.value.filename == str(tmp_path / ("x" * 300))
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        write_whole(Path("/dev/full"), "text")
    assert not list(tmp_path.iterdir())
