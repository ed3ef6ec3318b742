"""`--json` is the same for every verb: JSON alone on standard output."""

import io
from typing import Any

import pytest
import typer.main
from rich.console import Console

from atrous.cli import app, terminal
from tests.builders.command import Done, Run


def options(command: Any, name: str = "") -> dict[str, list[Any]]:
    """Every verb, and its options about JSON."""
    if not hasattr(command, "commands"):
        return {name: [one for one in command.params if {"--json", "--json-file"} & {*one.opts}]}
    found: dict[str, list[Any]] = {}
    for verb, inner in command.commands.items():
        found |= options(inner, f"{name} {verb}".strip())
    return found


def test_json_takes_no_value_and_json_file_takes_one() -> None:
    found = {verb: taken for verb, taken in options(typer.main.get_command(app)).items() if taken}
    assert {"predict", "bench", "eval", "compile", "models", "doctor", "npz eval"} <= set(found)
    for option in (option for taken in found.values() for option in taken):
        assert option.is_flag == (option.opts == ["--json"])
    assert {verb for verb, taken in found.items() if len(taken) == 2} == {"bench", "eval"}


@pytest.mark.parametrize(
    "command",
    [
        ("bench", "-m", "default"),
        ("eval", "--data", "voc:none:val"),
        ("predict", "a.jpg", "-o", "out"),
        ("compile", "c.yaml"),
    ],
    ids=lambda command: command[0],
)
def test_a_file_behind_json_is_answered_with_the_option_that_takes_one(
    command: tuple[str, ...], atrous: Run
) -> None:
    for words in (("--json", "out.json"), ("--json=out.json",)):
        refused(atrous(*command, *words), command)


def refused(done: Done, command: tuple[str, ...]) -> None:
    assert (done.code, done.out) == (2, "")
    takes = "bench" in command or "eval" in command
    expected = "give --json-file out.json" if takes else "> out.json"
    assert "--json prints on standard output and takes no file, got out.json" in done.err
    assert expected in done.err


def test_what_is_printed_beside_a_bar_goes_where_it_was_sent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Standard output is a file or a pipe here, while the bar is on a terminal."""
    bar = io.StringIO()
    with terminal.progress(Console(file=bar, force_terminal=True)) as progress:
        progress.add_task("segmenting", total=2)
        print('{"a": 1}')  # noqa: T201
    assert capsys.readouterr().out == '{"a": 1}\n'
    assert "segmenting" in bar.getvalue()


def test_no_bar_before_anything_is_known(capsys: pytest.CaptureFixture[str], atrous: Run) -> None:
    for kind in (None, True):
        bar = io.StringIO()
        with terminal.progress(Console(file=bar, force_terminal=kind)) as progress:
            task = progress.add_task("frames", total=None)
        assert "frames" not in bar.getvalue()
        assert kind or bar.getvalue() == ""
        with terminal.progress(Console(file=bar, force_terminal=kind)) as progress:
            task = progress.add_task("frames", total=None)
            progress.update(task, completed=1)
        assert "frames" in bar.getvalue()
    done = atrous("eval", "--data", "voc:none:val")
    assert done.err.startswith("error: none: expected VOC2012")
