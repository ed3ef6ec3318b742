"""The command line: one file per verb, and one place where errors become exit codes."""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

import typer

from atrous import __version__
from atrous.cli import failures, json_output, streams, terminal
from atrous.cli.bench import bench
from atrous.cli.compile import compile_model
from atrous.cli.data import data
from atrous.cli.doctor import doctor
from atrous.cli.eval import evaluate
from atrous.cli.export import export
from atrous.cli.libraries import name_pictures
from atrous.cli.models import models
from atrous.cli.npz import npz
from atrous.cli.page import page
from atrous.cli.predict import predict
from atrous.cli.serve import serve
from atrous.cli.stream import stream
from atrous.cli.train import train
from atrous.errors import AtrousError
from atrous.files import discard_unfinished

app = typer.Typer(
    name="atrous",
    help="Semantic segmentation, from trained weights to the fastest deployable model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (predict, stream, serve, page, bench, models, export, doctor, train):
    app.command()(verb)
app.command(name="compile")(compile_model)
app.command(name="eval")(evaluate)
app.add_typer(npz, name="npz")
app.add_typer(data, name="data")


def _version(value: bool) -> None:
    if value:
        print(f"atrous {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Semantic segmentation, from trained weights to the fastest deployable model."""


class _Note(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        return terminal.with_flags(super().formatMessage(record))


def main() -> None:
    """Run the command line: exit code 0, all was done; else see `failures`."""
    with streams.escaping():
        notes = logging.StreamHandler()
        notes.setFormatter(_Note("note: %(message)s"))
        logging.getLogger("atrous").handlers = [notes]
        name_pictures()
        code = _exit_code(_run)
        if code == 0:
            code = _exit_code(streams.flush)
        else:  # which has been said already
            with suppress(OSError):
                streams.flush()
    sys.exit(code)


def _run() -> None:
    json_output.refuse_value(sys.argv[1:])
    app()


def _exit_code(run: Callable[[], object]) -> int:
    """Run something, and say in one line what stopped it."""
    try:
        run()
    except AtrousError as error:
        print(f"error: {terminal.with_flags(str(error))}", file=sys.stderr)
        return failures.exit_code(error)
    except OSError as error:
        if error.errno != errno.EPIPE:  # who reads has had enough, as `head`
            print(f"error: {terminal.with_flags(failures.said(error))}", file=sys.stderr)
        return failures.exit_code(error)
    except (KeyboardInterrupt, SystemExit) as stop:
        # typer makes an exit with this code of Ctrl-C.
        if isinstance(stop, SystemExit) and stop.code != 130:
            return stop.code if isinstance(stop.code, int) else bool(stop.code)
        print("interrupted; what was finished is kept", file=sys.stderr)
        if any(thread.name.startswith("atrous ") for thread in threading.enumerate()):
            # The interpreter would wait for a network that is still at work, or crash on it.
            discard_unfinished()
            with suppress(OSError):
                sys.stdout.flush()
            os._exit(130)
        return 130
    return 0
