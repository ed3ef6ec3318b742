"""What is put around the name that an image and its mask share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TRIED = 8


@dataclass(frozen=True, slots=True)
class Affix:
    """What is put around the name that an image and its mask share.

    Attributes:
        prefix: before the name of the file.
        suffix: behind it; one with a full stop in it holds the ending too, as `_mask.png`.
    """

    prefix: str = ""
    suffix: str = ""

    def name(self, below: Path) -> str | None:
        """The shared name of a file, with the folders that it is in; `None` for a file without.

        Where the whole name is put around nothing, as `img.png` beside `label.png`, the folder is
        what they share.
        """
        own, dot, ending = self.suffix.rpartition(".")
        # .PNG is .png, as cameras and Windows write it.
        text = f"{below.stem}{below.suffix.lower()}" if dot else below.stem
        inner = self._inner(text, f"{own}{dot}{ending.lower()}" if dot else self.suffix)
        if inner == "" and below.parent.name:
            return below.parent.as_posix()
        return below.with_name(inner).as_posix() if inner else None

    def of_stem(self, below: str) -> str | None:
        """As `name`, of a file without its ending, where `suffix` holds none."""
        folder, line, text = below.rpartition("/")
        inner = self._inner(text, self.suffix)
        return f"{folder}{line}{inner}" if inner else None

    def _inner(self, text: str, suffix: str) -> str | None:
        """What is between the two, `None` where they are not there."""
        end = len(text) - len(suffix)
        if not text.startswith(self.prefix) or not text.endswith(suffix) or end < len(self.prefix):
            return None
        return text[len(self.prefix) : end]

    def __bool__(self) -> bool:
        return bool(self.prefix or self.suffix)


@dataclass(frozen=True, slots=True)
class Names:
    """How the files of a data set are called.

    Attributes:
        images: around the names of images.
        masks: around those of masks.
    """

    images: Affix = Affix()
    masks: Affix = Affix()

    @property
    def whole(self) -> bool:
        """Whether what is around the names are parts that a line sets off, as people write them."""
        both = self.images, self.masks
        before = {one.prefix[-1:] for one in both}
        return before | {one.suffix[:1] for one in both} <= {"", "_", "-"}


def affixes(images: Iterable[str], masks: Iterable[str]) -> Names | None:
    """What is put around names so that most images have a mask; `None` if nothing does."""
    pictures, labels = set(images), set(masks)
    votes: Counter[Names] = Counter()
    for image in sorted(pictures)[:_TRIED]:
        for mask in labels:
            votes.update(_candidates(image, mask))
    best, most = None, (0, False)
    for names, _ in votes.most_common(40):
        left = {names.images.of_stem(one) for one in pictures}
        right = {names.masks.of_stem(one) for one in labels}
        found = len((left & right) - {None}), names.whole
        if found > most:
            best, most = names, found
    return best if 2 * most[0] >= min(len(pictures), len(labels)) else None


def _candidates(image: str, mask: str) -> set[Names]:
    """What may be around the names of an image and its mask, in one folder each."""
    (above, image), (other, mask) = _split(image), _split(mask)
    if above != other:
        return set()
    found: set[Names] = set()
    if image in mask:
        before, _, after = mask.partition(image)
        found.add(Names(masks=Affix(before, after)))
    elif mask in image:
        before, _, after = image.partition(mask)
        found.add(Names(images=Affix(before, after)))
    for turned in (False, True):
        one, two = (image[::-1], mask[::-1]) if turned else (image, mask)
        shared = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), 0)
        shared -= shared > 0 and one[shared - 1] in "_-"
        # _sat and _seg begin alike.
        for cut in {shared, max(one.rfind(line, 0, shared) for line in "_-")}:
            ends = one[cut:], two[cut:]
            if cut > 0 and all(re.search("[A-Za-z]", end) for end in ends):
                if turned:
                    found.add(Names(Affix(prefix=ends[0][::-1]), Affix(prefix=ends[1][::-1])))
                else:
                    found.add(Names(Affix(suffix=ends[0]), Affix(suffix=ends[1])))
    return {names for names in found if "." not in names.images.suffix + names.masks.suffix}


def _split(name: str) -> tuple[str, str]:
    above, _, own = name.rpartition("/")
    return above, own
