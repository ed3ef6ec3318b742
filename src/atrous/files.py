"""Write files whole or not at all, and tell them apart by content."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import IO

PREFIX = ".atrous-"
"""What the temporary names of files and folders begin with."""

SECONDS = 24 * 3600
"""After which what another machine was writing counts as left behind."""

_TEMPORARY = re.compile(r"\.atrous-(?:([0-9a-f]{8})-(\d{1,9})-)?\w+\.part(?:\.\w+)?")
_unfinished: set[Path] = set()
_cleaned: set[Path] = set()


def from_home(path: str | Path) -> Path:
    """A path with the home folder in the place of `~`, as a shell has it; one that begins with `~`
    and names no user is the name of a file."""
    with suppress(RuntimeError):  # there is no such user
        return Path(path).expanduser()
    return Path(path)


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed at the end, or removed if that is not reached.

    For libraries that want a name and not an open file; missing folders are made. A device, a pipe
    or a socket is never replaced: its own name is given, to be written into. The temporary name is
    short, whatever `path` is called: names have an end.
    """
    if is_special(path):
        with naming(path):
            yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    clean(path.parent)
    with naming(path):
        handle, name = tempfile.mkstemp(prefix=own_prefix(), suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    _unfinished.add(temporary)
    try:
        with naming(path):
            yield temporary
            temporary.chmod(0o666 & ~_umask())  # mkstemp makes it private
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        _unfinished.discard(temporary)


def own_prefix() -> str:
    """What this process's temporary names begin with, by which others know that it is alive."""
    return f"{PREFIX}{_machine()}-{os.getpid()}-"


def clean(folder: Path) -> None:
    """Remove from a folder, once in a process, what processes left that are gone.

    Only what Atrous calls temporary is touched, and of that nothing that may belong to a process
    that works: of this machine the process is asked for, of others the age counts.
    """
    if folder in _cleaned:
        return
    _cleaned.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _TEMPORARY.fullmatch(entry.name)
            if found is None or not _is_left(Path(entry.path), found[1], found[2]):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with suppress(OSError):
                    os.unlink(entry.path)  # noqa: PTH108


def is_old(path: Path) -> bool:
    """Whether nothing has been written into a file or the top of a folder for a day."""
    try:
        return time.time() - path.lstat().st_mtime > SECONDS
    except OSError:
        return False


def _is_left(path: Path, machine: str | None, process: str | None) -> bool:
    if machine != _machine() or process is None:
        return is_old(path)
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's, which lives
        return False
    return False


@cache
def _machine() -> str:
    """Eight digits by which processes with the same numbers know each other."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115 (leads to no file)
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:8]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors of the system name `path` where they name nothing, or a temporary name of ours."""
    try:
        yield
    except OSError as error:
        named = error.filename
        ours = isinstance(named, str) and f"/{PREFIX}" in f"/{named}"
        if error.errno is not None and (named is None or ours):
            error.filename = str(path)
        raise


def check_writable(path: Path) -> None:
    """See that a file can be written, before the work that goes into it; nothing is left there.

    Raises:
        OSError: it cannot: its folder cannot be made or written into, or its name is too long.
    """
    if is_special(path):
        return
    above, below = path.absolute(), ""
    while not os.path.lexists(above):
        above, below = above.parent, above.name
    with naming(path):
        if below:
            with suppress(FileNotFoundError):
                (above / below).lstat()  # whose name may be too long
        elif above.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        place = above if below else above.parent
        handle, name = tempfile.mkstemp(prefix=own_prefix(), suffix=".part", dir=place)
        os.close(handle)
        Path(name).unlink()


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it.

    Args:
        path: where the file ends up; missing folders are made. A device or a pipe is written into.
        write: writes the content to the open binary file that it is given.
    """
    with unfinished(path) as temporary, temporary.open("wb") as file:
        write(file)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file as `write_atomic` does; text is encoded as UTF-8.

    What no UTF-8 holds, such as a file name of another encoding in a report, becomes `\\udcff`.
    """
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    write_atomic(path, lambda file: file.write(data))


def discard_unfinished() -> None:
    """Remove what other threads have half written, for a process that ends at once."""
    for temporary in tuple(_unfinished):
        temporary.unlink(missing_ok=True)


def open_file(path: Path) -> BufferedReader:
    """Open a file to read.

    Raises:
        OSError: it cannot be opened, or is a pipe or a device, of which there may be no end.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "a pipe or a device, expected a file")
    return path.open("rb")


def beside(path: Path, ending: str) -> Path | None:
    """The file beside `path` that has its name and `ending`, if there is one.

    There is none where its name would be too long for the file system.
    """
    found = path.with_name(f"{path.name}{ending}")
    return found if os.path.isfile(found) else None  # noqa: PTH113 (never raises)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal.

    Raises:
        OSError: see `open_file`.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_special(path: Path) -> bool:
    """Whether something is there, or behind a link there, that is neither file nor folder.

    Links of the system count too, such as /dev/stdout, whatever they lead to now.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    if path.is_symlink() and path.absolute().parts[1:2] in (("dev",), ("proc",)):
        return True
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
