"""The tables of README and docs against the raw figures of benchmarks/results."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop("tables", None)
    return module


def test_every_table_is_what_was_measured(tables: ModuleType) -> None:
    found = set()
    for path in tables.DOCUMENTS:
        text = path.read_text()
        assert tables.filled(text) == text, f"{path.name}: run python benchmarks/tables.py"
        found |= {name for _, name, _ in tables._TABLE.findall(text)}
    assert found == set(tables.TABLES)


def test_ratios_are_of_turns_of_one_round(tables: ModuleType) -> None:
    race = tables.Race(
        {
            "atrous openvino": [10.0, 20.0, 10.0],
            "atrous onnxruntime": [30.0, 30.0, 30.0],
            "own fp32 openvino": [1.0, 1.0, 1.0],
            "openvino": [20.0, 40.0, 30.0],
            "openvino argmax": [40.0, 40.0, 40.0],
            "mnn": [25.0, 25.0, 25.0],
        }
    )
    assert (race.ours, race.best(), race.best("openvino")) == ("atrous openvino", "mnn", "openvino")
    assert race.ratio("atrous openvino", "openvino") == 2.0
    assert race.ms("atrous openvino") == 10.0


def test_figures_of_another_machine_are_not_mixed(
    tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "raw.json"
    tables.keep(path, {"deeplabv3_mobilenet": {"atrous openvino": [1.0]}})
    tables.keep(path, {"segformer_b0": {"atrous openvino": [2.004]}})
    kept = json.loads(path.read_text())["networks"]
    assert kept["segformer_b0"] == {"atrous openvino": [2.0]}
    assert set(kept) == {"deeplabv3_mobilenet", "segformer_b0"}
    monkeypatch.setattr(tables, "_machine", lambda: "another")
    tables.keep(path, {"segformer_b0": {"atrous openvino": [3.0]}})
    assert set(json.loads(path.read_text())["networks"]) == {"segformer_b0"}
