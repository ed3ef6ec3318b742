"""The weights a run starts from, and what exactly was taken from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from atrous.cache import resolve
from atrous.errors import ArtifactError
from atrous.models import DeepLab, dialects, load_backbone, read_state
from atrous.models.checkpoint import listing
from atrous.training.config import IMAGENET, SCRATCH

BACKBONE = "backbone."
ASPP = ("classifier.classifier.0.", "classifier.aspp.")
"""Where the ASPP is, in DeepLabV3 and in DeepLabV3+."""


@dataclass(frozen=True, slots=True)
class Start:
    """What was loaded.

    Attributes:
        source: what was asked for.
        loaded: names of the tensors that were taken.
        new: of those that keep their random values.
        left_out: of those in the source that fit nowhere.
        renewed: of those of the last layer, whose number of classes differs.
    """

    source: str
    loaded: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    renewed: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """What happened, one sentence each."""
        if self.source == SCRATCH:
            return ["start: all weights are random"]
        lines = [f"start: {len(self.loaded)} tensors loaded from {self.source}"]
        for what, names in (
            ("new, with random values", self.new),
            ("in the file and left out", self.left_out),
            ("new, as the file has another number of classes", self.renewed),
        ):
            if names:
                lines.append(f"start: {len(names)} tensors {what}: {listing(list(names))}")
        return lines


def fill(network: DeepLab, source: str) -> Start:
    """Fill what can be filled of a new network.

    Args:
        network: as it was built; what the source does not have is left as it is.
        source: `scratch`; `imagenet`, which fills the backbone; a checkpoint, whole or of a
            backbone in torchvision's names; or a name of the zoo.

    Raises:
        ArtifactError: there is no such file, or it belongs to another network: a tensor of the
            backbone is missing, or one has another shape that is not of the last layer.
    """
    own = network.state_dict()
    if source == SCRATCH:
        return Start(source, new=tuple(own))
    names = tuple(name for name in own if name.startswith(BACKBONE))
    head = tuple(name for name in own if not name.startswith(BACKBONE))
    if source == IMAGENET:
        load_backbone(network)
        return Start(source, names, head)
    path = resolve(source, kind=None)
    tensors = read_state(path)
    if not dialects.candidates(tensors):
        load_backbone(network, path)
        return Start(source, names, head)
    try:
        found = dialects.find(tensors)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None
    state = _named_as(own, found.state)
    last = tuple(name for name in (*own,)[-2:] if name in state)
    renewed = tuple(name for name in last if state[name].shape != own[name].shape)
    taken = {name: t for name, t in state.items() if name in own and name not in renewed}
    _check(own, taken, str(path))
    network.load_state_dict({**own, **taken})
    return Start(
        source,
        loaded=tuple(taken),
        new=tuple(name for name in own if name not in state),
        left_out=(*(name for name in state if name not in own), *found.left_out),
        renewed=renewed,
    )


def _named_as(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state in the names of `own`: of the other head, only backbone and ASPP fit."""
    ours, theirs = (
        next((prefix for prefix in ASPP if f"{prefix}convs.0.0.weight" in names), None)
        for names in (own, state)
    )
    if ours == theirs or ours is None or theirs is None:
        return dict(state)
    renamed = {}
    for name, tensor in state.items():
        if name.startswith(theirs):
            name = ours + name.removeprefix(theirs)
        elif not name.startswith(BACKBONE):
            name = f"{name} of the other head"
        renamed[name] = tensor
    return renamed


def _check(own: Mapping[str, Tensor], taken: Mapping[str, Tensor], path: str) -> None:
    missing = [
        name
        for name in own
        if name.startswith(BACKBONE) and name not in taken and "num_batches" not in name
    ]
    misfits = [
        f"{name} (expected {tuple(own[name].shape)}, found {tuple(tensor.shape)})"
        for name, tensor in taken.items()
        if tensor.shape != own[name].shape
    ]
    infinite = [name for name, tensor in taken.items() if not tensor.isfinite().all()]
    for what, found in (
        ("missing from the backbone", missing),
        ("of another shape", misfits),
        ("holding NaN or infinity", infinite),
    ):
        if found:
            raise ArtifactError(
                f"{path}: cannot start from it. {len(found)} tensors {what}: {listing(found)}; "
                "take weights of this network or of its backbone"
            )
