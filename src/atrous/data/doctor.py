"""Look a data set over before it is trained or measured on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from atrous.data.balance import class_weights
from atrous.data.dataset import Dataset, MaskError, Sample, id_counts, listed, outside
from atrous.data.duplicates import Fingerprint, alike, fingerprint
from atrous.data.masks import COLOURED, NO_COLOUR, PALETTE
from atrous.data.stored import NO_CLASS, NOT_PLAIN
from atrous.errors import InputError
from atrous.labels import LabelSet
from atrous.pictures.metadata import orientation
from atrous.pictures.opening import decoded

Severity = Literal["error", "warning", "info"]
Progress = Callable[[int, int], None]
"""Called with the images looked at so far and in all, those of the other splits included."""

EXAMPLES = 5

NAMED = 100
"""Files that cannot be read are named up to so many: each is wrong in its own way."""

IGNORED_LABEL = 0.95
"""Share of ignored pixels from which there is nothing to learn from or score in a label."""

IGNORED_SET = 0.5
"""Share of ignored pixels of the whole set that is worth a warning."""

TURNED = "turned by EXIF"

# Every kind of finding in the order of the report: how severe it is, and what to do about it.
_KINDS: dict[str, tuple[Severity, str]] = {
    "missing image": ("error", "add the files, or take their ids out of the split"),
    "missing label": ("error", "add the files, or take their ids out of the split"),
    "unreadable image": ("error", "get the files again, or take their ids out of the split"),
    "unreadable label": ("error", "get the files again, or take their ids out of the split"),
    "size mismatch": (
        "error",
        "a label needs the size of its image; look for resized copies and for images that an "
        "EXIF rotation turns",
    ),
    COLOURED: ("error", "convert them to class ids, or describe the set with mask_type: rgb"),
    NOT_PLAIN: (
        "error",
        "store each mask as one upright picture of 8 bits without transparency, as PNG or TIFF",
    ),
    NO_CLASS: (
        "error",
        "map them to classes or to the ignore index; ids that JPEG or a smooth resize has blurred "
        "must be made again",
    ),
    PALETTE: ("error", "say in the file which of the two is right: mask_type: rgb, or ids"),
    NO_COLOUR: (
        "error",
        "add them to classes or ignore_colours; colours that JPEG or a smooth resize has blurred "
        "must be made again",
    ),
    "ignored label": (
        "error",
        "nothing is left to learn from or to score; is the ignore index the right one?",
    ),
    "nothing but one class": (
        "error",
        "nothing can be learnt from it; say in the file what stored values stand for, as values: "
        "{0: background, 255: road}",
    ),
    "seen in another split": ("error", "keep one of each: accuracies are flattered"),
    TURNED: (
        "warning",
        "masks have to be drawn on the picture as it is shown, not on its pixels as they are "
        "stored; `report` shows one of them under its mask",
    ),
    "much is ignored": (
        "warning",
        "is the ignore index the right one? values says what others mean",
    ),
    "every pixel is one class": (
        "warning",
        "nothing can be learnt from it or scored on it; are these the right masks, and does the "
        "file say what their values stand for?",
    ),
    "class never occurs": ("warning", "it can be neither learnt nor scored on this split"),
    "same scene in another split": ("warning", "look at them: accuracies may be flattered"),
    "same picture twice": ("warning", "keep one: it counts twice"),
    "contained in another split": ("info", "never train on the one and score on the other"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of fault.

    Attributes:
        kind: what it is.
        severity: errors fail, warnings are for a person to judge, infos are good to know.
        count: how often.
        examples: a few of them.
        next_step: what to do.
    """

    kind: str
    severity: Severity
    count: int
    examples: tuple[str, ...]
    next_step: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.kind} ({self.count}): {self.next_step}"


@dataclass(frozen=True, slots=True)
class ClassBalance:
    """How much of one class there is.

    Attributes:
        name: of the class.
        images: that show it.
        share: of the pixels that are not ignored, 0–1.
        weight: suggested for the loss, see `atrous.data.balance.class_weights`; `None` if it never
            occurs.
    """

    name: str
    images: int
    share: float
    weight: float | None


