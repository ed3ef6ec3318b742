"""What a run of the command line gave."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass
class Done:
    """Exit code and texts of `atrous …`."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]
"""Runs `atrous` in this process: the fixture of that name."""

# The peak of a process begins with the memory of the one that started it, so a small one does.
WEIGH = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def run_and_weigh(command: Sequence[str]) -> tuple[subprocess.CompletedProcess[str], int]:
    """A command in a process of its own, and the most memory that it held at once, in bytes."""
    small = [sys.executable, "-S", "-c", WEIGH, *command]
    done = subprocess.run(small, capture_output=True, text=True)
    *lines, peak = done.stdout.splitlines(keepends=True)
    done.stdout = "".join(lines)
    return done, int(peak) * 1024
