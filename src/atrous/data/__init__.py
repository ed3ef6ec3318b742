"""Data sets by one specification: `KIND:ROOT:SPLIT`."""

from __future__ import annotations

from pathlib import Path

from atrous.data.cityscapes import cityscapes_splits, open_cityscapes
from atrous.data.dataset import Dataset, Sample
from atrous.data.folder import folder_splits, open_folder
from atrous.data.voc import open_voc, voc_splits
from atrous.errors import ConfigError

__all__ = ["Dataset", "Sample", "open_dataset", "other_splits"]

_KINDS = {
    "voc": (open_voc, voc_splits),
    "cityscapes": (open_cityscapes, cityscapes_splits),
    "folder": (open_folder, folder_splits),
}


def open_dataset(spec: str) -> Dataset:
    """Open a data set.

    Args:
        spec: `voc:ROOT:SPLIT`, `cityscapes:ROOT:SPLIT` or `folder:FILE.yaml:SPLIT`, as
            `voc:VOCdevkit:val`.

    Raises:
        ConfigError: the specification, the folder or the split is wrong.
    """
    kind, root, split = _parts(spec)
    return _KINDS[kind][0](root, split, spec)


def other_splits(dataset: Dataset) -> tuple[Dataset, ...]:
    """The other splits that lie beside a data set, without unions such as `trainval`.

    For a list of one's own, the splits that it is a part of are left out too.
    """
    kind, root, split = _parts(dataset.spec)
    opened, listed = _KINDS[kind]
    known = listed(root)
    names = [name for name in known if name != split]
    others = tuple(opened(root, name, f"{kind}:{root}:{name}") for name in names)
    if split in known:
        return others
    ids = {sample.id for sample in dataset.samples}
    return tuple(other for other in others if not ids <= {sample.id for sample in other.samples})


def _parts(spec: str) -> tuple[str, Path, str]:
    kind, _, rest = spec.partition(":")
    # The split comes last; a root may hold colons, as `C:\\data` does. A split may be a path.
    root, _, split = rest.rpartition(":")
    if kind not in _KINDS or not root or not split:
        raise ConfigError(
            f"{spec!r}: expected voc:ROOT:SPLIT, cityscapes:ROOT:SPLIT or folder:FILE.yaml:SPLIT, "
            "as voc:VOCdevkit:val"
        )
    return kind, Path(root), split
