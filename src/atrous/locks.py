"""One run at a time in a folder; a second one is told who holds it.

The lock is the system's, on a file that names its holder for people. It ends with the process,
however that ends, so no lock is ever stale. Where a file system has no locks, as some networks, a
run goes on without.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from atrous import texts
from atrous.errors import AtrousError
from atrous.files import PREFIX, naming

_held: set[int] = set()
_MOST = 1 << 16
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)


@contextmanager
def inside(folder: Path) -> Iterator[bool]:
    """Hold a folder by a file in it; the folder is made, and removed again if it stays empty.

    Yields:
        Whether it is held for sure.

    Raises:
        AtrousError: another run holds it; says which.
        OSError: it cannot be made or written into.
    """
    there = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _holding(folder / f"{PREFIX}run.lock", folder) as sure:
            yield sure
    finally:
        if not there:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def beside(folder: Path) -> Iterator[bool]:
    """Hold a folder that is replaced as a whole, by a file beside it; see `inside`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _holding(folder.parent / f"{prefix(folder)}lock", folder) as sure:
        yield sure


def prefix(folder: Path) -> str:
    """What the names begin with that lie beside a folder and belong to it, of any length."""
    return f"{PREFIX}{hashlib.sha256(os.fsencode(folder.name)).hexdigest()[:16]}."


@contextmanager
def _holding(path: Path, folder: Path) -> Iterator[bool]:
    with naming(folder):
        file, sure = _taken(path, folder)
    _held.add(file)
    try:
        yield sure
    finally:
        if sure:  # before it is let go, as the next one makes its own
            with suppress(OSError):
                path.unlink(missing_ok=True)
        _held.discard(file)
        os.close(file)


def _taken(path: Path, folder: Path) -> tuple[int, bool]:
    """The open file of the lock, and whether the system has locked it."""
    while True:
        file = os.open(path, _FLAGS, 0o666)
        try:
            sure = _locked(file)
            if sure and not _is(file, path):  # who held it has removed it meanwhile
                os.close(file)
                continue
            with suppress(OSError):  # a disk that is full is found out by the run
                os.ftruncate(file, 0)
                os.write(file, _said().encode(errors="backslashreplace"))
        except BlockingIOError:
            os.close(file)
            raise AtrousError(
                f"{folder}: {_holder(path)}; wait until it has ended, or choose another folder"
            ) from None
        return file, sure


def _locked(file: int) -> bool:
    """Whether the system locks a file, which it does on most file systems.

    Raises:
        BlockingIOError: another process has locked it.
    """
    try:
        import fcntl
    except ImportError:  # no such thing here
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise BlockingIOError(*error.args) from None
        return False
    return True


def _is(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False


def _said() -> str:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    command = shlex.join(["atrous", *sys.argv[1:]])[:1000]
    return json.dumps(
        {"process": os.getpid(), "host": socket.gethostname(), "since": since, "command": command}
    )


def _holder(path: Path) -> str:
    try:
        found = texts.read_json(path, _MOST)
        return (
            f"process {found['process']} on {found['host']} works in it since {found['since']} "
            f"({found['command']})"
        )
    except (OSError, ValueError, TypeError, KeyError):
        return "another process works in it"


def _forget() -> None:
    """In a child that was forked: what it inherits would hold the lock when its parent is gone."""
    for file in _held:
        os.close(file)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
