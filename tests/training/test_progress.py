"""What people see while a network learns, and what is left of it after a power failure."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from atrous.training.progress import LOG, Entry, RunMonitor, read_log


@pytest.mark.parametrize("end", [b'{"iteration": 2, "lo', b"\xff\xfe\x80", b"\0\0\0\0", b"[2]"])
def test_a_run_goes_on_after_a_log_that_breaks_off(
    tmp_path: Path, end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atrous.training.progress.find_spec", lambda name: None)
    (tmp_path / LOG).write_bytes(b'{"iteration": 1, "loss": 0.5}\n' + end)
    assert read_log(tmp_path) == [Entry(iteration=1, loss=0.5)]
    monitor = RunMonitor(tmp_path, Console(quiet=True))
    monitor.begin(1, [])
    monitor.log(Entry(iteration=2, loss=0.25), 4, 2)
    assert [entry.iteration for entry in read_log(tmp_path)] == [1, 2]


def test_the_line_on_a_terminal_says_what_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atrous.training.progress.find_spec", lambda name: None)
    file = io.StringIO()
    monitor = RunMonitor(tmp_path, Console(file=file, force_terminal=True, width=120))
    assert monitor._live is not None

    def line() -> str:
        return str(monitor._live.status)  # type: ignore[union-attr]

    try:
        monitor.surveying(3, 8)
        assert line() == "looking at the data: 3/8 images"
        monitor.begin(0, ["starts from random weights"])
        monitor.log(Entry(iteration=1, score=40.0), 4, 2)
        monitor.log(Entry(iteration=2, loss=0.5, rate=0.01, images_per_second=2.0), 4, 2)
        assert line() == (
            "2/4: loss 0.5000, lr 0.01, 2.00 images/s, 0:00:02 left, best mIoU 40.00 %"
        )
        monitor.scoring(1, 5, 12.5)
        assert line() == "validation: 1/5 images, mIoU 12.50 %"
    finally:
        monitor.close()
    assert "starts from random weights" in file.getvalue()
