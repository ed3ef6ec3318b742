"""Look a data set over before it is trained or measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from PIL import Image

from atrous import image as images
from atrous.data.dataset import Dataset, Sample
from atrous.data.duplicates import Print, fingerprint, same_pictures
from atrous.errors import InputError

Severity = Literal["error", "warning"]
EXAMPLES = 5

MUCH_IGNORED = 0.5
"""Share of ignored pixels from which a label is hardly one."""

Progress = Callable[[int], None]

_NEXT = {
    "missing image": "add the files, or take their ids out of the split",
    "missing label": "add the files, or take their ids out of the split",
    "unreadable image": "get them again",
    "unreadable label": "get them again",
    "size mismatch": "a label must have its image's pixels; check for resized or rotated copies",
    "colours instead of ids": "convert them to class ids, or describe them as mask_type: rgb",
    "ids outside the classes": "map them to classes or to the ignore index",
    "mostly ignored": "look at them: is the ignore index the right one?",
    "duplicate id": "list each id once",
    "seen in another split": "take them out of one split, or accuracies are flattered",
    "same picture twice": "take one out of the split",
    "class never occurs": "its IoU cannot be measured here, nor the class learnt",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of fault.

    Attributes:
        kind: what it is.
        severity: errors fail, warnings are for a person to judge.
        count: how often.
        examples: a few of them.
        next_step: what to do.
    """

    kind: str
    severity: Severity
    count: int
    examples: tuple[str, ...]
    next_step: str


@dataclass(frozen=True, slots=True)
class ClassShare:
    """How much of one class there is.

    Attributes:
        name: of the class.
        images: that show it.
        share: of the pixels that are not ignored, 0–1.
        weight: suggested for the loss, by median frequency balancing (arXiv:1411.4734); 0 for a
            class that never occurs.
    """

    name: str
    images: int
    share: float
    weight: float


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    Attributes:
        data: name of the data set.
        samples: how many were looked at.
        ignored: share of the pixels that are ignored, 0–1.
        classes: per class.
        findings: faults, errors first.
    """

    data: str
    samples: int
    ignored: float
    classes: tuple[ClassShare, ...]
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether there is no error; warnings may remain."""
        return not any(finding.severity == "error" for finding in self.findings)


@dataclass
class _Faults:
    found: dict[tuple[str, Severity], list[str]] = field(default_factory=dict)

    def add(self, kind: str, severity: Severity, what: str) -> None:
        self.found.setdefault((kind, severity), []).append(what)

    def findings(self) -> tuple[Finding, ...]:
        made = [
            Finding(kind, severity, len(what), tuple(what[:EXAMPLES]), _NEXT[kind])
            for (kind, severity), what in self.found.items()
        ]
        return tuple(sorted(made, key=lambda finding: finding.severity))


def examine(
    dataset: Dataset, others: tuple[Dataset, ...] = (), progress: Progress | None = None
) -> Report:
    """Read every image and label once, and the images of the other splits.

    Args:
        dataset: to look over.
        others: its other splits, to find pictures that stand in two.
        progress: called with the number of samples done, those of the other splits included.
    """
    faults = _Faults()
    classes = dataset.labels.num_classes
    pixels, shown = np.zeros(256, np.int64), np.zeros(256, np.int64)
    prints: list[Print] = []
    printed: list[Sample] = []
    _check_ids(dataset, others, faults)
    done = 0
    for sample in dataset.samples:
        taken, size = _examine_image(sample, dataset, faults)
        if taken is not None:
            prints.append(taken)
            printed.append(sample)
        counts = _examine_label(sample, dataset, size, faults)
        pixels += counts
        shown += counts > 0
        done += 1
        if progress is not None:
            progress(done)
    for one, two in same_pictures(prints, prints):
        if one < two:
            pair = f"{printed[one].id} and {printed[two].id}"
            faults.add("same picture twice", "warning", pair)
    for other in others:
        seen = {sample.id for sample in dataset.samples}
        elsewhere = [sample for sample in other.samples if sample.id not in seen]
        there, known = [], []
        for sample in elsewhere:
            try:
                there.append(fingerprint(other.read_image(sample)))
                known.append(sample)
            except InputError:
                pass  # reported when that split is examined
            done += 1
            if progress is not None:
                progress(done)
        for one, two in same_pictures(prints, there):
            pair = f"{printed[one].id} is {known[two].id} of {other.name}"
            faults.add("seen in another split", "error", pair)
    for class_id in np.flatnonzero(pixels[:classes] == 0):
        faults.add("class never occurs", "warning", dataset.labels.names[int(class_id)])
    total = int(pixels.sum())
    ignored = int(pixels[dataset.labels.ignore_index]) if total else 0
    return Report(
        dataset.name,
        len(dataset.samples),
        ignored / total if total else 0.0,
        _shares(dataset, pixels[:classes], shown[:classes]),
        faults.findings(),
    )


