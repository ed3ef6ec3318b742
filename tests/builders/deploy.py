"""What `examples/deploy/compare.py` runs graphs with, and the folder that it lies in."""

import importlib.util
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).parents[2] / "examples" / "deploy"


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare", EXAMPLES / "compare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMPARE = _loaded()
