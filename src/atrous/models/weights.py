"""Say which network some weights belong to, and fill it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from atrous import zoo
from atrous.cache import resolve
from atrous.download import Progress
from atrous.errors import ArtifactError, ConfigError
from atrous.models.checkpoint import listing, read_state
from atrous.models.deeplab import DeepLab, build
from atrous.models.mobilenet import LOW_LEVEL_BLOCKS


@dataclass(frozen=True, slots=True)
class Identity:
    """Which network a state dict belongs to.

    Attributes:
        variant: a row of `atrous.zoo.VARIANTS`.
        num_classes: number of classes.
        separable: whether the head's 3x3 convolutions are atrous separable ones.
    """

    variant: str
    num_classes: int
    separable: bool


# The first prefix that occurs decides; the sizes of HRNet differ only in the width of this tensor.
_HRNET, _HRNET_WIDTH = "hrnetv2", "backbone.transition1.0.0.weight"
_BACKBONE_MARKS = {
    "backbone.middle.": "xception65",
    "backbone.block12.": "xception",
    "backbone.stage4.": _HRNET,
    "backbone.high_level_features.": "mobilenet",
    "backbone.layer3.6.": "resnet101",
    "backbone.layer3.": "resnet50",
}
# Prefix, head, and the last convolution, which tells the number of classes.
_HEAD_MARKS = (
    ("classifier.aspp.", "deeplabv3plus", "classifier.classifier.3.weight"),
    ("classifier.classifier.0.convs.", "deeplabv3", "classifier.classifier.4.weight"),
    ("classifier.block5.", "deeplabv3cascade", "classifier.classifier.weight"),
)


def identify(state: Mapping[str, Tensor]) -> Identity:
    """Say which network a state dict belongs to, by its names and shapes alone.

    The output stride leaves no trace in the weights: it is a parameter of `load`.

    Raises:
        ArtifactError: it belongs to none that is known.
    """

    def occurs(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in state)

    backbone = next((b for prefix, b in _BACKBONE_MARKS.items() if occurs(prefix)), None)
    if backbone == _HRNET and _HRNET_WIDTH in state:
        backbone = f"{_HRNET}_{len(state[_HRNET_WIDTH])}"
    mark = next((mark for mark in _HEAD_MARKS if occurs(mark[0])), None)
    found = next(
        (
            row.name
            for row in zoo.VARIANTS.values()
            if mark is not None and (row.head, row.backbone) == (mark[1], backbone)
        ),
        None,
    )
    last = state.get(mark[2]) if mark else None
    if found is None or last is None or last.ndim != 4:
        raise ArtifactError(
            f"expected the weights of {', '.join(zoo.VARIANTS)}: names with "
            f"{', '.join(_BACKBONE_MARKS)} and "
            f"{', '.join(f'{prefix} with {last}' for prefix, _, last in _HEAD_MARKS)}; "
            f"found {listing(list(state))}"
        )
    separable = any(name.startswith("classifier.") and ".body." in name for name in state)
    return Identity(found, last.shape[0], separable)


def fill(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Set every parameter and buffer of `module`, or none.

    Floating types are converted to the module's. Only batch norm's `num_batches_tracked`, which
    inference does not use, may be missing and is then zero.

    Raises:
        ArtifactError: lists missing, unexpected and misshaped tensors, and those not finite.
    """
    expected = module.state_dict()
    optional = {name for name in expected if name.endswith(".num_batches_tracked")}
    complete, misfits, infinite = {}, [], []
    for name, want in expected.items():
        got = state.get(name, torch.zeros(()) if name in optional else None)
        if got is None:
            continue
        if got.shape != want.shape or (want.is_floating_point() and not got.is_floating_point()):
            misfits.append(f"{name} (expected {_describe(want)}, found {_describe(got)})")
        complete[name] = got.to(want.dtype).contiguous()
        if not complete[name].isfinite().all():
            infinite.append(name)
    complaints = {
        "missing": [name for name in expected if name not in complete],
        "unexpected": [name for name in state if name not in expected],
        "of another shape or type": misfits,
        "holding NaN or infinity": infinite,
    }
    if any(complaints.values()):
        parts = [
            f"{len(names)} {what}: {listing(names)}" for what, names in complaints.items() if names
        ]
        raise ArtifactError(f"the weights do not fit. Tensors {'; '.join(parts)}")
    module.load_state_dict(complete, assign=any(want.is_meta for want in expected.values()))


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def load(
    source: str | Path, output_stride: int | None = None, progress: Progress | None = None
) -> DeepLab:
    """Return the network of a checkpoint, filled and in evaluation mode.

    It is built without memory behind its tensors, so one that was not filled could not run.

    Args:
        source: a file as `read_state` takes it, by any name that `atrous.cache.resolve` takes.
        output_stride: 8 or 16. By default what the file's metadata records (`save_safetensors`
            writes it), or what its name ends in (`…_os8.pth`, as the reference names its own), or
            else 16. A network with one output stride has that one, whatever its name ends in.
        progress: called with bytes done and in all while a file is downloaded.

    Raises:
        ArtifactError: as `read_state`, `identify` and `fill` say, or the download failed.
        ConfigError: the output stride is not one the network can be dilated to.
    """
    path = resolve(source, progress=progress)
    state = read_state(path)
    try:
        identity = identify(state)
        strides = zoo.backbone(zoo.variant(identity.variant).backbone).output_strides
        if output_stride not in (None, *strides):
            raise ConfigError(
                f"{path}: {identity.variant}: output_stride must be one of {strides}, "
                f"found {output_stride}"
            )
        with torch.device("meta"):
            model = build(
                identity.variant,
                identity.num_classes,
                output_stride or _recorded_output_stride(path),
                separable=identity.separable,
            )
        fill(model, state)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None
    return model.eval()


