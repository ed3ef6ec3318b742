"""What was built before is proven, and costs time where it cannot be kept."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from atrous.engines.built import built


def of_another_version(content: bytes) -> bytes:
    raise RuntimeError("made by another version")


def fails(made: bytes) -> bytes:
    raise RuntimeError("this one cannot be written")


def test_it_is_built_once(tmp_path: Path) -> None:
    times: list[bytes] = []

    def build() -> bytes:
        times.append(b"made")
        return times[-1]

    path = tmp_path / "folder" / "a.built"
    for load, count in ((bytes, 1), (bytes, 1), (of_another_version, 2), (bytes, 2)):
        assert built(path, load, build, bytes) == b"made"
        assert len(times) == count
    path.write_bytes(path.read_bytes() + b"x")
    assert built(path, bytes, build, bytes) == b"made"
    assert len(times) == 3


@pytest.mark.parametrize(("save", "kept"), [(bytes, True), (fails, False)])
def test_what_cannot_be_kept_is_used_all_the_same(
    save: Callable[[bytes], bytes], kept: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "atrous")
    path = tmp_path / "a.built"
    assert built(path, bytes, lambda: b"made", save) == b"made"
    assert path.exists() == kept
    said = [] if kept else [f"{path}: not kept: this one cannot be written"]
    assert caplog.messages == said
