"""One run at a time in a folder, whatever became of the one before."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from atrous import files, locks
from atrous.errors import AtrousError

HOLD = """
import sys, time
from pathlib import Path
from atrous import files, locks
sys.argv = ["atrous", "train", "a recipe.yaml"]
place = Path(sys.stdin.readline().strip())
with locks.inside(place), files.unfinished(place / "state") as half:
    half.write_text("half")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", [locks.inside, locks.beside])
def test_the_second_is_told_who_holds_it(
    tmp_path: Path, kind: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/atrous", "train", "a recipe.yaml"])
    folder = tmp_path / "run"
    with kind(folder) as sure:  # type: ignore[attr-defined]
        assert sure
        with pytest.raises(AtrousError) as refused, kind(folder):  # type: ignore[attr-defined]
            pass
        said = str(refused.value)
    assert said.startswith(f"{folder}: process {os.getpid()} on {os.uname().nodename} works in it")
    assert "(atrous train 'a recipe.yaml'); wait until it has ended, or choose another" in said
    with kind(folder):  # type: ignore[attr-defined]
        pass
    assert not list(tmp_path.iterdir())


def test_two_folders_are_two_locks(tmp_path: Path) -> None:
    with locks.beside(tmp_path / "a"), locks.beside(tmp_path / ("b" * 255)):
        pass


@pytest.mark.heavy
def test_a_lock_ends_with_its_process_and_what_it_left_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{folder}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "held\n"
        with pytest.raises(AtrousError, match=f"process {process.pid} on"), locks.inside(folder):
            pass
        [half] = folder.glob("*.part")
        files.clean(folder)
        assert half.exists()  # of a process that lives
        process.send_signal(signal.SIGKILL)
    assert half.exists()
    files._cleaned.clear()
    with locks.inside(folder) as sure:
        assert sure
        files.write_whole(folder / "state", "whole")
        assert str(os.getpid()) in next(folder.glob("*.lock")).read_text()
    assert [path.name for path in folder.iterdir()] == ["state"]


@pytest.mark.heavy
def test_a_child_does_not_hold_it_for_its_parent(tmp_path: Path) -> None:
    with locks.inside(tmp_path / "run"):
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
    try:
        with locks.inside(tmp_path / "run") as sure:
            assert sure
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_stops_nothing(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refused)
    with locks.inside(tmp_path / "a") as sure, locks.inside(tmp_path / "a") as other:
        assert (sure, other) == (False, False)


def test_a_file_that_says_nothing_of_its_holder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for content in ("", "[1]", '{"process": 1}', "x" * 100_000, "[" * 60_000):
        with locks.inside(folder):
            next(folder.glob("*.lock")).write_text(content)
            with pytest.raises(AtrousError, match="another process works in it"):
                locks.inside(folder).__enter__()


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".atrous-run.lock").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="run"), locks.inside(tmp_path / "run"):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


def test_nobody_elses_files_are_removed(tmp_path: Path) -> None:
    machine = files._machine()
    gone = 2**22 + 7  # more than processes can have
    kept = [
        "a.part", ".atrous-notes", ".atrous-run.lock", ".tmp",
        f".atrous-{machine}-{os.getpid()}-a.part",
        f".atrous-{machine}-1-a.part", ".atrous-0123abcd-1-young.part", ".atrous-young.part",
        f".atrous-{machine}-{gone}-a.part~",
    ]  # fmt: skip
    left = [
        f".atrous-{machine}-{gone}-a.part", f".atrous-{machine}-{gone}-a.part.mp4",
        ".atrous-0123abcd-1-old.part", ".atrous-oldold.part",
    ]  # fmt: skip
    for name in (*kept, *left):
        (tmp_path / name).touch()
        if "old" in name:
            os.utime(tmp_path / name, (0, 0))
    folder = tmp_path / f".atrous-{machine}-{gone}-f.part"
    folder.mkdir()
    (folder / "x").touch()
    files.clean(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
