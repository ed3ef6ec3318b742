"""The cases from the field, built from the makers that lie beside the repository.

Tests take the fixture `cases`: `cases("geotiff")` is the folder of that group, which is built once:
a test that writes into it copies it first.
"""

import importlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

_MODULES = ("kit", "models", "pictures", "sets", "make")


class Cases:
    """Builds groups of cases, each once.

    Args:
        makers: the folder with `make.py`; a test that needs a group is skipped where it is absent.
        place: an empty folder.
    """

    def __init__(self, makers: Path, place: Path) -> None:
        self._makers, self._place = makers, place

    def __call__(self, group: str) -> Path:
        """The folder of a group, with its inputs and `expected.json`."""
        folder = self._place / group
        if not folder.exists():
            if not (self._makers / "make.py").is_file():
                pytest.skip(f"needs {self._makers}, which is not part of the repository")
            pytest.importorskip("skimage", reason="the cases are made of its photographs")
            unfinished = self._place / f"{group}.unfinished" / group
            unfinished.mkdir(parents=True, exist_ok=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._make(group, unfinished)
            unfinished.rename(folder)
        return folder

    def _make(self, group: str, folder: Path) -> None:
        sys.path.insert(0, str(self._makers))
        written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        try:
            importlib.import_module("make").GROUPS[group](folder)
        finally:
            sys.dont_write_bytecode = written
            sys.path.remove(str(self._makers))
            for name in _MODULES:  # names that others may have too
                sys.modules.pop(name, None)


def expected(folder: Path) -> dict[str, dict[str, Any]]:
    """What is right: path in the group's folder → `class_map`, `agreement` and more."""
    found: dict[str, dict[str, Any]] = json.loads((folder / "expected.json").read_text())
    return found


def class_ids(path: Path) -> Pixels:
    """The pixel values of a mask file, PNG or TIFF."""
    with Image.open(path) as mask:
        return np.asarray(mask)


def agreement(mask: Path | Pixels, right: Path | Pixels) -> float:
    """The share of pixels that have the same class in both, 0–1; 0 where the sizes differ."""
    found, wanted = (class_ids(one) if isinstance(one, Path) else one for one in (mask, right))
    return float((found == wanted).mean()) if found.shape == wanted.shape else 0.0


def check(folder: Path, name: str, mask: Path | Pixels) -> None:
    """Assert that a mask agrees with what is right for the input `name` of a group, as far as it
    has to."""
    what = expected(folder)[name]
    share = agreement(mask, folder / what["class_map"])
    assert share >= what["agreement"], f"{name}: {share:.1%} as expected"
