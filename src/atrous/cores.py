"""How many cores this process may use: the one place that counts them.

A machine of 64 cores may lend a process two of them, by a mask (`taskset`, cpusets of containers)
or by a quota of time (limits of containers, of Docker as of Kubernetes). Sixty-four threads then
take turns on two cores.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

_ROOT = Path("/")


def cores(root: Path = _ROOT) -> int:
    """Cores that this process may keep busy: of the mask, and no more than its quota rounded up.

    Args:
        root: where `proc` and `sys` lie.
    """
    known = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _quota(root)
    return max(1, min(known or 1, known or 1 if quota is None else math.ceil(quota)))


def lent() -> bool:
    """Whether these are fewer cores than the machine has; libraries then have to be told."""
    return cores() < (os.cpu_count() or 1)


def _quota(root: Path) -> float | None:
    """Cores that the control groups around this process allow, the least of them."""
    found = [
        share
        for folder in _folders(root)
        if (share := _v2(folder) if (folder / "cpu.max").is_file() else _v1(folder)) is not None
    ]
    return min(found, default=None)


def _folders(root: Path) -> list[Path]:
    """Of the groups that this process is in, from its own up to where they are mounted.

    In a container the path of the group may be told as the host sees it, and then the mount is its.
    """
    try:
        own = (root / "proc/self/cgroup").read_text("utf-8", "replace").splitlines()
        mounts = (root / "proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    folders = []
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        seen, kind = before.split(), after.split()
        if len(seen) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        options = kind[2].split(",")
        if kind[0] == "cgroup" and "cpu" not in options:
            continue
        for line in own:
            _, controllers, path = [*line.split(":", 2), "", ""][:3]
            if ("cpu" in controllers.split(",")) if kind[0] == "cgroup" else not controllers:
                folders += _upwards(root / seen[4].lstrip("/"), seen[3], path)
    return folders


def _upwards(mount: Path, top: str, path: str) -> list[Path]:
    """The folder of a group and those above it; `top` is the group that is mounted."""
    inside = path.removeprefix(top) if top != "/" and path.startswith(top) else path
    parts = [part for part in inside.split("/") if part and part != ".."]
    return [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _v2(folder: Path) -> float | None:
    return _share(*_words(folder / "cpu.max", 2))


def _v1(folder: Path) -> float | None:
    return _share(*_words(folder / "cpu.cfs_quota_us", 1), *_words(folder / "cpu.cfs_period_us", 1))


def _words(file: Path, count: int) -> list[str]:
    try:
        words = file.read_text("ascii", "replace").split()
    except OSError:
        words = []
    return (words + [""] * count)[:count]


def _share(quota: str, period: str) -> float | None:
    """Cores; `max` and -1 are no quota."""
    if not (quota.isdecimal() and period.isdecimal() and int(quota) and int(period)):
        return None
    return int(quota) / int(period)
