"""What verbs show while they work, on standard error: a bar, failures and notes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def console() -> Console:
    """A console on standard error that prints text as it is."""
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False)


def progress(console: Console) -> Progress:
    """A bar behind the description of its task."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    return Progress(*columns, console=console)


def note(text: str) -> None:
    """Say what the user may not expect."""
    print(f"note: {text}", file=sys.stderr)
