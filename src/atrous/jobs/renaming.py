"""Results whose names change because pictures came or went: they follow, and that is said."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from functools import cache
from itertools import product
from pathlib import Path

from atrous.formatting import shortened
from atrous.jobs.names import earlier
from atrous.jobs.output import MASKS, Results

_log = logging.getLogger("atrous")


def follow_names(results: Results, sources: Iterable[tuple[Path, Path]]) -> None:
    """Call results that are there as their images' results are called now, and say so.

    What an image's results are called depends on the images beside it: see `atrous.jobs.names`.
    Only results that stand are renamed.

    Args:
        results: of the job.
        sources: image file and `stem` of all images.
    """
    if results.output.single:
        return
    _listed.cache_clear()
    now = dict(sources)
    taken, renamed = set(now.values()), []
    left: dict[Path, str] = {}
    masks = Path(results.output.place, MASKS)
    for path, stem in now.items():
        for old, suffix in product(earlier(path, stem), (".png", ".tif")):
            before = masks / f"{old}{suffix}"
            if old in taken or before.name not in _listed(before.parent):
                continue
            if _rename(results, path, (old, stem), suffix):
                renamed.append(f"{before} is now {stem}{suffix}")
                left.pop(before, None)
            elif old.name == path.stem and stem.name != path.stem and before.is_file():
                left[before] = old.name
    if renamed:
        _log.warning(
            "masks are renamed, because pictures were added or removed in their folder: %s",
            shortened(renamed, 3),
        )
    if left:
        first, called = next(iter(left.items()))
        more = f", and {len(left) - 1} more" if len(left) > 1 else ""
        _log.warning(
            "%s stays as it is%s: of an earlier picture or model, or changed since; it is of none "
            "of today's pictures called %s",
            first, more, called,
        )  # fmt: skip


@cache
def _listed(folder: Path) -> frozenset[str]:
    """The names in a folder, none if it is not there."""
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208 (a hundred thousand names)
    except OSError:
        return frozenset()


def _rename(results: Results, path: Path, stems: tuple[Path, Path], suffix: str) -> bool:
    """Rename the mask of an image, and its overlay; whether the mask was its own."""
    before, after = (results.target(path, stem, suffix) for stem in stems)
    pairs = zip(results.files(before), results.files(after), strict=True)
    moves = []
    for (file, made_from, stamp_of), (new, _, _) in pairs:
        stamp = stamp_of(file) if file.is_file() else None
        if stamp is not None and stamp.made_from == made_from and not new.exists():
            moves.append((file, new))
    if not moves or moves[0][0] != before.mask:
        return False
    try:
        for file, new in reversed(moves):
            new.parent.mkdir(parents=True, exist_ok=True)
            file.rename(new)
    except OSError:  # then it is made anew
        return False
    return True
