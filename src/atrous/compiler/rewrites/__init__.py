"""Exact rewrites: the same function of the image up to float rounding, in less work.

Each is on unless it is named in `skip`, works on any ONNX graph that has its pattern, and says
where it applied, what it saved, and where it saw something like its pattern and left it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx

from atrous.compiler.graph import macs
from atrous.compiler.graph.graph import Graph
from atrous.compiler.rewrites import batch_norm, fold, normalise, pooled
from atrous.compiler.rewrites.base import Layout, Outcome
from atrous.compiler.rewrites.commute import rewrite as commute
from atrous.compiler.rewrites.winograd import rewrite as winograd
from atrous.errors import ConfigError
from atrous.formatting import shortened
from atrous.preprocess import Preprocess
from atrous.record import Record


class Rewrite(Record):
    """What one rewrite did to a model.

    Attributes:
        name: of the rewrite.
        summary: what it does, one sentence.
        places: where it applied, empty if nowhere.
        left: what it left alone, and why.
        skipped: whether it was switched off.
        gmacs_before: multiply-accumulates of one run before it, 10⁹.
        gmacs_after: the same after it.
    """

    name: str
    summary: str
    places: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    skipped: bool = False
    gmacs_before: float
    gmacs_after: float

    @property
    def saved(self) -> float:
        """10⁹ multiply-accumulates less."""
        return self.gmacs_before - self.gmacs_after

    @property
    def where(self) -> tuple[str, ...]:
        """One phrase for each place, or the one reason why there is none."""
        if self.skipped:
            return ("switched off",)
        if not self.places and not self.left:
            return ("its pattern is not in this network",)
        return self.places or ("not applied",)

    def __str__(self) -> str:
        """One line for people."""
        gain = f", {self.saved:.3f} GMAC saved" if self.saved else ""
        left = f"; left alone: {shortened(self.left, 2)}" if self.left else ""
        return f"{self.name}: {shortened(self.where, 3)}{gain}{left}"


REWRITES: dict[str, tuple[Callable[[Graph, Layout], Outcome], str]] = {
    "fold-constants": (fold.rewrite, "Compute what does not depend on the image."),
    "batch-norm": (batch_norm.rewrite, "Fold batch norms into the convolutions before them."),
    "pooled-branch": (pooled.rewrite, "Add the pooled ASPP branch as one vector per image."),
    "commute-enlargement": (commute.rewrite, "Convolve before enlarging instead of after."),
    "winograd": (winograd.rewrite, "Convolve 3×3 with fewer products by Winograd's algorithm."),
}
"""Name → function and summary, in the order in which they run."""

_EARLIER = {"decoder": "commute-enlargement"}


def apply(
    model: onnx.ModelProto,
    *,
    skip: Collection[str] = (),
    unfit: Mapping[str, str] | None = None,
    layout: Layout = "planar",
) -> tuple[onnx.ModelProto, list[Rewrite]]:
    """Rewrite a model.

    Args:
        model: left as it is; its input sizes should be fixed.
        skip: names of rewrites not to run.
        unfit: names of further ones, which are of no use to what is made of the model, and why.
        layout: how activations lie in memory where the model runs.

    Returns:
        The rewritten model and what each rewrite did.

    Raises:
        ConfigError: `skip` names an unknown rewrite.
    """
    skip = {_EARLIER.get(name, name) for name in skip}
    if unknown := sorted(skip - set(REWRITES)):
        raise ConfigError(
            f"no rewrite is called {', '.join(unknown)}; known: {', '.join(REWRITES)}"
        )
    graph = Graph(model)
    changes = []
    for name, (rewrite, summary) in REWRITES.items():
        before, skipped = macs.count(graph), name in skip
        if skipped:
            outcome = Outcome()
        elif unfit and name in unfit:
            outcome = Outcome(left=(unfit[name],))
        else:
            outcome = rewrite(graph, layout)
        graph.refresh()
        changes.append(_described(name, summary, outcome, graph, before, skipped))
    return graph.to_model(), changes


def _described(
    name: str, summary: str, outcome: Outcome, graph: Graph, before: int, skipped: bool = False
) -> Rewrite:
    after = macs.count(graph)
    return Rewrite(
        name=name,
        summary=summary,
        places=outcome.places,
        left=outcome.left,
        skipped=skipped,
        # No rewrite adds arithmetic: where there is more, sizes have become known.
        gmacs_before=max(before, after) / 1e9,
        gmacs_after=after / 1e9,
    )


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
    changes: Sequence[Rewrite] = ()


def take_uint8(
    model: onnx.ModelProto, preprocess: Preprocess
) -> tuple[onnx.ModelProto, Preprocess, Rewrite]:
    """Let a model take uint8 pixels; see `normalise.take_uint8`."""
    graph = Graph(model)
    before = macs.count(graph)
    preprocess, outcome = normalise.take_uint8(graph, preprocess)
    summary = "Take uint8 pixels and normalise them in the graph."
    change = _described("uint8-input", summary, outcome, graph, before)
    return graph.to_model(), preprocess, change
