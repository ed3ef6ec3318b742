"""The machine: what it is, and what else it does during a measurement."""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from atrous.cores import cores

_STATUS, _CPUINFO = Path("/proc/self/status"), Path("/proc/cpuinfo")
_IDLE = ("idle", "iowait", "guest", "guest_nice")  # guest time is counted in user time as well


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured.

    Attributes:
        processor: its name.
        cores: that this process may use.
        system: operating system and architecture.
    """

    processor: str
    cores: int
    system: str

    @classmethod
    def here(cls) -> Machine:
        """This machine."""
        lines = _CPUINFO.read_text("utf-8").splitlines() if _CPUINFO.is_file() else []
        named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        name = next(named, "") or platform.processor() or platform.machine()
        return cls(name, cores(), f"{platform.system()} {platform.machine()}")


class CpuWatch:
    """Watches the CPU time of all processes from when it is made."""

    def __init__(self) -> None:
        self._busy, self._began = _busy(), time.perf_counter()

    def others(self, own: float) -> float:
        """Share of the machine's CPU time that others took so far, 0–1.

        Args:
            own: seconds of CPU time that are not theirs.
        """
        wall = (time.perf_counter() - self._began) * (os.cpu_count() or 1)
        return min(1.0, max(0.0, (_busy() - self._busy - own) / wall))


def peak_memory() -> int:
    """Bytes of memory that this process held at its peak (resident set)."""
    if _STATUS.is_file():
        # Not getrusage: on Linux its peak begins with that of the process that started this one.
        for line in _STATUS.read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = psutil.Process().memory_info()
    return int(getattr(found, "peak_wset", found.rss))


def _busy() -> float:
    """Seconds of CPU time that all cores together have worked since the system started."""
    times = psutil.cpu_times()._asdict()
    return float(sum(value for name, value in times.items() if name not in _IDLE))
