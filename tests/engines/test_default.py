"""Which of the two models in the package is taken."""

from pathlib import Path

import pytest

from atrous import artifact, engines
from atrous.engines.base import Device


@pytest.mark.parametrize(
    ("device", "expected"), [("cpu", artifact.DEFAULT_INT8), ("cuda", artifact.DEFAULT)]
)
def test_int8_on_cpus(device: Device, expected: Path) -> None:
    assert engines.find_model(None, device) == expected


def test_both_have_names() -> None:
    assert engines.find_model("default") == artifact.DEFAULT
    assert engines.find_model("default-int8") == artifact.DEFAULT_INT8
