"""What the processor can do that changes what int8 means."""

from __future__ import annotations

import platform
from pathlib import Path

_X86 = ("x86_64", "AMD64", "i386", "i686", "x86")
_CPUINFO = Path("/proc/cpuinfo")


def instructions(listing: str | None = None) -> str:
    """The best instructions for int8 products that this processor has, as `avx512-vnni`.

    Args:
        listing: text of `/proc/cpuinfo`, by default that of this machine.

    Returns:
        `avx512-vnni`, `avx-vnni`, `avx512`, `avx2`, `dotprod` (ARM), or the name of the
        architecture where nothing is known.
    """
    if listing is None:
        listing = _CPUINFO.read_text(encoding="utf-8") if _CPUINFO.is_file() else ""
    flags = {
        flag
        for line in listing.splitlines()
        if line.lower().startswith(("flags", "features"))
        for flag in line.partition(":")[2].split()
    }
    known = {
        "avx512_vnni": "avx512-vnni",
        "avx_vnni": "avx-vnni",
        "avx512bw": "avx512",
        "avx2": "avx2",
        "asimddp": "dotprod",
    }
    return next((name for flag, name in known.items() if flag in flags), platform.machine())


def saturates(name: str | None = None) -> bool:
    """Whether sums of two u8×s8 products saturate at 16 bits, so that weights need to stay small.

    x86 before VNNI multiplies with `vpmaddubsw`, which adds pairs of products in 16 bits. Of an x86
    of which nothing is known we expect the same.

    Args:
        name: as `instructions` returns it, by default of this machine.
    """
    return (name or instructions()) in ("avx512", "avx2", *_X86)
