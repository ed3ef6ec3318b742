"""Find a network of ours among the tensors of a file, whoever wrote it and whatever stands around.

Training wraps networks: each wrapper puts something before every name, and losses, metrics and
averaged copies lie beside. What belongs together is found by the names that the networks themselves
have, so no list of prefixes is needed. Libraries name the parts of the same networks differently:
one `Dialect` each.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from atrous.errors import ArtifactError
from atrous.models.checkpoint import listing

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a library names the parts of a network.

    Attributes:
        library: in messages.
        marks: each begins some name of every such network; all of them together of no other.
        parts: what its names begin with → what ours do; the first that fits counts.
        unused: what begins the names of tensors that inference does not use → what they are.
        output_stride: of its networks where nothing says.
        doubtful: whether the library builds them at others as well, which nobody can see.
    """

    library: str
    marks: tuple[str, ...]
    parts: Mapping[str, str]
    unused: Mapping[str, str] = field(default_factory=dict)
    output_stride: int = 16
    doubtful: bool = False

    def ours(self, name: str) -> str | None:
        """A name in ours, `None` for what is none of the network."""
        if any(name.startswith(start) for start in self.unused):
            return None
        start = next((start for start in self.parts if name.startswith(start)), None)
        if start is None:
            return None
        return _SEPARABLE.sub(r"\1.body.\2.", self.parts[start] + name.removeprefix(start))


# The 3x3 convolutions of segmentation_models.pytorch that are separable where they are.
_SEPARABLE = re.compile(
    r"^(classifier\.decoder\.(?:aspp\.1|block2\.0|aspp\.(?:0\.)?convs\.[123]\.0))\.([01])\."
)
_BACKBONE = {"backbone.": "backbone."}
_SMP_UNUSED = {"classification_head.": "the head that names the whole picture"}

DIALECTS = (
    Dialect(
        "torchvision",
        ("backbone.", "classifier.0.convs."),
        {**_BACKBONE, "classifier.": "classifier.classifier."},
        {"aux_classifier.": "the auxiliary head, for training alone"},
        8,
    ),
    Dialect(
        "segmentation_models.pytorch",
        ("encoder.", "decoder.aspp.convs.", "segmentation_head.0."),
        {"encoder.": "backbone.", "decoder.": "classifier.decoder.",
         "segmentation_head.": "classifier.segmentation_head."},
        _SMP_UNUSED,
        8,
        doubtful=True,
    ),
    Dialect(
        "segmentation_models.pytorch before 0.5",
        ("encoder.", "decoder.0.convs.", "segmentation_head.0."),
        {"encoder.": "backbone.", "decoder.0.": "classifier.decoder.aspp.",
         "decoder.1.": "classifier.decoder.conv.", "decoder.2.": "classifier.decoder.bn.",
         "segmentation_head.": "classifier.segmentation_head."},
        _SMP_UNUSED,
        8,
        doubtful=True,
    ),
    Dialect(
        "segmentation_models.pytorch",
        ("encoder.", "decoder.aspp.0.convs.", "segmentation_head.0."),
        {"encoder.": "backbone.", "decoder.": "classifier.decoder.",
         "segmentation_head.": "classifier.segmentation_head."},
        _SMP_UNUSED,
        doubtful=True,
    ),
    Dialect(
        "Hugging Face transformers",
        ("mobilenet_v2.conv_stem.", "segmentation_head.conv_aspp."),
        {"mobilenet_v2.": "backbone.", "segmentation_head.": "classifier."},
        {"mobilenet_v2.conv_1x1.": "the last convolution of the classifier of whole pictures"},
        8,
        doubtful=True,
    ),
    Dialect(
        "this package",
        ("backbone.", "classifier."),
        {**_BACKBONE, "classifier.": "classifier."},
        {"aux_classifier.": "the auxiliary head, for training alone"},
    ),
)  # fmt: skip

