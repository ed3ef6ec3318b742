"""Download files once, completely and unaltered.

Our own because pooch, the usual choice, cannot resume a download that was cut.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from atrous.errors import ArtifactError

Progress = Callable[[int, int | None], None]
"""Called with the bytes done so far and the bytes in all, `None` where the server does not say."""

ATTEMPTS = 5
TIMEOUT_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.5
CHUNK = 1 << 18


def cache_dir() -> Path:
    """Return the folder of downloaded files; it need not exist yet.

    `$ATROUS_CACHE`, else `$XDG_CACHE_HOME/atrous`, else `~/.cache/atrous`.
    """
    own = os.environ.get("ATROUS_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "atrous"


def download(
    url: str,
    target: Path,
    *,
    checksum: str | None = None,
    size: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Return `target`, downloaded from `url` unless it is there already.

    The bytes go to `target` + `.part` and take their name only when complete and verified. A cut
    connection is taken up where it ended, and so is a part left by an earlier call if there is a
    checksum to prove that both halves belong together. Of two processes one waits for the other.
    Proxies are taken from the environment, as `urllib` does.

    Args:
        url: `http` or `https`.
        target: where the file is to be; its folder is made.
        checksum: `ALGORITHM:DIGITS`, as `sha256:0676ba61` or `md5:…`: the hexadecimal hash or its
            first digits.
        size: bytes in all, for `progress` where the server does not say.
        progress: called after each piece.

    Raises:
        ArtifactError: the server has no such file or cannot be reached, the disk is full, or the
            checksum is another.
    """
    if not _is_address(url):
        raise ArtifactError(f"{url}: expected an http or https address")
    part = target.with_name(target.name + ".part")
    with _locked(target.with_name(f".{target.name}.lock")):
        if target.exists():
            _verify(target, checksum, "delete it and run again")
            return target
        if checksum is None or part.is_symlink():
            part.unlink(missing_ok=True)
        _fetch(url, part, size, progress)
        try:
            _verify(part, checksum, f"that is what {url} sent; it was deleted, run again")
        except ArtifactError:
            part.unlink()
            raise
        part.replace(target)
    return target


def _is_address(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half a bracket, a port that is no number
        return False


class _Cut(Exception):
    """The connection ended early, or the server asks to try again later."""


def _fetch(url: str, part: Path, size: int | None, progress: Progress | None) -> None:
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            _continue(url, part, size, progress)
        except _Cut as cut:
            reason = str(cut)
        else:
            return
    kept = part.stat().st_size if part.exists() else 0
    raise ArtifactError(
        f"{url}: gave up after {ATTEMPTS} attempts ({reason}); {kept} bytes are kept in {part}. "
        "Check the network or the proxy and run again"
    )


def _continue(url: str, part: Path, size: int | None, progress: Progress | None) -> None:
    """Fetch what `part` lacks, or all of it where the server cannot send a piece."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            if response.status != 206:
                done = 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
                raise _misfit(part)
            length = re.fullmatch("[0-9]{1,18}", response.headers.get("Content-Length") or "")
            total = done + int(length[0]) if length else None
            with _open_part(part, keep=bool(done)) as file:
                for chunk in iter(lambda: response.read(CHUNK), b""):
                    _write(file, chunk, part)
                    done += len(chunk)
                    if progress:
                        progress(done, total or size)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            # Nothing lies beyond what we have: it is complete, or too long and of another file.
            if error.headers.get("Content-Range") != f"bytes */{done}":
                raise _misfit(part) from None
            return
        if error.code == 429 or error.code >= 500:
            raise _Cut(f"HTTP {error.code} {error.reason}") from None
        raise ArtifactError(
            f"{url}: the server answered {error.code} {error.reason}; check the address"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(f"{type(error).__name__}: {error}") from None
    if total is not None and done < total:
        raise _Cut(f"the connection ended at {done} of {total} bytes")


def _open_part(part: Path, *, keep: bool) -> FileIO:
    """Open what is downloaded so far, and never what a link in its place leads to.

    Raises:
        ArtifactError: it cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if keep else os.O_TRUNC)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        return FileIO(os.open(part, flags, 0o666), "ab" if keep else "wb")
    except OSError as error:
        raise ArtifactError(f"{part}: could not be written ({error.strerror})") from None


def _misfit(part: Path) -> _Cut:
    part.unlink()
    return _Cut("what was kept did not fit what the server has, and was dropped")


def _write(file: FileIO, chunk: bytes, part: Path) -> None:
    try:
        while chunk:
            chunk = chunk[file.write(chunk) :]
    except OSError as error:
        raise ArtifactError(
            f"{part}: could not be written ({error.strerror}); what came is kept, "
            "make room and run again"
        ) from None


def _verify(path: Path, checksum: str | None, next_step: str) -> None:
    if checksum is None:
        return
    algorithm, _, digits = checksum.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if not digits or not found.startswith(digits.lower()):
        raise ArtifactError(f"{path}: expected {checksum}, found {algorithm}:{found}; {next_step}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file lock; the system lets go of it even if the process is killed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise ArtifactError(
            f"{path.parent}: cannot be written to ({error.strerror}); "
            "make it writable or set ATROUS_CACHE to a folder that is"
        ) from None
    with file:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