@dataclass(frozen=True, slots=True)
class DataReport:
    """What was found.

    Attributes:
        data: name of the data set.
        samples: how many were looked at.
        ignored: share of the pixels that are ignored, 0–1.
        classes: per class.
        findings: errors first.
        compared: names of the splits that pictures were compared with.
    """

    data: str
    samples: int
    ignored: float
    classes: tuple[ClassBalance, ...]
    findings: tuple[Finding, ...]
    compared: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether there is no error; warnings may remain."""
        return not any(finding.severity == "error" for finding in self.findings)


@dataclass
class _Faults:
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, what: str, count: int = 1) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + count
        few = self.examples.setdefault(kind, [])
        if len(few) < (NAMED if kind.startswith("unreadable") else EXAMPLES):
            few.append(what)

    def findings(self) -> tuple[Finding, ...]:
        return tuple(
            Finding(kind, severity, self.counts[kind], tuple(self.examples[kind]), next_step)
            for kind, (severity, next_step) in _KINDS.items()
            if kind in self.counts
        )


def examine(
    dataset: Dataset, others: Sequence[Dataset] = (), progress: Progress | None = None
) -> DataReport:
    """Read every image and label once, and the images of the other splits.

    About 3 KB per image are kept. Two splits for training, with `train` in their names, may share
    pictures. So may a split and one that holds all of it, unless that is one for training whose
    name does not say so: `trainval` may hold `val`, `train` may not. A list of one's own may be
    part of any split.

    Args:
        dataset: to look over.
        others: its other splits, to find pictures that stand in two.
        progress: called after each image.
    """
    faults = _Faults()
    counts = [np.zeros(256, np.int64)]
    elsewhere = _check_splits(dataset, others, faults)
    total, done = len(dataset.samples) + len(elsewhere), 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    prints: list[Fingerprint] = []
    ids: list[str] = []
    for sample in dataset.samples:
        image = _read_image(dataset, sample, faults)
        if image is not None and _is_turned(sample.image):
            faults.add(TURNED, sample.id)
        label = _read_label(dataset, sample, faults)
        if image is not None:
            prints.append(fingerprint(image))
            ids.append(sample.id)
        if label is not None:
            counts.append(_check_label(dataset, sample, label, faults))
        if image is not None and label is not None and image.shape[:2] != label.shape:
            (height, width), (h, w) = image.shape[:2], label.shape
            faults.add("size mismatch", f"{sample.id}: image {width}×{height}, label {w}×{h}")
        advance()
    there: list[Fingerprint] = []
    owners: list[str] = []
    for other, sample in elsewhere:
        try:
            there.append(fingerprint(other.read_image(sample)))
            owners.append(f"{sample.id} of {other.name}")
        except InputError:
            pass  # a fault of that split, reported when it is looked over
        advance()
    for pair in alike(prints, prints):
        if pair.same and pair.first < pair.second:
            faults.add("same picture twice", f"{ids[pair.first]} and {ids[pair.second]}")
    for pair in alike(prints, there):
        kind = "seen in another split" if pair.same else "same scene in another split"
        faults.add(kind, f"{ids[pair.first]} looks like {owners[pair.second]}")
    classes, ignored = _balance(dataset.labels, np.stack(counts))
    for one in classes:
        if not one.images:
            faults.add("class never occurs", one.name)
    shown = [one.name for one in classes if one.images]
    if ignored and len(shown) < min(2, len(classes)):
        faults.add("nothing but one class", f"{' '.join(shown) or 'none'}, {ignored:.1%} ignored")
    if not ignored and len(shown) == 1:
        faults.add("every pixel is one class", shown[0])
    if ignored > IGNORED_SET:
        faults.add("much is ignored", f"{ignored:.0%} of all pixels")
    return DataReport(
        dataset.name,
        len(dataset.samples),
        ignored,
        classes,
        faults.findings(),
        tuple(dict.fromkeys(one.name for one in others if any(one is x for x, _ in elsewhere))),
    )


def _balance(labels: LabelSet, counts: NDArray[np.int64]) -> tuple[tuple[ClassBalance, ...], float]:
    """Pixels per class over all labels, and the share of all pixels that is ignored.

    Args:
        labels: names of the classes.
        counts: pixels of each value in each label, `(labels, 256)`.
    """
    pixels = counts[:, : labels.num_classes]
    known = int(pixels.sum())
    ignored = 0
    if labels.ignore_index >= labels.num_classes:
        ignored = int(counts[:, labels.ignore_index].sum())
    images, weights = (pixels > 0).sum(axis=0), class_weights(pixels)
    classes = tuple(
        ClassBalance(
            name,
            int(images[i]),
            float(pixels[:, i].sum() / max(1, known)),
            float(weights[i]) if images[i] else None,
        )
        for i, name in enumerate(labels.names)
    )
    return classes, ignored / max(1, ignored + known)


def _check_splits(
    dataset: Dataset, others: Sequence[Dataset], faults: _Faults
) -> list[tuple[Dataset, Sample]]:
    """Report images listed in two splits; return the images of other splits, each once."""
    own = {sample.image for sample in dataset.samples}
    listed: dict[Path, str] = {}
    found: dict[Path, tuple[Dataset, Sample]] = {}
    for other in others:
        if _for_training(dataset) and _for_training(other):
            continue
        there = {sample.image: sample for sample in other.samples}
        if own <= there.keys() and _may_hold(other, dataset):
            faults.add("contained in another split", f"{dataset.name} in {other.name}")
        elif not (there.keys() <= own and _may_hold(dataset, other)):
            for path in own & there.keys():
                listed.setdefault(path, f"{there[path].id} is listed in {other.name} too")
        for path in there.keys() - own:
            found.setdefault(path, (other, there[path]))
    for path in sorted(listed):
        faults.add("seen in another split", listed[path])
    return [found[path] for path in sorted(found)]


def _may_hold(whole: Dataset, part: Dataset) -> bool:
    """Whether a split that holds another does so on purpose, as `trainval` holds `val`."""
    ones_own = _split(part) not in {spec.rpartition(":")[2] for spec in whole.siblings}
    return ones_own or _split(part) in _split(whole) or not _for_training(whole)


def _for_training(dataset: Dataset) -> bool:
    return "train" in _split(dataset)


def _split(dataset: Dataset) -> str:
    return dataset.name.rpartition(":")[2]


def _read_image(dataset: Dataset, sample: Sample, faults: _Faults) -> NDArray[np.uint8] | None:
    try:
        return dataset.read_image(sample)
    except InputError as error:
        kind = "unreadable image" if sample.image.exists() else "missing image"
        faults.add(kind, str(error))
        return None


def _is_turned(path: Path) -> bool:
    """Whether the pixels of a picture are stored in another way than they are shown."""
    if not path.is_file():
        return False
    try:
        return decoded(path, str(path), orientation, None) != 1
    except InputError:  # a kind that another reader opens
        return False


def _read_label(dataset: Dataset, sample: Sample, faults: _Faults) -> NDArray[np.uint8] | None:
    if sample.label is None:
        faults.add("missing label", f"{sample.id}: there is no mask of this name")
        return None
    try:
        return dataset.decode(sample.label)
    except MaskError as error:
        faults.add(error.kind, str(error))
    except InputError as error:
        kind = "unreadable label" if sample.label.exists() else "missing label"
        faults.add(kind, str(error))
    return None


def _check_label(
    dataset: Dataset, sample: Sample, label: NDArray[np.uint8], faults: _Faults
) -> NDArray[np.int64]:
    """Report what is wrong with the ids of a label; return the pixels of each, `(256,)`."""
    counts, labels = id_counts(label), dataset.labels
    if wrong := outside(counts, labels):
        helps = f"; {dataset.advice}" if dataset.advice else ""
        faults.add(NO_CLASS, f"{sample.label}: {listed(wrong)}{helps}")
    ignored = int(counts[labels.ignore_index]) / label.size
    if labels.ignore_index >= labels.num_classes and ignored > IGNORED_LABEL:
        faults.add("ignored label", f"{sample.label}: {ignored:.0%} of its pixels are ignored")
    return counts