_AVERAGED = re.compile(r"ema|averag|shadow|swa|teacher", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """A network among the tensors of a file.

    Attributes:
        dialect: how they were named.
        prefix: what stood before every name.
        state: its tensors in our names.
        left_out: the names that are none of it.
    """

    dialect: Dialect
    prefix: str
    state: State
    left_out: tuple[str, ...]

    @property
    def note(self) -> str:
        """What was left out, in words; empty if nothing was."""
        if not self.left_out:
            return ""
        known = {f"{self.prefix}{start}": what for start, what in self.dialect.unused.items()}
        groups: Counter[str] = Counter()
        for name in self.left_out:
            start = next((start for start in known if name.startswith(start)), None)
            groups[start or self._group(name)] += 1
        parts = [
            f"{count} under {start!r}" + (f" ({known[start]})" if start in known else "")
            for start, count in groups.items()
        ]
        noun = "tensor" if len(self.left_out) == 1 else "tensors"
        return f"left out {noun} that the network does not use: {listing(parts)}"

    def _group(self, name: str) -> str:
        """A name up to the end of its first part behind the prefix."""
        prefix = self.prefix if name.startswith(self.prefix) else ""
        head, dot, _ = name.removeprefix(prefix).partition(".")
        return prefix + head + dot


def candidates(state: Mapping[str, Tensor]) -> list[Found]:
    """The networks among the tensors of a file; those that are averages only where no other is."""
    found: dict[str, Found] = {}
    for dialect in DIALECTS:
        for prefix in _prefixes(state, dialect.marks):
            found.setdefault(prefix, _taken(state, prefix, dialect))
    trained = {prefix: one for prefix, one in found.items() if not _AVERAGED.search(prefix)}
    return list((trained or found).values())


def find(state: Mapping[str, Tensor]) -> Found:
    """The one network among the tensors of a file.

    Args:
        state: names and tensors, as `read_state` returns them.

    Raises:
        ArtifactError: there is none, or more than one; the message begins with which.
    """
    found = candidates(state)
    if not found:
        raise ArtifactError(why_none(state))
    if len(found) > 1:
        raise ArtifactError(
            f"it holds {len(found)} networks, their names begin with "
            f"{listing([repr(one.prefix) for one in found])}; save the one that is wanted alone"
        )
    return found[0]


def below(
    state: Mapping[str, Tensor],
    rename: Callable[[Mapping[str, Tensor]], State],
    wanted: Collection[str],
) -> State:
    """The tensors of a backbone in a file of other things, in our names.

    Args:
        state: names and tensors, as `read_state` returns them.
        rename: gives tensors the names that ours have, and drops what is none of the backbone.
        wanted: the names that ours have.

    Returns:
        What stands below the prefix, of one or two parts or none, that most of them have; all of
        it, so that what does not fit is found.
    """
    prefixes = dict.fromkeys(
        "".join(f"{part}." for part in parts)
        for count in range(3)
        for parts in dict.fromkeys(tuple(name.split(".")[:count]) for name in state)
    )
    best, most = rename(state), 0
    for prefix in prefixes:
        short = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
        renamed = rename(short)
        if (fits := sum(name in wanted for name in renamed)) > most:
            best, most = renamed, fits
    return best


def _prefixes(state: Mapping[str, Tensor], marks: tuple[str, ...]) -> list[str]:
    """What stands before each of the marks, at the beginning of a part of some name."""
    sets = []
    for mark in marks:
        places = ((name, match.start()) for name in state for match in _at(mark).finditer(name))
        sets.append(dict.fromkeys(name[:start] for name, start in places))
    return [prefix for prefix in sets[0] if all(prefix in other for other in sets[1:])]


def _at(mark: str) -> re.Pattern[str]:
    return re.compile(r"(?<![^.])" + re.escape(mark))


def _taken(state: Mapping[str, Tensor], prefix: str, dialect: Dialect) -> Found:
    taken, rest = {}, []
    for name, tensor in state.items():
        ours = dialect.ours(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if ours is None:
            rest.append(name)
        else:
            taken[ours] = tensor
    return Found(dialect, prefix, taken, tuple(rest))


# What somebody else's tensors are called → what they are, and what helps.
_OTHERS = (
    ("segformer.encoder.", "those of a SegFormer of Hugging Face"),
    ("decode_head.", "those of a network of mmsegmentation or of Hugging Face"),
    ("sem_seg_head.", "those of a network of Detectron2"),
    ("roi_heads.", "those of a detector"),
    ("decoder.blocks.", "those of a U-Net or FPN of segmentation_models.pytorch"),
    ("encoder.", "those of a network with an encoder that is not known here"),
    ("classifier.4.", "those of an FCN of torchvision"),
)
_CLASSIFIERS = ("fc.weight", "classifier.1.weight", "last_linear.weight", "head.fc.weight")


def why_none(state: Mapping[str, Tensor]) -> str:
    """Why no network was found: what the tensors are first, then what can be done."""
    names = list(state)
    kind = next((what for mark, what in _OTHERS if any(_at(mark).search(n) for n in names)), None)
    if kind is None and any(name.endswith(_CLASSIFIERS) for name in names):
        return (
            "its tensors are those of a classifier of whole pictures, which has no segmentation "
            f"head: {listing(names)}; training can start from it"
        )
    first = f"its tensors are {kind or 'of no network that is known here'}: {listing(names)}"
    return (
        f"{first}. Checkpoints of DeepLabV3, DeepLabV3+ and Lite R-ASPP are read (`atrous models` "
        "lists them); export any other network to ONNX where it was trained "
        "(docs/from-elsewhere.md)"
    )
