"""What is said of a machine before a run."""

import io
from collections.abc import Callable

import pytest
import torch
from rich.console import Console

from atrous.training import estimate
from atrous.training.config import Recipe
from atrous.training.estimate import slow_bf16
from atrous.training.loop import Run
from atrous.training.progress import RunMonitor

Make = Callable[..., Recipe]
CPU = torch.device("cpu")


@pytest.fixture
def bf16_takes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes bf16 so many times as slow as fp32."""

    def use(times: float) -> None:
        seconds = {torch.float32: 1.0, torch.bfloat16: times}
        monkeypatch.setattr(estimate, "_convolution_seconds", seconds.__getitem__)

    return use


def test_imitated_bf16_is_told(recipe: Make, bf16_takes: Callable[[float], None]) -> None:
    bf16_takes(18)
    half = recipe("train.precision=bf16")
    assert slow_bf16(half, CPU) == [
        "train.precision: a convolution in bf16 takes 18.0 times as long as one in fp32 on this "
        "processor; set train.precision=fp32"
    ]
    assert slow_bf16(half, torch.device("cuda")) == []
    assert slow_bf16(recipe("train.precision=fp32"), CPU) == []
    bf16_takes(1.2)
    assert slow_bf16(half, CPU) == []


def test_both_are_timed() -> None:
    assert estimate._convolution_seconds(torch.float32) > 0
    assert estimate._convolution_seconds(torch.bfloat16) > 0


@pytest.mark.heavy
def test_a_run_says_it(recipe: Make, bf16_takes: Callable[[float], None]) -> None:
    bf16_takes(4)
    heard = io.StringIO()
    half = recipe("train.precision=bf16", "train.iterations=1")
    monitor = RunMonitor(half.folder, Console(file=heard, width=500))
    Run(half, monitor).go()
    monitor.close()
    assert "takes 4.0 times as long as one in fp32" in heard.getvalue()
