"""Instructions for int8, read from listings of real processors."""

import platform
from pathlib import Path

import pytest

from atrous.engines import processor

X86 = """processor\t: 0
model name\t: Some CPU avx512_vnni
flags\t\t: fpu sse4_1 {flags}
vmx flags\t: vnmi avx512bw
bugs\t\t: spectre_v1 avx_vnni

processor\t: 1
flags\t\t: fpu sse4_1 {flags}
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd {flags}\nCPU part\t: 0xd0c\n"


@pytest.mark.parametrize(
    ("listing", "name", "saturates"),
    [
        (X86.format(flags="avx avx2 fma"), "avx2", True),
        (X86.format(flags="avx2 avx512f avx512bw"), "avx512", True),
        (X86.format(flags="avx2 avx_vnni"), "avx-vnni", False),
        (X86.format(flags="avx2 avx512bw avx512_vnni amx_int8"), "avx512-vnni", False),
        (X86.format(flags="avx2 avx512bw avx512_vnni avx_vnni"), "avx512-vnni", False),
        (ARM.format(flags="asimdhp asimddp"), "dotprod", False),
    ],
)
def test_listings(listing: str, name: str, saturates: bool) -> None:
    assert processor.instructions(listing) == name
    assert processor.saturates(name) is saturates


@pytest.mark.parametrize(
    ("machine", "saturates"),
    [("x86_64", True), ("AMD64", True), ("i686", True), ("aarch64", False), ("arm64", False)],
)
def test_of_an_unknown_one_the_architecture_is_known(
    monkeypatch: pytest.MonkeyPatch, machine: str, saturates: bool
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    for listing in ("", X86.format(flags="avx"), ARM.format(flags="crc32")):
        assert processor.instructions(listing) == machine
    assert processor.saturates(machine) is saturates


def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert processor.saturates() is processor.saturates(processor.instructions())
    listing = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "_CPUINFO", listing)
    assert processor.instructions() == platform.machine()  # no such file, as on macOS
    listing.write_text(X86.format(flags="avx2"))
    assert processor.instructions() == "avx2"
    assert processor.saturates()
