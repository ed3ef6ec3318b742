"""Data sets by one specification: `KIND:ROOT:SPLIT`."""

from __future__ import annotations

import difflib
import logging

from atrous.data.cityscapes import open_cityscapes
from atrous.data.dataset import Dataset, Sample
from atrous.data.folder import open_folder
from atrous.data.synthetic import open_synthetic
from atrous.data.voc import open_voc
from atrous.errors import ConfigError
from atrous.files import from_home

_log = logging.getLogger("atrous")

__all__ = ["Dataset", "Sample", "open_dataset", "other_splits"]

_ON_DISK = {"voc": open_voc, "cityscapes": open_cityscapes, "folder": open_folder}
_FORMS = {
    "voc": "voc:ROOT:SPLIT",
    "cityscapes": "cityscapes:ROOT:SPLIT",
    "folder": "folder:FILE.yaml:SPLIT",
    "synthetic": "synthetic:SEED:COUNT",
}


def open_dataset(spec: str) -> Dataset:
    """Open a data set.

    Args:
        spec: `voc:ROOT:SPLIT`, `cityscapes:ROOT:SPLIT`, `folder:FILE.yaml:SPLIT` or
            `synthetic:SEED:COUNT`, as `voc:VOCdevkit:val`. A split of `voc` may be the path of a
            file of ids.

    Raises:
        ConfigError: the specification, the folder or the split is wrong; says what was expected,
            and lists the splits that are there.
    """
    kind, _, rest = spec.partition(":")
    if kind not in _FORMS:
        near = difflib.get_close_matches(kind, _FORMS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"{spec!r}: {hint}expected {', '.join(_FORMS.values())}")
    root, split = _halves(rest)
    if not root:
        raise ConfigError(f"{spec!r}: expected {_FORMS[kind]}, as voc:VOCdevkit:val")
    if kind == "synthetic":
        return open_synthetic(root, split, spec)
    return _ON_DISK[kind](from_home(root), split, spec)


def other_splits(dataset: Dataset) -> tuple[Dataset, ...]:
    """The other splits that lie beside a data set; one that cannot be opened is left out."""
    found = []
    for spec in dataset.siblings:
        try:
            found.append(open_dataset(spec))
        except ConfigError as error:
            _log.warning("left out: %s", error)
    return tuple(found)


def _halves(rest: str) -> tuple[str, str]:
    """Root and split; the split is empty if there is none. Either may begin with a drive letter."""
    root, _, split = rest.rpartition(":")
    if split[:1] in ("\\", "/") and _ends_in_drive(root):
        root, split = root[:-2], f"{root[-1]}:{split}"
    return (root, split) if root else (split, "")


def _ends_in_drive(root: str) -> bool:
    return root[-1:].isalpha() and (len(root) == 1 or root[-2] == ":")
