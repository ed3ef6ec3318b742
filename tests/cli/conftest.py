"""Run the command line in this process, as a user would see it."""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from atrous.cli import main


@dataclass
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def atrous(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["atrous", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        code: object = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            logging.getLogger("atrous").handlers.clear()
        found = capsys.readouterr()
        assert isinstance(code, int)
        return Done(code, found.out, found.err)

    return run
