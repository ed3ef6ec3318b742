"""Damaged pictures, masks, networks, arrays, texts and folders are read, or refused in one line.

MUTANTS=1000000 pytest tests/hostile/test_mutants.py -m slow    # the long run, of more
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from atrous.cores import cores
from tests.builders.mutated_readers import Trials

ROOT = Path(__file__).parents[2]


def ended_badly(folder: Path, count: int, processes: int) -> list[object]:
    """The trials of `count` that ended otherwise than they may: number, reader, file, error."""
    share = -(-count // processes)
    running = []
    for number in range(processes):
        told = [str(folder / str(number)), str(number * share), str(share)]
        command = [sys.executable, "-m", "tests.builders.mutated_readers", *told]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        running.append(
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        )
    found: list[object] = []
    for number, process in enumerate(running):
        lines = [json.loads(line) for line in process.communicate()[0].splitlines()]
        if process.returncode or not lines or lines[-1] != share:
            last = max((folder / str(number)).rglob("*"), key=lambda path: path.stat().st_mtime)
            found.append(f"reading {last.name} ended the process with {process.returncode}")
        found += [line for line in lines if line != share]
    return found


@pytest.mark.heavy
def test_400_damaged_files(tmp_path: Path) -> None:
    assert ended_badly(tmp_path, 400, 1) == []


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damage_that_was_once_not_refused(tmp_path: Path) -> None:
    """Names that are no text, bytes beside a shape, half a surrogate pair, samples of many bits."""
    trials = Trials(tmp_path)
    found = {number: trials.run(number) for number in (13051, 17050, 132752, 39260, 175627)}
    assert not any(found.values()), found


@pytest.mark.slow
def test_200_000_damaged_files(tmp_path: Path) -> None:
    assert ended_badly(tmp_path, int(os.environ.get("MUTANTS", "200000")), cores()) == []
