"""Versions of libraries, for tests of what an older one cannot do."""

from importlib.metadata import version

import pytest


def needs(library: str, lowest: str, why: str) -> pytest.MarkDecorator:
    """Skip where a library is older than `lowest`, as `1.27`."""
    found = tuple(int(part) for part in version(library).split(".")[:2])
    old = found < tuple(int(part) for part in lowest.split("."))
    return pytest.mark.skipif(old, reason=f"{library} before {lowest} {why}")
