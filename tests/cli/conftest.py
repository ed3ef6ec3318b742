"""Where the commands of VastModelZOO's formats work."""

from pathlib import Path

import pytest

from tests.builders.voc import make_voc


@pytest.fixture
def voc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_voc(tmp_path)
