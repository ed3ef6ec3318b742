"""What running a network has shown, kept in the cache so that it is run for that once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress

from atrous import texts
from atrous.download import cache_dir
from atrous.files import write_whole

Found = dict[str, list[int | None]]
"""Name → numbers."""


def tried(what: list[object], run: Callable[[], Found], *names: str) -> Found:
    """What `run` returns, or returned before for the same.

    Args:
        what: all that it depends on: identity, engine and its version, sizes.
        run: makes it; what it raises is not kept.
        names: of what it returns; earlier versions kept other things.
    """
    digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()
    path = cache_dir() / "tried" / f"{digest[:32]}.json"
    with suppress(OSError, ValueError):
        found = texts.read_json(path)
        if isinstance(found, dict) and set(found) == set(names):
            return found
    made = run()

    with suppress(OSError):  # a cache that cannot be written costs time and nothing else
        write_whole(path, json.dumps(made))
    return made
