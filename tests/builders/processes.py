"""Processes that a test started, and those that these started."""

import subprocess

import psutil


def named(process: subprocess.Popen[str], word: str) -> list[psutil.Process]:
    """Those below a process with a word in their command."""
    found = []
    for below in psutil.Process(process.pid).children(recursive=True):
        try:
            if word in " ".join(below.cmdline()):
                found.append(below)
        except psutil.Error:
            continue
    return found


def end(process: subprocess.Popen[str], timeout: float) -> None:
    """End a process by the end of its input, and kill what is left of all below it."""
    started = psutil.Process(process.pid).children(recursive=True)
    try:
        process.communicate(timeout=timeout)
    finally:
        for below in (*started, process):
            try:
                below.kill()
            except psutil.NoSuchProcess:
                continue