def _check_ids(dataset: Dataset, others: tuple[Dataset, ...], faults: _Faults) -> None:
    seen: set[str] = set()
    for sample in dataset.samples:
        if sample.id in seen:
            faults.add("duplicate id", "error", sample.id)
        seen.add(sample.id)
    for other in others:
        for sample in other.samples:
            if sample.id in seen:
                faults.add("seen in another split", "error", f"{sample.id} of {other.name}")


def _examine_image(
    sample: Sample, dataset: Dataset, faults: _Faults
) -> tuple[Print | None, tuple[int, int] | None]:
    if not sample.image.is_file():
        faults.add("missing image", "error", str(sample.image))
        return None, None
    try:
        pixels = dataset.read_image(sample)
    except InputError as error:
        faults.add("unreadable image", "error", str(error))
        return None, None
    return fingerprint(pixels), (pixels.shape[0], pixels.shape[1])


def _examine_label(
    sample: Sample, dataset: Dataset, size: tuple[int, int] | None, faults: _Faults
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Pixels of each id in the label, `(256,)`; all zero if it cannot be used."""
    none = np.zeros(256, np.int64)
    if sample.label is None or not sample.label.is_file():
        faults.add("missing label", "error", str(sample.label or sample.id))
        return none
    try:
        label = dataset.decode(sample.label)
    except InputError as error:
        coloured = _has_colours(sample)
        kind = "colours instead of ids" if coloured else "unreadable label"
        faults.add(kind, "error", str(error))
        return none
    if size is not None and label.shape != size:
        what = f"{sample.id}: image {size}, label {label.shape}"
        faults.add("size mismatch", "error", what)
    counts = np.zeros(256, np.int64)
    for class_id, share in images.class_shares(label).items():
        counts[class_id] = round(share * label.size)
    ignore, classes = dataset.labels.ignore_index, dataset.labels.num_classes
    outside = [int(i) for i in np.flatnonzero(counts) if i >= classes and i != ignore]
    if outside:
        what = f"{sample.label}: {', '.join(map(str, outside[:8]))}"
        faults.add("ids outside the classes", "error", what)
    if counts[ignore] > MUCH_IGNORED * label.size:
        what = f"{sample.label}: {counts[ignore] / label.size:.0%}"
        severity: Severity = "error" if counts[ignore] == label.size else "warning"
        faults.add("mostly ignored", severity, what)
    return counts


def _has_colours(sample: Sample) -> bool:
    assert sample.label is not None
    try:
        with Image.open(sample.label) as mask:
            return mask.mode in ("RGB", "RGBA")
    except (OSError, SyntaxError, ValueError):
        return False


def _shares(
    dataset: Dataset,
    pixels: np.ndarray[tuple[int], np.dtype[np.int64]],
    shown: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> tuple[ClassShare, ...]:
    total = max(int(pixels.sum()), 1)
    share = pixels / total
    present = share[share > 0]
    median = float(np.median(present)) if present.size else 0.0
    return tuple(
        ClassShare(name, int(n), float(s), median / float(s) if s > 0 else 0.0)
        for name, n, s in zip(dataset.labels.names, shown, share, strict=True)
    )
