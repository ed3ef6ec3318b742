"""`--json` and `--json-file`: results for other programs, the same for every verb."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from atrous.cli import terminal
from atrous.errors import ConfigError
from atrous.formatting import escaped

JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", help="Print JSON on standard output, and everything else on standard error."
    ),
]
JsonFileOption = Annotated[
    Path | None,
    typer.Option("--json-file", metavar="FILE", help="Write the result to this file as JSON."),
]


@contextmanager
def only_json(wanted: bool) -> Iterator[Callable[[str], None]]:
    """Send what is printed for people to standard error where JSON is wanted.

    Args:
        wanted: whether it is.

    Yields:
        what prints JSON on standard output if it is wanted, and nothing otherwise.
    """
    out = sys.stdout

    def emit(text: str) -> None:
        if wanted:
            print(escaped(text), file=out, flush=True)

    if not wanted:
        yield emit
        return
    with redirect_stdout(sys.stderr):
        yield emit


def refuse_file(
    words: Sequence[str | Path], as_json: bool, instead: str = "--json-file {}"
) -> None:
    """Refuse a file behind `--json`, as earlier versions took one.

    Args:
        words: of the command line that belong to no option.
        as_json: whether `--json` was given.
        instead: what to give instead, with `{}` for the file.

    Raises:
        ConfigError: one of them is such a file.
    """
    for word in words if as_json else ():
        if str(word).lower().endswith(".json"):
            raise _takes_no_file(word, instead)


def refuse_value(words: Sequence[str]) -> None:
    """Refuse `--json=FILE`, which the parser would refuse without a hint.

    Args:
        words: of the command line.

    Raises:
        ConfigError: one of them is that.
    """
    for word in itertools.takewhile(lambda word: word != "--", words):
        option, equals, file = word.partition("=")
        if option == "--json" and equals:
            flags = terminal.flags_of_verb()
            if "as_json" in flags:
                takes = "json_file" in flags
                raise _takes_no_file(file, "--json-file {}" if takes else "--json > {}")


def _takes_no_file(file: str | Path, instead: str) -> ConfigError:
    return ConfigError(
        f"--json prints on standard output and takes no file, got {file}; to write the file, give "
        f"{instead.format(file)}"
    )
