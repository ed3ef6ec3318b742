"""Data sets by one specification: `KIND:ROOT:SPLIT`."""

from __future__ import annotations

from pathlib import Path

from atrous.data.dataset import Dataset, Sample
from atrous.data.voc import open_voc
from atrous.errors import ConfigError

__all__ = ["Dataset", "Sample", "open_dataset"]


def open_dataset(spec: str) -> Dataset:
    """Open a data set.

    Args:
        spec: `voc:ROOT:SPLIT`, as `voc:VOCdevkit:val`.

    Raises:
        ConfigError: the specification, the folder or the split is wrong.
    """
    kind, _, rest = spec.partition(":")
    root, _, split = rest.rpartition(":")
    if kind != "voc" or not root or not split:
        raise ConfigError(f"{spec!r}: expected voc:ROOT:SPLIT, as voc:VOCdevkit:val")
    return open_voc(Path(root), split, spec)
