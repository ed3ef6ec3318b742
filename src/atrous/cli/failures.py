"""What is said where the system refuses: a disk is full or read-only, a name is too long."""

from __future__ import annotations

import errno
import os

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


def said(error: OSError) -> str:
    """One line: where, what, and what helps."""
    where = error.filename
    name = os.fsdecode(where) if isinstance(where, str | bytes) else ""
    what = error.strerror or str(error) or type(error).__name__
    step = _NEXT.get(error.errno or 0, "what was finished is kept")
    return f"{name}{': ' * bool(name)}{what}; {step}"
