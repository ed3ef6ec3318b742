"""How long the steps of a request took, as clients see it."""

from __future__ import annotations

from collections.abc import Mapping


def server_timing(seconds: Mapping[str, float]) -> str:
    """The header field `Server-Timing`: milliseconds of every step."""
    return ", ".join(f"{step};dur={1e3 * value:.2f}" for step, value in seconds.items())
