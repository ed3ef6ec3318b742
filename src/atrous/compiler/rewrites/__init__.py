"""Exact rewrites: the same function of the image up to float rounding, in less work.

Each is on unless it is named in `skip`, works on any ONNX graph that has its pattern, and says
where it applied, what it saved, and where it saw something like its pattern and left it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import onnx

from atrous.compiler.graph import macs
from atrous.compiler.graph.graph import Graph
from atrous.compiler.rewrites import batch_norm, decoder, fold, normalise, pooled
from atrous.compiler.rewrites.base import Layout, Outcome
from atrous.errors import ConfigError
from atrous.preprocess import Preprocess


@dataclass(frozen=True, slots=True)
class Change:
    """What one rewrite did to a model.

    Attributes:
        name: of the rewrite.
        summary: what it does, one sentence.
        outcome: where it applied and where not.
        macs_before: multiply-accumulates of one run before it.
        macs_after: the same after it.
        skipped: whether it was switched off.
    """

    name: str
    summary: str
    outcome: Outcome
    macs_before: int
    macs_after: int
    skipped: bool = False

    def __str__(self) -> str:
        """One line for people."""
        if self.skipped:
            return f"{self.name}: switched off"
        if not self.outcome.places:
            why = "; ".join(self.outcome.left) or "its pattern is not in this network"
            return f"{self.name}: not applied: {why}"
        saved = self.macs_before - self.macs_after
        gain = f", {saved / 1e9:.3f} GMAC saved" if saved else ""
        left = f"; left alone: {'; '.join(self.outcome.left)}" if self.outcome.left else ""
        return f"{self.name}: {'; '.join(self.outcome.places)}{gain}{left}"


REWRITES: dict[str, tuple[Callable[[Graph, Layout], Outcome], str]] = {
    "fold-constants": (fold.rewrite, "Compute what does not depend on the image."),
    "batch-norm": (batch_norm.rewrite, "Fold batch norms into the convolutions before them."),
    "pooled-branch": (pooled.rewrite, "Add the pooled ASPP branch as one vector per image."),
    "decoder": (decoder.rewrite, "Convolve before enlarging instead of after."),
}
"""Name → function and summary, in the order in which they run."""


def apply(
    model: onnx.ModelProto, *, skip: Collection[str] = (), layout: Layout = "planar"
) -> tuple[onnx.ModelProto, list[Change]]:
    """Rewrite a model.

    Args:
        model: left as it is; its input sizes should be fixed.
        skip: names of rewrites not to run.
        layout: of the matrix products that `decoder` writes; see there.

    Returns:
        The rewritten model and what each rewrite did.

    Raises:
        ConfigError: `skip` names an unknown rewrite.
    """
    if unknown := sorted(set(skip) - set(REWRITES)):
        raise ConfigError(
            f"no rewrite is called {', '.join(unknown)}; known: {', '.join(REWRITES)}"
        )
    graph = Graph(model)
    changes = []
    for name, (rewrite, summary) in REWRITES.items():
        before = macs.count(graph)
        if name in skip:
            changes.append(Change(name, summary, Outcome(), before, before, skipped=True))
            continue
        outcome = rewrite(graph, layout)
        graph.refresh()
        after = macs.count(graph)
        # No rewrite adds arithmetic: where there is more, sizes have become known.
        changes.append(Change(name, summary, outcome, max(before, after), after))
    return graph.to_model(), changes


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A network after its rewrites.

    Attributes:
        original: the network before them.
        model: the same function of an image in less work.
        preprocess: makes the input of `model`.
        changes: what each rewrite did.
    """

    original: onnx.ModelProto
    model: onnx.ModelProto
    preprocess: Preprocess
    changes: Sequence[Change] = ()


def take_uint8(
    model: onnx.ModelProto, preprocess: Preprocess
) -> tuple[onnx.ModelProto, Preprocess, Change]:
    """Let a model take uint8 pixels; see `normalise.take_uint8`."""
    graph = Graph(model)
    before = macs.count(graph)
    preprocess, outcome = normalise.take_uint8(graph, preprocess)
    summary = "Take uint8 pixels and normalise them in the graph."
    change = Change("uint8-input", summary, outcome, before, macs.count(graph))
    return graph.to_model(), preprocess, change
