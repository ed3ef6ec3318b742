"""What is said where the system refuses, and the exit codes of errors."""

from __future__ import annotations

import errno
import os

from atrous.errors import ConfigError, MissingInput, MissingModel

FAILED, USAGE = 1, 2
"""Exit codes: a part of the work failed; the command could never have worked, so nothing was done.

A usage error is a wrong option, a wrong configuration, or the name of nothing. Everything else
counts as work that failed: a damaged file, a missing package or device, a full disk.
"""

_ROOM = "make room there, and give the same command again: what was finished is kept"
_PLACE = "choose another place"
_RIGHTS = "make it writable, or choose another place"
_NEXT = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit for the size of files (ulimit -f), or choose another place",
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOENT: _PLACE,
    errno.ENOTDIR: _PLACE,
    errno.EISDIR: _PLACE,
    errno.EEXIST: _PLACE,
    errno.EINVAL: _PLACE,
    errno.ENAMETOOLONG: "choose a shorter name",
}


def exit_code(error: Exception) -> int:
    """The exit code of a command that an error stopped."""
    usage = isinstance(error, ConfigError | MissingInput | MissingModel)
    return USAGE if usage else FAILED


def said(error: OSError) -> str:
    """One line: where, what, and what helps."""
    where = error.filename
    name = os.fsdecode(where) if isinstance(where, str | bytes) else ""
    what = error.strerror or str(error) or type(error).__name__
    step = _NEXT.get(error.errno or 0, "what was finished is kept")
    return f"{name}{': ' * bool(name)}{what}; {step}"
