"""What verbs show while they work, on standard error: a bar, failures and notes."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from atrous.cli.streams import console
from atrous.formatting import shown

__all__ = ["console", "failed", "flags_of_verb", "note", "progress", "say", "with_flags"]

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType
    from rich.progress import Progress, Task


def progress(console: Console, *, transient: bool = False) -> Progress:
    """A bar behind the description of its task, drawn as soon as something is known of it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    class Begun(Progress):
        @property
        def begun(self) -> list[Task]:
            return [task for task in self.tasks if task.total is not None or task.completed]

        def get_renderables(self) -> Iterator[RenderableType]:
            if self.begun:
                yield self.make_tasks_table(self.begun)

        def stop(self) -> None:
            if self.begun:
                super().stop()
            else:  # without the empty line that would follow a bar
                self.live.transient = True
                self.live.stop()

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    # rich would send what is printed to its own console, which a file or a pipe is not.
    printed = sys.stdout.isatty()
    return Begun(*columns, console=console, transient=transient, redirect_stdout=printed)


def note(text: str) -> None:
    """Say what the user may not expect."""
    print(f"note: {with_flags(text)}", file=sys.stderr)


def failed(console: Console, error: str) -> None:
    """Say that one of many images failed."""
    console.print(f"failed: {with_flags(error)}", soft_wrap=True)


def say(text: str) -> None:
    """Print one line on standard output, whatever names it holds; see `formatting.shown`."""
    print(shown(text))


def with_flags(text: str) -> str:
    """A message of the library in one line, its fields in backquotes turned into flags.

    A verb's parameters have the names of the fields that they fill: what the library calls
    `instances` is `-i` on the command line.
    """
    text = shown(text)
    if "`" not in text:
        return text
    flags = flags_of_verb()
    flags["preprocess"] = flags.get("vdsp_params", "`preprocess`")
    return re.sub(r"`(\w+)`", lambda field: flags.get(field[1], field[0]), text)


def flags_of_verb() -> dict[str | None, str]:
    """Parameters of the verb on the command line → the flags that give them."""
    from typer.main import get_command

    from atrous.cli import app

    command = get_command(app)
    for word in sys.argv[1:]:
        command = getattr(command, "commands", {}).get(word, command)
    return {parameter.name: parameter.opts[0] for parameter in command.params}
