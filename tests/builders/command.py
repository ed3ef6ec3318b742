"""What a run of the command line gave."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Done:
    """Exit code and texts of `atrous …`."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]
"""Runs `atrous` in this process: the fixture of that name."""
