"""What a run of the command line gave."""

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory


@dataclass
class Done:
    """Exit code and texts of `atrous …`."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]
"""Runs `atrous` in this process: the fixture of that name."""


def run_and_weigh(command: Sequence[str]) -> tuple[subprocess.CompletedProcess[str], int]:
    """A command in a process of its own, and the most memory that it held at once, in bytes.

    `RUSAGE_CHILDREN` would tell the most of *all* that this process ever started.
    """
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        with out.open("w") as stdout, err.open("w") as stderr:
            process = subprocess.Popen(command, stdout=stdout, stderr=stderr)
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        done = subprocess.CompletedProcess(
            command, process.returncode, out.read_text(), err.read_text()
        )
    return done, usage.ru_maxrss * 1024
