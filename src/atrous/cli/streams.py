"""Standard output and standard error, by which nothing of a file speaks to the terminal.

Names of files and classes, what servers answer and what libraries say of both may hold escape codes
of a terminal. Whatever is printed or logged goes through here, and they come out as `\\x1b`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, TextIO, cast

from atrous.formatting import shown

if TYPE_CHECKING:
    from rich.console import Console

OUTPUT = "standard output"


class EscapingStream:
    """A text stream that shows what it is given as `formatting.shown` does.

    Args:
        behind: the stream to write into.
        lossy: what cannot be written is lost. That a log is full is no reason to stop the work.

    Attributes:
        plain: the same for text that is escaped already and has codes of our own, as of a bar.
    """

    def __init__(self, behind: TextIO, *, lossy: bool, plain: bool = False) -> None:
        self._behind, self._lossy, self._plain = behind, lossy, plain
        self.plain = self if plain else EscapingStream(behind, lossy=lossy, plain=True)

    def write(self, text: str) -> int:
        """Write a text of any number of lines."""
        if not isinstance(text, str):  # by which typer tells text from bytes
            raise TypeError(f"expected text, got {type(text).__name__}")
        with self._named():
            self._behind.write(text if self._plain else shown(text, lines=True))
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand on what was kept back."""
        with self._named():
            self._behind.flush()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._lossy:
                return
            if error.errno is not None:
                error.filename = OUTPUT
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)


@contextmanager
def escaping() -> Iterator[None]:
    """Let both streams escape what is printed."""
    for out in (sys.stdout, sys.stderr):
        if isinstance(out, TextIOWrapper):  # names are printed that no encoding has
            out.reconfigure(errors="backslashreplace")
    output, errors = EscapingStream(sys.stdout, lossy=False), EscapingStream(sys.stderr, lossy=True)
    with redirect_stdout(cast(TextIO, output)), redirect_stderr(cast(TextIO, errors)):
        yield


def flush() -> None:
    """Write what standard output has kept back.

    Raises:
        OSError: it cannot be written; it is given up, so that Python does not try again at its end.
    """
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError), open(os.devnull, "w") as nowhere:  # noqa: PTH123 (no file)
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise


def console(*, output: bool = False, width: int = 0) -> Console:
    """A console that prints text as it is, escaped as everything is.

    Args:
        output: whether on standard output, and not on standard error.
        width: columns that it has at least.
    """
    from rich.console import Console
    from rich.text import Text

    class Escaping(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(shown(text, lines=True), **options)

    stream = sys.stdout if output else sys.stderr
    file = cast(TextIO, getattr(stream, "plain", stream))
    made = Escaping(file=file, markup=False, emoji=False, highlight=False)
    if width:
        made.width = max(made.width, width)
    return made
