"""The folders that a description of a data set names, with `{split}` and `*` in their paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from atrous.data.file_names import Names
from atrous.data.pairing import Pairs, image_names, pair
from atrous.errors import ConfigError
from atrous.pictures.folders import search

ANY = "*"
"""In a path, any one folder; what it stands for is the same in the images' path and the masks'."""


def place(value: str | dict[str, str], split: str) -> str:
    """The path of a split, as it is described; nothing where that names no folder for it."""
    path = value.get(split, "") if isinstance(value, dict) else value
    return path.replace("{split}", split)


def named(root: Path, described: str) -> dict[str, Path]:
    """The folders of a path, by what each `*` stands for, with lines between them.

    Without `*`, that is one, by no name, if it is there. Hidden folders are left out.

    Args:
        root: that the path is relative to.
        described: the path.

    Raises:
        ConfigError: a folder cannot be looked into.
    """
    if ANY not in Path(described).parts:
        folder = root / described
        return {"": folder} if folder.is_dir() else {}
    return {"/".join(stands): folder for stands, folder in _matches(root, Path(described).parts)}


def _matches(folder: Path, parts: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Path]]:
    if not folder.is_dir():
        return
    if not parts:
        yield (), folder
        return
    first, rest = parts[0], parts[1:]
    if first != ANY:
        yield from _matches(folder / first, rest)
        return
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be looked into: {error.strerror}") from None
    for one in inside:
        if not one.name.startswith(".") and one.is_dir():
            for stands, found in _matches(one, rest):
                yield (one.name, *stands), found


def pairs_of(images: str, masks: str, names: Names, path: Path) -> Pairs:
    """Pair the images and masks of two described folders by name, with that of `*` before it.

    Args:
        images: the path of the images, relative to the file of the description.
        masks: that of the masks, with as many `*`.
        names: what is put around the names that images and masks share.
        path: the file.

    Raises:
        ConfigError: a folder is not there, or one with images has none of masks, or the reverse;
            what `atrous.data.pairing.pair` raises.
    """
    if Path(images).parts.count(ANY) != Path(masks).parts.count(ANY):
        raise ConfigError(
            f"{path}: expected as many * in masks as in images, where they stand for the same "
            f"folders, found {images} and {masks}"
        )
    pictures, labels = named(path.parent, images), named(path.parent, masks)
    if "" not in pictures:
        pictures, labels = _apart(pictures, labels), _apart(labels, pictures)
    for found, described in ((pictures, images), (labels, masks)):
        if not found:
            helps = "; * stands for the whole name of a folder" if ANY in described else ""
            raise ConfigError(f"{path}: no folder {path.parent / described}{helps}")
    _check_both(pictures, labels, images, masks, path)
    return {
        f"{stands}/{name}" if stands else name: both
        for stands, folder in pictures.items()
        if stands in labels
        for name, both in pair(folder, labels[stands], names, path).items()
    }


def images_of(images: str, masks: str, names: Names, path: Path) -> dict[str, Path]:
    """The images of a described folder by the names that a mask of theirs would have.

    Args:
        images: the path of the images, relative to the file of the description.
        masks: that of the masks.
        names: what is put around the names that images and masks share.
        path: the file.
    """
    labels = named(path.parent, masks)
    return {
        f"{stands}/{name}" if stands else name: image
        for stands, folder in named(path.parent, images).items()
        for name, image in image_names(folder, labels.get(stands, folder), names).items()
    }


def _apart(folders: dict[str, Path], others: dict[str, Path]) -> dict[str, Path]:
    """The folders without those that only hold others: `*` beside the folder `masks` finds it."""
    holding = {parent for other in others.values() for parent in other.parents}
    return {
        stands: folder
        for stands, folder in folders.items()
        if stands in others or folder not in holding
    }


def _check_both(
    pictures: dict[str, Path], labels: dict[str, Path], images: str, masks: str, path: Path
) -> None:
    for some, others, what, described in (
        (pictures, labels, "masks", masks),
        (labels, pictures, "images", images),
    ):
        alone = [
            folder
            for stands, folder in some.items()
            if stands not in others and search(folder).pictures
        ]
        if alone:
            raise ConfigError(
                f"{path}: no {what} for {alone[0]}"
                + (f" and {len(alone) - 1} more folders" if len(alone) > 1 else "")
                + f"; expected a folder at {path.parent / described} with the same name for each "
                "*. Make one that is empty if there are none"
            )
