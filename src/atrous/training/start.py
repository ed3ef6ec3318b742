"""The weights a run starts from, and what exactly was taken from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from atrous import zoo
from atrous.cache import resolve
from atrous.errors import ArtifactError, ConfigError
from atrous.files import sha256
from atrous.models import DeepLab, dialects, load_backbone, read_state
from atrous.models.checkpoint import listing
from atrous.training.config import IMAGENET, SCRATCH
from atrous.training.unfold import unfold

BACKBONE = "backbone."
ASPP = ("classifier.classifier.0.", "classifier.aspp.")
"""Where the ASPP is, in DeepLabV3 and in DeepLabV3+."""


@dataclass(frozen=True, slots=True)
class Start:
    """What was loaded.

    Attributes:
        source: what was asked for.
        sha256: of the file that was read, empty where none was.
        loaded: names of the tensors that were taken.
        new: of those that keep their random values.
        left_out: of those in the source that fit nowhere.
        renewed: of those of the last layer, whose number of classes differs.
    """

    source: str
    sha256: str = ""
    loaded: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    renewed: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """What happened, one sentence each."""
        if self.source == SCRATCH:
            return ["start: all weights are random"]
        known = f" (sha256 {self.sha256})" * bool(self.sha256)
        lines = [f"start: {len(self.loaded)} tensors loaded from {self.source}{known}"]
        for what, names in (
            ("new, with random values", self.new),
            ("in the file and left out", self.left_out),
            ("new, as the file has another number of classes", self.renewed),
        ):
            if names:
                lines.append(f"start: {len(names)} tensors {what}: {listing(list(names))}")
        return lines


def fill(network: DeepLab, source: str, *, frozen: bool = False) -> Start:
    """Fill what can be filled of a new network.

    Args:
        network: as it was built; what the source does not have is left as it is.
        source: `scratch`; `imagenet`, which fills the backbone; a checkpoint, whole or of a
            backbone in torchvision's names; an ONNX file that `atrous export` wrote; or a name of
            the zoo, among them `default` and `fast`, which are in the package.
        frozen: batch norms are to keep their statistics, as an ONNX file asks for.

    Raises:
        ConfigError: an ONNX file, which holds no statistics, and batch norms are to be trained.
        ArtifactError: there is no such file, or it belongs to another network: a tensor of the
            backbone is missing, or one has another shape that is not of the last layer.
    """
    own = network.state_dict()
    if source == SCRATCH:
        return Start(source, new=tuple(own))
    names = tuple(name for name in own if name.startswith(BACKBONE))
    head = tuple(name for name in own if not name.startswith(BACKBONE))
    if source == IMAGENET:
        _load_imagenet(network)
        return Start(source, loaded=names, new=head)
    path = resolve(source, kind=None)
    if path.suffix == ".onnx":
        if not frozen:
            raise ConfigError(
                f"start: {source} is an ONNX file, whose batch norms are folded and have no "
                "statistics to train; set train.batch_norm=frozen, or start from a checkpoint"
            )
        tensors = unfold(path)[1]
    else:
        tensors = read_state(path)
    if not dialects.candidates(tensors):
        load_backbone(network, path)
        return Start(source, sha256(path), loaded=names, new=head)
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
        sha256(path),
        loaded=tuple(taken),
        new=tuple(name for name in own if name not in state),
        left_out=(*(name for name in state if name not in own), *found.left_out),
        renewed=renewed,
    )


def _load_imagenet(network: DeepLab) -> None:
    """Fill the backbone, and name the ways out where that takes a network that is not there."""
    try:
        load_backbone(network)
    except ArtifactError as error:
        ways = ["start=FILE with weights fetched elsewhere", "start=scratch"]
        if network.variant.backbone == zoo.variant(zoo.WEIGHTS["default"].network).backbone:
            ways.insert(0, "start=default train.batch_norm=frozen, which is in the package")
        raise ArtifactError(f"start: imagenet: {error}. Without it: {'; or '.join(ways)}") from None


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
