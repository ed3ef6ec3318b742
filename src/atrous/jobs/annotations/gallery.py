"""A page of thumbnails: every picture with its classes, in one file beside the results."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from atrous.files import write_whole
from atrous.formatting import as_percent
from atrous.image import class_name
from atrous.jobs.output import ImageResult
from atrous.labels import LabelSet
from atrous.pages.page import render


@dataclass(frozen=True, slots=True)
class Chip:
    """A class in a picture.

    Attributes:
        name: of the class.
        share: of the pixels, in words.
        colour: with which it is painted, empty if it is not.
    """

    name: str
    share: str
    colour: str


@dataclass(frozen=True, slots=True)
class GalleryEntry:
    """One picture of the page.

    Attributes:
        name: of the picture.
        overlay: link to the picture with its classes.
        mask: link to its mask.
        chips: its classes, the largest first.
    """

    name: str
    overlay: str
    mask: str
    chips: tuple[Chip, ...]

    @classmethod
    def of(
        cls, result: ImageResult, shares: dict[int, float], place: Path, labels: LabelSet
    ) -> Self:
        """That of one result whose files lie below `place`."""
        chips = tuple(
            Chip(class_name(labels, i), as_percent(share), _colour(labels, i))
            for i, share in shares.items()
        )
        overlay, mask = (_link(Path(str(path)), place) for path in (result.overlay, result.mask))
        return cls(Path(result.source).name, overlay, mask, chips)


def write_gallery(path: Path, entries: list[GalleryEntry], labels: LabelSet) -> None:
    """Write the page."""
    counts = Counter(chip.name for entry in entries for chip in entry.chips if chip.colour)
    colours = {class_name(labels, i): _colour(labels, i) for i in range(labels.num_classes)}
    classes = [(name, count, colours.get(name, "")) for name, count in counts.most_common()]
    title = f"{len(entries)} picture{'s' * (len(entries) != 1)}"
    write_whole(path, render("gallery", title=title, entries=entries, classes=classes))


def _colour(labels: LabelSet, class_id: int) -> str:
    if class_id in labels.unpainted:
        return ""
    return f"#{labels.paint()[3 * class_id : 3 * class_id + 3].hex()}"


def _link(path: Path, place: Path) -> str:
    return quote(os.fsencode(path.relative_to(place).as_posix()))
