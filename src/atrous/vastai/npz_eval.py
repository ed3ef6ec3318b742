"""Accuracy and pictures from the npz files that a network, ours or another, has answered with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from atrous import image
from atrous.errors import AtrousError, InputError
from atrous.jobs.output import state
from atrous.labels import LabelSet
from atrous.metrics import ConfusionMatrix
from atrous.stamp import hashed, of_jpeg, of_pixels
from atrous.vastai.npz import OUTPUT, read
from atrous.vastai.validation import count, nearest


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which answer belongs to which image.

    Attributes:
        by: `id`, by the names of the files, or `position` in the list.
        answers: for every id of the list, in order, its answer; the file may be missing.
    """

    by: Literal["id", "position"]
    answers: Mapping[str, Path]


def pair(inputs: Sequence[Path], folder: Path, *, by_position: bool = False) -> Pairing:
    """Find the answer to every npz file of a list.

    Answers called like an input pair by id. Numbered ones, `output_000000.npz` and so on, pair by
    position: the first with the first of the list.

    Args:
        inputs: the list, see `atrous.vastai.npz.read_list`.
        folder: of the answers.
        by_position: whatever the answers are called; unless all of them bear ids of the list,
            which a position could only contradict.

    Raises:
        InputError: there are no answers, they are called otherwise, or there are more or fewer
            numbered ones than inputs.
    """
    ids = [path.stem for path in inputs]
    found = {path.stem: path for path in folder.glob("*.npz") if not path.name.startswith(".")}
    if not found:
        raise InputError(f"{folder}: no npz files in it; atrous npz run makes them")
    if found.keys() <= set(ids) or (not by_position and found.keys() & set(ids)):
        return Pairing("id", {name: folder / f"{name}.npz" for name in ids})
    kinds = {re.sub(r"\d+$", "", name) for name in found}
    numbered = len(kinds) == 1 and all(name[-1].isdigit() for name in found)
    if not numbered and not by_position:
        raise InputError(
            f"{folder}: {min(found)}.npz is neither an id of the list, as {ids[0]}.npz, nor "
            "numbered; `by_position` pairs by the order of the names"
        )
    if len(found) != len(ids):
        raise InputError(
            f"{folder}: {len(found)} answers for the {len(ids)} of the list: numbered ones pair by "
            "position, so none may be missing"
        )
    paths = [found[name] for name in sorted(found, key=_number_order)]
    return Pairing("position", dict(zip(ids, paths, strict=True)))


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """What became of one image.

    Attributes:
        name: the id of the image.
        counted: whether its pixels were counted.
        errors: what went wrong with its accuracy or its pictures, one line each.
    """

    name: str
    counted: bool
    errors: tuple[str, ...] = ()


def evaluate(
    answers: Mapping[str, Path],
    truths: Path,
    shape: tuple[int, int],
    labels: LabelSet,
    matrix: ConfusionMatrix,
    *,
    pictures: Path | None = None,
    images: Mapping[str, Path] | None = None,
    force: bool = False,
) -> Iterator[AnswerScore]:
    """Count pixels and draw pictures, one image after the other; see `atrous.vastai.validation`.

    A picture has the size of the photograph, to which the class map is resized as masks are.

    Args:
        answers: answer by id, see `pair`.
        truths: folder of the masks `ID.png`.
        shape: height and width of the answers.
        labels: classes and colours.
        matrix: counts the pixels.
        pictures: folder that gets a mask `ID.png` and an overlay `ID_overlay.jpg` of every answer.
        images: photograph by id, needed for pictures.
        force: replace pictures that Atrous did not draw. Those that it drew are drawn again.

    Raises:
        AtrousError: a picture cannot be written.
    """
    for name, path in answers.items():
        try:
            class_map = read_class_map(path, shape, labels.num_classes)
        except InputError as error:
            yield AnswerScore(name, counted=False, errors=(str(error),))
            continue
        errors = []
        try:
            count(matrix, truths / f"{name}.png", class_map)
        except InputError as error:
            errors.append(str(error))
        counted = not errors
        if pictures is not None:
            try:
                _draw(pictures, name, (images or {}).get(name), class_map, labels, force)
            except InputError as error:
                errors.append(str(error))
        yield AnswerScore(name, counted, tuple(errors))


def read_class_map(path: Path, shape: tuple[int, int], num_classes: int) -> NDArray[np.uint8]:
    """The class map in an answer, or the argmax of its logits.

    Args:
        path: npz file with `(1, C, h, w)` or `(C, h, w)` logits of any number type, or whole
            numbers `(h, w)`, `(1, h, w)` or `(1, 1, h, w)`: class ids.
        shape: what `(h, w)` must be.
        num_classes: what `C` must be.

    Raises:
        InputError: the file is missing or damaged, or holds something else.
    """
    values = read(path, OUTPUT)
    leading, whole = values.shape[:-2], np.issubdtype(values.dtype, np.integer)
    if values.shape[-2:] == shape and (whole or np.issubdtype(values.dtype, np.floating)):
        if leading in ((1, num_classes), (num_classes,)):
            if np.isnan(values).any():
                raise InputError(f"{path}: {OUTPUT} holds NaN")
            best: NDArray[np.intp] = values.reshape(num_classes, *shape).argmax(0)
            return best.astype(np.uint8)
        if whole and leading in ((), (1,), (1, 1)):
            if not 0 <= values.min() <= values.max() <= 255:
                raise InputError(
                    f"{path}: {OUTPUT} holds class ids {values.min()}..{values.max()}, expected "
                    f"0..{num_classes - 1}"
                )
            return values.reshape(shape).astype(np.uint8)
    height, width = shape
    raise InputError(
        f"{path}: {OUTPUT} is {values.dtype} {values.shape}, expected logits (1, {num_classes}, "
        f"{height}, {width}) or whole class ids (1, {height}, {width}); `shape` says the size"
    )


def _draw(
    folder: Path,
    name: str,
    source: Path | None,
    class_map: NDArray[np.uint8],
    labels: LabelSet,
    force: bool,
) -> None:
    if source is None:
        raise InputError(f"{name}: no photograph of this id to draw on")
    mask_file, overlay_file = folder / f"{name}.png", folder / f"{name}_overlay.jpg"
    state(mask_file, "", image.mask_stamp, force=force)
    state(overlay_file, "", of_jpeg, force=force)
    photograph = image.read(source)
    mask = nearest(class_map, (photograph.shape[0], photograph.shape[1]))
    made_from = hashed(of_pixels(mask), labels.name)
    try:
        image.write_mask(mask_file, mask, labels, made_from)
        image.write_overlay(overlay_file, photograph, mask, labels, made_from=made_from)
    except OSError as error:
        raise AtrousError(
            f"{folder}: the pictures of {name} cannot be written: {error.strerror}; those before "
            "it are kept"
        ) from None


def _number_order(name: str) -> list[tuple[int, str]]:
    """Sorts numbers in names by value: `output_9` before `output_10`."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
