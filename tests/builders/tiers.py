"""What a test of the quick tier may not do, and what finds out that it does it.

A test that starts a process, exports a network or trains one is marked `heavy`, and `make quick`
leaves it out. Nobody has to remember that: without the mark it fails, in every tier.
"""

import functools
import sys
from typing import Any

import pytest

ADVICE = "mark it with pytest.mark.heavy, which keeps it out of `make quick`"

# Modules that few tests need are watched from the first test on after they were imported.
WATCHED = {
    ("subprocess", "Popen.__init__"): "starts a process",
    ("multiprocessing.process", "BaseProcess.start"): "starts a process",
    ("os", "fork"): "starts a process",
    ("torch.onnx", "export"): "exports a network",
    ("torch.jit", "trace"): "exports a network",
    ("atrous.training.loop", "Run.go"): "trains a network",
}


class Tiers:
    """Fails a test that does what the quick tier may not, unless it is marked `heavy`."""

    def __init__(self) -> None:
        self.light = False
        self._todo = dict(WATCHED)

    def begin(self, item: pytest.Item) -> None:
        """From here to `end`, what runs belongs to this test: its fixtures of all scopes too."""
        for place in [place for place in self._todo if place[0] in sys.modules]:
            self._watch(*place, self._todo.pop(place))
        self.light = not any(mark.name in ("heavy", "slow") for mark in item.iter_markers())

    def end(self) -> None:
        self.light = False

    def _watch(self, module: str, name: str, deed: str) -> None:
        *owners, last = name.split(".")
        owner: Any = functools.reduce(getattr, owners, sys.modules[module])
        original = getattr(owner, last)

        @functools.wraps(original)
        def watched(*arguments: Any, **options: Any) -> Any:
            if self.light:
                pytest.fail(f"this test {deed}: {ADVICE}")
            return original(*arguments, **options)

        setattr(owner, last, watched)