def recorded_metadata(path: Path) -> dict[str, str]:
    """What the header of a `.safetensors` file says beside its tensors; nothing for other files."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def _recorded_output_stride(path: Path) -> int:
    recorded = recorded_metadata(path).get("output_stride")
    if recorded is None:
        named = re.search(r"_os(\d+)$", path.stem)
        recorded = named[1] if named else "16"
    if not recorded.isdecimal():
        raise ArtifactError(f"output_stride in its metadata must be a number, found {recorded!r}")
    return int(recorded)


def load_backbone(
    model: DeepLab, source: str | Path | None = None, progress: Progress | None = None
) -> None:
    """Fill the backbone of `model` with ImageNet weights, for training.

    Args:
        model: as `build` made it. Its head is left as it is.
        source: a file in torchvision's names (for Xception and HRNet in the reference's), or a
            name of `atrous.zoo.WEIGHTS`; by default the row that belongs to the backbone. The
            classifier in it is dropped, all else must fit.
        progress: called with bytes done and in all while a file is downloaded.

    Raises:
        ArtifactError: the weights cannot be had, or do not fit.
        ConfigError: the named weights are of another network, or the zoo has none.
    """
    network = zoo.backbone(model.variant.backbone)
    source = source or network.pretrained
    if source is None:
        raise ConfigError(
            f"no ImageNet weights of {network.name} are in the zoo; start from random weights, or "
            "from a checkpoint of your own"
        )
    row = zoo.WEIGHTS.get(str(source))
    if row is not None and row.network != network.name:
        raise ConfigError(f"{row.name} fits {row.network}, but {model.variant.name} was given")
    path = resolve(source, "backbone", progress)
    try:
        fill(model.backbone, _from_torchvision(read_state(path)))
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None


def _from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the backbone in our names: the classifier off, MobileNet's list cut in two."""
    renamed = {}
    for name, tensor in state.items():
        block = re.match(r"features\.(\d+)\.", name)
        if block:
            level = "low" if int(block[1]) < LOW_LEVEL_BLOCKS else "high"
            renamed[f"{level}_level_{name}"] = tensor
        else:
            renamed[name] = tensor
    # The 1x1 to 1280 channels belongs to MobileNet's classifier, the last batch norm to Xception's.
    classifiers = ("fc.", "last_linear.", "classifier.", "bn_classifier.")
    dropped = (*classifiers, "high_level_features.18.", "bn4.")
    return {name: tensor for name, tensor in renamed.items() if not name.startswith(dropped)}


def save_safetensors(
    model: DeepLab, path: str | Path, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write the weights of `model` so that `load` needs nothing else; all at once or not at all.

    Args:
        model: any network that `build` or `load` made.
        path: where to; replaced if it exists.
        metadata: further text entries beside `variant`, `num_classes`, `output_stride` and
            `separable`.
    """
    path = Path(path)
    known = {
        "variant": model.variant.name,
        "num_classes": str(model.num_classes),
        "output_stride": str(model.output_stride),
        "separable": str(model.separable).lower(),
    }
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    with TemporaryDirectory(prefix=".saving-", dir=path.parent) as folder:
        written = Path(folder) / path.name
        save_file(state, written, {**(metadata or {}), **known})
        written.replace(path)
    return path
