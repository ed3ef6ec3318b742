"""Write files whole or not at all, and tell them apart by content."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO

_unfinished: set[Path] = set()


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed at the end, or removed if that is not reached.

    For libraries that want a name and not an open file; missing folders are made. A device, a pipe
    or a socket is never replaced: its own name is given, to be written into. The temporary name is
    short, whatever `path` is called: names have an end.
    """
    if is_special(path):
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".atrous-", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    _unfinished.add(temporary)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes it private
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        _unfinished.discard(temporary)


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
