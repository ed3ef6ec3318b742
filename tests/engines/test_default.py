"""Which of the two models in the package is taken."""

from pathlib import Path

import pytest

from atrous import artifact, engines
from atrous.engines import processor
from atrous.engines.base import Device


@pytest.mark.parametrize(
    ("saturates", "device", "expected"),
    [
        (False, "cpu", artifact.DEFAULT_INT8),
        (True, "cpu", artifact.DEFAULT),
        (False, "cuda", artifact.DEFAULT),
    ],
)
def test_int8_where_the_processor_multiplies_bytes_well(
    saturates: bool, device: Device, expected: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "saturates", lambda: saturates)
    assert engines.find_model(None, device) == expected


def test_both_have_names() -> None:
    assert engines.find_model("default") == artifact.DEFAULT
    assert engines.find_model("default-int8") == artifact.DEFAULT_INT8
