"""Say which network some weights belong to, and fill it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from atrous import hub, zoo
from atrous.cache import resolve
from atrous.download import Progress
from atrous.errors import ArtifactError, ConfigError
from atrous.files import write_whole
from atrous.models import dialects
from atrous.models.checkpoint import listing, read_state
from atrous.models.deeplab import DeepLab, build
from atrous.models.mobilenet import LOW_LEVEL_BLOCKS

_log = logging.getLogger("atrous")


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


# The first beginning that occurs decides; the sizes of HRNet differ only in the width of a tensor.
_HRNET, _HRNET_WIDTH = "hrnetv2", "backbone.transition1.0.0.weight"
_BACKBONE_MARKS = {
    "backbone.middle.": "xception65",
    "backbone.block12.": "xception",
    "backbone.stage4.": _HRNET,
    "backbone.high_level_features.": "mobilenet",
    "backbone.features.": "mobilenet_v2",
    "backbone.conv_stem.": "mobilenet_v2_tf",
    "backbone.16.0.": "mobilenet_v3_large",
    # Bottlenecks have three convolutions: ResNet-18 and -34 have two.
    "backbone.layer3.6.conv3.": "resnet101",
    "backbone.layer3.0.conv3.": "resnet50",
}
# Beginning, head, and the last convolution, which tells the number of classes.
_SMP_LAST = "classifier.segmentation_head.0.weight"
_HEAD_MARKS = (
    ("classifier.aspp.", "deeplabv3plus", "classifier.classifier.3.weight"),
    ("classifier.classifier.0.convs.", "deeplabv3", "classifier.classifier.4.weight"),
    ("classifier.block5.", "deeplabv3cascade", "classifier.classifier.weight"),
    ("classifier.cbr.", "lraspp", "classifier.low_classifier.weight"),
    ("classifier.decoder.block1.", "smp_deeplabv3plus", _SMP_LAST),
    ("classifier.decoder.aspp.convs.", "smp_deeplabv3", _SMP_LAST),
    ("classifier.conv_aspp.", "hf_deeplabv3", "classifier.classifier.convolution.weight"),
)


def identify(state: Mapping[str, Tensor]) -> Identity:
    """Say which network a state dict belongs to, by its names and shapes alone.

    The output stride leaves no trace in the weights: it is a parameter of `load`.

    Args:
        state: in our names, see `atrous.models.dialects`.

    Raises:
        ArtifactError: it belongs to none that is known; says what is not.
    """

    def occurs(start: str) -> bool:
        return any(name.startswith(start) for name in state)

    backbone = next((b for start, b in _BACKBONE_MARKS.items() if occurs(start)), None)
    if backbone == _HRNET and _HRNET_WIDTH in state:
        backbone = f"{_HRNET}_{len(state[_HRNET_WIDTH])}"
    mark = next((mark for mark in _HEAD_MARKS if occurs(mark[0])), None)
    head, last = (mark[1], state.get(mark[2])) if mark else (None, None)
    if last is not None and last.ndim == 4:
        for row in zoo.VARIANTS.values():
            if (row.head, row.backbone) == (head, backbone):
                separable = occurs("classifier.") and any(map(_SEPARABLE.search, state))
                return Identity(row.name, last.shape[0], separable)
    if head is None:
        missing = "its head is none that is known here"
    elif last is None or last.ndim != 4:
        missing = f"the last layer of its head is missing ({mark[2] if mark else ''})"
    elif backbone is None:
        missing = f"its head is that of {head}, but its backbone is none that is known here"
    else:
        missing = f"no network here has the head {head} over the backbone {backbone}"
    part = "classifier." if head is None else "backbone."
    shown = [name for name in state if name.startswith(part)] or list(state)
    raise ArtifactError(
        f"{missing}: {listing(shown)}. `atrous models` lists the networks whose checkpoints are "
        "read; export any other to ONNX where it was trained (docs/from-elsewhere.md)"
    )


_SEPARABLE = re.compile(r"^classifier\..*\bconvs\.1\.0\.body\.")


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
            complete[name] = want
            continue
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

    It is built without memory behind its tensors, so one that was not filled could not run. What
    the file holds beside the network is left out, and that is logged as a warning.

    Args:
        source: a file as `read_state` takes it, by any name that `atrous.cache.resolve` takes.
        output_stride: 8 or 16. By default what the file's metadata or a `config.json` beside it
            records, or what its name ends in (`…_os8.pth`, as the reference names its own), or
            else what the library builds by default that named its tensors: 16 in the reference, 8
            in torchvision. A network with one output stride has that one, whatever is recorded.
        progress: called with bytes done and in all while a file is downloaded.

    Raises:
        ArtifactError: as `read_state`, `find`, `identify` and `fill` say, or the download failed.
        ConfigError: the output stride is not one the network can be dilated to.
    """
    path = resolve(source, progress=progress)
    state = read_state(path)
    try:
        found = dialects.find(state)
        identity = identify(found.state)
        strides = zoo.backbone(zoo.variant(identity.variant).backbone).output_strides
        if output_stride not in (None, *strides):
            raise ConfigError(
                f"{path}: {identity.variant}: output_stride must be one of {strides}, "
                f"found {output_stride}"
            )
        recorded = output_stride or _recorded_output_stride(path)
        with torch.device("meta"):
            model = build(
                identity.variant,
                identity.num_classes,
                recorded or found.dialect.output_stride,
                separable=identity.separable,
            )
        fill(model, found.state)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None
    if recorded is None and found.dialect.doubtful:
        _log.warning(
            "%s: its weights do not tell the output stride: taking %d, as %s builds it by default; "
            "a file name that ends in _os%d says otherwise",
            path,
            model.output_stride,
            found.dialect.library,
            8 if model.output_stride == 16 else 16,
        )
    if found.note:
        _log.warning("%s: %s", path, found.note)
    return model.eval()


def recorded_metadata(path: Path) -> dict[str, str]:
    """What the header of a `.safetensors` file says beside its tensors; nothing for other files.

    Raises:
        ArtifactError: it is damaged.
    """
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path}: its header cannot be read: {error}; get it again") from None


def _recorded_output_stride(path: Path) -> int | None:
    recorded = recorded_metadata(path).get("output_stride")
    if recorded is None:
        recorded = hub.output_stride(path)
    if recorded is None:
        named = re.search(r"_os(\d+)$", path.stem)
        recorded = named[1] if named else None
    if recorded is not None and not re.fullmatch("[0-9]{1,4}", recorded):
        raise ArtifactError(f"output_stride in its metadata must be a number, found {recorded!r}")
    return int(recorded) if recorded else None


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
        state = dialects.below(read_state(path), _from_torchvision, model.backbone.state_dict())
        fill(model.backbone, state)
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
    write_whole(path, _in_order(save(state, {**(metadata or {}), **known})))
    return path


def _in_order(content: bytes) -> bytes:
    """The same file with its texts in order; the library writes them in another each time."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned
    return b"".join([len(text).to_bytes(8, "little"), text, memoryview(content)[end:]])
